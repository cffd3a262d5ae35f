"""From an archive to its maps.

recipe.py      a model and what it is asked               -> what decides the rows; its digest is their name
workflow.py    the windows of one segment and its frames  -> tags, one decision a window
lease.py       a place to write to                        -> one run at a time on it
staging.py     what a segment came to                     -> a file of its own, the unit of resuming
decoding.py    a segment                                  -> its frames; what decoding actors call
tagging.py     a segment and its frames                   -> vectors and tags, stored; what tagging actors call
worklist.py    videos and what is finished of them        -> waves of segments to do
workers.py     what a run asks of a cluster
cluster.py     a Ray cluster                              -> how many actors of each kind it carries
priority.py    several runs on one cluster                -> the room of each, and who waits
pipeline.py    an archive                                 -> all of its segments, finished (the only ray.data)
timeline.py    tags of a video's windows                  -> merged rows
profiles.py    seconds by stage of all segments           -> a file beside the maps, Prometheus
publish.py     finished segments                          -> Delta tables: videos, segments, timeline
rates.py       machines                                   -> how fast each stage is on them
planner.py     rates and an archive                       -> cores, time, memory, storage, cost beforehand
status.py      a place that holds maps                    -> how far every video is
exports.py     rows                                       -> CSV, JSON Lines, WebVTT, SubRip
"""
