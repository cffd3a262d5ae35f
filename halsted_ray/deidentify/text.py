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
from av.video.reformatter import VideoReformatter
from numpy.typing import NDArray

from halsted_ray.deidentify.overlay_change import OverlayChange
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
SECOND_SIDE_PX = 1000
"""The long side of the picture in the second look. It costs a third of the first, and only where text was read."""
BESIDE = 2.5
"""A box belongs to a line that was read where it is no further from its end than so many heights of the line. Between
the words of a line lie 0.3 to 1 heights."""
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
        self._find_boxes: Any = self._engine.text_det

    def find(self, image_HWC: NDArray[np.uint8]) -> list[FoundText]:
        """The lines of text in a picture (BGR)."""
        found = lines_of(self._read(image_HWC))
        if not any(text.is_read for text in found):
            return found
        parts = self._parts(image_HWC)
        return [grown(text, parts) if text.is_read else text for text in found]

    def _read(self, image_HWC: NDArray[np.uint8]) -> list[FoundText]:
        large_HWC, scale = _scaled(image_HWC, LONG_SIDE_PX)
        result, _ = self._engine(large_HWC, use_cls=False, text_score=STILL_SCORE, box_thresh=0.4)
        found = []
        for corners, words, score in result or ():
            letters = sum(letter.isalnum() and letter.isascii() for letter in words)
            is_read = float(score) >= READ_SCORE and letters >= 2
            if box := _box_of(corners, scale, image_HWC):
                found.append(FoundText(box, float(score), is_read))
        return found

    def _parts(self, image_HWC: NDArray[np.uint8]) -> list[Box]:
        """The boxes of a second look, at a smaller picture whose contrast is evened out; what is in them is not read.

        Where light letters run over light tissue, the first look sees one part of a line alone.
        """
        lab_HWC = cv2.cvtColor(image_HWC, cv2.COLOR_BGR2LAB)
        lab_HWC[..., 0] = cv2.createCLAHE(3.0, (8, 8)).apply(lab_HWC[..., 0])
        small_HWC, scale = _scaled(np.asarray(cv2.cvtColor(lab_HWC, cv2.COLOR_LAB2BGR), np.uint8), SECOND_SIDE_PX)
        boxes, _ = self._find_boxes(small_HWC)
        found = [_box_of(corners, scale, image_HWC) for corners in (() if boxes is None else boxes)]
        return [box for box in found if box]


def _scaled(image_HWC: NDArray[np.uint8], long_side_px: int) -> tuple[NDArray[np.uint8], float]:
    """(the picture with a long side of ``long_side_px``, the scale); a picture of ``LONG_SIDE_PX`` or more as it is,
    where it would be enlarged."""
    height, width = image_HWC.shape[:2]
    scale = long_side_px / max(height, width)
    if long_side_px == LONG_SIDE_PX and scale <= 1:
        return image_HWC, 1.0
    how = cv2.INTER_CUBIC if scale > 1 else cv2.INTER_AREA
    return np.asarray(cv2.resize(image_HWC, (round(width * scale), round(height * scale)), interpolation=how)), scale


def _box_of(corners: Any, scale: float, image_HWC: NDArray[np.uint8]) -> Box | None:
    """The box around ``corners`` of the scaled picture, in the picture, with a margin; None for a sliver."""
    height, width = image_HWC.shape[:2]
    left, top = np.floor(np.min(corners, axis=0) / scale).astype(int)
    right, bottom = np.ceil(np.max(corners, axis=0) / scale).astype(int)
    # The network's boxes may cut the first and the last letter.
    pad = max(4, int(0.3 * min(bottom - top, right - left)))
    left, top = max(0, left - 2 * pad), max(0, top - pad)
    right, bottom = min(width, right + 2 * pad), min(height, bottom + pad)
    if right - left < 2 or bottom - top < 2:
        return None
    return Box(int(left), int(top), int(right - left), int(bottom - top))


def lines_of(texts: list[FoundText]) -> list[FoundText]:
    """``texts`` with those as read that stand in one line with what was read: an initial beside a name is one letter,
    which alone would count for nothing. Those as read come first."""
    known, unsure = [text for text in texts if text.is_read], [text for text in texts if not text.is_read]
    while joining := [text for text in unsure if any(_is_beside(text.box, read.box) for read in known)]:
        known += [replace(text, is_read=True) for text in joining]
        unsure = [text for text in unsure if text not in joining]
    return known + unsure


def grown(text: FoundText, parts: list[Box]) -> FoundText:
    """``text`` with its box made to hold those of ``parts`` that belong to its line: a box that belongs to no line that
    was read is mostly tissue, and changes nothing."""
    box, waiting = text.box, parts
    while joining := [part for part in waiting if _is_beside(part, box)]:
        waiting = [part for part in waiting if part not in joining]
        for part in joining:
            box = box.hull(part)
    return replace(text, box=box)


def _is_beside(box: Box, line: Box) -> bool:
    """Whether ``box`` goes on where ``line`` ends, or comes before it: of like height, at its height, and near."""
    shared = min(box.y + box.height, line.y + line.height) - max(box.y, line.y)
    apart = max(box.x - (line.x + line.width), line.x - (box.x + box.width))
    return (
        shared >= 0.6 * min(box.height, line.height)
        and box.height <= 1.6 * line.height
        and apart <= BESIDE * line.height
    )


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
    reformatter = VideoReformatter()
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
            small = reformatter.reformat(frame, OverlayChange.WIDTH, rows, format="gray", threads=1)
            grey_HW: Any = small.to_ndarray()
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
    near: list[_Track] = []  # those that may go on: a video of hours has ten thousand others
    for number, sample in enumerate(samples):
        near = [track for track in near if _is_near(track, number, samples)]
        for text in sample.texts:
            track = next((t for t in reversed(near) if t.boxes[-1].overlap(text.box) >= SAME_PLACE), None)
            if track is None:
                near.append(_Track([number], [text.box], text.score, text.is_read))
                tracks.append(near[-1])
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


def _is_near(track: _Track, number: int, samples: list[Sample]) -> bool:
    """Whether what is seen in a sample may go on with ``track``."""
    gap_s = samples[number].shown_s - samples[track.seen[-1]].shown_s
    return number - track.seen[-1] <= 1 or gap_s <= HELD_S


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
