"""How a video's time is cut into windows and segments: pure functions of the video's length.

The grid starts at 0 s of every video, and its lengths are multiples of 1/32 s. So every edge and every frame time is
exact in binary floating point, and does not depend on how the video is cut into segments.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence

import numpy as np
from numpy.typing import NDArray

from halsted_ray.errors import UsageError
from halsted_ray.records import Segment, Video, Window, WindowSpec, digest


def windows(duration_s: float, spec: WindowSpec) -> tuple[list[Window], list[Window]]:
    """All (coarse, fine) windows of a video: one window per cell of the grid that begins before the video's end."""
    return (
        _cells("coarse", 0.0, duration_s, spec.coarse_s, duration_s),
        _cells("fine", 0.0, duration_s, spec.fine_s, duration_s),
    )


def segments(video: Video, spec: WindowSpec, segment_s: float, recipe: str) -> list[Segment]:
    """The segments of a video, first to last: each is ``segment_s`` long (a whole number of coarse windows), and the
    last segment is shorter.

    ``recipe`` names everything else that decides a segment's result (model, encoder, taxonomy, fidelity), so that a
    segment's id says whether its work is done. Raises UsageError for another ``segment_s``.
    """
    if segment_s <= 0 or (segment_s / spec.coarse_s) % 1:
        raise UsageError(
            f"segment_s: expected a whole number of coarse windows of {spec.coarse_s:g} s, got {segment_s:g} s; "
            f"give for example {max(1, round(segment_s / spec.coarse_s)) * spec.coarse_s:g}"
        )
    return [
        Segment(
            segment_id=digest(video.video_id, start_s, stop_s, video.duration_s, recipe),
            video_id=video.video_id,
            uri=video.uri,
            start_s=start_s,
            stop_s=stop_s,
            duration_s=video.duration_s,
        )
        for start_s, stop_s in _spans(0.0, video.duration_s, segment_s, video.duration_s)
    ]


def windows_of(segment: Segment, spec: WindowSpec) -> tuple[list[Window], dict[int, list[Window]]]:
    """(the coarse windows of a segment, {position of a coarse window: the fine windows in it})."""
    coarse = _cells("coarse", segment.start_s, segment.stop_s, spec.coarse_s, segment.duration_s)
    return coarse, {
        number: _cells("fine", window.start_s, window.stop_s, spec.fine_s, segment.duration_s)
        for number, window in enumerate(coarse)
    }


def frame_times_s(segment: Segment, spec: WindowSpec) -> NDArray[np.float64]:
    """float64 [T]: the times whose frames a segment needs, in seconds from the first displayed frame of the video, each
    once and in order.

    For the windows of the grid they lie ``fine_s / frames`` apart, from the segment's start to its end.
    """
    if segment.windows is not None:
        return np.unique([window_times_s(window, segment.duration_s, spec) for window in segment.windows])
    step_s = spec.fine_s / spec.frames
    count = math.ceil((min(segment.stop_s, segment.duration_s) - segment.start_s) / step_s)
    return segment.start_s + np.arange(count, dtype=np.float64) * step_s


def window_times_s(window: Window, duration_s: float, spec: WindowSpec) -> NDArray[np.float64]:
    """float64 [frames]: when the frames of a window are shown, as ``records.Window`` says.

    A time past the video's end is replaced by the last time of the fine grid.
    """
    lengths_s = {"coarse": spec.coarse_s, "fine": spec.fine_s, "clip": window.stop_s - window.start_s}
    step_s = spec.fine_s / spec.frames
    last_s = window.start_s + (math.ceil((duration_s - window.start_s) / step_s) - 1) * step_s
    return np.minimum(window.start_s + np.arange(spec.frames) * (lengths_s[window.kind] / spec.frames), last_s)


def has_picture(times_s: NDArray[np.float64], gaps: Iterable[tuple[float, float]]) -> NDArray[np.bool_]:
    """bool [T]: which of ``times_s`` lie in none of ``gaps``, the spans [start_s, stop_s) without picture."""
    present_T = np.ones(len(times_s), bool)
    for start_s, stop_s in gaps:
        present_T &= (times_s < start_s) | (times_s >= stop_s)
    return present_T


def frame_rows(windows: Sequence[Window], segment: Segment, spec: WindowSpec) -> NDArray[np.int64]:
    """int64 [N, frames]: the rows of ``frame_times_s`` that make up each of N windows of the segment.

    Past the video's end the last row stands again. All windows of a segment are asked for at once, since the times of
    a segment with windows of its own cost as much as all of them.
    """
    times_T = frame_times_s(segment, spec)
    if segment.windows is not None:
        times_NF = [window_times_s(window, segment.duration_s, spec) for window in windows]
        return np.searchsorted(times_T, np.reshape(times_NF, (len(windows), spec.frames)))
    step_s = spec.fine_s / spec.frames
    first_N = np.array([round((window.start_s - segment.start_s) / step_s) for window in windows], np.int64)
    stride_N = np.array([spec.fine_per_coarse if window.kind == "coarse" else 1 for window in windows], np.int64)
    return np.minimum(first_N[:, None] + np.arange(spec.frames) * stride_N[:, None], len(times_T) - 1)


def _cells(kind: str, start_s: float, stop_s: float, length_s: float, duration_s: float) -> list[Window]:
    return [Window(kind, a, b) for a, b in _spans(start_s, stop_s, length_s, duration_s)]


def _spans(start_s: float, stop_s: float, length_s: float, duration_s: float) -> list[tuple[float, float]]:
    """``[start_s, stop_s)`` cut into cells of ``length_s``, and off at ``duration_s``. ``start_s`` is on the grid."""
    stop_s = min(stop_s, duration_s)
    count = math.ceil((stop_s - start_s) / length_s)
    edges = [start_s + n * length_s for n in range(count)]
    return [(edge, min(edge + length_s, stop_s)) for edge in edges if edge < stop_s]
