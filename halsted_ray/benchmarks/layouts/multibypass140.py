"""MultiBypass140, and its parts StrasBypass70 and BernBypass70: spans of phases and steps.

labels/{bern,strasbourg}/labels_by70/{BBP,SBP}NN.mp4.json    videos/NAME.mp4 or frames/NAME/
"""

from __future__ import annotations

import posixpath

from halsted_ray.atlas.formats.recording import (
    format_error,
    parse_number,
)
from halsted_ray.benchmarks.data_set import DataSet, Layout, Rows

LONGEST_MS = 48 * 3_600_000
"""Of an operation. A longer one is a slip of the pen, and each of its seconds would be a row."""
BASE_PHASES = 12
"""MultiBypass140's phases 0 to 11; 12 (out of body) and 13 (severity) lie over them."""


def files_by_video(data: DataSet) -> dict[str, str]:
    """BBPNN or SBPNN → its JSON file."""
    files = data.files(f"labels/{data.within or '*'}/labels_by70/*.json")
    return {posixpath.basename(file).split(".")[0]: file for file in files}


def spans_of(data: DataSet, file: str) -> list[tuple[float, float, int, str]]:
    """(start_s, stop_s, number of the label, its name) of one video, without what lies over the phases."""
    said = data.json(file)
    spans = said.get(data.target) if isinstance(said, dict) else None
    if not isinstance(spans, list):
        raise format_error(file, f"{data.target}", spans, "a list of spans with start, end, label_name and label_id")
    found = []
    for k, span in enumerate(spans):
        place = f"{data.target}[{k}]"
        if not isinstance(span, dict) or not {"start", "end", "label_name", "label_id"} <= set(span):
            raise format_error(file, place, span, "start, end, label_name and label_id")
        start_ms, stop_ms = (parse_number(span[key], file, place, key) for key in ("start", "end"))
        number = int(parse_number(span["label_id"], file, place, "label_id"))
        if not 0 <= start_ms <= stop_ms <= LONGEST_MS:
            expected = f"milliseconds, the start before the end, {LONGEST_MS:,} at most"
            raise format_error(file, place, f"{start_ms:g} to {stop_ms:g}", expected)
        if data.target != "phases" or number < BASE_PHASES:
            found.append((start_ms / 1000, stop_ms / 1000, number, str(span["label_name"])))
    return sorted(found)


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
    "files such as labels/bern/labels_by70/BBP01.mp4.json; name the place of videos or frames with --videos",
    files_by_video,
    judged_frames,
    ("videos/{name}.mp4", "frames/{name}"),
    label_names,
)
