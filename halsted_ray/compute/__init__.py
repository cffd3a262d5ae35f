"""Where work runs: a Ray cluster or this machine alone.

cluster.py     connects to the cluster at hand, or starts a local one
pools.py       how many actors of each kind fit
priority.py    what a run may take of a shared cluster, and when it waits
resources.py   what a run asks for
parallel.py    independent tasks side by side
"""
