"""CholecT50: triplets of single pictures."""

from __future__ import annotations

from halsted_ray.atlas.formats import cholect50
from halsted_ray.benchmarks.data_set import DataSet, Layout, Rows


def label_names(data: DataSet) -> list[str]:
    """The triplets in the order of their numbers."""
    names = cholect50.category_names(data, next(iter(cholect50.label_files(data).values())), "triplet")
    return [names[number] for number in sorted(names)]


def judged_frames(data: DataSet, name: str, file: str) -> Rows:
    """Every annotated frame; one without a triplet has no label."""
    return [(float(number), frame.triplets) for number, frame in cholect50.read_frames(data, file).items()]


LAYOUT = Layout(
    cholect50.EXPECTED,
    cholect50.label_files,
    judged_frames,
    (cholect50.PICTURES,),
    label_names,
    is_numbered=True,
)
