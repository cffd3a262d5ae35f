"""One hour of 1080p mapped: its time against that of the busiest stage, memory, and its time from stored vectors."""

from __future__ import annotations

import shutil
from pathlib import Path

from inside_ray import CORES, RAW_MINUTES, alone
from measuring import Setting, ratio, timed, watched
from model import trained

from halsted_ray.mapping.pipeline import map_archive
from halsted_ray.model.halsted import Halsted

MINUTES = 60


def measure(setting: Setting) -> list[dict]:
    """Wall times of both runs, and the peak memory of a decoding actor."""
    model = trained(setting.cache)
    with setting.place() as folder:
        place = Path(folder)
        archive = setting.archive(place / "archive", MINUTES)
        with watched() as peaks:
            whole_s, summary = timed(lambda: map_archive(str(archive), str(place / "out"), model))
        newer = Halsted.load(model)
        newer.configure(version="next")
        newer.save(str(place / "newer"))
        again_s, again = timed(lambda: map_archive(str(archive), str(place / "out"), str(place / "newer")))
        shutil.rmtree(archive)
    assert again.segments_decoded == 0 and again.segments_from_vectors == summary.segments
    stage_rate = alone(setting.video(RAW_MINUTES), CORES)
    busiest_s = summary.video_s / stage_rate
    rows = f"{summary.video_s / 60:g} min of video, {summary.segments} segments"
    spent = ", ".join(f"{stage} {seconds:.0f}" for stage, seconds in summary.stages["cpu_s"].items() if seconds >= 1)
    actor_mb = peaks.mb["decoding actor"] + peaks.mb["decoding process"]
    return [
        ratio(
            "mapping from stored vectors against from video",
            whole_s / again_s,
            50,
            rows=rows,
            why=f"{whole_s:.0f} s against {again_s:.2f} s",
        ),
        ratio(
            "the pipeline's wall time against its busiest stage",
            whole_s / busiest_s,
            1.15,
            at_most=True,
            rows=rows,
            why=f"{whole_s:.0f} s with start-up against {busiest_s:.0f} s of decoding alone on {CORES} cores; "
            f"CPU-seconds: {spent}",
        ),
        ratio(
            "peak memory of a decoding actor",
            actor_mb,
            500,
            unit="MB",
            at_most=True,
            rows=rows,
            why=f"the actor {peaks.mb['decoding actor']:.0f}, its decoding process {peaks.mb['decoding process']:.0f}",
        ),
    ]
