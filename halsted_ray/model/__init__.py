"""From frames to tags: encoder, vocabulary, decoder, generation, and the model that holds them together.

    checkpoint.py   weights from a path or URI, under any of their names  -> tensors under one set of names
    encoder.py      uint8 frames of a window                              -> one float16 vector
    vocabulary.py   a taxonomy                                            -> tokens and their grammar
    decoder.py      [vector | instruction] and the tags so far            -> the next token
    generate.py     vectors and instructions                              -> well-formed tags with probabilities
    halsted.py      the model as one thing: create, load, save, tag, loss

No Ray and no MLflow in here: it runs on a bare machine with PyTorch.
"""
