"""Reads AutoLaparo, task 1 (autolaparo.github.io; Wang et al., MICCAI 2022): phases of 21 hysterectomies.

    ROOT/labels/label_NN.txt     "frame<tab>phase", a row per second, phases numbered 1 to 7
    ROOT/videos/NN.mp4           25 frames per second

Row n is second n, whatever its frames are counted in (t1_video2frame.py in ziyiwangx/AutoLaparo writes the first frame
of a video and then each 25th). A file with a wrong row is left out as a whole, since its rows count the seconds.
"""

from __future__ import annotations

import posixpath

from halsted_ray.atlas.formats.published_set import PublishedSet, clip_of, label_spans, require_files
from halsted_ray.atlas.formats.published_splits import part_in, published_split
from halsted_ray.atlas.formats.recording import ImportSettings, Recording, format_error, numbered_lines, parse_index
from halsted_ray.taxonomy import Taxonomy

OPERATION = ("Gynecology", "Hysterectomy")
VIDEO = "videos/{name}.mp4"
EXPECTED = "files such as labels/label_15.txt, with videos/15.mp4 beside: name the folder of task 1"


def label_files(data: PublishedSet) -> dict[str, str]:
    """NN → labels/label_NN.txt."""
    files = data.files("labels/label_*.txt")
    return {posixpath.basename(file).removeprefix("label_").removesuffix(".txt"): file for file in files}


def read_phases(file: str, taxonomy: Taxonomy) -> list[tuple[int, str]]:
    """(second, phase) of every row. Raises AtlasError."""
    lines = numbered_lines(file)
    number, header = next(lines, (1, ""))
    if [word.lower() for word in header.split()] != ["frame", "phase"]:
        raise format_error(file, number, header, "the header 'frame phase', separated by a tab")
    phases = taxonomy.tag("phase").categories
    rows: list[tuple[int, str]] = []
    frames: list[int] = []
    for number, text in lines:
        fields = text.split()
        if len(fields) != 2:
            raise format_error(file, number, text, "two numbers, the frame and the phase")
        frames.append(parse_index(fields[0], file, number, "the frame"))
        phase = parse_index(fields[1], file, number, "the phase")
        if not 1 <= phase <= len(phases):
            raise format_error(file, number, phase, f"a phase of 1 to {len(phases)}", "unknown-label")
        if len(frames) > 1 and frames[-1] - frames[-2] != max(1, frames[1] - frames[0]):
            raise format_error(file, number, frames[-1], "frames that rise by equal steps: there is a row per second")
        rows.append((len(rows), phases[phase - 1]))
    return rows


def read(source: str, settings: ImportSettings) -> list[Recording]:
    """Reads the data set in the folder ``source``; one Recording per video. Raises AtlasError with file and line."""
    data, (split, _) = PublishedSet(source, videos=settings.videos), published_split("autolaparo")
    files = label_files(data)
    require_files(files, source, "autolaparo", EXPECTED)
    recordings = []
    for name, file in files.items():
        rows: list[tuple[int, str]] = []
        with settings.or_left_out():
            rows = read_phases(file, settings.taxonomy)
        clips = tuple(
            clip_of((start, stop), "phase", {"phase": phase}, settings, OPERATION)
            for start, stop, phase in label_spans([(second, (phase,)) for second, phase in rows], 1)
        )
        recordings.append(
            Recording(
                clips,
                file,
                data.video([VIDEO.format(name=name)]),
                part=part_in(split, name),
                length_s=float(len(rows)),
                group=f"autolaparo {name}",
            )
        )
    return recordings
