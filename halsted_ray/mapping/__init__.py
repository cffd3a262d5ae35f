"""How an archive becomes maps. What maps are is ``halsted_ray.maps``; how frames become vectors is
``halsted_ray.embedding``.

pipeline.py        the main job, ``map_archive``
embed_archive.py   the vectors of all windows of an archive, without maps
mapping_recipe.py  what decides the rows, read from the model; its digest is their name
run_plan.py        what a run is and has to do, settled before the first segment is decoded
inventory.py       the files of an archive, identified and probed
kept_inventory.py  the files of an archive between two runs that leave no maps
work_list.py       the segments that are left to do, one wave at a time
workflow.py        frames or vectors of a segment → which windows are asked, and their tags
tag_stage.py       segments and frames → vectors and tags, stored; what tagging actors call
outcomes.py        what became of each segment, added up
wave_publisher.py  publishes a wave beside the mapping of the next wave
stage_counters.py  counters for Prometheus
"""
