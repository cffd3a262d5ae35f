"""Text to moment, and labels without training and from few clips, on synthetic videos that were held out, as
docs/how-to/language.md shows.

    python benchmarks/language.py build/language

Writes an archive with captions below the folder, trains on it, and prints what each command prints. Costs about a
quarter of an hour on two quiet cores.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

ARCHIVE = ["--videos", "24", "--minutes", "2", "--pace", "2", "--fps", "10", "--size", "256x144", "--test", "0.25"]
LABELS = """tag: action
templates: ["{}.", "In this clip {}."]
labels:
"""
SENTENCES = {
    "Assistant": "an assistant helps",
    "Cold Cut": "the tissue is divided cold, without current",
    "Cautery": "a bleeding vessel is coagulated",
    "Extraction": "the specimen is removed from the body",
    "Fluorescence": "perfusion is seen in green fluorescence",
    "Hot Cut": "the tissue is divided with heat",
    "Hook": "a strand of tissue is hooked and lifted up",
    "Idle": "the instruments rest and nothing happens",
    "Clip": "a clip is put on a vessel",
    "Camera Move": "the camera is moved to another view",
    "Mesh": "a mesh is laid out",
    "Push/Peel": "a layer of tissue is peeled away",
    "Retraction": "tissue is held aside",
    "Spread": "a plane is spread open",
    "Sponge": "blood is dabbed with a sponge",
    "Stapler": "the tissue is stapled",
    "Tube": "a drain is handled",
    "Tug": "tissue is pulled",
    "Other": "another action without a name",
}
"""Action to a sentence in other words than those of the synthetic captions, as far as there are any."""


def main(folder: str) -> None:
    """Runs the commands one after the other; each prints its figures."""
    root = Path(folder)
    root.mkdir(parents=True, exist_ok=True)
    labels, archive, run = root / "actions.yaml", str(root / "archive"), str(root / "run")
    labels.write_text(LABELS + "".join(f"  {name}: {sentence}\n" for name, sentence in SENTENCES.items()))
    for command in (
        ["phantom", archive, *ARCHIVE, "--seed", "7"],
        ["train", "--objective", "contrast", "--atlas", archive, "--out", run, "--registry", "none"],
        ["zero-shot", f"{run}/model", "--atlas", archive, "--labels", str(labels)],
        ["few-shot", f"{run}/model", "--atlas", archive, "--labels", str(labels)],
        ["recall", f"{run}/model", "--atlas", archive],
    ):
        print("halsted", " ".join(command), flush=True)
        subprocess.run([sys.executable, "-m", "halsted_ray.cli", *command], check=True)


if __name__ == "__main__":
    main(sys.argv[1])
