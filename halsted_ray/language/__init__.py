"""Video and text: a model of both over stored vectors, and what can be asked with words.

    text_encoder.py       a sentence becomes a vector
    contrast_model.py     clips and sentences in one space
    captioned_clips.py    captions with the vectors of their windows and texts
    keywords.py           words in short texts, and one order made of two
    caption_search.py     captions and transcripts of an atlas by their words
    retrieval.py          from a sentence to the moment: recall, chance, keywords
    contrast_recipe.py    every choice of a training run
    contrast_loss.py      symmetric InfoNCE over workers
    contrast_trainer.py   an epoch of training
    contrast_training.py  a run, from an atlas to a model in a folder
    prompts.py            a file of labels and sentences
    zero_shot.py          labels without training, and their figures

Nothing is decoded for a question: everything works on vectors that are stored.
"""
