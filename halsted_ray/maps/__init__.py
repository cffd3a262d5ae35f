"""What a mapped archive is: its tables, how they are published and read. How maps are made is ``halsted_ray.mapping``.

table_schemas.py  the columns of the tables videos, segments and timeline
timeline.py       predictions about windows → intervals and gaps
staging.py        finished segments of a run that is not published yet
commits.py        one change of a Delta table
former_content.py rows follow their files: replaced, moved
packet_indexes.py what one pass over the packets of a file found
publishing.py     staged segments → the tables
reading.py        reads the tables
cases.py          several videos as one case, with one axis of time
status.py         how far each video is
stitches.py       rows → stitches: handling, driving, withdrawal
stitch_totals.py  counts, medians and shares of stitches, with intervals
stitch_table.py   the stitches of a mapped archive; as CSV and JSON
vocabulary.py     a timeline in the words of another taxonomy
exports.py        a timeline as CSV, JSON Lines, WebVTT, SubRip
run_profile.py    where the time of the newest run went
"""
