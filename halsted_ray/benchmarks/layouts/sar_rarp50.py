"""SAR-RARP50: actions, judged ten times per second.

{train1,train2,test}/video_NN[_n]/action_{continues,discrete}.txt    …/video_left.avi
"""

from __future__ import annotations

import posixpath

from halsted_ray import taxonomy
from halsted_ray.atlas.formats import sar_rarp50
from halsted_ray.benchmarks.data_set import DataSet, Layout, Rows


def files_by_video(data: DataSet) -> dict[str, str]:
    """test/video_41 → its file of actions."""
    found: dict[str, str] = {}
    for name in ("action_continues.txt", "action_discrete.txt"):  # the second one is what the challenge judges
        for file in data.files(f"*/video_*/{name}"):
            found["/".join(posixpath.dirname(file).rsplit("/", 2)[1:])] = file
    return found


def judged_frames(data: DataSet, name: str, file: str) -> Rows:
    """Ten frames per second."""
    classes = taxonomy.load("sar_rarp50").tag("action").categories
    read = sar_rarp50.read_discrete if file.endswith("discrete.txt") else sar_rarp50.read_continuous
    step = sar_rarp50.STEP_FRAMES
    return [
        (frame / sar_rarp50.FRAMES_PER_S, (classes[label],))
        for first, stop, label in read(file, len(classes))
        for frame in range(-(-first // step) * step, stop, step)
    ]


def part_of(data: DataSet, name: str) -> str:
    """train or test, by the folder."""
    return "test" if name.startswith("test/") else "train" if name.startswith("train") else ""


LAYOUT = Layout(
    "files such as test/video_41/action_discrete.txt, with video_left.avi beside",
    files_by_video,
    judged_frames,
    ("{name}/video_left.avi",),
    part_of=part_of,
)
