"""From a sentence to the moment: recall, and chance."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from halsted_ray.language.captioned_clips import CaptionedClips
from halsted_ray.language.contrast_model import VideoTextModel

RANKS = 5
"""A sentence finds its moment where the moment is among so many first ones."""


@dataclass(frozen=True)
class Recall:
    """``recall_at_5``: share of the sentences whose own moment is among the first five of ``moments``. ``chance``: what
    a random order reaches. ``median_rank``: of the own moment, from 1."""

    recall_at_5: float
    chance: float
    median_rank: float
    queries: int
    moments: int


def text_to_clip(model: VideoTextModel, clips: CaptionedClips) -> Recall:
    """How well sentences find their moments among all captioned moments of ``clips``. The moments are its different
    spans; a sentence that several captions share counts once for each."""
    return recall(*scores_of(model, clips))


def scores_of(model: VideoTextModel, clips: CaptionedClips) -> tuple[np.ndarray, np.ndarray]:
    """(the likeness of each caption's sentence to each moment [C, M], the number of the caption's own moment [C])."""
    was_training = model.training
    device = model.mean_D.device
    spans, moment_C = moments_of(clips)
    vectors_MD = model.cpu().embed_clips([clips.windows(int(caption)) for caption in spans])
    texts_TD = model.embed_text(clips.texts_TW)
    model.to(device).train(was_training)
    return texts_TD[clips.text_C] @ vectors_MD.T, moment_C


def moments_of(clips: CaptionedClips) -> tuple[np.ndarray, np.ndarray]:
    """(the first caption of each different span [M], the span's number for each caption [C])."""
    keys = np.stack([clips.video_C, clips.start_C, clips.stop_C], 1)
    _, first_M, moment_C = np.unique(keys, axis=0, return_index=True, return_inverse=True)
    return first_M, moment_C.reshape(-1)


def recall(scores_QM: np.ndarray, own_Q: np.ndarray) -> Recall:
    """The figures of ``scores_QM``: one row per sentence, one column per moment; ``own_Q``: the sentence's moment."""
    found_Q, ranks_Q = found_among_first(scores_QM, own_Q)
    queries, moments = scores_QM.shape
    return Recall(
        float(found_Q.mean()), min(1.0, RANKS / moments), float(np.median(ranks_Q)), int(queries), int(moments)
    )


def found_among_first(scores_QM: np.ndarray, own_Q: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(how likely each sentence's own moment is among the first five [Q], its rank from 1 on [Q]).

    Of equal scores half count as better, so that a search which knows nothing has the recall of chance.
    """
    own_scores_Q1 = scores_QM[np.arange(len(own_Q)), own_Q][:, None]
    better_Q, ties_Q = (scores_QM > own_scores_Q1).sum(1), (scores_QM == own_scores_Q1).sum(1)
    # The own moment's place among its equals is drawn evenly: how likely is a place among the first five?
    return np.clip((RANKS - better_Q) / ties_Q, 0, 1), better_Q + (ties_Q + 1) / 2
