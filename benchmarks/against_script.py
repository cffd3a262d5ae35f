"""Whole mapping against the script that a user would write, and a remap against both: the same video, side by side."""

from __future__ import annotations

import shutil
from pathlib import Path

from measuring import Setting, ratio, timed
from model import trained
from script import Script

from halsted_ray.mapping.pipeline import map_archive
from halsted_ray.mapping.publish import read_segments

MINUTES = 10
SUTURING = ("macro", "proficiency", "context")
"""Tasks that need a close look at the suturing only: 30% of the footage."""


def measure(setting: Setting) -> list[dict]:
    model = trained(setting.cache)
    with setting.place() as folder:
        place = Path(folder)
        archive = setting.archive(place / "archive", MINUTES)
        script = Script(str(archive / "video.mp4"), model)
        script_s, rows = timed(script.run)
        whole_s, summary = timed(lambda: map_archive(str(archive), str(place / "whole"), model))
        stages_s, partial = timed(lambda: map_archive(str(archive), str(place / "stages"), model, list(SUTURING)))
        shutil.rmtree(archive)
        whole, in_stages = same(rows, place / "whole"), same(rows, place / "stages")
        windows = read_segments(str(place / "whole"), ["new_vectors"])["new_vectors"].to_numpy().sum()
        looked_at = read_segments(str(place / "stages"), ["new_vectors"])["new_vectors"].to_numpy().sum()
    took = ", ".join(f"{stage} {seconds:.0f}" for stage, seconds in script.seconds.items())
    length = f"{summary.video_s / 60:g} min of video"
    return [
        ratio("whole mapping against a user's script", script_s / whole_s, 1.6, also=whole >= LEAST_SAME,
              rows=f"{length}, {windows} windows", why=f"{script_s:.0f} s ({took}) against {whole_s:.0f} s"),
        ratio("  the same tags", whole, LEAST_SAME, unit="of 1", rows=f"{len(rows)} decisions", why=WHY_NOT_ALL),
        # The script's answers to the task that is not asked here are not counted against it.
        ratio("multi-stage mapping, 30% of it suturing", (script_s - script.seconds.get("micro", 0)) / stages_s, 2.5,
              also=in_stages >= LEAST_SAME, rows=f"{length}, {looked_at} of {windows} windows",
              why=f"against {stages_s:.0f} s; decoding is the same work in both and takes "
                  f"{partial.stages['cpu_s']['decode']:.0f} CPU-s, encoding {partial.stages['cpu_s']['encode']:.0f}"),
        ratio("  the same tags", in_stages, LEAST_SAME, unit="of 1", rows=f"{len(rows)} decisions", why=WHY_NOT_ALL),
    ]


LEAST_SAME = 0.98
WHY_NOT_ALL = "fidelity 'reference' and another scaler give some windows other pixels"


def same(rows: list[tuple], out: Path) -> float:
    """Share of the map's decisions that the script made too, window by window."""
    of_script = {row[:4]: row[4] for row in rows}
    tags = [tag for tags in read_segments(str(out), ["tags"])["tags"].to_pylist() for tag in tags]
    shared = [tag["category"] == of_script[key] for tag in tags
              if (key := (tag["start_s"], tag["stop_s"], tag["task"], tag["tag"])) in of_script]
    missed = sum((tag["start_s"], tag["stop_s"], tag["task"], tag["tag"]) not in of_script for tag in tags)
    return sum(shared) / (len(shared) + missed)
