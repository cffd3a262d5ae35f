"""Maps an archive again from its stored vectors, as a new model makes necessary: the whole command, on this machine.

    python benchmarks/remap.py                           200 video-hours with the shipped model (D = 192)
    python benchmarks/remap.py --hours 20 --dim 1408     with an untrained decoder of the paper's size, 44 M parameters
    python benchmarks/remap.py --hours 2 --profile FILE  the functions that take the time, for ``pstats``

The archive is made here: files that stand for videos of an hour, known to the table of videos, and a vector for every
coarse and fine window of them in the store. For D = 192 the vectors are drawn with the mean and the covariance of the
vectors that the shipped model was trained on, so that it decides as it does on video. The untrained decoder is unsure
of everything, so it opens every fine window: the most that a segment can cost.

Says the seconds of the whole command, of its parts, and CPU seconds of all processes per segment.
"""

from __future__ import annotations

import argparse
import cProfile
import json
import os
import shutil
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from measuring import Entry, Setting, ratio

from halsted_ray import map_archive
from halsted_ray.compute.progress import Progress, RunObserver
from halsted_ray.compute.resources import ResourceRequest
from halsted_ray.maps.publishing import publish_videos
from halsted_ray.maps.table_schemas import ArchiveFile
from halsted_ray.model.checkpoint import Checkpoint
from halsted_ray.model.encoder import PRESETS, Encoder, random_checkpoint
from halsted_ray.model.halsted import Halsted
from halsted_ray.model.videomae import VideoMAE, VideoMAESizes
from halsted_ray.records import Video, WindowSpec, digest
from halsted_ray.storage.locations import filesystem, local_uri
from halsted_ray.storage.vectors import VectorStore, sampling_name
from halsted_ray.video.identity import file_info
from halsted_ray.video.probe import PROBE_VERSION
from halsted_ray.video.windows import segments, windows_of

BAR = 1000.0
"""Video-hours per hour on two cores."""
TINY, GIANT = 192, 1408
SEGMENT_S = 60.0


def measure(setting: Setting) -> list[Entry]:
    """Video-hours per hour of remapping, for both widths of vectors."""
    entries = []
    for dim, hours in ((TINY, 2 if setting.quick else 200), (GIANT, 0.2 if setting.quick else 10)):
        with setting.place() as place:
            found = remap(Path(place), dim, hours)
        parts = ", ".join(f"{name} {seconds:.0f} s" for name, seconds in found["wall_s"].items())
        entries.append(
            ratio(
                f"remapping from stored vectors, D = {dim}",
                found["video_hours_per_hour"],
                BAR,
                unit="h/h",
                rows=f"{hours:g} video-hours",
                why=f"{parts}; {found['core_ms_per_segment']:.1f} core-ms per segment",
            )
        )
    return entries


def remap(
    place: Path, dim: int, hours: float, taggers: int | None = None, profile: str | None = None
) -> dict[str, Any]:
    """Makes an archive of ``hours`` video-hours in ``place``, and maps it from its vectors (float16 [N, ``dim``])."""
    model = model_of(place, dim)
    archive, out = place / "archive", str(place / "maps")
    write_archive(archive, out, Halsted.load(model), hours)
    observer, before_s, started_s = Times(), cpu_s(), time.perf_counter()
    profiler = cProfile.Profile()
    if profile:
        profiler.enable()
    summary = map_archive(
        str(archive), out, model, settle_s=0.0, resources=ResourceRequest(encoders=taggers), observer=observer
    )
    if profile:
        profiler.disable()
        profiler.dump_stats(profile)
    wall_s, spent_s = time.perf_counter() - started_s, cpu_s() - before_s
    assert summary.exit_code == 0 and not summary.segments_decoded, "every segment comes from stored vectors"
    begun_s, done_s = observer.progress_s[0] - started_s, observer.progress_s[-1] - started_s
    return {
        "dim": dim,
        "video_hours": hours,
        "segments": summary.segments,
        "video_hours_per_hour": 3600 * hours / wall_s,
        "wall_s": {"until the first segment": begun_s, "segments": done_s - begun_s, "the rest": wall_s - done_s},
        "core_ms_per_segment": 1000 * spent_s / summary.segments,
        "stages_ms_per_segment": {
            kind: {name: round(1000 * seconds / summary.segments, 2) for name, seconds in of_kind.items() if seconds}
            for kind, of_kind in summary.stages.items()
        },
    }


@dataclass
class Times(RunObserver):
    """When the segments of a run were finished, by ``time.perf_counter``."""

    progress_s: list[float] = field(default_factory=list)

    def on_progress(self, progress: Progress) -> None:
        """Notes the time."""
        self.progress_s.append(time.perf_counter())

    def on_message(self, message: str) -> None:
        """Prints it."""
        print(f"  {message}", flush=True)


def model_of(place: Path, dim: int) -> str:
    """The shipped model for ``TINY``; else the folder of an untrained decoder of width ``dim``, with an encoder that
    gives such vectors and has one layer, since no frame is encoded."""
    if dim == TINY:
        return "phantom"
    if not (place / "model").exists():
        sizes = {**PRESETS["giant"], "image_size": 32, "hidden_size": dim, "num_hidden_layers": 1}
        encoder = Encoder(one_layer(sizes))
        encoder.save(str(place / "encoder"))
        model = Halsted.create(
            None, dim, encoder_ref=str(place / "encoder"), encoder_fingerprint=encoder.fingerprint, name="untrained"
        )
        model.save(str(place / "model"))
    return str(place / "model")


def one_layer(sizes: dict[str, int]) -> Checkpoint:
    """Untrained weights of an encoder of these sizes."""
    config = {**random_checkpoint("tiny", 0).config, **sizes}
    model = VideoMAE(VideoMAESizes.from_dict(config))
    generator = torch.Generator().manual_seed(0)
    tensors = {
        name: torch.empty(value.shape).normal_(std=0.02, generator=generator)
        for name, value in model.state_dict().items()
    }
    return Checkpoint(config, tensors)


def write_archive(archive: Path, out: str, model: Halsted, hours: float) -> None:
    """``hours`` files that stand for videos of an hour (one shorter video for less than an hour), as known at ``out``,
    and the vectors of all their windows."""
    archive.mkdir(parents=True)
    config, spec = model.config, WindowSpec()
    store = VectorStore(f"{out}/embeddings", config.encoder_fingerprint, sampling_name(spec, "reference"))
    draw, entries = drawn_like_training(model), []
    for number in range(max(1, round(hours))):
        path = archive / f"{number:05d}.mp4"
        path.write_bytes(b"%032d" % number)
        info = file_info(*filesystem(str(path)))
        video = Video(
            digest("video", number), local_uri(str(path)), 32, 3600 * min(hours, 1.0), 1920, 1080, 30.0, "h264"
        )
        entries.append(ArchiveFile(video, str(info["mtime"]), probe_version=PROBE_VERSION))
        for segment in segments(video, spec, SEGMENT_S, "vectors"):
            coarse, fine_of = windows_of(segment, spec)
            windows = coarse + [window for fine in fine_of.values() for window in fine]
            rows_ND = draw(len(windows))
            keys = [(window.kind, window.start_s, window.stop_s) for window in windows]
            store.put(video.video_id, segment.start_s, segment.stop_s, dict(zip(keys, rows_ND, strict=True)))
    publish_videos(out, entries)


def drawn_like_training(model: Halsted) -> Callable[[int], np.ndarray]:
    """A function that draws N vectors, float16 [N, D], with the mean and deviations that the model knows of its
    features, and with their covariance where the model whitens them."""
    mean = model.decoder.feature_mean.numpy()
    whitening_DD = model.decoder.feature_whitening_DD
    spread_DD = torch.diag(model.decoder.feature_scale_D) if whitening_DD is None else whitening_DD
    colouring_DD = np.linalg.inv(spread_DD.double().numpy()).astype(np.float32)
    generator = np.random.default_rng(0)

    def draw(count: int) -> np.ndarray:
        rows_ND = generator.standard_normal((count, len(mean)), dtype=np.float32) @ colouring_DD + mean
        return rows_ND.astype(np.float16)

    return draw


def cpu_s() -> float:
    """CPU seconds of this process and of all processes that it started and that have ended."""
    times = os.times()
    return times.user + times.system + times.children_user + times.children_system


def main() -> None:
    """Measures what the options ask for, and prints it as JSON."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--hours", type=float, default=200.0)
    parser.add_argument("--dim", type=int, default=TINY, choices=(TINY, GIANT))
    parser.add_argument("--taggers", type=int, help="number of tagging actors, where Ray is used")
    parser.add_argument("--place", type=Path, help="a folder to keep the archive in (default: a temporary one)")
    parser.add_argument("--profile", help="where the profile of this process is written")
    options = parser.parse_args()
    place = options.place or Path(tempfile.mkdtemp())
    try:
        print(json.dumps(remap(place, options.dim, options.hours, options.taggers, options.profile), indent=1))
    finally:
        if not options.place:
            shutil.rmtree(place)


if __name__ == "__main__":
    main()
