"""The model that the benchmarks use: small, and trained here on phantoms, which takes 90 s on two cores."""

from __future__ import annotations

from pathlib import Path

from footage import CACHE

from halsted_ray.atlas.phantom_archive import write_archive
from halsted_ray.training.recipe import BEST
from halsted_ray.training.train import train

VIDEOS, MINUTES = 8, 2.0


def trained(cache: Path = CACHE) -> str:
    """Returns the folder of a Halsted on the tiny encoder, and trains it first where ``cache`` has none."""
    folder = cache / "trained"
    if not (folder / "model" / "model.json").exists():
        atlas = str(cache / "training")
        write_archive(atlas, VIDEOS, MINUTES, seed=1, width=384, height=216, fps=15)
        train(atlas, str(folder), BEST)
    return str(folder / "model")
