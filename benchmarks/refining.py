"""What `halsted map --refine` is worth: a map's figures by the answers of its windows, by viterbi and by tcn.

    python benchmarks/refining.py MODEL VECTORS ATLAS [--json FILE]

MODEL: a model of `halsted train --refine`. VECTORS: where `halsted embed` put the vectors of all grid windows of the
videos of ATLAS, an annotated archive that taught the model nothing. Differences to the windows' answers have a 95%
interval from videos drawn with replacement, the same draws for both. Decodes nothing.
"""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path

import numpy as np

from halsted_ray.atlas import read_atlas
from halsted_ray.embedding.vector_names import open_vectors
from halsted_ray.evaluation import metrics
from halsted_ray.evaluation.map_accuracy import count_windows, edge_errors_s, joined, lanes_of_clips, lanes_of_rows
from halsted_ray.evaluation.metrics import Matches
from halsted_ray.mapping.whole_video import Refiner, WholeVideo
from halsted_ray.mapping.workflow import Workflow
from halsted_ray.maps.publishing import merged_results
from halsted_ray.maps.staging import SegmentResult
from halsted_ray.model.encoder_identity import encoder_identity
from halsted_ray.model.halsted import Halsted
from halsted_ray.storage.vectors import sampling_name
from halsted_ray.video.windows import segments

DRAWS = 2000


def main() -> None:
    """Prints a table per tag."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("model")
    parser.add_argument("vectors")
    parser.add_argument("atlas")
    parser.add_argument("--json", metavar="FILE")
    options = parser.parse_args()
    model = Halsted.load(options.model)
    spec, atlas = model.config.windows, read_atlas(options.atlas)
    identity = encoder_identity(model.config.encoder_ref)
    store = open_vectors(options.vectors, identity, sampling_name(spec, "reference"))
    workflow = Workflow(model, identity)
    tasks = [task.name for task in model.taxonomy.tasks]
    timelines = {"windows": {}, "viterbi": {}, "tcn": {}}
    seconds = dict.fromkeys(timelines, 0.0)
    makers = {
        kind: WholeVideo(model.taxonomy, tasks, store, Refiner.load(options.model, kind)) for kind in ("viterbi", "tcn")
    }
    for video in atlas.videos:
        of_video = segments(video, spec, 2 * spec.coarse_s, "benchmark")
        stored = store.get(video.video_id, 0.0, video.duration_s)
        predictions = workflow.map_many(of_video, [stored] * len(of_video))
        if any(prediction.needs_frames for prediction in predictions):
            raise SystemExit(f"video {video.video_id} lacks vectors of grid windows; run halsted embed first")
        results = [SegmentResult(s, p.tags, [], "") for s, p in zip(of_video, predictions, strict=True)]
        for kind in timelines:
            began_s = time.process_time()
            rows = merged_results(results, tasks) if kind == "windows" else makers[kind](results)
            seconds[kind] += time.process_time() - began_s
            timelines[kind][video.video_id] = rows
    hours = sum(video.duration_s for video in atlas.videos) / 3600
    print({kind: round(spent / hours, 1) for kind, spent in seconds.items()}, "core-seconds per video-hour")
    truth, found = lanes_of_clips(atlas.clips), {}
    for tag in model.taxonomy.tags:
        per_video = {kind: [] for kind in timelines}
        edges = {kind: [] for kind in timelines}
        for video in atlas.videos:
            true_lane = truth.get((video.video_id, tag.name), [])
            for kind, of_kind in timelines.items():
                rows = [{**vars(row), "video_id": video.video_id} for row in of_kind[video.video_id]]
                lane = lanes_of_rows(rows).get((video.video_id, tag.name), [])
                counts = count_windows(lane, true_lane, [], tag, spec.fine_s, video.duration_s)
                matches = [metrics.match_spans(joined(lane), joined(true_lane), at) for at in (0.1, 0.25, 0.5)]
                per_video[kind].append(
                    [
                        np.trace(counts.confusion_TP),
                        counts.confusion_TP.sum(),
                        *(n for m in matches for n in vars(m).values()),
                    ]
                )
                edges[kind] += edge_errors_s(joined(lane), joined(true_lane))
        drawn = np.random.default_rng(0).integers(len(atlas.videos), size=(DRAWS, len(atlas.videos)))
        base = np.array(per_video["windows"], float)
        for kind, rows in per_video.items():
            counts_VN = np.array(rows, float)
            own = figures(counts_VN.sum(0)[None])[0]
            draws = figures(counts_VN[drawn].sum(1)) - figures(base[drawn].sum(1))
            low, high = np.nanpercentile(draws, [2.5, 97.5], axis=0)
            edge_s = float(np.median(edges[kind])) if edges[kind] else None
            found[f"{tag.name} {kind}"] = {
                "edge_error_s": edge_s,
                "edges_found": len(edges[kind]),
                **{
                    name: [round(float(v), 4) for v in (own[n], low[n], high[n])]
                    for n, name in enumerate(("accuracy", "f1_10", "f1_25", "f1_50"))
                },
            }
            text = "  ".join(
                f"{name} {own[n]:.3f} ({low[n]:+.3f} to {high[n]:+.3f})"
                for n, name in enumerate(("accuracy", "F1@10", "F1@25", "F1@50"))
            )
            print(f"{tag.name:12} {kind:8} {text}  edges {'–' if edge_s is None else f'{edge_s:.2f} s'}")
    if options.json:
        Path(options.json).write_text(json.dumps(found, indent=1))


def figures(counts_BN: np.ndarray) -> np.ndarray:
    """[draws, 4]: accuracy, F1@10, F1@25 and F1@50 from summed counts."""
    columns = [counts_BN[:, 0] / np.maximum(counts_BN[:, 1], 1)]
    for at in (2, 5, 8):
        hits, extra, missed = (counts_BN[:, at + n] for n in range(len(vars(Matches(0, 0, 0)))))
        columns.append(2 * hits / np.maximum(2 * hits + extra + missed, 1))
    return np.stack(columns, 1)


if __name__ == "__main__":
    main()
