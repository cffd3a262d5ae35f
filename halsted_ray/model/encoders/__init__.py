"""Encoders beside VideoMAE: which families are known, how their folders are read, and the modules that run them.

``families`` is the one list of what is supported. ``preprocessing`` reads what a folder says of its pictures,
``networks`` and ``image_networks`` make modules of weights, ``module_encoder`` makes an ``Encoder`` of a module.
"""
