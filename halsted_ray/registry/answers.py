"""``Answers``, the old name of ``ClipPredictor``: registered versions hold older copies of pyfunc.py that import it."""

from halsted_ray.registry.clip_predictor import ClipPredictor as Answers  # noqa: F401
