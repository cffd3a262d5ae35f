"""From a file, wherever it lies, to the frames that a model looks at. No Ray, no model.

archive.py, storage.py, ranges.py    which files there are, and their bytes, locally or by ranges
identity.py, probe.py, refusal.py    what a file is: its id by content, its length and picture, or why it is none
index.py, matroska.py                where its key frames are
plan.py                              segments, their windows, the times of the frames that are needed
need.py, frames.py, picture.py       which frames a segment wants, and how they are given: uint8 [T, H, W, 3]
container.py                         one opened file: packets, seeking, times
walk.py, display_walk.py, keyframe_walk.py    decoding by fidelity: exact, reference, keyframes
pyav_reader.py, decord_reader.py, readers.py  the two readers behind one interface
sandbox.py, worker.py, wire.py, isolation.py  decoding in a process without network that can be killed
"""
