"""How right a model and a map are. No Ray, no MLflow.

metrics.py     accuracy, spans, ranking, calibration, chance: one pure function a metric, with its source
frames.py      frame-wise metrics of other benchmarks: mean average precision, phases
intervals.py   how sure a figure is, over folds and over videos; tests between two models
compare.py     a timeline against the annotated clips of the same videos
folds.py       videos                                 -> which of them teach and which judge, fold by fold
subjects.py    an atlas, perhaps a model              -> the same, by its frozen split, its folds or another archive
pool.py        videos and their clips                 -> samples with vectors: what all folds share
answers.py     model, test samples                    -> what it answered: all that figures are made of
migration.py   the same of a model of another taxonomy
baselines.py   the same of chance, majority, a linear probe and SAIS (sais.py)
fold.py        one fold: train, answer
figures.py     answers                                -> figures by tag, task, specialty, procedure, source, video
pairing.py     answers of two models                  -> their difference, over videos or over folds
umap.py        vectors                                -> a map of them
run.py         the whole evaluation: `halsted evaluate`
rarp50.py      the same on SAR-RARP50, by the paper's protocol
"""
