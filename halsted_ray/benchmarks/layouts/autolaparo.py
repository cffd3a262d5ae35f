"""AutoLaparo, task 1: phases once per second.

labels/label_NN.txt    videos/NN.mp4
"""

from __future__ import annotations

import posixpath

from halsted_ray import taxonomy
from halsted_ray.atlas.formats.recording import (
    format_error,
    numbered_lines,
    parse_index,
)
from halsted_ray.benchmarks.data_set import DataSet, Layout, Rows


def files_by_video(data: DataSet) -> dict[str, str]:
    """NN → labels/label_NN.txt."""
    files = data.files("labels/label_*.txt")
    return {posixpath.basename(file).removeprefix("label_").removesuffix(".txt"): file for file in files}


def judged_frames(data: DataSet, name: str, file: str) -> Rows:
    """Row n of the table is second n: whatever its frames are counted in, they rise by the same step."""
    lines = numbered_lines(file)
    number, header = next(lines, (1, ""))
    if [word.lower() for word in header.split()] != ["frame", "phase"]:
        raise format_error(file, number, header, "the header 'frame phase', separated by a tab")
    phases = taxonomy.load("autolaparo").tag("phase").categories
    rows: list[tuple[float, tuple[str, ...]]] = []
    frames: list[int] = []
    for number, text in lines:
        fields = text.split()
        if len(fields) != 2:
            raise format_error(file, number, text, "two numbers, the frame and the phase")
        frames.append(parse_index(fields[0], file, number, "the frame"))
        phase = parse_index(fields[1], file, number, "the phase")
        if not 1 <= phase <= len(phases):
            raise format_error(file, number, phase, f"a phase of 1 to {len(phases)}")
        if len(frames) > 1 and frames[-1] - frames[-2] != max(1, frames[1] - frames[0]):
            raise format_error(file, number, frames[-1], "frames that rise by equal steps: there is a row per second")
        rows.append((float(len(rows)), (phases[phase - 1],)))
    return rows


LAYOUT = Layout(
    "files such as labels/label_15.txt, with videos/15.mp4 beside: name the folder of task 1",
    files_by_video,
    judged_frames,
    ("videos/{name}.mp4", "frames/{name}"),
)
