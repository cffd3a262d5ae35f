"""How frames become vectors, on all the machines at hand: one stage for mapping, training, evaluation, self-labelling
and promotion.

embed.py           windows that have no vector yet → the store of vectors
embed_run.py       one run over many segments: a first look, what became of each, the summary
streaming.py       segments through stages on Ray Data
segments.py        lists of segments, and spans of videos without what is stored, cut while they are read
segment_source.py  segments as a source of Ray Data, however many
stage_schemas.py   the tables that travel between the stages
decode_stage.py    segments → frames; what decoding actors call
embed_stage.py     frames of windows → vectors, stored; what encoding actors call
batching.py        fills the fixed batches of an encoder with windows of many segments
run_start.py       when the steps of the start of a run were done
"""
