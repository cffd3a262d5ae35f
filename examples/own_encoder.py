"""Trains on a VideoMAE checkpoint of your own, in the layout of Hugging Face.

    python examples/own_encoder.py [FOLDER] [CHECKPOINT]

CHECKPOINT is a folder with config.json and model.safetensors (``VideoMAEModel``), or a file of VideoMAE V2 weights.
Without it, a small untrained VideoMAE is written there first. A model learns little from that; the steps are the same.
"""

import sys
from pathlib import Path

from halsted_ray import load_model, train
from halsted_ray.atlas.phantom_archive import write_archive
from halsted_ray.model.encoder import Encoder
from halsted_ray.training.recipe import RECIPES, changed


def main(folder: Path, checkpoint: Path) -> int:
    archive = folder / "archive"
    if not archive.exists():
        write_archive(str(archive), videos=4, minutes=0.5, seed=7, width=192, height=108, fps=8, validation=0.25)
    if not checkpoint.exists():
        Encoder.create("tiny", seed=0).save(str(checkpoint))

    recipe = changed(RECIPES["best"], ["epochs=2", "least_steps=0"])
    summary = train(str(archive), str(folder / "run"), recipe, encoder=str(checkpoint))
    model = load_model(summary.model)
    print("encoder of width", model.config.encoder_dim, "; validation accuracy", summary.accuracy_of_task)
    return 0


if __name__ == "__main__":
    place = Path(sys.argv[1] if len(sys.argv) > 1 else "example-encoder")
    sys.exit(main(place, Path(sys.argv[2]) if len(sys.argv) > 2 else place / "checkpoint"))
