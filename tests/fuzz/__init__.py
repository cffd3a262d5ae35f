"""Files of every container, mangled at bytes and at their parts, and what must hold for each: ``python -m fuzz``.

The way of a case, file by file:

    whole_files.py   small whole files, one or more per container
    pieces.py        the parts of a file: boxes, elements, packets, chunks, packs, tags, objects; and its time stamps
    mangling.py      from a whole file and a seed to a mangled file
    judging.py       one mangled file through inventory and decoding, and what is wrong with the outcome
    __main__.py      many files, in processes side by side, and a table of what was found

Nothing here starts Ray: inventory and decoding are called as the stages of a run call them.
"""
