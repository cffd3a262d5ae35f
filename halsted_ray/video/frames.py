"""Pictures with the times at which they were shown, and the size at which a video is shown."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from enum import Enum
from fractions import Fraction

import numpy as np
from numpy.typing import NDArray

from halsted_ray.errors import CorruptSegment

FIDELITIES = ("exact", "reference", "keyframes")
"""Which frame stands for a time. ``exact``: the frame displayed at that time. ``reference``: frames that no other frame
refers to are not decoded (1.8 times as fast), so it may be the reference frame displayed before that time.
``keyframes``: the last keyframe displayed by that time."""

FrameSize = tuple[int, int]
"""(height, width) of the upright picture, in pixels."""

SAME_TIME_S = 1e-6
"""A time and a pts this close are one instant, since grids of times are computed in floats."""


UNRECORDED = "unrecorded"
"""Code of a span in which the recorder wrote no frame."""


@dataclass(frozen=True)
class Missing:
    """``[start_s, stop_s)`` of one video that has no picture, in seconds from the first displayed frame.

    ``stop_s`` is infinite where nobody knows from when on there are pictures again. ``code`` is a code of
    ``errors.VideoError``: ``corrupt`` for damage, ``unrecorded`` for time in which the recorder wrote nothing.
    ``reason`` is for people.
    """

    start_s: float
    stop_s: float
    code: str
    reason: str


class Anew(Enum):
    """``ANEW``: what a reader gave so far does not hold, and it begins again with the first time."""

    ANEW = "anew"


ANEW = Anew.ANEW
FrameStream = Iterator[tuple[NDArray[np.uint8], float] | Missing | Anew]
"""What a reader gives, one item per wanted time: the frame (uint8 [H, W, 3] RGB, its pts in seconds from the first
displayed frame), or the span without picture that holds the time. ``ANEW`` may stand between them."""


@dataclass(frozen=True)
class Frames:
    """N pictures of one video, each with the time at which it was displayed.

    ``images_NHWC``: uint8 [N, H, W, 3] RGB. ``pts_s``: float64 [N], seconds from the first displayed frame. A time
    without picture has zeros and NaN. ``missing``: the spans in which these times lie, in order, none over another; no
    time that has a picture lies in them. Raises ValueError for other shapes or types.
    """

    images_NHWC: NDArray[np.uint8]
    pts_s: NDArray[np.float64]
    missing: tuple[Missing, ...] = ()

    def __post_init__(self) -> None:
        images, pts_s = self.images_NHWC, self.pts_s
        if images.ndim != 4 or images.shape[3] != 3 or images.dtype != np.uint8:
            raise ValueError(f"expected uint8 images of shape [N, H, W, 3], got {images.dtype} {list(images.shape)}")
        if pts_s.shape != images.shape[:1] or pts_s.dtype != np.float64:
            raise ValueError(f"expected float64 times of shape [{len(images)}], got {pts_s.dtype} {list(pts_s.shape)}")

    def __len__(self) -> int:
        return len(self.images_NHWC)

    @property
    def present_N(self) -> NDArray[np.bool_]:
        """bool [N]: which of the times have a picture."""
        return ~np.isnan(self.pts_s)

    def require_whole(self) -> Frames:
        """These frames, for a caller that needs every one of them. Raises CorruptSegment for the first span without
        picture."""
        for span in self.missing:
            stop_s = span.stop_s if math.isfinite(span.stop_s) else None
            raise CorruptSegment(span.reason, span.start_s, stop_s, code=span.code)
        return self


def collect(
    rows: Iterable[tuple[NDArray[np.uint8], float] | Missing | Anew],
    times_s: NDArray[np.float64],
    size: FrameSize | None,
) -> Frames:
    """The items of a ``FrameStream`` for ``times_s`` (rising) as one array; ``size`` is that of the frames, None where
    it is not known yet."""
    images_NHWC = np.zeros((len(times_s), *(size or (0, 0)), 3), np.uint8)
    pts_s = np.full(len(times_s), np.nan, np.float64)
    spans, times, number = MissingSpans(), times_s.tolist(), 0
    for row in rows:
        if row is ANEW:
            images_NHWC[:], pts_s[:] = 0, np.nan
            spans, number = MissingSpans(), 0
            continue
        time_s, number = times[number], number + 1
        if isinstance(row, Missing):
            spans.add_missing(time_s, row)
            continue
        image_HWC, shown_s = row
        if images_NHWC.shape[1:] != image_HWC.shape and size is None:
            size = image_HWC.shape[0], image_HWC.shape[1]
            images_NHWC = np.zeros((len(times_s), *image_HWC.shape), np.uint8)
        images_NHWC[number - 1], pts_s[number - 1] = image_HWC, shown_s
        spans.add_picture(time_s, shown_s)
    if number != len(times):
        raise ValueError(f"expected {len(times)} items from a reader, one per time, got {number}")
    for span in spans.found:
        # A reader may give the last frame before damage for a while, until it knows that the data are damaged.
        stale = (times_s >= span.start_s) & (times_s < span.stop_s)
        images_NHWC[stale], pts_s[stale] = 0, np.nan
    return Frames(images_NHWC, pts_s, tuple(spans.found))


class MissingSpans:
    """Spans without picture, put together from what a reader gives time by time.

    A reader states where a span begins, and where it ends as far as it knows. These statements need not agree from one
    time to the next, so they are put in order. A picture that is displayed from a moment inside a stated span on has
    the last word: the span ends there, or begins after it. Spans that touch and have the same code are one span.
    """

    def __init__(self) -> None:
        self.found: list[Missing] = []
        self._shown_s = -math.inf
        """The pts of the last picture."""
        self._missing_s = -math.inf
        """The last time that was said to have no picture."""

    def add_missing(self, time_s: float, said: Missing) -> None:
        """``time_s`` has no picture. Where ``said`` does not hold that time, the span is taken to begin or to go on
        there."""
        start_s = said.start_s if self._shown_s < said.start_s <= time_s else time_s
        stop_s = said.stop_s if said.stop_s > time_s else math.inf
        last = self.found[-1] if self.found else None
        if last and start_s <= last.stop_s + SAME_TIME_S:
            if last.code == said.code:
                self.found[-1] = replace(last, stop_s=stop_s)
                self._missing_s = time_s
                return
            start_s = start_s if start_s > self._missing_s else min(time_s, last.stop_s)
            self.found[-1] = replace(last, stop_s=min(last.stop_s, start_s))
        self.found.append(Missing(start_s, stop_s, said.code, said.reason))
        self._missing_s = time_s

    def add_picture(self, time_s: float, shown_s: float) -> None:
        """``time_s`` has the picture that is displayed from ``shown_s`` on."""
        last = self.found[-1] if self.found else None
        if last and time_s < last.stop_s:
            if shown_s < last.start_s:  # the frame before the damage, which says nothing of a time in it
                return
            self.found[-1] = replace(last, stop_s=shown_s if self._missing_s < shown_s <= time_s else time_s)
        self._shown_s = shown_s


def display_size(width: int, height: int, sample_aspect: Fraction | None, rotation_deg: int) -> FrameSize:
    """The size at which a picture is shown: pixels that are not square are made square by widening, then the picture is
    turned upright. ``sample_aspect`` is a stored pixel's width by its height; None or 0 where the file does not say."""
    if sample_aspect and sample_aspect > 0:
        width = max(1, round(width * sample_aspect))
    return (width, height) if (rotation_deg // 90) % 2 else (height, width)
