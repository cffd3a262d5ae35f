"""Learns a refinement from the annotated videos of an atlas: chains from the clips, the network from stored vectors."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch.nn.functional import cross_entropy

from halsted_ray.errors import AtlasError
from halsted_ray.model.halsted import Halsted
from halsted_ray.records import Clip
from halsted_ray.refining.label_chain import LabelChain
from halsted_ray.refining.refinement import (
    KINDS,
    Refinement,
    decoder_evidence,
    in_order,
    network_evidence,
    open_slots,
    refined_tags,
)
from halsted_ray.refining.slots import SLOTS, UNKNOWN, VideoSequence, sequence_of, truth_of
from halsted_ray.refining.temporal_network import TemporalNetwork
from halsted_ray.storage.vectors import WindowKey

STEPS = 200
BATCH = 8
LEARNING_RATE = 3e-3
WEIGHT_DECAY = 0.05
NOISE = 0.5
SMOOTHING = 0.1
PIECE_WINDOWS = 120
"""A step looks at pieces of this many windows, so that a long video costs no more than a short one."""
LEAST_WHOLE = 0.5
"""A video teaches where this share of its fine windows has a stored vector: else it is clips, and not a sequence."""
PAUSE_S = 1.0
"""Clips with a pause up to this length follow each other."""
MOST_LOST = 0.02
"""Share of its validation slots that a tag may lose so that its spans are in one piece. On six validation phantoms
anatomy lost 4 of 100 and action 1 of 100; on other videos anatomy lost 3 of 100 windows, and action none."""
NETWORK_SHARES = (0.0, 0.25, 0.5, 0.75, 1.0)


@dataclass(frozen=True)
class AnnotatedSequence:
    """A video with its truth: tag → int64 [T]."""

    sequence: VideoSequence
    truth: Mapping[str, np.ndarray]


def annotated_sequences(
    model: Halsted,
    vectors: Mapping[str, Mapping[WindowKey, np.ndarray]],
    clips: Sequence[Clip],
) -> list[AnnotatedSequence]:
    """The videos of ``vectors`` (video_id → stored vectors) of which most fine windows are there."""
    fine_s, found = model.config.windows.fine_s, []
    for video_id, of_video in sorted(vectors.items()):
        own = [clip for clip in clips if clip.video_id == video_id]
        sequence = sequence_of(of_video, fine_s)
        if own and sequence is not None and sequence.present_W.mean() >= LEAST_WHOLE:
            found.append(AnnotatedSequence(sequence, truth_of(own, model.taxonomy, sequence)))
    return found


def learn_refinement(
    model: Halsted, train: Sequence[AnnotatedSequence], validation: Sequence[AnnotatedSequence], seed: int = 0
) -> Refinement:
    """Learns chains and network from ``train``, and from ``validation`` how much each tag rests on the network.

    That share gives the validation slots' truths the highest likelihood; without validation it is 0, so that only what
    was seen to help has a say. A tag that loses more than ``MOST_LOST`` of the validation slots against the
    windows' own answers is not stated. Raises AtlasError where ``train`` is empty.
    """
    if not train:
        raise AtlasError(
            "the atlas has no whole annotated video to learn a refinement from: expected training videos with vectors "
            f"of at least {LEAST_WHOLE:.0%} of their fine windows; annotate videos whole, or train without --refine"
        )
    tags = refined_tags(model.taxonomy)
    pause = round(PAUSE_S / train[0].sequence.slot_s)
    chains = {
        tag: LabelChain.learn([video.truth[tag] for video in train], len(model.taxonomy.tag(tag).categories), pause)
        for tag in tags
    }
    network = train_network(model, train, tags, seed)
    losses = {tag: np.zeros(len(NETWORK_SHARES)) for tag in tags}
    for video in validation:
        decoder = decoder_evidence(model, video.sequence, tags)
        of_network = network_evidence(network, video.sequence, tags)
        for tag in tags:
            truth_T = np.where(video.sequence.present_T, video.truth[tag], UNKNOWN)
            known_N = np.flatnonzero(truth_T != UNKNOWN)
            for n, share in enumerate(NETWORK_SHARES):
                mixed_NK = share * of_network[tag][known_N] + (1 - share) * decoder[tag][known_N]
                log_total_N = np.log(np.exp(mixed_NK).sum(1))
                losses[tag][n] += (log_total_N - mixed_NK[np.arange(len(known_N)), truth_T[known_N]]).sum()
    shares = {tag: NETWORK_SHARES[int(losses[tag].argmin())] for tag in tags}
    refinement = Refinement(tags, chains, network, shares, model.digest, dict.fromkeys(KINDS, tags))
    return replace(refinement, stated=_no_worse(model, refinement, validation))


def _no_worse(
    model: Halsted, refinement: Refinement, validation: Sequence[AnnotatedSequence]
) -> dict[str, tuple[str, ...]]:
    """Kind → the tags that it gets right at as many validation slots as the windows' own answers, or nearly."""
    gain = {kind: dict.fromkeys(refinement.tags, 0.0) for kind in KINDS}
    for video in validation:
        own = _window_labels(model, video.sequence, refinement.tags)
        for kind in KINDS:
            paths = refinement.paths(model, video.sequence, kind)
            for tag in refinement.tags:
                truth_T = np.where(video.sequence.present_T, video.truth[tag], UNKNOWN)
                known_T = truth_T != UNKNOWN
                right, before = (((labels == truth_T) & known_T).sum() for labels in (paths[tag][0], own[tag]))
                gain[kind][tag] += float(right) - float(before) + MOST_LOST * float(known_T.sum())
    return {kind: tuple(tag for tag in refinement.tags if gain[kind][tag] >= 0) for kind in KINDS}


def _window_labels(model: Halsted, sequence: VideoSequence, tags: Sequence[str]) -> dict[str, np.ndarray]:
    """tag → int64 [T]: what the windows answer, ``UNKNOWN`` where their own answers do not ask the task."""
    evidence = decoder_evidence(model, sequence, tags)
    labels: dict[str, np.ndarray] = {}
    for task in in_order(model.taxonomy):
        open_T = sequence.present_T & open_slots(model.taxonomy, task, labels, len(sequence.present_T))
        labels |= {
            tag.name: np.where(open_T, evidence[tag.name].argmax(1), UNKNOWN) for tag in task.tags if tag.name in tags
        }
    return labels


def train_network(
    model: Halsted, train: Sequence[AnnotatedSequence], tags: Sequence[str], seed: int
) -> TemporalNetwork:
    """The network, trained on pieces of ``train``. The same seed gives the same weights on one machine.

    Costs some ten seconds of one core, whatever the number of videos. It runs on one core: layers this small gain
    nothing from more, and on a busy machine threads that waited for each other were not done after 100 core-seconds.
    """
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        return _trained(model, train, tags, seed)
    finally:
        torch.set_num_threads(threads)


def _trained(model: Halsted, train: Sequence[AnnotatedSequence], tags: Sequence[str], seed: int) -> TemporalNetwork:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        drawn = np.random.default_rng(seed)
        network = TemporalNetwork(
            train[0].sequence.vectors_WD.shape[1], [len(model.taxonomy.tag(tag).categories) for tag in tags]
        )
        present = [video.sequence.vectors_WD[video.sequence.present_W] for video in train]
        network.standardise(torch.from_numpy(np.concatenate(present)))
        optimizer = torch.optim.AdamW(network.parameters(), LEARNING_RATE, weight_decay=WEIGHT_DECAY)
        schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, LEARNING_RATE, STEPS)
        network.train()
        for _ in range(STEPS):
            chosen = [train[k] for k in drawn.integers(len(train), size=BATCH)]
            vectors_BWD, present_BW, truth_BTG = _pieces(chosen, tags, drawn)
            scores_BTC = network(vectors_BWD, present_BW, NOISE)
            loss = torch.zeros(())
            for g, of_tag in enumerate(scores_BTC.split(network.categories, 2)):
                truth_BT = truth_BTG[..., g]
                if (truth_BT != UNKNOWN).any():
                    loss = loss + cross_entropy(
                        of_tag.transpose(1, 2), truth_BT, ignore_index=UNKNOWN, label_smoothing=SMOOTHING
                    )
            if loss.requires_grad:
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()
            schedule.step()
    return network.eval()


def _pieces(
    chosen: Sequence[AnnotatedSequence], tags: Sequence[str], drawn: np.random.Generator
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """(vectors [B, W, D], present [B, W], truth [B, T, tags]) of a random piece of each of ``chosen``."""
    windows = min(PIECE_WINDOWS, max(len(video.sequence.present_W) for video in chosen))
    dim = chosen[0].sequence.vectors_WD.shape[1]
    vectors_BWD = torch.zeros(len(chosen), windows, dim)
    present_BW = torch.zeros(len(chosen), windows)
    truth_BTG = torch.full((len(chosen), windows * SLOTS, len(tags)), UNKNOWN)
    for b, video in enumerate(chosen):
        sequence = video.sequence
        first = int(drawn.integers(max(1, len(sequence.present_W) - windows + 1)))
        stop = min(first + windows, len(sequence.present_W))
        vectors_BWD[b, : stop - first] = torch.from_numpy(sequence.vectors_WD[first:stop])
        present_BW[b, : stop - first] = torch.from_numpy(sequence.present_W[first:stop].astype(np.float32))
        for g, tag in enumerate(tags):
            truth_T = np.where(sequence.present_T, video.truth[tag], UNKNOWN)[first * SLOTS : stop * SLOTS]
            truth_BTG[b, : len(truth_T), g] = torch.from_numpy(truth_T)
    return vectors_BWD, present_BW, truth_BTG
