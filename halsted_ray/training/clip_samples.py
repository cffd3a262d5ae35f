"""Annotated clips become samples: each clip is a window over its own span, whatever its length (paper, Methods).

Grid windows, which a map asks, are cut by ``samples``; here is the paper's own unit.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from halsted_ray.records import SYNTHETIC, Clip, Window
from halsted_ray.taxonomy import Task
from halsted_ray.training.samples import LabelledWindow, TagPairs

LEAST_CLIP_S = 0.3
"""A shorter clip gives no sample: at 25 frames per second it has 7 frames of its own, and no room for a movement."""
MOST_CLIP_S = 60.0
"""A longer clip is cut into equal pieces of at most this length: 16 frames over a longer span lie 4 s apart."""
ROUNDING_S = 1e-6
"""Times are computed by subtraction, so that 1.3 − 1.0 is a little less than 0.3."""


@dataclass(frozen=True)
class Jitter:
    """Moved copies of each clip: ``copies`` of them, each edge moved by up to ``share`` of the clip's length.

    Vectors are stored by span, so the copies are drawn once from ``seed`` and the clip's own span, and not anew in
    each epoch: the same recipe asks for the same spans, however many clips or workers there are.
    """

    copies: int = 0
    share: float = 0.1
    seed: int = 0

    def spans(self, clip: Clip, piece: Window, duration_s: float) -> list[Window]:
        """The moved copies of one piece of ``clip``, inside of the video and no shorter than ``LEAST_CLIP_S``."""
        if not self.copies:
            return []
        number = round(piece.start_s * 1000)
        generator = np.random.default_rng([self.seed, int(clip.clip_id, 16), number])
        length_s = piece.stop_s - piece.start_s
        moves_s = generator.uniform(-self.share * length_s, self.share * length_s, (self.copies, 2)).round(3)
        found = []
        for start_move_s, stop_move_s in moves_s.tolist():
            start_s = max(0.0, round(piece.start_s + start_move_s, 3))
            stop_s = min(duration_s, round(piece.stop_s + stop_move_s, 3))
            if LEAST_CLIP_S - ROUNDING_S <= stop_s - start_s <= MOST_CLIP_S + ROUNDING_S:
                found.append(Window("clip", start_s, stop_s))
        return found


NO_JITTER = Jitter()


def clip_windows(
    clips: Iterable[Clip],
    tasks: Iterable[Task],
    duration_s: float = math.inf,
    ai_weight: float = 1.0,
    jitter: Jitter = NO_JITTER,
    synthetic_weight: float = 1.0,
) -> list[LabelledWindow]:
    """The clips of ``tasks``, of one video, as samples of kind ``clip``, in the order of tasks, spans and tags.

    A clip shorter than ``LEAST_CLIP_S`` gives none (``clips_without_sample`` counts it), a clip longer than
    ``MOST_CLIP_S`` one per piece. Two clips with the same span and tags, as a person's and a model's, give one sample,
    with the larger weight. What a model labelled weighs ``ai_weight`` times what a person labelled, what is drawn
    ``synthetic_weight`` times. ``duration_s``: of the video, where ``jitter`` moves the edges of clips.
    """
    clips = sorted(clips, key=lambda clip: (clip.start_s, clip.stop_s, tag_pairs(clip)))
    weight_of = {"ai": ai_weight, SYNTHETIC: synthetic_weight}
    weights: dict[tuple[str, Window, TagPairs], float] = {}
    for task in tasks:
        for clip in clips:
            if clip.task == task.name:
                weight = weight_of.get(clip.source, 1.0)
                for piece in pieces(clip):
                    for window in (piece, *jitter.spans(clip, piece, duration_s)):
                        key = task.name, window, tag_pairs(clip)
                        weights[key] = max(weight, weights.get(key, 0.0))
    return [LabelledWindow(window, task, tags, weight, True) for (task, window, tags), weight in weights.items()]


def pieces(clip: Clip) -> list[Window]:
    """The windows over one clip: one; several equal ones for more than ``MOST_CLIP_S``; none for less than
    ``LEAST_CLIP_S``."""
    length_s = clip.stop_s - clip.start_s
    if length_s < LEAST_CLIP_S - ROUNDING_S:
        return []
    count = math.ceil((length_s - ROUNDING_S) / MOST_CLIP_S)
    edges_s = [clip.start_s + k * length_s / count for k in range(count)] + [clip.stop_s]
    return [Window("clip", start_s, stop_s) for start_s, stop_s in zip(edges_s, edges_s[1:], strict=False)]


def tag_pairs(clip: Clip) -> TagPairs:
    """The tags of a clip in the order of their names."""
    return tuple(sorted(clip.tags.items()))


def clips_without_sample(
    clips: Iterable[Clip], tasks: Iterable[Task], samples: Iterable[LabelledWindow]
) -> Counter[str]:
    """Task → number of clips of one video, of ``tasks``, that none of the video's ``samples`` learns from."""
    names = {task.name for task in tasks}
    taught: dict[tuple[str, TagPairs], list[Window]] = {}
    for sample in samples:
        taught.setdefault((sample.task, sample.tags), []).append(sample.window)
    spans_of = {
        key: np.array([(window.start_s, window.stop_s) for window in windows]).T for key, windows in taught.items()
    }
    lost: Counter[str] = Counter()
    for clip in clips:
        if clip.task in names:
            spans = spans_of.get((clip.task, tag_pairs(clip)))
            if spans is None or not ((spans[0] < clip.stop_s) & (spans[1] > clip.start_s)).any():
                lost[clip.task] += 1
    return lost


def loss_report(lost: Counter[str], clips: int, units: Sequence[str], part: str) -> str:
    """How many clips of a part give no sample and why, in one sentence. ``clips``: all clips of the part."""
    of_tasks = ", ".join(f"{count:,} of {task}" for task, count in sorted(lost.items()))
    reason = (
        f"they are shorter than {LEAST_CLIP_S:g} s, and too short for a window; join or lengthen them"
        if "clips" in units
        else "they cover too little of any window of the grid; units=[clips,grid] learns from every clip of at least "
        f"{LEAST_CLIP_S:g} s"
    )
    return f"{lost.total():,} of {clips:,} clips of the {part} part give no sample ({of_tasks}): {reason}"
