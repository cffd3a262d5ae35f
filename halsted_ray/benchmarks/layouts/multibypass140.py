"""MultiBypass140, and its parts StrasBypass70 and BernBypass70: spans of phases and steps."""

from __future__ import annotations

from halsted_ray.atlas.formats import multibypass140
from halsted_ray.atlas.formats.multibypass140 import Span
from halsted_ray.atlas.formats.recording import format_error
from halsted_ray.benchmarks.data_set import DataSet, Layout, Rows


def files_by_video(data: DataSet) -> dict[str, str]:
    """BBPNN or SBPNN → its JSON file."""
    return multibypass140.label_files(data, data.within)


def spans_of(data: DataSet, file: str) -> list[Span]:
    """The spans of one video, without what lies over the phases."""
    return multibypass140.base_spans(multibypass140.read_spans(data, file, data.target), data.target)


def judged_frames(data: DataSet, name: str, file: str) -> Rows:
    """Each full second, by the span that holds it."""
    rows: list[tuple[float, tuple[str, ...]]] = []
    spans, k = spans_of(data, file), 0
    for second in range(int(max((stop_s for _, stop_s, _, _ in spans), default=0.0)) + 1):
        while k < len(spans) and spans[k][1] <= second:
            k += 1
        if k < len(spans) and spans[k][0] <= second:
            rows.append((float(second), (spans[k][3],)))
    return rows


def label_names(data: DataSet) -> list[str]:
    """Names of the phases or steps in the order of their numbers. A label that no video has is not among them."""
    names: dict[int, str] = {}
    for file in files_by_video(data).values():
        for _, _, number, name in spans_of(data, file):
            if names.setdefault(number, name) != name:
                raise format_error(file, data.target, name, f"{names[number]!r} as the name of {number}, as elsewhere")
    return [names[number] for number in sorted(names)]


LAYOUT = Layout(
    multibypass140.EXPECTED,
    files_by_video,
    judged_frames,
    (*multibypass140.VIDEOS, "frames/{name}"),
    label_names,
)
