"""What mapping an archive will take, before anything is bought or started.

survey.py    what the archive holds, from a sample of its files
rates.py     how fast each stage is, and where that is known from
rates.json   the rates that ship with the package
planner.py   both together: cores, memory, time, storage, money
"""
