"""How right a map is.

    metrics.py    one pure function a metric, with its definition and source
    compare.py    a timeline against the annotated clips of the same videos
"""
