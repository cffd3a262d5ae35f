"""What a map says of moments, in words: what a keyword search in maps can find."""

from __future__ import annotations

import numpy as np

from halsted_ray.language.captioned_clips import CaptionedClips
from halsted_ray.model.halsted import Halsted


def map_words(clips: CaptionedClips, captions: np.ndarray, model: Halsted) -> list[str]:
    """The categories that ``model`` sees in each of ``captions`` (rows of ``clips``), as text: those that each of its
    fine windows has in a map, of the tasks that the window's own answers ask for.

    Raises ModelError where the vectors are not of the model's width.
    """
    words_W = window_words(clips.vectors_WD, model)
    first, count = clips.first_C[captions], clips.count_C[captions]
    return [" ".join(words_W[a : a + n]) for a, n in zip(first.tolist(), count.tolist(), strict=True)]


def window_words(vectors_WD: np.ndarray, model: Halsted) -> list[str]:
    """The categories of each window, as text."""
    answers: list[dict[str, str]] = [{} for _ in vectors_WD]
    for task in model.taxonomy.tasks:
        rows = [row for row, own in enumerate(answers) if all(own.get(tag) == value for tag, value in task.when)]
        if rows:
            for row, tags in zip(rows, model.tag(vectors_WD[rows], task.name, unit="grid"), strict=True):
                answers[row].update({tag: category for tag, (category, _) in tags.items()})
    return [" ".join(own.values()) for own in answers]
