"""Reads Cholec80 (camma.unistra.fr/datasets; Twinanda et al., arXiv 1602.03012): 80 cholecystectomies.

    ROOT/videos/videoNN.mp4                              25 frames per second
    ROOT/phase_annotations/videoNN-phase.txt             "Frame<tab>Phase", every frame from 0 on, phase by name
    ROOT/tool_annotations/videoNN-tool.txt               "Frame<tab>Grasper<tab>…", 0 or 1, every 25th frame

A file with a wrong row is left out as a whole, since its rows depend on each other. Each stretch of video with the same
tools becomes one sample. The published split: videos 1 to 40 are for training, videos 41 to 80 for testing.
"""

from __future__ import annotations

import posixpath
import re
from collections.abc import Iterator

from halsted_ray.atlas.formats.recording import (
    ImportSettings,
    Recording,
    format_error,
    is_file,
    matching_files,
    numbered_lines,
    parse_index,
    runs,
)
from halsted_ray.errors import AtlasError
from halsted_ray.records import Clip
from halsted_ray.storage.locations import absolute_location

FRAMES_PER_S = 25.0
TOOL_STEP_FRAMES = 25
TOOLS = ("Grasper", "Bipolar", "Hook", "Scissors", "Clipper", "Irrigator", "SpecimenBag")
LAST_TRAINING_VIDEO = 40
SPECIALTY, PROCEDURE = "General", "Laparoscopic Cholecystectomy"


def read(source: str, settings: ImportSettings) -> list[Recording]:
    """Reads the data set in the folder ``source``; one Recording per video. Raises AtlasError with file and line."""
    source = absolute_location(source)
    files = matching_files(source, "phase_annotations/video*-phase.txt")
    if not files:
        raise AtlasError(
            f"{source}: no Cholec80 here; expected files such as phase_annotations/video01-phase.txt: name the folder "
            "that holds videos, phase_annotations and tool_annotations"
        )
    videos = absolute_location(settings.videos or f"{source}/videos")

    def make_clip(first_frame: int, stop_frame: int, task: str, tags: dict[str, str]) -> Clip:
        return Clip(
            "",
            first_frame,
            stop_frame,
            task,
            tags,
            annotator=settings.annotator,
            specialty=SPECIALTY,
            procedure=PROCEDURE,
        )

    recordings = []
    for file in files:
        name = posixpath.basename(file).removesuffix("-phase.txt")
        clips = []
        with settings.or_left_out():  # a file as a whole: each row says where the row before it ends
            phase_runs = list(runs(read_phases(file, settings), 1))
            clips += [make_clip(first, stop, "phase", {"phase": phase}) for first, stop, phase in phase_runs]
        tools_file = f"{source}/tool_annotations/{name}-tool.txt"
        if is_file(tools_file):
            with settings.or_left_out():
                tool_runs = list(runs(read_tools(tools_file), TOOL_STEP_FRAMES))
                clips += [make_clip(first, stop, "tools", dict(tools)) for first, stop, tools in tool_runs]
        number = re.fullmatch(r"video(\d+)", name)
        part = ("train" if int(number[1]) <= LAST_TRAINING_VIDEO else "test") if number else ""
        recordings.append(Recording(tuple(clips), file, f"{videos}/{name}.mp4", part=part, rate=FRAMES_PER_S))
    return recordings


def read_phases(file: str, settings: ImportSettings) -> Iterator[tuple[int, str]]:
    """Yields (frame, phase) of every frame. Raises AtlasError."""
    known = settings.taxonomy.tag("phase").categories
    for expected, (line, fields) in enumerate(table_rows(file, ("Frame", "Phase"))):
        frame = parse_index(fields[0], file, line, "the frame")
        if frame != expected:
            raise format_error(file, line, frame, f"frame {expected}, since every frame has a row")
        if fields[1] not in known:
            raise format_error(file, line, fields[1], f"a phase of {', '.join(known)}", "unknown-label")
        yield frame, fields[1]


def read_tools(file: str) -> Iterator[tuple[int, tuple[tuple[str, str], ...]]]:
    """Yields (frame, pairs of tool and "Absent" or "Present") once per second. Raises AtlasError."""
    for number, (line, fields) in enumerate(table_rows(file, ("Frame", *TOOLS))):
        frame = parse_index(fields[0], file, line, "the frame")
        if frame != number * TOOL_STEP_FRAMES:
            raise format_error(
                file, line, frame, f"frame {number * TOOL_STEP_FRAMES}, since there is one row per second"
            )
        for value in fields[1:]:
            if value not in ("0", "1"):
                raise format_error(file, line, value, "0 or 1 for each tool")
        presence = ("Absent", "Present")
        yield frame, tuple((tool.lower(), presence[int(value)]) for tool, value in zip(TOOLS, fields[1:], strict=True))


def table_rows(file: str, header: tuple[str, ...]) -> Iterator[tuple[int, list[str]]]:
    """Yields (line number, fields) of the rows below ``header`` in a tab-separated table. Raises AtlasError."""
    lines = numbered_lines(file)
    number, first = next(lines, (1, ""))
    if tuple(first.split()) != header:
        raise format_error(file, number, first, f"the header {' '.join(header)!r}, separated by tabs")
    for number, text in lines:
        fields = text.split()
        if len(fields) != len(header):
            raise format_error(file, number, text, f"{len(header)} fields separated by tabs")
        yield number, fields
