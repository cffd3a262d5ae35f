"""How right a model and a map are. No Ray, no MLflow.

    metrics.py     accuracy, spans, ranking, calibration, chance: one pure function a metric, with its source
    frames.py      frame-wise metrics of other benchmarks: mean average precision, phases
    intervals.py   how sure a figure is, over folds and over videos; tests between two models
    folds.py       which videos judge which model
    compare.py     a timeline against the annotated clips of the same videos
"""
