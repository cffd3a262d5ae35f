"""Which score tells what a model has not learned: a table of scores by the share of foreign windows that they flag.

    python -m benchmarks.novelty LEARN JUDGE [--vectors GRID] [--real DIR] [--model MODEL] [--rate 0.05]

``LEARN`` and ``JUDGE`` are annotated archives; ``GRID`` holds the vectors of all their grid windows (`halsted embed`).
Scores are fitted on the training videos of LEARN; each threshold is set on its validation videos. Columns: false alarms
on JUDGE; flagged of the pictures of ``phantom.foreign``; of the vectors in ``--real``; and of JUDGE's videos of a
procedure that was left out of LEARN, for each procedure in turn. ``--model`` adds the energy of its first task's
answers (no left-out column: it would need a model per procedure).
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence
from functools import partial

import numpy as np
import torch

from halsted_ray.atlas import read_atlas
from halsted_ray.model.encoder import Encoder
from halsted_ray.model.halsted import Halsted
from halsted_ray.model.novelty import fit_novelty
from halsted_ray.phantom.foreign import FOREIGN, foreign_frames
from halsted_ray.storage.vectors import stores_at

Score = Callable[[np.ndarray], np.ndarray]
"""Vectors [N, D] → scores [N], higher is less known."""


def norm(vectors_ND: np.ndarray, video_N: np.ndarray) -> Score:
    """The length of the standardised vector."""
    mean, spread = vectors_ND.mean(0), vectors_ND.std(0) + 1e-6
    return lambda rows: np.linalg.norm((rows - mean) / spread, axis=1)


def mahalanobis(vectors_ND: np.ndarray, video_N: np.ndarray, shrinkage: float = 0.01) -> Score:
    """The distance to the mean of all, by their covariance."""
    mean, covariance = vectors_ND.mean(0), np.cov(vectors_ND.T)
    level = np.trace(covariance) / len(covariance)
    values, axes = np.linalg.eigh((1 - shrinkage) * covariance + shrinkage * level * np.eye(len(covariance)))
    return lambda rows: np.linalg.norm((rows - mean) @ (axes / np.sqrt(values)), axis=1)


def nearest(vectors_ND: np.ndarray, video_N: np.ndarray, kept: int = 2000, neighbour: int = 5) -> Score:
    """The distance to the fifth nearest of 2000 training vectors, standardised."""
    mean, spread = vectors_ND.mean(0), vectors_ND.std(0) + 1e-6
    chosen = np.random.default_rng(0).permutation(len(vectors_ND))[:kept]
    known = (vectors_ND[chosen] - mean) / spread

    def score(rows: np.ndarray) -> np.ndarray:
        rows = (rows - mean) / spread
        squared = (rows**2).sum(1)[:, None] + (known**2).sum(1)[None] - 2 * rows @ known.T
        return np.sort(np.sqrt(np.maximum(squared, 0)), axis=1)[:, neighbour - 1]

    return score


def relative(vectors_ND: np.ndarray, video_N: np.ndarray) -> Score:
    """The relative Mahalanobis distance of ``model.novelty``."""
    novelty = fit_novelty(vectors_ND, video_N)
    assert novelty is not None, "too few training windows"
    return lambda rows: novelty.scores(torch.from_numpy(np.ascontiguousarray(rows))).numpy()


def energy(model: Halsted, vectors_ND: np.ndarray, video_N: np.ndarray) -> Score:
    """Minus the log of the sum of exp of the logits of the first task's tags, summed over tags (Liu et al., 2020)."""
    task = model.taxonomy.tasks[0]

    def score(rows: np.ndarray) -> np.ndarray:
        generated, _ = model._generate(rows.astype(np.float32), task.name, None)
        logits = [generated.logits_NGC[:, g, : len(tag.categories)] for g, tag in enumerate(task.tags)]
        return -torch.stack([one.logsumexp(1) for one in logits]).sum(0).numpy()

    return score


SCORES = {
    "norm of the standardised vector": norm,
    "Mahalanobis": mahalanobis,
    "fifth nearest of 2000": nearest,
    "relative Mahalanobis, videos as classes": relative,
}


def vectors_at(location: str) -> dict[str, np.ndarray]:
    """video_id → the vectors [N, D] of its grid windows in the stores at ``location``."""
    found: dict[str, np.ndarray] = {}
    for store in stores_at(location):
        for video in store.read_videos():
            rows = [v for (kind, *_), v in store.get(video.video_id, 0.0, 1e9).items() if kind in ("coarse", "fine")]
            found[video.video_id] = np.array(rows, np.float64)
    return found


def foreign_vectors(encoder: Encoder, seeds: int = 8) -> dict[str, np.ndarray]:
    """Kind of foreign picture → the vectors of windows of 2.5 s and 30 s."""
    height, width = encoder.image_size
    return {
        kind: encoder.encode(
            np.stack(
                [
                    foreign_frames(kind, seed, np.arange(encoder.frames) * length_s / encoder.frames, width, height)
                    for seed in range(seeds)
                    for length_s in (2.5, 30.0)
                ]
            )
        ).astype(np.float64)
        for kind in FOREIGN
    }


def joined(vectors: dict[str, np.ndarray], videos: Sequence[str]) -> tuple[np.ndarray, np.ndarray]:
    """(vectors, number of the video of each) of ``videos``."""
    return np.concatenate([vectors[v] for v in videos]), np.repeat(
        range(len(videos)), [len(vectors[v]) for v in videos]
    )


def main() -> None:
    """Prints the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("learn")
    parser.add_argument("judge")
    parser.add_argument("--vectors", help="vectors of all grid windows of both")
    parser.add_argument("--real", help="a store of vectors of real recordings")
    parser.add_argument("--model")
    parser.add_argument("--encoder", default="tiny")
    parser.add_argument("--rate", type=float, default=0.05)
    options = parser.parse_args()
    learn, judge = read_atlas(options.learn), read_atlas(options.judge)
    taught = vectors_at(f"{options.learn}/embeddings")
    grid = vectors_at(options.vectors) if options.vectors else taught | vectors_at(f"{options.judge}/embeddings")
    procedure_of = {clip.video_id: clip.procedure for atlas in (learn, judge) for clip in atlas.clips}
    train = [v for v in learn.split if learn.split[v] == "train"]
    validation = [v for v in learn.split if learn.split[v] != "train"]
    judged = [video.video_id for video in judge.videos]
    foreign = foreign_vectors(Encoder.load(options.encoder))
    real = vectors_at(options.real) if options.real else {}
    scores = dict(SCORES)
    if options.model:
        scores["energy of the answers"] = partial(energy, Halsted.load(options.model))
    print(f"{'score':40}  own kind  foreign (worst)  real  left out (worst)   false alarms at {options.rate:.0%}")
    for name, fit in scores.items():

        def flags(fit: Callable[..., Score], without: str = "") -> Callable[[np.ndarray], float]:
            score = fit(*joined(taught, [v for v in train if procedure_of[v] != without]))
            own, _ = joined(grid, [v for v in validation if procedure_of[v] != without])
            threshold = np.quantile(score(own), 1 - options.rate)
            return lambda vectors_ND: float((score(vectors_ND) > threshold).mean())

        flag = flags(fit)
        of_kinds = [flag(vectors) for vectors in foreign.values()]
        of_real = f"{np.mean([flag(rows) for rows in real.values()]):.2f}" if real else "–"
        left = (
            [
                flags(fit, procedure)(joined(grid, [v for v in judged if procedure_of[v] == procedure])[0])
                for procedure in sorted({procedure_of[v] for v in judged} & {procedure_of[v] for v in train})
            ]
            if name in SCORES
            else []
        )
        of_left = f"{np.mean(left):.2f} ({min(left):.2f})" if left else "–"
        own = flag(joined(grid, judged)[0])
        print(f"{name:40}  {own:8.3f}  {np.mean(of_kinds):.2f} ({min(of_kinds):.2f})      {of_real:>4}  {of_left}")


if __name__ == "__main__":
    main()
