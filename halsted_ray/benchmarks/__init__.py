"""The benchmarks of the field: published data sets where they lie, their split and metric, our row beside theirs.

    known/*.yaml       one file per benchmark: layout, split, metric, labels with sentences, published figures
    benchmark.py       such a file, read and checked
    data_set.py        a data set where it lies: files, media, judged frames
    layouts/*.py       one file per published layout
    published_files.py the layouts by name, and what is read by them
    parts.py           which videos teach and which judge
    pictures.py        vectors of folders with pictures
    labelled.py        the labelled frames with their vectors
    leaks.py           whether a model has seen what judges it
    figures.py         the metrics
    run.py             one benchmark, from a folder to its row

Figures of others are quoted with their source, and none is made up: what is not known here is said to be so.
"""
