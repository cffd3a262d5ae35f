"""The model: an encoder turns the frames of a window into a vector, a decoder turns the vector into tags.

No Ray and no MLflow in here, so that it runs on any machine with PyTorch. README.md shows how to use it.

    checkpoint.py    reads VideoMAE weights of any origin and gives their tensors one set of names
    encoder.py       the frozen video encoder: 16 frames of a window -> one float16 vector
    vocabulary.py    the tokens of a taxonomy, and the grammar that says which token may follow which
    decoder.py       the network: (vector, instruction, tokens so far) -> logits of the next token
    llama.py         a Llama's layers in the decoder's place, with our vocabulary
    llama_text.py    a Llama that writes tags as text (the paper's ablation)
    generation.py    how tokens are generated: only categories are chosen, the grammar forces all others
    calibration.py   one temperature per tag and unit, so that a confidence of 0.9 is right 9 times in 10
    halsted.py       the whole model: create, load, save, tag, train
    weights/tiny/    the small encoder that ships with this package
"""
