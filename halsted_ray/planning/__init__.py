"""What mapping an archive will take, before anything is bought or started.

survey.py    what the archive holds, from a sample of its files
rates.py     how fast each stage is, and what that is known from
planner.py   both together: cores, memory, time, storage, money
"""
