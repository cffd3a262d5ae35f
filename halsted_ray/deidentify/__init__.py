"""De-identification: what of a recording may leave the operating room, and the copy that holds nothing else.

    spans.py         spans of time and boxes of the picture that are to become black
    coded_units.py   units of a coded picture that carry text and no picture: they go, the others stay bit by bit
    black_frames.py  boxes and whole frames painted black
    survey.py        what a file carries beside its picture; where its picture can be cut
    disk.py          whether a disk has room left
    rewrite.py       the clean file: a copy of the picture, with stretches coded again where something is blacked out
    text.py          burned-in text, found and read by two small networks
    overlay_change.py  where writing has come up since the last sample
    finders.py       what finds spans that are to become black, by name
    worker.py        the process that reads the untrusted file: no network, no programs, a limit of memory
    out_of_body*.py  stretches outside of the body, by a small network on single frames, or by stored vectors
    clean.py         one file from end to end: find, write, check
    certificate.py   what was done to one file, signed

Nothing here imports Ray, so that one file can be cleaned on a bare machine.
"""
