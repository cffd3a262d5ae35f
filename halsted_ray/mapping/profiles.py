"""Where a run's time went: kept beside the maps for the report, and counted for Prometheus while the run goes on."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass

from halsted_ray.embeddings import read_whole, write_whole
from halsted_ray.stages import STAGES, Profile
from halsted_ray.video.storage import filesystem


@dataclass(frozen=True)
class RunProfile:
    """One run. ``stages``: ``stages.Profile.asdict``, summed over all actors, so that wall seconds add up to
    ``wall_s`` times the actors less their start."""

    run_id: str
    segments: int
    video_s: float
    wall_s: float
    stages: dict[str, dict[str, float]]


def write_profile(out: str, profile: RunProfile) -> None:
    """Keeps the profile of the newest run that did something. Raises OutputError."""
    fs, root = filesystem(out)
    write_whole(fs, f"{root.rstrip('/')}/profile.json", json.dumps(asdict(profile), indent=1).encode())


def read_profile(out: str) -> RunProfile | None:
    """None where no run left one."""
    fs, root = filesystem(out)
    try:
        return RunProfile(**json.loads(read_whole(fs, f"{root.rstrip('/')}/profile.json")))
    except FileNotFoundError:
        return None


class StageCounters:
    """Counters that Ray's metrics agent gives to Prometheus, while this process is connected to a cluster:

    ``ray_halsted_stage_seconds_total{stage, clock}`` (``clock``: wall or cpu), ``ray_halsted_video_seconds_total``
    and ``ray_halsted_segments_total{state}``.
    """

    def __init__(self):
        from ray.util.metrics import Counter

        self.seconds = Counter("halsted_stage_seconds", "Seconds by stage, of all actors", tag_keys=("stage", "clock"))
        self.video_s = Counter("halsted_video_seconds", "Seconds of video finished")
        self.segments = Counter("halsted_segments", "Segments finished", tag_keys=("state",))

    def count(self, video_s: float, state: str, spent: Profile) -> None:
        for clock, seconds in (("wall", spent.wall_s), ("cpu", spent.cpu_s)):
            for stage in STAGES:
                if seconds[stage] > 0:
                    self.seconds.inc(seconds[stage], {"stage": stage, "clock": clock})
        self.video_s.inc(video_s)
        self.segments.inc(1, {"state": state})
