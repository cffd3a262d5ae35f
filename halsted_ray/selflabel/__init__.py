"""A model labels videos that nobody annotated, and the atlas grows by the labels it is sure of (paper, Methods).

self_label.py   a model, an atlas and an archive     -> a release with the model's labels: `halsted self-label`
labelling.py    a model and an archive               -> the model's labels, and by which threshold each was kept
validation.py   a model, validation videos           -> accuracy of its tasks; its predictions for 1-s windows
thresholds.py   predictions, and which are right     -> from which confidence on each category is trusted
merge.py        trusted predictions for windows      -> labels that do not overlap
review.py       the labels that most need a person   -> a Label Studio project: `halsted review`

ablation.py     a recipe, an atlas and an archive    -> models before and after a round, over folds:
                                                        `halsted evaluate --self-label`
gain.py         predictions of these two models      -> which of them to keep
"""
