"""Maps a folder of videos, and prints the minutes of every step per video.

    python examples/map_a_folder.py [FOLDER]

FOLDER/archive gets two synthetic videos where it is not there. Put videos of your own into it, and name a model that
knows them: the model that ships knows synthetic video only.
"""

import sys
from pathlib import Path

from halsted_ray import map_archive, open_maps
from halsted_ray.atlas.phantom_archive import write_archive


def main(folder: Path) -> int:
    archive, out = folder / "archive", folder / "maps"
    if not archive.exists():
        write_archive(str(archive), videos=2, minutes=0.5, seed=3, width=192, height=108, fps=8)

    summary = map_archive(str(archive), str(out), model="phantom")
    for video in summary.videos:
        print(video["video_id"], video["status"], video["reason"])

    steps = open_maps(str(out)).timeline.to_pandas(filters=[("tag", "=", "step")])
    steps["minutes"] = (steps.stop_s - steps.start_s) / 60
    print(steps.pivot_table(index="video_id", columns="category", values="minutes", aggfunc="sum", fill_value=0))
    return summary.exit_code


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1] if len(sys.argv) > 1 else "example")))
