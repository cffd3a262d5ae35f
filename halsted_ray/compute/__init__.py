"""Where work runs: on a Ray cluster, or on this machine alone.

resources.py   what a run asks of a cluster, and what one actor of a stage uses
cluster.py     connects to the cluster at hand, or starts a local one
priority.py    what a run of each priority may take of a shared cluster, and when it waits
pools.py       how many actors of each stage fit
run_cluster.py the cluster of one run, and the actors that fit on it
progress.py    how far a run is, and who observes it
devices.py     GPUs at hand, processes on them, and what never fits
parallel.py    independent tasks side by side
"""
