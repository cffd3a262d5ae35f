"""SAR-RARP50: actions, judged ten times per second."""

from __future__ import annotations

from halsted_ray import taxonomy
from halsted_ray.atlas.formats import sar_rarp50
from halsted_ray.benchmarks.data_set import DataSet, Layout, Rows


def files_by_video(data: DataSet) -> dict[str, str]:
    """test/video_41 → its file of actions; the discrete one is what the challenge judges."""
    return sar_rarp50.action_files(data, sar_rarp50.CONTINUOUS, sar_rarp50.DISCRETE)


def judged_frames(data: DataSet, name: str, file: str) -> Rows:
    """Ten frames per second."""
    classes = taxonomy.load("sar_rarp50").tag("action").categories
    step = sar_rarp50.STEP_FRAMES
    return [
        (frame / sar_rarp50.FRAMES_PER_S, (classes[label],))
        for first, stop, label in sar_rarp50.read_spans(file, len(classes))
        for frame in range(-(-first // step) * step, stop, step)
    ]


LAYOUT = Layout(
    sar_rarp50.EXPECTED,
    files_by_video,
    judged_frames,
    (sar_rarp50.VIDEO,),
    part_of=lambda data, name: sar_rarp50.part_of(name),
)
