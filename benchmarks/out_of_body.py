"""How well the detector of the outside does on phantoms of seeds that it has not seen, and on real recordings.

    python -m benchmarks.out_of_body [--videos 12] [--drawn 96] [--seconds 60] [--real DIR] [--out FILE.json]

``--videos`` writes phantoms as files, half of them through the shifted camera, runs ``find_out_of_body`` on each, and
compares with the phantom's script. ``--drawn`` judges further phantoms by the frames that are looked at, without a file
and a codec between, for narrower intervals. A second is outside where at least half of it is; a second's score for the
area under the ROC curve is the mean of its frames'. Recall and precision are those of spans before they are widened;
``leaked_s`` is the outside time that spans widened by so much leave visible, and ``inside_hidden`` the share of the
inside that they hide. Intervals are exact (Clopper and Pearson, 95%) and take seconds, or spans, as independent. The
cost is CPU time of the decoding process and this one.
"""

from __future__ import annotations

import argparse
import json
import os
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from scipy.stats import beta, rankdata

from halsted_ray.deidentify.out_of_body import PAD_S, find_out_of_body, outside_scores, padded, smoothed
from halsted_ray.deidentify.out_of_body_net import SHIPPED, OutOfBodyDetector, load_detector
from halsted_ray.deidentify.out_of_body_samples import drawn_timeline
from halsted_ray.deidentify.out_of_body_thresholds import by_second, flagged
from halsted_ray.phantom.interruptions import make_interruptions, outside_spans
from halsted_ray.phantom.script import make_script
from halsted_ray.phantom.write import write_video

GRID, RATE_HZ = 100, 8
"""Points per second at which spans are compared; frames per second that are judged."""
PADS_S = (0.0, 0.25, 0.5, 1.0)
Spans = list[tuple[float, float]]
Figures = dict[str, Any]


def exact_interval(hits: int, of: int) -> list[float]:
    """The 95% interval of a share, by Clopper and Pearson."""
    low = float(beta.ppf(0.025, hits, of - hits + 1)) if hits else 0.0
    high = float(beta.ppf(0.975, hits + 1, of - hits)) if hits < of else 1.0
    return [round(low, 4), round(high, 4)]


def covered(spans: Spans, seconds: float) -> np.ndarray:
    """bool [seconds · GRID]: which points lie in a span."""
    at = (np.arange(int(seconds * GRID)) + 0.5) / GRID
    inside = np.zeros(len(at), bool)
    for start_s, stop_s in spans:
        inside |= (at >= start_s) & (at < stop_s)
    return inside


def auc(scores: np.ndarray, outside: np.ndarray) -> float:
    """The area under the ROC curve."""
    ranks, positive = rankdata(scores), int(outside.sum())
    return float((ranks[outside].sum() - positive * (positive + 1) / 2) / (positive * (len(scores) - positive)))


def cpu_s() -> float:
    """CPU seconds of this process and of the children that ended."""
    times = os.times()
    return times.user + times.system + times.children_user + times.children_system


def judged_file(path: Path, detector: OutOfBodyDetector, truth: Spans, seconds: int) -> Figures:
    """What the detector makes of one file."""
    started_s = cpu_s()
    bare = find_out_of_body(str(path), detector=detector, pad_s=0.0)
    cost_s = cpu_s() - started_s
    times_s, scores = outside_scores(str(path), detector=detector)
    found = [(span.start_s, span.stop_s) for span in bare]
    true, shown = covered(truth, seconds), {}
    for pad_s in PADS_S:
        wide = padded(bare, pad_s, float(seconds))
        hidden = covered([(span.start_s, span.stop_s) for span in wide], seconds)
        shown[pad_s] = {"leaked_s": (true & ~hidden).sum() / GRID, "hidden_s": (~true & hidden).sum() / GRID}
    return {
        "scores": scores,
        "outside": np.array([any(start_s <= t_s < stop_s for start_s, stop_s in truth) for t_s in times_s], bool),
        "found_K": covered(found, seconds).reshape(-1, GRID).mean(1) >= 0.5,
        "true_K": true.reshape(-1, GRID).mean(1) >= 0.5,
        "inside_s": float((~true).sum() / GRID),
        "pads": shown,
        "edges_s": [min(abs(edge - other) for span in found for other in span) for span in truth for edge in span]
        if found
        else [],
        "spans": len(truth),
        "spans_found": sum(bool(covered(found, seconds)[covered([span], seconds)].any()) for span in truth),
        "cost_s": cost_s,
    }


def judged_drawn(seed: int, detector: OutOfBodyDetector, seconds: int) -> Figures:
    """What the detector makes of the frames of one phantom."""
    frames, outside = drawn_timeline(seed, float(seconds), float(RATE_HZ))
    scores, settings = smoothed(detector.scores(frames)), detector.settings
    found = flagged(scores, settings.threshold, settings.edge_threshold)
    edges = np.flatnonzero(np.diff(np.concatenate([[False], outside, [False]]).astype(int)))
    return {
        "scores": scores,
        "outside": outside,
        "found_K": by_second(found.astype(float)) >= 0.5,
        "true_K": by_second(outside.astype(float)) >= 0.5,
        "spans": len(edges) // 2,
        "spans_found": sum(bool(found[first:stop].any()) for first, stop in zip(edges[::2], edges[1::2], strict=True)),
    }


def by_seconds(found: Sequence[Figures]) -> Figures:
    """Recall, precision, the area under the curve and the spans found, of several videos."""

    def all_of(name: str) -> np.ndarray:
        return np.concatenate([np.asarray(one[name]) for one in found])

    true, guessed = all_of("true_K"), all_of("found_K")
    scores_K = np.concatenate(
        [one["scores"][: len(one["true_K"]) * RATE_HZ].reshape(-1, RATE_HZ).mean(1) for one in found]
    )
    both, spans = int((true & guessed).sum()), sum(one["spans"] for one in found)
    spans_found = sum(one["spans_found"] for one in found)
    return {
        "videos": len(found),
        "outside_seconds": int(true.sum()),
        "inside_seconds": int((~true).sum()),
        "recall_per_second": round(both / true.sum(), 4),
        "recall_interval": exact_interval(both, int(true.sum())),
        "precision_per_second": round(both / max(1, guessed.sum()), 4),
        "precision_interval": exact_interval(both, int(guessed.sum())),
        "auc_per_second": round(auc(scores_K, true), 5),
        "auc_per_frame": round(auc(all_of("scores"), all_of("outside")), 5),
        "spans": spans,
        "spans_found": spans_found,
        "spans_interval": exact_interval(spans_found, spans),
    }


def of_files(first_seed: int, count: int, seconds: int, size: str, detector: OutOfBodyDetector) -> Figures:
    """The figures of ``count`` phantoms that are written as files."""
    width, height = map(int, size.split("x"))
    found: list[Figures] = []
    with tempfile.TemporaryDirectory() as folder:
        for seed in range(first_seed, first_seed + count):
            path, interruptions = Path(folder, f"{seed}.mp4"), make_interruptions(seed, seconds)
            write_video(
                path,
                make_script(seed, seconds),
                width,
                height,
                crf=34 if seed % 2 else 23,
                shifted=bool(seed % 2),
                interruptions=interruptions,
            )
            found.append(judged_file(path, detector, outside_spans(interruptions), seconds))
            path.unlink()
    inside_s = sum(one["inside_s"] for one in found)
    return by_seconds(found) | {
        "size": size,
        "first_seed": first_seed,
        "by_pad": {
            str(pad_s): {
                "leaked_s": round(sum(one["pads"][pad_s]["leaked_s"] for one in found), 2),
                "inside_hidden": round(sum(one["pads"][pad_s]["hidden_s"] for one in found) / inside_s, 4),
            }
            for pad_s in PADS_S
        },
        "usual_pad_s": PAD_S,
        "edge_error_median_s": round(float(np.median(np.concatenate([one["edges_s"] for one in found]))), 3),
        "video_seconds_per_cpu_second": round(count * seconds / sum(one["cost_s"] for one in found), 1),
    }


def of_recordings(folder: str, detector: OutOfBodyDetector) -> Figures:
    """What is found in each recording of a folder."""
    found: Figures = {}
    for path in sorted(Path(folder).glob("*.mp4")):
        started_s = time.monotonic()
        spans = find_out_of_body(str(path), detector=detector)
        _, scores = outside_scores(str(path), detector=detector)
        found[path.stem] = {
            "spans": [(round(span.start_s, 2), round(span.stop_s, 2)) for span in spans],
            "scores_min_median_max": [round(float(value), 3) for value in np.quantile(scores, (0, 0.5, 1))],
            "wall_s": round(time.monotonic() - started_s, 1),
        }
    return found


def main() -> None:
    """Prints the figures as JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--detector", default=SHIPPED)
    parser.add_argument("--videos", type=int, default=12)
    parser.add_argument("--drawn", type=int, default=96)
    parser.add_argument("--seconds", type=int, default=60)
    parser.add_argument("--seed", type=int, default=8_600_000, help="of the first file")
    parser.add_argument("--drawn-seed", type=int, default=8_700_000, help="of the first drawn video")
    parser.add_argument("--size", default="320x180")
    parser.add_argument("--real", help="a folder of recordings whose spans are listed")
    parser.add_argument("--out")
    given = parser.parse_args()
    torch.set_num_threads(1)
    detector = load_detector(given.detector)
    result: Figures = {
        "threshold": detector.settings.threshold,
        "edge_threshold": detector.settings.edge_threshold,
        "trained_on": detector.settings.trained_on,
    }
    if given.videos:
        result["files"] = of_files(given.seed, given.videos, given.seconds, given.size, detector)
    if given.drawn:
        seeds = range(given.drawn_seed, given.drawn_seed + given.drawn)
        result["drawn"] = by_seconds([judged_drawn(seed, detector, given.seconds) for seed in seeds])
        result["drawn"]["first_seed"] = given.drawn_seed
    if given.real:
        result["real"] = of_recordings(given.real, detector)
    print(json.dumps(result, indent=1))
    if given.out:
        Path(given.out).write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
