"""Trains a model on a task and a tag of your own, from a table of clips.

    python examples/own_taxonomy.py [FOLDER]

The videos are synthetic, and the annotations say only whether somebody sews. The taxonomy lies in a YAML file, the
clips in a CSV file with one line per tag of each clip.
"""

import csv
import sys
from pathlib import Path

from halsted_ray import open_atlas, train
from halsted_ray.atlas import release
from halsted_ray.atlas.imports import import_annotations
from halsted_ray.atlas.phantom_archive import write_archive
from halsted_ray.training.recipe import RECIPES, changed

TAXONOMY = """\
name: sewing
source: this example
tasks:
  - name: handwork
    title: Handwork
    instruction: map handwork
    window: coarse
    tags:
      - name: hands
        categories: [Sewing, Other]
"""


def main(folder: Path) -> int:
    phantoms, atlas, run = folder / "phantoms", folder / "atlas", folder / "run"
    if not phantoms.exists():
        write_archive(str(phantoms), videos=6, minutes=1, seed=5, width=192, height=108, fps=8)

    taxonomy, clips = folder / "sewing.yaml", folder / "clips.csv"
    taxonomy.write_text(TAXONOMY)
    source = open_atlas(str(phantoms))
    file_of = {video.video_id: Path(video.uri).relative_to(phantoms.absolute()) for video in source.videos}
    with open(clips, "w", newline="") as file:
        table = csv.writer(file)
        table.writerow(["video", "start_s", "stop_s", "task", "tag", "category"])
        for clip in source.clips:
            if clip.task == "macro":
                hands = "Sewing" if clip.tags["step"] == "Suturing" else "Other"
                table.writerow([file_of[clip.video_id], clip.start_s, clip.stop_s, "handwork", "hands", hands])

    if not atlas.exists():
        import_annotations(
            str(atlas), str(clips), "csv", videos=str(phantoms), taxonomy=str(taxonomy), why="who sews, by the script"
        )
        release(str(atlas), "sewing-v1", validation=0.34)
    summary = train(str(atlas), str(run), changed(RECIPES["best"], ["least_steps=200"]))
    print("validation accuracy", summary.accuracy_of_task, "; the model lies in", summary.model)
    return 0


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1] if len(sys.argv) > 1 else "example-taxonomy")))
