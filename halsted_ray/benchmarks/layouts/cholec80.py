"""Cholec80: phases at 25 frames per second and tools once per second."""

from __future__ import annotations

from halsted_ray import taxonomy
from halsted_ray.atlas.formats import cholec80
from halsted_ray.benchmarks.data_set import DataSet, Layout, Rows


def files_by_video(data: DataSet) -> dict[str, str]:
    """videoNN → its file of phases or tools."""
    return (cholec80.tool_files if data.target == "tool" else cholec80.phase_files)(data)


def judged_frames(data: DataSet, name: str, file: str) -> Rows:
    """One frame per second."""
    if data.target == "tool":
        tools = {tool.lower(): tool for tool in cholec80.TOOLS}
        return [
            (frame / cholec80.FRAMES_PER_S, tuple(tools[tool] for tool, there in pairs if there == "Present"))
            for frame, pairs in cholec80.read_tools(file)
        ]
    return [
        (frame / cholec80.FRAMES_PER_S, (phase,))
        for frame, phase in cholec80.read_phases(file, taxonomy.load("cholec80"))
        if frame % cholec80.TOOL_STEP_FRAMES == 0
    ]


LAYOUT = Layout(
    cholec80.EXPECTED,
    files_by_video,
    judged_frames,
    (cholec80.VIDEO, "frames/{name}"),
)
