"""Clips that are made for their label: of the categories that the training part of an atlas has fewest samples of.

condition.py          what a clip is to show: a tag, a scene and the way of the instrument's tip
rarest.py             which categories are rarest, counted in the training part alone
phantom_generator.py  draws a condition with the phantom's renderer
generators.py         another generator, which a user names as package.module:function
synthesize.py         conditions become videos and samples with the source ``synthetic``
"""
