"""AutoLaparo, task 1: phases once per second."""

from __future__ import annotations

from halsted_ray import taxonomy
from halsted_ray.atlas.formats import autolaparo
from halsted_ray.benchmarks.data_set import DataSet, Layout, Rows


def judged_frames(data: DataSet, name: str, file: str) -> Rows:
    """Every second."""
    return [(float(second), (phase,)) for second, phase in autolaparo.read_phases(file, taxonomy.load("autolaparo"))]


LAYOUT = Layout(
    autolaparo.EXPECTED,
    autolaparo.label_files,
    judged_frames,
    (autolaparo.VIDEO, "frames/{name}"),
)
