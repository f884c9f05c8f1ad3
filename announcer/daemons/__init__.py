"""Processes: they wire edges to decisions, wait, and run passes; they decide nothing."""
