"""Asks a map questions in SQL.

    python examples/read_with_duckdb.py [OUT]

OUT is what ``halsted map`` or ``examples/map_a_folder.py`` wrote.
"""

import sys

import duckdb

from halsted_ray import open_maps

maps = open_maps(sys.argv[1] if len(sys.argv) > 1 else "example/maps")
timeline, videos = maps.timeline.to_arrow(), maps.videos.to_arrow()

print("minutes per tag and category, surest first")
print(
    duckdb.sql(
        """
        select tag, category, round(sum(stop_s - start_s) / 60, 2) as minutes,
               round(sum(confidence * (stop_s - start_s)) / sum(stop_s - start_s), 2) as confidence
        from timeline where source = 'ai' group by tag, category order by tag, minutes desc
        """
    )
)
print("share of each video that has a map")
print(
    duckdb.sql(
        """
        select v.video_id, round(coalesce(sum(t.stop_s - t.start_s), 0) / any_value(v.duration_s), 3) as share
        from videos v left join timeline t on t.video_id = v.video_id and t.tag = 'step'
        where v.code = '' and v.copy_of = '' group by v.video_id
        """
    )
)
