"""Refining whole videos: what the windows of a video say becomes one answer over the whole of it. Nothing is decoded.

    operation.py        specialty and procedure, decided once for the operation from the answers of its windows
    slots.py            time in slots, five to a fine window; annotated clips and stored vectors as sequences of slots
    label_chain.py      a hidden Markov chain per tag: how long a category lasts and which one follows, learned
    temporal_network.py a temporal convolutional network over the vectors of a video
    refinement.py       both of them as one file beside a model's weights, and the refined tags of a video
    learn.py            learns a refinement from the annotated videos of an atlas

Training and mapping use this room; it knows neither Ray nor the archive.
"""
