"""The benchmarks of the field: published data sets where they lie, their split and metric, our row beside theirs.

    known/*.yaml       one file per benchmark: layout, split, metric, labels with sentences, published figures
    benchmark.py       such a file, read and checked
    published_files.py the annotations of a data set's layout
    parts.py           which videos teach and which judge
    pictures.py        vectors of folders with pictures
    labelled.py        the labelled frames with their vectors
    leaks.py           whether a model has seen what judges it
    figures.py         the metrics
    run.py             one benchmark, from a folder to its row

Figures of others are quoted with their source, and none is made up: what is not known here is said to be so.
"""
