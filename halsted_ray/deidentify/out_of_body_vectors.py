"""Finds the spans in which the camera is outside of the body from stored vectors alone: nothing is decoded.

An edge is no finer than a window. What has no vector is listed as such, since nobody has looked at it. Where a video
can be read, ``refined`` moves the edges of its spans to the frame.

Shapes: N windows of a video, in the order of the grid.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from halsted_ray.deidentify.out_of_body import (
    MERGED_S,
    OUT_OF_BODY,
    PAD_S,
    RATE_HZ,
    FrameScores,
    frame_times,
    merged,
    outside_runs,
    padded,
    smoothed,
)
from halsted_ray.deidentify.out_of_body_head import OutOfBodyHead
from halsted_ray.deidentify.out_of_body_net import OutOfBodyDetector, load_detector
from halsted_ray.deidentify.spans import Span
from halsted_ray.storage.locations import Location
from halsted_ray.storage.vector_files import VideoVectors
from halsted_ray.video.decode_process import DecodeProcess

NO_VECTOR = "no-vector"
"""Reason of a span without vectors: there was no picture, or the embedding is not finished. Nobody has judged it."""


def spans_in_vectors(
    head: OutOfBodyHead, found: VideoVectors | None, duration_s: float, pad_s: float = PAD_S
) -> list[Span]:
    """The spans of a video outside of the body, and those without a vector, in order, none over another.

    ``found``: the stored vectors of the video, of the head's encoder and sampling; None where there are none.
    ``duration_s``: the video's length. ``pad_s``: seconds added at both ends of a span. A span's ``score`` is the mean
    of its windows'. Spans outside that are closer than ``MERGED_S`` are one. Raises ModelError for vectors of another
    width; ValueError for a negative pad.
    """
    if pad_s < 0:
        raise ValueError(f"pad_s={pad_s}: expected seconds from 0 on")
    window_s = head.source.window_s
    scores_N = grid_scores(head, found, duration_s)
    judged_N, settings = np.isfinite(scores_N), head.settings

    def span(first: int, stop: int, reason: str, score: float) -> Span:
        return Span(first * window_s, min(stop * window_s, duration_s), reason, round(score, 4))

    # A window without a vector ends no span, and begins none: its time is listed in any case.
    seen_N = np.where(judged_N, scores_N, settings.edge_threshold)
    outside = [
        span(first, stop, OUT_OF_BODY, float(np.nanmean(scores_N[first:stop])))
        for first, stop in outside_runs(seen_N, settings.threshold, settings.edge_threshold)
        if judged_N[first:stop].any() and np.nanmax(scores_N[first:stop]) >= settings.threshold
    ]
    lacking = [span(first, stop, NO_VECTOR, 1.0) for first, stop in outside_runs((~judged_N).astype(float), 0.5)]
    return widened(outside + lacking, pad_s, duration_s)


def widened(spans: Sequence[Span], pad_s: float, duration_s: float) -> list[Span]:
    """``spans`` with those outside joined where they are closer than ``MERGED_S``, and widened by ``pad_s``; the others
    stay as they are. In order, none over another."""
    outside = [span for span in spans if OUT_OF_BODY in span.reason]
    others = [span for span in spans if OUT_OF_BODY not in span.reason]
    return merged(padded(merged(outside, MERGED_S), pad_s, duration_s) + others, 0.0)


def grid_scores(head: OutOfBodyHead, found: VideoVectors | None, duration_s: float) -> NDArray[np.float64]:
    """The score of each window of the grid, NaN where it has no vector: float64 [N]."""
    scores_N = np.full(math.ceil(duration_s / head.source.window_s), np.nan)
    if found is not None:
        starts_s, _, scores = head.scores_of(found)
        at = np.rint(starts_s / head.source.window_s).astype(int)
        held = at < len(scores_N)
        scores_N[at[held]] = scores[held]
    return scores_N


def at_samples(
    start_s_N: NDArray[np.float64], stop_s_N: NDArray[np.float64], scores_N: NDArray[np.float64], duration_s: float
) -> NDArray[np.float64]:
    """The score of the window around each of ``RATE_HZ`` samples per second; 0 where there is none."""
    times_s = np.arange(0, duration_s, 1 / RATE_HZ)
    if not len(scores_N):
        return np.zeros(len(times_s))
    row = np.searchsorted(start_s_N, times_s, side="right") - 1
    return np.where((row >= 0) & (times_s < stop_s_N[row]), scores_N[row], 0.0)


def refined(
    spans: Sequence[Span],
    location: Location,
    window_s: float,
    *,
    detector: OutOfBodyDetector | None = None,
    decoder: DecodeProcess | None = None,
    pad_s: float = PAD_S,
) -> list[Span]:
    """``spans`` (not widened) with the edges of those outside moved to the frame, then widened by ``pad_s``.

    All frames from one window before an edge to one window after it are judged by ``detector`` (default: the one that
    ships), and form runs by its two thresholds. An edge goes to the outermost frame of these runs. It stays where there
    is no run, so a detector that sees nothing takes nothing away; and at the beginning and the end of the
    video. Costs the decoding of two windows per edge. Raises UnreadableVideo, StorageUnavailable, DecoderKilled.
    """
    with ExitStack() as opened:
        look = FrameScores(location, detector or load_detector(), decoder or opened.enter_context(DecodeProcess()))
        # A span that is joined to one without vectors keeps its edges: there nobody has looked.
        moved = [_moved(span, look, window_s) if span.reason == OUT_OF_BODY else span for span in spans]
    return widened(moved, pad_s, look.duration_s)


def _moved(span: Span, look: FrameScores, window_s: float) -> Span:
    def runs_near(edge_s: float) -> list[tuple[float, float]]:
        """(first, last) time of each run of frames outside."""
        until_s = min(edge_s + window_s, look.duration_s)
        times_s = frame_times(max(0.0, edge_s - window_s) - 1 / look.fps, until_s, look.fps)
        scores = smoothed(look.scores(times_s, "exact"))
        runs = outside_runs(scores, look.threshold, look.edge_threshold)
        return [(float(times_s[first]), float(times_s[stop - 1])) for first, stop in runs]

    start_s, stop_s = span.start_s, span.stop_s
    if start_s > 0 and (runs := runs_near(start_s)):
        start_s = runs[0][0]
    if stop_s < look.duration_s and (runs := runs_near(stop_s)):
        stop_s = min(look.duration_s, runs[-1][1] + 1 / look.fps)
    return replace(span, start_s=start_s, stop_s=stop_s) if start_s < stop_s else span
