"""Cholec80: phases at 25 frames per second and tools once per second.

phase_annotations/videoNN-phase.txt, tool_annotations/videoNN-tool.txt    videos/videoNN.mp4
"""

from __future__ import annotations

import posixpath

from halsted_ray import taxonomy
from halsted_ray.atlas.formats import cholec80
from halsted_ray.atlas.formats.recording import (
    ImportSettings,
)
from halsted_ray.benchmarks.data_set import DataSet, Layout, Rows


def files_by_video(data: DataSet) -> dict[str, str]:
    """videoNN → its file of phases or tools."""
    kind = {"phase": "phase", "tool": "tool"}[data.target]
    files = data.files(f"{kind}_annotations/video*-{kind}.txt")
    return {posixpath.basename(file).removesuffix(f"-{kind}.txt"): file for file in files}


def judged_frames(data: DataSet, name: str, file: str) -> Rows:
    """One frame per second."""
    if data.target == "tool":
        tools = {tool.lower(): tool for tool in cholec80.TOOLS}
        return [
            (frame / cholec80.FRAMES_PER_S, tuple(tools[tool] for tool, there in pairs if there == "Present"))
            for frame, pairs in cholec80.read_tools(file)
        ]
    settings = ImportSettings(taxonomy.load("cholec80"))
    return [
        (frame / cholec80.FRAMES_PER_S, (phase,))
        for frame, phase in cholec80.read_phases(file, settings)
        if frame % cholec80.TOOL_STEP_FRAMES == 0
    ]


LAYOUT = Layout(
    "files such as phase_annotations/video41-phase.txt and tool_annotations/video41-tool.txt, with videos beside",
    files_by_video,
    judged_frames,
    ("videos/{name}.mp4", "frames/{name}"),
)
