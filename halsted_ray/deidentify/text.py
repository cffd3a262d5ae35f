"""Burned-in text: names, numbers and dates that a recorder or a console writes into the picture.

A network finds lines of text in sampled frames, and another reads them, to tell writing from tissue. What it read is
used for that alone and leaves this module nowhere. The networks are PP-OCRv4's, which the package
``rapidocr-onnxruntime`` carries; nothing is fetched.

Between the samples each decoded frame is looked at cheaply: where edges come up that stand still while the picture
moves, a sample is taken at once.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from halsted_ray.deidentify.spans import Box, Mask
from halsted_ray.errors import UsageError
from halsted_ray.video.container import VideoFile
from halsted_ray.video.geometry import Orientation, orientation_of
from halsted_ray.video.packet_times import pts_of

SAMPLE_S = 2.0
"""A frame is read at least so often. Reading one takes 1 to 1.2 s of one core."""
LEAST_APART_S = 0.4
"""Changes of the overlay cause samples no nearer to each other than this."""
HELD_S = 10.0
"""Text that is seen twice in one place within this time stood there in between, whatever was read there."""
READ_SCORE = 0.5
"""From this score of the reader on, two letters or figures are text."""
STILL_SCORE = 0.3
"""The same for what stays in one place over ``STILL_SAMPLES`` samples, whatever was read."""
STILL_SAMPLES = 3
LINE_SHAPE = 1.8
"""A line of text that is not read for sure is at least so much wider than high."""
LONG_SIDE_PX = 2000
"""A picture is enlarged to this before text is looked for, since the networks know small letters less well. It is also
the most that the package looks at. Reading 1280 × 720 pixels costs twice as much so, and 1920 × 1080 as much as before.
"""
SAME_PLACE = 0.6
"""Two boxes are of one text where they share this part of the smaller one's area."""


@dataclass(frozen=True)
class FoundText:
    """A line of text in one frame. ``score``: the reader's, 0 to 1."""

    box: Box
    score: float
    is_read: bool
    """Whether letters or figures were read with ``READ_SCORE``."""


class TextReader:
    """Finds text in pictures, on one thread. Raises UsageError where the extra ``deidentify`` is not installed."""

    def __init__(self) -> None:
        try:
            from rapidocr_onnxruntime import RapidOCR
        except ImportError as error:
            raise UsageError(
                f"text in the picture can't be looked for: {error}; pip install 'halsted-ray[deidentify]', or leave "
                "this step out (--no-text)"
            ) from None
        self._engine: Any = RapidOCR(intra_op_num_threads=1, inter_op_num_threads=1)

    def find(self, image_HWC: NDArray[np.uint8]) -> list[FoundText]:
        """The lines of text in a picture (BGR)."""
        height, width = image_HWC.shape[:2]
        scale = max(1.0, LONG_SIDE_PX / max(height, width))
        large_HWC = image_HWC
        if scale > 1:
            size = round(width * scale), round(height * scale)
            large_HWC = np.asarray(cv2.resize(image_HWC, size, interpolation=cv2.INTER_CUBIC), np.uint8)
        result, _ = self._engine(large_HWC, use_cls=False, text_score=STILL_SCORE, box_thresh=0.4)
        found = []
        for corners, words, score in result or ():
            left, top = np.floor(np.min(corners, axis=0) / scale).astype(int)
            right, bottom = np.ceil(np.max(corners, axis=0) / scale).astype(int)
            # The network's boxes may cut the first and the last letter.
            pad = max(4, int(0.3 * min(bottom - top, right - left)))
            left, top = max(0, left - 2 * pad), max(0, top - pad)
            right, bottom = min(width, right + 2 * pad), min(height, bottom + pad)
            if right - left < 2 or bottom - top < 2:
                continue
            letters = sum(letter.isalnum() and letter.isascii() for letter in words)
            is_read = float(score) >= READ_SCORE and letters >= 2
            found.append(
                FoundText(Box(int(left), int(top), int(right - left), int(bottom - top)), float(score), is_read)
            )
        return found


class OverlayChange:
    """Says of frame after frame whether something like writing has come up since the last sample."""

    WIDTH, CELL, EDGE, DENSE, RUN = 480, 8, 48, 0.2, 3

    def __init__(self) -> None:
        self._before: NDArray[np.float32] | None = None
        self._known: NDArray[np.uint8] | None = None
        self._still: NDArray[np.uint8] | None = None

    def has_come(self, grey_HW: NDArray[np.uint8]) -> bool:
        """Looks at a frame, grey and ``WIDTH`` columns wide."""
        edges = np.abs(cv2.Sobel(grey_HW, cv2.CV_32F, 1, 0, ksize=1)) * 2
        rows, columns = grey_HW.shape[0] // self.CELL, grey_HW.shape[1] // self.CELL
        density = cv2.resize((edges > self.EDGE).astype(np.float32), (columns, rows), interpolation=cv2.INTER_AREA)
        if self._before is None or self._before.shape != edges.shape:
            self._before, self._still, self._known = edges, (density > self.DENSE).astype(np.uint8), None
            return True
        moved = cv2.resize(np.abs(edges - self._before), (columns, rows), interpolation=cv2.INTER_AREA)
        strength = cv2.resize(edges, (columns, rows), interpolation=cv2.INTER_AREA)
        self._before = edges
        self._still = ((density > self.DENSE) & (moved < 0.35 * strength)).astype(np.uint8)
        if self._known is None:
            return False
        new = self._still & ~cv2.dilate(self._known, np.ones((3, 3), np.uint8)) & 1
        return bool(cv2.erode(new, np.ones((1, self.RUN), np.uint8)).any())

    def sampled(self) -> None:
        """The last frame was read: what stands in it is known."""
        self._known = self._still


@dataclass(frozen=True)
class Sample:
    """What was found in the frame displayed from ``shown_s`` on; boxes of the stored picture."""

    shown_s: float
    texts: list[FoundText]


def find_text(
    video: VideoFile,
    reader: TextReader,
    on_progress: Callable[[float], None] = lambda shown_s: None,
    sample_s: float = SAMPLE_S,
) -> list[Mask]:
    """The masks over all text in an open video; each begins at the sample before the text and lasts to the sample
    after it. ``on_progress`` is called with the time of each sample. Frames that no other frame needs are not decoded.
    """
    return masks_of(list(samples_of(video, reader, on_progress, sample_s)))


def samples_of(
    video: VideoFile, reader: TextReader, on_progress: Callable[[float], None], sample_s: float
) -> Iterator[Sample]:
    """Reads frames of an open video from its start: the first, the last, one every ``sample_s``, and one where the
    overlay changes."""
    video.reopen()
    video.stream.codec_context.skip_frame = "NONREF"
    change, last_s = OverlayChange(), -float("inf")
    unread = None

    def read(frame: Any, shown_s: float) -> Sample:
        orientation = orientation_of(video.first_frame) or Orientation()
        upright_HWC = orientation.upright(frame.to_ndarray(format="bgr24"))
        on_progress(shown_s)
        texts = [
            replace(text, box=stored_box(text.box, orientation, frame.width, frame.height))
            for text in reader.find(np.ascontiguousarray(upright_HWC))
        ]
        change.sampled()
        return Sample(shown_s, texts)

    for packet in (*video.packets(), None):
        for frame in video.decode(packet) or ():
            pts = pts_of(frame)
            if pts is None:
                continue
            shown_s = max(0.0, video.seconds(pts))
            rows = max(8, round(frame.height * OverlayChange.WIDTH / frame.width))
            grey_HW: Any = frame.reformat(OverlayChange.WIDTH, rows, format="gray").to_ndarray()
            has_come = change.has_come(grey_HW)
            if shown_s - last_s >= sample_s or (has_come and shown_s - last_s >= LEAST_APART_S):
                yield read(frame, shown_s)
                last_s, unread = shown_s, None
            else:
                unread = frame, shown_s
    if unread is not None:
        yield read(*unread)


@dataclass
class _Track:
    """Text in one place: the numbers of the samples in which it was seen, the box of each, and the best score."""

    seen: list[int]
    boxes: list[Box]
    score: float
    is_read: bool


def masks_of(samples: list[Sample]) -> list[Mask]:
    """Masks from samples in rising order of time. What was not read for sure counts where it stays in one place."""
    tracks: list[_Track] = []
    for number, sample in enumerate(samples):
        for text in sample.texts:
            track = next((t for t in reversed(tracks) if _continues(t, text.box, number, samples)), None)
            if track is None:
                tracks.append(_Track([number], [text.box], text.score, text.is_read))
                continue
            track.seen.append(number)
            track.boxes.append(text.box)
            track.score = max(track.score, text.score)
            track.is_read |= text.is_read
    masks = []
    for track in tracks:
        is_line = all(box.width >= LINE_SHAPE * box.height for box in track.boxes)
        if not track.is_read and not (is_line and len(set(track.seen)) >= STILL_SAMPLES):
            continue
        first, last = track.seen[0], track.seen[-1]
        hull = track.boxes[0]
        for box in track.boxes[1:]:
            hull = hull.hull(box)
        start_s = samples[first - 1].shown_s if first else 0.0
        stop_s = samples[last + 1].shown_s if last + 1 < len(samples) else float("inf")
        masks.append(Mask(start_s, stop_s, hull, "text", round(track.score, 3)))
    return masks


def _continues(track: _Track, box: Box, number: int, samples: list[Sample]) -> bool:
    gap_s = samples[number].shown_s - samples[track.seen[-1]].shown_s
    is_near = number - track.seen[-1] <= 1 or gap_s <= HELD_S
    return is_near and track.boxes[-1].overlap(box) >= SAME_PLACE


def stored_box(box: Box, orientation: Orientation, width: int, height: int) -> Box:
    """A box of the upright picture as a box of the stored picture of ``width`` x ``height`` pixels."""
    x, y, w, h = box.x, box.y, box.width, box.height
    sides = (height, width) if orientation.turns % 2 else (width, height)  # of the upright picture
    for _ in range(orientation.turns):  # np.rot90 takes row r, column c of M to row (columns of M - 1 - c), column r
        x, y, w, h = sides[1] - y - h, x, h, w
        sides = sides[1], sides[0]
    if orientation.mirrored:
        x = sides[0] - x - w
    return Box(x, y, w, h)


def networks() -> list[str]:
    """The files of the networks that find and read text."""
    import rapidocr_onnxruntime

    folder = os.path.join(os.path.dirname(rapidocr_onnxruntime.__file__), "models")
    return sorted(os.path.join(folder, name) for name in os.listdir(folder) if name.endswith(".onnx"))
