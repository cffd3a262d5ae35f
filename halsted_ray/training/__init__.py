"""From an atlas to a model.

recipe.py      every choice of a run, as one frozen value; the learning rate over time; the save rule
samples.py     the atlas's clips                        -> labelled windows -> arrays that a batch is cut from
embed.py       windows that have no vector yet          -> the embedding store
loop.py        arrays, recipe                           -> a trained decoder (the only ray.train)
side_by_side.py  work that needs no word of each other, such as folds, as plain Ray tasks
run.py         the whole run: `halsted train` and jobs/train.py
progress.py    what a person sees meanwhile
"""
