"""Video and text: captions beside vectors, a model of both, and what can be asked with words.

    text_encoder.py    a sentence becomes a vector
    contrast_model.py  clips and sentences in one space

Everything works on vectors that are stored. Nothing is decoded for a question.
"""
