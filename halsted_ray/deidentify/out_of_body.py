"""Finds the spans of a video in which the camera is outside of the body.

Eight frames a second are judged one by one, smoothed over time, and joined to spans: a span needs one high score, and
goes on while the scores are not low. Then every frame around an edge of a span is judged, so that the edge is exact to
the frame. At last each span is widened, since the frames just before and after it may show somebody too.

Shapes: N samples of a video.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from contextlib import ExitStack

import numpy as np
from numpy.typing import NDArray

from halsted_ray.deidentify.out_of_body_net import SIZE, OutOfBodyDetector, load_detector
from halsted_ray.deidentify.spans import Span
from halsted_ray.storage.locations import Location
from halsted_ray.video.decode_process import DecodeProcess

OUT_OF_BODY = "out-of-body"
"""Reason of a span in which the camera is outside."""
DAMAGED = "undecodable"
"""Reason of a damaged span. Another player may show more of it, so it can't be called clean."""
RATE_HZ = 8.0
"""Frames judged per second: a span of 0.5 s holds four of them, of which two suffice."""
PAD_S = 0.5
"""By how much each span is widened at both ends. Twice as much hides half as much of the body again."""
MERGED_S = 1.0
"""Spans that are closer to each other are one: in so short a time a camera does not go into a body and out again."""
PIECE_S = 60.0
"""How much of a video is read at once: 480 frames, 6 MB."""
USUAL_FPS = 25.0
"""Of a file that does not say its frame rate: edges are then exact to 1/25 s."""
START_DEADLINE_S, DEADLINE_PER_S = 60.0, 10.0
"""How long decoding may take: to begin with, and for each second of video. A core decodes 5 to 9 s of 1080p in 1 s."""


def find_out_of_body(
    location: Location,
    *,
    detector: OutOfBodyDetector | None = None,
    decoder: DecodeProcess | None = None,
    pad_s: float = PAD_S,
    rate_hz: float = RATE_HZ,
) -> list[Span]:
    """The spans of the video at ``location`` that must not be shown, in order, none over another.

    ``detector``: default the one that ships, which has seen synthetic pictures alone. ``decoder``: the process that
    decodes (default: one of its own). ``pad_s``: seconds added at both ends of a span. ``rate_hz``: frames judged per
    second. Spans without a picture are listed too, as ``DAMAGED``. A span's ``score`` is the mean of its frames'.

    Costs about what decoding the video once costs, and holds 60 s of it as pictures of 64 × 64 pixels. Raises
    UnreadableVideo, StorageUnavailable, DecoderKilled; ValueError for a negative pad or a rate of 0.
    """
    if pad_s < 0:
        raise ValueError(f"pad_s={pad_s}: expected seconds from 0 on")
    detector = detector or load_detector()
    with ExitStack() as opened:
        look = FrameScores(location, detector, decoder or opened.enter_context(DecodeProcess()))
        times_s, scores = look.samples(rate_hz)
        runs = outside_runs(scores, detector.settings.threshold, detector.settings.edge_threshold)
        edges = _frame_edges(look, times_s, runs)
        found = [
            Span(start_s, stop_s, OUT_OF_BODY, round(float(scores[first:stop].mean()), 4))
            for (first, stop), (start_s, stop_s) in zip(runs, edges, strict=True)
        ]
        damaged = [Span(start_s, min(stop_s, look.duration_s), DAMAGED, 1.0) for start_s, stop_s in look.damaged]
    spans = merged(found, MERGED_S) + merged([span for span in damaged if span.start_s < span.stop_s], 0.0)
    return padded(spans, pad_s, look.duration_s)


def outside_scores(
    location: Location,
    *,
    detector: OutOfBodyDetector | None = None,
    decoder: DecodeProcess | None = None,
    rate_hz: float = RATE_HZ,
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """(times in seconds [N], how likely the camera is outside at each, 0 to 1 [N]) of a video, smoothed over time.

    Arguments and errors as of ``find_out_of_body``.
    """
    with ExitStack() as opened:
        decoder = decoder or opened.enter_context(DecodeProcess())
        return FrameScores(location, detector or load_detector(), decoder).samples(rate_hz)


class FrameScores:
    """Scores of the frames of one video at given times, and the damage that was met."""

    def __init__(self, location: Location, detector: OutOfBodyDetector, decoder: DecodeProcess):
        self.damaged: set[tuple[float, float]] = set()
        self.threshold, self.edge_threshold = detector.settings.threshold, detector.settings.edge_threshold
        video, self._index = decoder.probe_and_index(location)
        self.duration_s, self.fps = video.duration_s, video.fps or USUAL_FPS
        self._location, self._detector, self._decoder = location, detector, decoder

    def samples(self, rate_hz: float) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """As ``outside_scores``."""
        if not rate_hz > 0:
            raise ValueError(f"rate_hz={rate_hz}: expected frames per second above 0")
        times_s = np.arange(0, max(self.duration_s, 1e-3), 1 / rate_hz)
        return times_s, smoothed(np.concatenate([self.scores(times_s[part]) for part in _pieces(times_s)]))

    def scores(self, times_s: NDArray[np.float64], fidelity: str = "reference") -> NDArray[np.float64]:
        """[N]; 0 where there is no picture."""
        if not len(times_s):
            return np.zeros(0)
        lasts_s = float(times_s[-1] - times_s[0])
        frames = self._decoder.read_frames(
            self._location,
            times_s,
            (SIZE, SIZE),
            fidelity,
            deadline_s=START_DEADLINE_S + DEADLINE_PER_S * lasts_s,
            packet_index=self._index,
        )
        # A time in which a recorder wrote nothing has nothing to hide.
        self.damaged |= {(span.start_s, span.stop_s) for span in frames.missing if span.code == "corrupt"}
        return np.where(frames.present_N, self._detector.scores(frames.images_NHWC), 0.0)


def _pieces(times_s: NDArray[np.float64]) -> Iterable[slice]:
    for start_s in np.arange(0, times_s[-1] + 1e-9, PIECE_S):
        first, stop = np.searchsorted(times_s, (start_s, start_s + PIECE_S))
        yield slice(int(first), int(stop))


def smoothed(scores_N: NDArray[np.float64]) -> NDArray[np.float64]:
    """The median of each score and its two neighbours: one frame alone neither makes nor breaks a span."""
    if len(scores_N) < 3:
        return scores_N
    padded_N = np.concatenate([scores_N[:1], scores_N, scores_N[-1:]])
    return np.asarray(np.median(np.stack([padded_N[:-2], padded_N[1:-1], padded_N[2:]]), axis=0))


def outside_runs(
    scores_N: NDArray[np.float64], threshold: float, edge_threshold: float | None = None
) -> list[tuple[int, int]]:
    """(first, stop) of each run of samples from ``edge_threshold`` on (default: ``threshold``) in which a sample has
    ``threshold``.

    Smoke and glare seldom get a high score, and the way out of a body gets a low one: two thresholds tell them apart.
    """
    is_out = np.concatenate([[False], scores_N >= (threshold if edge_threshold is None else edge_threshold), [False]])
    changes = np.flatnonzero(is_out[1:] != is_out[:-1])
    runs = zip(changes[::2].tolist(), changes[1::2].tolist(), strict=True)
    return [(first, stop) for first, stop in runs if scores_N[first:stop].max() >= threshold]


def _frame_edges(
    look: FrameScores,
    times_s: NDArray[np.float64],
    runs: list[tuple[int, int]],
) -> list[tuple[float, float]]:
    """(start_s, stop_s) of each run, exact to the frame: all frames around its edges are judged, in one pass.

    At a start that is between the samples on both sides of it; so at a stop. A run that begins with the video's first
    sample starts at 0 s, and one that reaches its last sample stops at its end.
    """
    spans = {}
    for first, stop in runs:
        for sample in {first, stop}:
            if 0 < sample < len(times_s):
                spans[sample] = times_s[sample - 1], times_s[sample]
    wanted = {sample: frame_times(*span, look.fps) for sample, span in spans.items()}
    order = sorted(wanted)
    all_s = np.unique(np.concatenate([wanted[sample] for sample in order])) if order else np.zeros(0)
    is_out = dict(zip(all_s.tolist(), (look.scores(all_s, "exact") >= look.edge_threshold).tolist(), strict=True))

    def start_of(sample: int) -> float:
        if sample == 0:
            return 0.0
        at_s = float(times_s[sample])
        for t_s in reversed(wanted[sample].tolist()):
            if not is_out[t_s]:
                break
            at_s = t_s
        return at_s

    def stop_of(sample: int) -> float:
        if sample >= len(times_s):
            return look.duration_s
        return next((t_s for t_s in wanted[sample].tolist() if not is_out[t_s]), float(times_s[sample]))

    return [(start_of(first), stop_of(stop)) for first, stop in runs]


def frame_times(after_s: float, until_s: float, fps: float) -> NDArray[np.float64]:
    """The times n / fps in (after_s, until_s)."""
    first, stop = math.floor(after_s * fps + 1e-6) + 1, math.ceil(until_s * fps - 1e-6)
    return np.arange(first, stop) / fps


def merged(spans: list[Span], gap_s: float) -> list[Span]:
    """``spans`` in order of time; those that overlap, or are at most ``gap_s`` apart, as one with the higher score."""
    found: list[Span] = []
    for span in sorted(spans, key=lambda span: (span.start_s, span.stop_s)):
        if found and span.start_s <= found[-1].stop_s + gap_s:
            last = found[-1]
            reason = last.reason if last.reason == span.reason else f"{last.reason}; {span.reason}"
            found[-1] = Span(last.start_s, max(last.stop_s, span.stop_s), reason, max(last.score, span.score))
        else:
            found.append(span)
    return found


def padded(spans: list[Span], pad_s: float, duration_s: float) -> list[Span]:
    """``spans`` widened by ``pad_s`` at both ends, within the video, as one where they then touch."""
    return merged(
        [
            Span(max(0.0, span.start_s - pad_s), min(duration_s, span.stop_s + pad_s), span.reason, span.score)
            for span in spans
        ],
        0.0,
    )
