"""What mapping an archive will take, before anything is bought or started.

survey.py    what the archive holds, from a sample of its files
rates.json   the rates that ship with the package
rates.py     how fast each stage is, and where that is known from
gpus.py      what is known of a GPU: peaks, NVDEC, an example of its price
measure.py   the rates of this machine
decoding.py  how long cores and NVDEC take side by side
batches.py   how much of what a GPU computes is useful
planner.py   all together: GPUs, cores, memory, time, storage, money
"""
