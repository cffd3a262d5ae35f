"""The synthetic archive: surgery whose truth is known to the frame.

script (what happens) → motion (where everything is at a time) → render (how it looks) → write (H.264), or
render → clips (training clips without a file). ``number`` paints frame numbers for tests of decoding.
"""
