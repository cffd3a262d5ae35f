"""How well the outside is found from stored vectors, beside the detector of frames, on phantoms of unseen seeds.

    python -m benchmarks.out_of_body_vectors [--every 0.5] [--train 240] [--drawn 24] [--out FILE.json]

Trains a head on ``--train`` drawn phantoms as ``halsted out-of-body train --encoder`` does, sets its thresholds on
``--validation`` others, and judges ``--drawn`` phantoms of 60 s of the seeds of ``benchmarks.out_of_body``, which
nothing was trained on. Both detectors judge the same phantoms: the head windows of ``--every`` seconds, the detector
that ships eight frames a second. A second is outside where at least half of it is. ``before``: spans as they are found;
``after``: widened by ``PAD_S``. A span counts as found where any of its samples lies in a found span. Intervals are
exact (Clopper and Pearson, 95%) and take seconds, or spans, as independent. ``--files`` writes phantoms as files
besides, as after a codec, and reads the frames of their windows back as ``halsted embed`` does. ``--keep`` keeps what
was drawn in a folder, so that a run that was stopped goes on.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from collections.abc import Iterable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch

from benchmarks.out_of_body import by_seconds, exact_interval
from halsted_ray.deidentify.out_of_body import RATE_HZ, smoothed
from halsted_ray.deidentify.out_of_body_head import OutOfBodyHead, Source
from halsted_ray.deidentify.out_of_body_head_training import (
    TRAINING_S,
    TRAINING_SEED,
    Timeline,
    fit_head,
    source_of,
    thresholds_for,
)
from halsted_ray.deidentify.out_of_body_net import SearchSettings, load_detector
from halsted_ray.deidentify.out_of_body_samples import drawn_timeline
from halsted_ray.deidentify.out_of_body_thresholds import by_second, flagged, widened
from halsted_ray.deidentify.out_of_body_training import VALIDATION_SEED, is_outside
from halsted_ray.deidentify.out_of_body_vectors import at_samples
from halsted_ray.deidentify.out_of_body_windows import JudgedWindows, drawn_windows, outside_share
from halsted_ray.model.encoder import Encoder
from halsted_ray.model.encoder_identity import encoder_identity
from halsted_ray.phantom.interruptions import make_interruptions, outside_spans
from halsted_ray.phantom.script import make_script
from halsted_ray.phantom.write import write_video
from halsted_ray.processes import process_pool
from halsted_ray.records import WindowSpec
from halsted_ray.video.decode_process import DecodeProcess
from halsted_ray.video.windows import window_times_s, windows

SECONDS, TEST_SEED, FILE_SEED = 60.0, 8_700_000, 8_600_000
Figures = dict[str, Any]


def drawn(keep: str, ref: str, spec: WindowSpec, kind: str, seed: int, lasts_s: float, some: bool) -> Figures:
    """The windows of one phantom and, where all are taken, the scores of the frames."""
    path = Path(keep, f"{seed}.npz")
    if not path.exists():
        cells = drawn_windows(ref, spec, kind, seed, lasts_s, some=some)
        frames = {} if some else {"f": smoothed(load_detector().scores(drawn_timeline(seed, lasts_s, RATE_HZ)[0]))}
        part = path.with_suffix(".part.npz")
        np.savez(part, v=cells.vectors_ND, s=cells.share_N, a=cells.start_s_N, b=cells.stop_s_N, **frames)
        part.rename(path)
    with np.load(path, allow_pickle=False) as found:
        return {"cells": JudgedWindows(found["a"], found["b"], found["v"], found["s"]), "frames": found.get("f")}


def judged(scores_N: np.ndarray, outside_N: np.ndarray, settings: SearchSettings) -> Figures:
    """What samples at ``RATE_HZ`` make of one video, as ``benchmarks.out_of_body.by_seconds`` takes it."""
    found_N = flagged(scores_N, settings.threshold, settings.edge_threshold)
    edges = np.flatnonzero(np.diff(np.concatenate([[False], outside_N, [False]]).astype(int)))
    spans = list(zip(edges[::2].tolist(), edges[1::2].tolist(), strict=True))
    return {
        "scores": scores_N,
        "outside": outside_N,
        "found_N": found_N,
        "wide_N": widened(found_N),
        "found_K": by_second(found_N.astype(float)) >= 0.5,
        "true_K": by_second(outside_N.astype(float)) >= 0.5,
        "spans": len(spans),
        "spans_found": sum(bool(found_N[first:stop].any()) for first, stop in spans),
    }


def figures(parts: list[Figures]) -> Figures:
    """Before and after the widening, of several videos."""
    true = np.concatenate([part["true_K"] for part in parts])
    wide = np.concatenate([by_second(part["wide_N"].astype(float)) >= 0.5 for part in parts])
    outside, wide_N = (np.concatenate([part[name] for part in parts]) for name in ("outside", "wide_N"))
    both = int((true & wide).sum())
    return {
        "before": by_seconds(parts),
        "after": {
            "recall_per_second": round(both / int(true.sum()), 4),
            "recall_interval": exact_interval(both, int(true.sum())),
            "precision_per_second": round(both / max(1, int(wide.sum())), 4),
            "precision_interval": exact_interval(both, int(wide.sum())),
            "outside_samples_visible": round(float((outside & ~wide_N).sum() / outside.sum()), 4),
            "inside_samples_hidden": round(float((~outside & wide_N).sum() / (~outside).sum()), 4),
        },
    }


def sampled(cells: JudgedWindows, head: OutOfBodyHead, lasts_s: float) -> np.ndarray:
    """The head's score at each sample."""
    return at_samples(cells.start_s_N, cells.stop_s_N, head.scores(cells.vectors_ND), lasts_s)


def truth(seed: int) -> np.ndarray:
    """Which samples of a phantom are outside."""
    return is_outside(np.arange(0, SECONDS, 1 / RATE_HZ), outside_spans(make_interruptions(seed, SECONDS)))


def windows_of_file(seed: int, encoder: Encoder, spec: WindowSpec, kind: str) -> JudgedWindows:
    """The windows of a phantom that was written at 320x180 and read back; odd seeds as ``benchmarks.out_of_body``."""
    interruptions, shifted = make_interruptions(seed, SECONDS), bool(seed % 2)
    with tempfile.TemporaryDirectory() as folder, DecodeProcess() as decoder:
        path, crf = Path(folder, "v.mp4"), 34 if shifted else 23
        script = make_script(seed, SECONDS)
        write_video(path, script, 320, 180, crf=crf, shifted=shifted, interruptions=interruptions)
        cells, vectors = windows(SECONDS, spec)[0 if kind == "coarse" else 1], []
        for cell in cells:
            times_s = window_times_s(cell, SECONDS, spec)
            frames = decoder.read_frames(str(path), times_s, encoder.image_size, deadline_s=60.0)
            vectors.append(encoder.encode(frames.images_NHWC[None])[0])
    starts_s, stops_s = (np.array([getattr(cell, edge) for cell in cells]) for edge in ("start_s", "stop_s"))
    share_N = outside_share(starts_s, stops_s, outside_spans(interruptions))
    return JudgedWindows(starts_s, stops_s, np.stack(vectors), share_N)


def trained(train: list[Figures], validation: dict[int, Figures], source: Source) -> tuple[OutOfBodyHead, Figures]:
    """The head, and what it was made from."""
    cells = JudgedWindows.joined([part["cells"] for part in train])
    net = fit_head(cells.vectors_ND, cells.share_N)
    timelines = [
        Timeline(part["cells"], outside_spans(make_interruptions(seed, SECONDS)), SECONDS)
        for seed, part in validation.items()
    ]
    chosen = thresholds_for(net, source, timelines)
    head = OutOfBodyHead(net, source, SearchSettings(chosen.threshold, "", chosen.edge_threshold))
    return head, {
        "phantoms": len(train),
        "windows": len(cells),
        "validation_phantoms": len(validation),
        "threshold": chosen.threshold,
        "edge_threshold": chosen.edge_threshold,
        "validation_recall": round(chosen.recall, 4),
        "validation_precision": round(chosen.precision, 4),
    }


def main() -> None:
    """Prints the figures as JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--encoder", default="tiny")
    parser.add_argument("--every", type=float, default=0.5)
    parser.add_argument("--train", type=int, default=240)
    parser.add_argument("--validation", type=int, default=24)
    parser.add_argument("--drawn", type=int, default=24)
    parser.add_argument("--files", type=int, default=0)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--keep")
    parser.add_argument("--out")
    given = parser.parse_args()
    torch.set_num_threads(1)
    identity = encoder_identity(given.encoder)
    spec = identity.windows(WindowSpec(given.every, given.every))
    source, detector = source_of(identity.fingerprint, spec), load_detector()
    with tempfile.TemporaryDirectory() as folder, process_pool(given.workers) as pool:
        draw = partial(drawn, given.keep or folder, given.encoder, spec, source.kind)

        def all_of(first: int, count: int, lasts_s: float, some: bool) -> dict[int, Figures]:
            seeds: Iterable[int] = range(first, first + count)
            return dict(zip(seeds, pool.map(draw, seeds, [lasts_s] * count, [some] * count), strict=True))

        head, made_from = trained(
            list(all_of(TRAINING_SEED, given.train, TRAINING_S, True).values()),
            all_of(VALIDATION_SEED, given.validation, SECONDS, False),
            source,
        )
        tests = all_of(TEST_SEED, given.drawn, SECONDS, False)
    started_s = time.process_time()
    from_vectors = [
        judged(sampled(part["cells"], head, SECONDS), truth(seed), head.settings) for seed, part in tests.items()
    ]
    cost_s = time.process_time() - started_s
    result: Figures = {
        "every_s": given.every,
        "head": made_from,
        "first_seed": TEST_SEED,
        "vectors": figures(from_vectors),
        "frames": figures([judged(part["frames"], truth(seed), detector.settings) for seed, part in tests.items()]),
        "video_hours_per_cpu_second": round(given.drawn * SECONDS / 3600 / max(cost_s, 1e-9), 1),
    }
    if given.files:
        encoder = Encoder.load(given.encoder, device="cpu")
        seeds = range(FILE_SEED, FILE_SEED + given.files)
        parts = [
            judged(
                sampled(windows_of_file(seed, encoder, spec, source.kind), head, SECONDS), truth(seed), head.settings
            )
            for seed in seeds
        ]
        result["files"] = figures(parts) | {"first_seed": FILE_SEED, "size": "320x180"}
    print(json.dumps(result, indent=1))
    if given.out:
        Path(given.out).write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
