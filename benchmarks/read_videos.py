"""Mapping against ``ray.data.read_videos``, which gives every frame as a row, with the same model behind it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from measuring import Setting, ratio, timed
from model import trained

from halsted_ray.compute.cluster import connected
from halsted_ray.compute.pools import size_pools
from halsted_ray.mapping.pipeline import map_archive
from halsted_ray.model.halsted import Halsted
from halsted_ray.records import WindowSpec

MINUTES = 10
FPS = 30


def measure(setting: Setting) -> list[dict]:
    """Wall time of both, and what each spilled to disk."""
    model = trained(setting.cache)
    with setting.place() as folder:
        place = Path(folder)
        archive = setting.archive(place / "archive", MINUTES)
        video = archive / "video.mp4"
        theirs_s, (windows, their_mb) = timed(lambda: spilling(lambda: read_videos(video, model)))
        ours_s, (summary, our_mb) = timed(
            lambda: spilling(lambda: map_archive(str(archive), str(place / "out"), model))
        )
    rows = f"{summary.video_s / 60:g} min of video"
    return [
        ratio(
            "mapping against ray.data.read_videos",
            theirs_s / ours_s,
            3,
            rows=f"{rows}, {windows} windows",
            why=f"{theirs_s:.0f} s (frames scaled as they are read, its best use) against {ours_s:.0f} s, start-up "
            "in both; decoding takes most of both, and there the ratio is that of reference against decord",
        ),
        ratio(
            "  spilled to disk", our_mb, 0, unit="MB", at_most=True, rows=rows, why=f"read_videos: {their_mb:.0f} MB"
        ),
    ]


def spilling(run):
    """(result of ``run``, MB that Ray's object store wrote to disk meanwhile)."""
    import ray
    from ray._private.internal_api import memory_summary

    with connected():
        found = run()
        words = memory_summary(ray.get_runtime_context().gcs_address, stats_only=True).split()
        return found, float(words[words.index("Spilled") + 1]) if "Spilled" in words else 0.0


def read_videos(video: Path, model: str) -> int:
    """Tags a video from rows of single frames; returns the number of windows. A batch is 30 s: a coarse window and its
    fine windows."""
    import ray.data

    with connected() as (cpus, gpus, cores):
        context = ray.data.DataContext.get_current()
        context.enable_progress_bars = False
        context.execution_options.preserve_order = True
        pools = size_pools(cpus, gpus, cores, cores)
        rows = ray.data.read_videos(str(video), resize=(112, 112)).map_batches(
            TagFrames,
            fn_constructor_args=(model,),
            batch_size=int(WindowSpec().coarse_s * FPS),
            num_cpus=pools.encoders.cpus,
            compute=ray.data.ActorPoolStrategy(size=1),
        )
        return sum(len(batch["answers"]) for batch in rows.iter_batches(batch_size=None))


class TagFrames:
    """A batch of frames in, the tags of its windows out."""

    def __init__(self, model: str):
        import torch

        torch.set_num_threads(1)
        self.model = Halsted.load(model)
        self.encoder = self.model.load_encoder()

    def __call__(self, batch: dict[str, np.ndarray]) -> dict[str, list]:
        """``frame``: uint8 [N, H, W, 3] in; ``answers``: a text per window out."""
        frames, spec = batch["frame"], WindowSpec()
        windows = [(0.0, spec.coarse_s)] + [(n * spec.fine_s, spec.fine_s) for n in range(spec.fine_per_coarse)]
        picks = np.array([start_s + np.arange(spec.frames) * length_s / spec.frames for start_s, length_s in windows])
        vectors = self.encoder.encode(frames[np.minimum((picks * FPS + 1e-6).astype(int), len(frames) - 1)])
        macro = self.model.tag(vectors, "macro")
        fine = ["micro" if answer["step"][0] == "Dissection" else "proficiency" for answer in macro[1:]]
        answers = self.model.tag(vectors[1:], fine)
        driving = [n for n, answer in enumerate(answers) if answer.get("phase", ("",))[0] == "Driving"]
        if driving:
            self.model.tag(vectors[1:][driving], "context")
        return {"answers": [str(answer) for answer in [*macro[:1], *answers]]}
