"""A lab in which things break and change by a seed: do routers have what is proven, and at last what is desired?"""
