"""A model labels videos that nobody annotated, and the atlas grows by what it is sure of (paper, Methods).

judge.py        model, validation videos               -> accuracy of its tasks; its answers about 1-s windows
thresholds.py   answers and whether they were right    -> per action the confidence from which it is trusted
merge.py        trusted answers about windows          -> clips, none over another or over a person's
label.py        a model and an archive                 -> its labels, and by which threshold each was kept
run.py          a model, an atlas and an archive       -> a release with the model's labels: `halsted self-label`
compare.py      answers of the models before and after -> which of them to keep
folds.py        a recipe, an atlas and an archive      -> that, over folds: `halsted evaluate --self-label`
review.py       the labels that most need a person     -> a Label Studio project: `halsted review`
"""
