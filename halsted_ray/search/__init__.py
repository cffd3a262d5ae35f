"""Search of an archive by its stored vectors: moments that are like one, or that a text describes. Nothing is decoded.

moments.py         stored vectors of windows become vectors of moments; a text model may project them
text_question.py   questions in words, by a model of video and text
centres.py         chosen vectors, by the nearest of which moments are sorted
index_parts.py     the files of an index: moments sorted by the nearest of some thousand centres
index_manifest.py  which files and videos are in an index
index_builder.py   the steps of making an index
index_build.py     makes an index, and brings it up to date with the store
index_search.py    the nearest moments of an index, and the exact answer without one
results.py         neighbours become one result; only moments where the map says what was asked for
map_spans.py       what the maps say at a moment
archive_search.py  one search of an archive, from the question to the results
"""
