"""The lab: three nodes, a router and an external host in network namespaces, with every process of announcer.

`topology` says what there is, `network` and `processes` make it so and take it away again, `checks` look from outside
whether the promises hold. `python -m lab up | check | down` is what `make lab` calls; tests build further labs beside
it with a `Lab` of another prefix and run directory. Nothing is left outside the namespaces and the run directory.
"""
