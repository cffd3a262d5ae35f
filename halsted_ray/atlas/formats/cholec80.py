"""Cholec80 (CAMMA, Strasbourg): 80 cholecystectomies with phases on every frame and tools on every second.

    ROOT/videos/videoNN.mp4                              25 frames a second
    ROOT/phase_annotations/videoNN-phase.txt             "Frame<tab>Phase", every frame from 0 on, phase by name
    ROOT/tool_annotations/videoNN-tool.txt               "Frame<tab>Grasper<tab>…", 0 or 1, every 25th frame

Tools become one sample for each stretch in which the same tools are there. The published split: 1 to 40, 41 to 80.
"""

from __future__ import annotations

import posixpath
import re
from collections.abc import Iterator

from halsted_ray.atlas.formats.recording import (
    ImportSettings,
    Recording,
    absolute_place,
    as_index,
    files_at,
    is_file,
    numbered_lines,
    runs,
    wrong,
)
from halsted_ray.errors import AtlasError
from halsted_ray.records import Clip

FRAMES_PER_S = 25.0
TOOL_STEP_FRAMES = 25
TOOLS = ("Grasper", "Bipolar", "Hook", "Scissors", "Clipper", "Irrigator", "SpecimenBag")
LAST_TRAINING_VIDEO = 40
OPERATION = {"specialty": "General", "procedure": "Laparoscopic Cholecystectomy"}


def read(source: str, settings: ImportSettings) -> list[Recording]:
    source = absolute_place(source)
    files = files_at(source, "phase_annotations/video*-phase.txt")
    if not files:
        raise AtlasError(
            f"{source}: no Cholec80 here; expected phase_annotations/video01-phase.txt and the like: name the folder "
            "that holds videos, phase_annotations and tool_annotations"
        )
    videos = absolute_place(settings.videos or f"{source}/videos")
    recordings = []
    for file in files:
        name = posixpath.basename(file).removesuffix("-phase.txt")
        clips = [
            Clip("", first, stop, "phase", {"phase": phase}, annotator=settings.annotator, **OPERATION)
            for first, stop, phase in runs(phases(file, settings), 1)
        ]
        tools_file = f"{source}/tool_annotations/{name}-tool.txt"
        if is_file(tools_file):
            clips += [
                Clip("", first, stop, "tools", dict(tools), annotator=settings.annotator, **OPERATION)
                for first, stop, tools in runs(tool_rows(tools_file, settings), TOOL_STEP_FRAMES)
            ]
        number = re.fullmatch(r"video(\d+)", name)
        part = ("train" if int(number[1]) <= LAST_TRAINING_VIDEO else "test") if number else ""
        recordings.append(Recording(tuple(clips), file, f"{videos}/{name}.mp4", part=part, rate=FRAMES_PER_S))
    return recordings


def phases(file: str, settings: ImportSettings) -> Iterator[tuple[int, str]]:
    known = settings.taxonomy.tag("phase").categories
    for expected, (line, fields) in enumerate(table_rows(file, ("Frame", "Phase"))):
        frame = as_index(fields[0], file, line, "the frame")
        if frame != expected:
            raise wrong(file, line, frame, f"frame {expected}, since every frame has its row")
        if fields[1] not in known:
            raise wrong(file, line, fields[1], f"a phase of {', '.join(known)}")
        yield frame, fields[1]


def tool_rows(file: str, settings: ImportSettings) -> Iterator[tuple[int, tuple]]:
    for number, (line, fields) in enumerate(table_rows(file, ("Frame", *TOOLS))):
        frame = as_index(fields[0], file, line, "the frame")
        if frame != number * TOOL_STEP_FRAMES:
            raise wrong(file, line, frame, f"frame {number * TOOL_STEP_FRAMES}, one row a second")
        for value in fields[1:]:
            if value not in ("0", "1"):
                raise wrong(file, line, value, "0 or 1 for each tool")
        presence = ("Absent", "Present")
        yield frame, tuple((tool.lower(), presence[int(value)]) for tool, value in zip(TOOLS, fields[1:], strict=True))


def table_rows(file: str, header: tuple[str, ...]) -> Iterator[tuple[int, list[str]]]:
    """(line, fields) of a tab-separated table below ``header``."""
    lines = numbered_lines(file)
    number, first = next(lines, (1, ""))
    if tuple(first.split()) != header:
        raise wrong(file, number, first, f"the header {' '.join(header)!r}, separated by tabs")
    for number, text in lines:
        fields = text.split()
        if len(fields) != len(header):
            raise wrong(file, number, text, f"{len(header)} fields separated by tabs")
        yield number, fields
