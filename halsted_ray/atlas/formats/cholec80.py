"""Reads Cholec80 (camma.unistra.fr/datasets; Twinanda et al., arXiv 1602.03012): 80 cholecystectomies.

    ROOT/videos/videoNN.mp4                              25 frames per second
    ROOT/phase_annotations/videoNN-phase.txt             "Frame<tab>Phase", every frame from 0 on, phase by name
    ROOT/tool_annotations/videoNN-tool.txt               "Frame<tab>Grasper<tab>…", 0 or 1, every 25th frame

A file with a wrong row is left out as a whole, since its rows depend on each other. Each stretch of video with the same
tools becomes one sample. The published split: videos 1 to 40 are for training, videos 41 to 80 for testing.
"""

from __future__ import annotations

import posixpath
from collections.abc import Iterator

from halsted_ray.atlas.formats.published_set import PublishedSet, clip_of, presence, require_files
from halsted_ray.atlas.formats.published_splits import part_in, published_split
from halsted_ray.atlas.formats.recording import (
    ImportSettings,
    Recording,
    format_error,
    numbered_lines,
    parse_index,
    runs,
)
from halsted_ray.taxonomy import Taxonomy

FRAMES_PER_S = 25.0
TOOL_STEP_FRAMES = 25
TOOLS = ("Grasper", "Bipolar", "Hook", "Scissors", "Clipper", "Irrigator", "SpecimenBag")
OPERATION = ("General", "Laparoscopic Cholecystectomy")
PHASES, TOOL_PRESENCE = "phase_annotations/video*-phase.txt", "tool_annotations/video*-tool.txt"
VIDEO = "videos/{name}.mp4"
EXPECTED = (
    "files such as phase_annotations/video41-phase.txt and tool_annotations/video41-tool.txt, with videos beside: name "
    "the folder that holds them"
)


def phase_files(data: PublishedSet) -> dict[str, str]:
    """videoNN → its file of phases."""
    return {posixpath.basename(file).removesuffix("-phase.txt"): file for file in data.files(PHASES)}


def tool_files(data: PublishedSet) -> dict[str, str]:
    """videoNN → its file of tools."""
    return {posixpath.basename(file).removesuffix("-tool.txt"): file for file in data.files(TOOL_PRESENCE)}


def read(source: str, settings: ImportSettings) -> list[Recording]:
    """Reads the data set in the folder ``source``; one Recording per video. Raises AtlasError with file and line."""
    data = PublishedSet(source, videos=settings.videos)
    phases, tools = phase_files(data), tool_files(data)
    require_files(phases, source, "cholec80", EXPECTED)
    split, _ = published_split("cholec80")
    recordings = []
    for name, file in phases.items():
        clips = []
        with settings.or_left_out():  # a file as a whole: each row says where the row before it ends
            phase_runs = list(runs(read_phases(file, settings.taxonomy), 1))
            clips += [
                clip_of((first, stop), "phase", {"phase": phase}, settings, OPERATION)
                for first, stop, phase in phase_runs
            ]
        if name in tools:
            with settings.or_left_out():
                tool_runs = list(runs(read_tools(tools[name]), TOOL_STEP_FRAMES))
                clips += [
                    clip_of((first, stop), "tools", dict(there), settings, OPERATION)
                    for first, stop, there in tool_runs
                ]
        uri = data.video([VIDEO.format(name=name)])
        recordings.append(Recording(tuple(clips), file, uri, part=part_in(split, name), rate=FRAMES_PER_S))
    return recordings


def read_phases(file: str, taxonomy: Taxonomy) -> Iterator[tuple[int, str]]:
    """Yields (frame, phase) of every frame. Raises AtlasError."""
    known = taxonomy.tag("phase").categories
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
        there = {tool.lower() for tool, value in zip(TOOLS, fields[1:], strict=True) if value == "1"}
        yield frame, presence(map(str.lower, TOOLS), there)


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
