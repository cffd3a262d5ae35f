"""How an archive becomes maps. What maps are is ``halsted_ray.maps``.

pipeline.py        the main job, ``map_archive``; the only file that imports ray.data
mapping_recipe.py  what decides the rows, read from the model; its digest is their name
run_plan.py        what a run is and has to do, settled before the first segment is decoded
inventory.py       the files of an archive, identified and probed
work_list.py       the segments that are left to do, one wave at a time
run_cluster.py     the cluster of a run, and the actors that fit on it
stage_schemas.py   the tables that travel between the stages
decode_stage.py    segments → frames; what decoding actors call
embed_stage.py     windows and frames → vectors
workflow.py        frames or vectors of a segment → which windows are asked, and their tags
tag_stage.py       segments and frames → vectors and tags, stored; what tagging actors call
outcomes.py        what became of each segment, added up
wave_publisher.py  publishes a wave beside the mapping of the next wave
progress.py        how far a run is, and who observes it
stage_counters.py  counters for Prometheus
"""
