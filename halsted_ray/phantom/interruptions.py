"""What interrupts the view of an operation: the camera outside of the body, and disturbances inside it.

Like a script, they are the truth: they say which frames are outside, and the pictures follow from them.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import lru_cache

import numpy as np

from halsted_ray.phantom.disturbed import DISTURBANCES
from halsted_ray.phantom.room import SCENES, Image, Scene
from halsted_ray.records import Clip

OUTSIDE_SHARE = 0.2
"""Where pictures fade into each other, a frame is outside from this share of the outside's picture on."""
LEAST_CLIP_S = 0.3
"""Shorter pieces of an action between two spans outside are not annotated."""


@dataclass(frozen=True)
class Interruption:
    """One view in ``[start_s, stop_s)`` in place of the operation. ``scene``: a name of ``room.SCENES`` (outside of the
    body) or of ``disturbed.DISTURBANCES`` (inside). ``fade_in_s`` and ``fade_out_s``: how long pictures are mixed with
    what comes before and after; 0 is a cut. ``seed`` decides how it looks."""

    start_s: float
    stop_s: float
    scene: str
    seed: int
    fade_in_s: float = 0.0
    fade_out_s: float = 0.0

    @property
    def outside(self) -> bool:
        """Whether the camera is outside of the body."""
        return self.scene in SCENES

    def weight(self, t_s: float) -> float:
        """The share of this view in the picture at ``t_s``: ``OUTSIDE_SHARE`` at both of its edges, 0 to 1."""
        into, left = t_s - self.start_s, self.stop_s - t_s
        rise = OUTSIDE_SHARE + into / self.fade_in_s if self.fade_in_s else float(into >= 0)
        fall = OUTSIDE_SHARE + left / self.fade_out_s if self.fade_out_s else float(left > 0)
        return float(np.clip(min(rise, fall), 0, 1))

    @property
    def shown(self) -> tuple[float, float]:
        """From when to when any of it is seen, in seconds."""
        return self.start_s - OUTSIDE_SHARE * self.fade_in_s, self.stop_s + OUTSIDE_SHARE * self.fade_out_s


def make_interruptions(seed: int, duration_s: float) -> tuple[Interruption, ...]:
    """The interruptions of one video, in order, none over another; they depend on these arguments alone.

    The camera is outside at the beginning and the end of nine videos in ten, and about once in 45 s between; these
    spans last 0.5 to 12 s, at the ends up to 15 s, and together at most two fifths of the video. A disturbance of 1 to
    6 s lies about once in 25 s. Raises ValueError for a length of 0.
    """
    if duration_s <= 0:
        raise ValueError(f"duration_s={duration_s}: expected a length above 0")
    rng = np.random.default_rng([seed, 67])
    found: list[Interruption] = []
    most = max(0.5, min(15.0, 0.12 * duration_s))
    if rng.random() < 0.9:
        found += _outside(rng, 0.0, float(rng.uniform(0.5, 1)) * most, entered=False)
    last_s = duration_s - float(rng.uniform(0.5, 1)) * most if rng.random() < 0.9 else duration_s
    t_s = found[-1].stop_s if found else 0.0
    while True:
        t_s += float(rng.uniform(5, 27)) + 1.0
        is_outside = rng.random() < 0.36
        length_s = float(rng.choice((rng.uniform(0.5, 1.5), rng.uniform(2, 12)))) if is_outside else rng.uniform(1, 6)
        length_s = min(length_s, 0.1 * duration_s) if length_s > 1.5 else length_s
        if t_s + length_s > last_s - 2.0:
            break
        if is_outside:
            found += _outside(rng, t_s, t_s + length_s)
        else:
            names = sorted(DISTURBANCES)
            fade_s = float(rng.choice((0.0, 0.3, 0.8)))
            found.append(Interruption(t_s, t_s + length_s, names[rng.integers(len(names))], _seed(rng), fade_s, fade_s))
        t_s += length_s
    if last_s < duration_s:
        found += _outside(rng, last_s, duration_s, left=False)
    return tuple(found)


def _outside(
    rng: np.random.Generator, start_s: float, stop_s: float, *, entered: bool = True, left: bool = True
) -> list[Interruption]:
    """One span outside of the body: at times a way out through a trocar, one to three scenes, and at times a way back.
    ``entered``, ``left``: whether the camera comes from the body and goes back into it."""
    length_s, pieces = stop_s - start_s, []
    views = [name for name in sorted(SCENES) if name != "trocar"]
    count = 1 if length_s < 2 else int(rng.integers(1, 4))
    cuts = [0.0, *sorted(rng.uniform(0.2, 0.8, count - 1).tolist()), 1.0]
    names = [views[i] for i in rng.permutation(len(views))[:count]]
    if length_s < 2 and rng.random() < 0.25:
        names[0] = "trocar"
    for name, a, b in zip(names, cuts, cuts[1:], strict=False):
        pieces.append(Interruption(start_s + a * length_s, start_s + b * length_s, name, _seed(rng)))
    # Pieces of one span follow each other by cuts; only the span's own edges fade.
    tube_s = float(rng.uniform(0.6, 1.6))
    if entered and length_s > 5 and rng.random() < 0.5:
        way = Interruption(start_s, start_s + tube_s, "trocar", _seed(rng))
        pieces = [way, *_after(pieces, start_s + tube_s)]
    if left and length_s > 5 and rng.random() < 0.5:
        way = Interruption(stop_s - tube_s, stop_s, "trocar", _seed(rng))
        pieces = [*_before(pieces, stop_s - tube_s), way]
    longest = 0.1 if length_s < 2 else 0.9
    fades = [float(rng.uniform(0.05, longest)) if rng.random() < 0.6 else 0.0 for _ in range(2)]
    if entered:
        pieces[0] = replace(pieces[0], fade_in_s=min(fades[0], 0.5 * (pieces[0].stop_s - pieces[0].start_s)))
    if left:
        pieces[-1] = replace(pieces[-1], fade_out_s=min(fades[1], 0.5 * (pieces[-1].stop_s - pieces[-1].start_s)))
    return pieces


def _after(pieces: Sequence[Interruption], t_s: float) -> list[Interruption]:
    return [replace(piece, start_s=max(piece.start_s, t_s)) for piece in pieces if piece.stop_s > t_s]


def _before(pieces: Sequence[Interruption], t_s: float) -> list[Interruption]:
    return [replace(piece, stop_s=min(piece.stop_s, t_s)) for piece in pieces if piece.start_s < t_s]


def _seed(rng: np.random.Generator) -> int:
    return int(rng.integers(1 << 31))


def outside_spans(interruptions: Sequence[Interruption]) -> list[tuple[float, float]]:
    """(start_s, stop_s) of each span outside of the body; pieces that touch are one span."""
    spans: list[tuple[float, float]] = []
    for piece in interruptions:
        if not piece.outside:
            continue
        if spans and piece.start_s - spans[-1][1] < 1e-9:
            spans[-1] = spans[-1][0], piece.stop_s
        else:
            spans.append((piece.start_s, piece.stop_s))
    return spans


def inside_clips(clips: Sequence[Clip], interruptions: Sequence[Interruption]) -> list[Clip]:
    """``clips`` without the time outside of the body: a clip is cut into the pieces of it that are inside."""
    spans, kept = outside_spans(interruptions), []
    for clip in clips:
        at_s = clip.start_s
        for start_s, stop_s in [*spans, (clip.stop_s, clip.stop_s)]:
            if stop_s < at_s or start_s > clip.stop_s:
                continue
            if min(start_s, clip.stop_s) - at_s >= LEAST_CLIP_S:
                kept.append(replace(clip, start_s=at_s, stop_s=min(start_s, clip.stop_s)))
            at_s = max(at_s, stop_s)
    return kept


class InterruptedView:
    """The pictures of ``interruptions`` over those of the body, at ``width`` × ``height`` pixels.

    The outside is exposed as a camera does it: too bright or too dark for half a second, then settled.
    """

    def __init__(self, interruptions: Sequence[Interruption], seed: int, width: int, height: int):
        self.interruptions = tuple(interruptions)
        self._starts = [piece.shown[0] for piece in self.interruptions]
        self._size = width, height
        self._scenes = lru_cache(maxsize=4)(self._scene)
        rng = np.random.default_rng([seed, 71])
        self._balance = rng.uniform(0.75, 1.2) * rng.uniform(0.88, 1.12, 3)

    def _scene(self, number: int) -> Scene:
        piece = self.interruptions[number]
        make = (SCENES if piece.outside else DISTURBANCES)[piece.scene]
        return make(np.random.default_rng([piece.seed, 73]), *self._size)

    def over(self, inside: Image, t_s: float) -> Image:
        """The picture at ``t_s``: uint8 [H, W, 3] RGB. ``inside``: the body at that time, of the same shape."""
        number = bisect_right(self._starts, t_s) - 1
        image = inside
        for index in (number - 1, number):  # the one before may still fade
            if index < 0:
                continue
            piece = self.interruptions[index]
            if (weight := piece.weight(t_s)) <= 0:
                continue
            into_s = max(0.0, t_s - piece.start_s)
            share = min(1.0, into_s / (piece.stop_s - piece.start_s))
            view = self._scenes(index)(inside, into_s, share)
            if piece.outside:
                start = np.random.default_rng([piece.seed, 79]).uniform(-0.7, 1.2)
                gain = self._balance * (1 + start * np.exp(-into_s / 0.25))
                view = np.clip(view * gain, 0, 255).astype(np.uint8)
            mixed = view if weight >= 1 else (image * (1 - weight) + view * weight)
            image = np.asarray(mixed, np.uint8)
        return image
