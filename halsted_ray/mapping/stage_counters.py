"""Counters of a run for Prometheus, through Ray's metrics agent."""

from __future__ import annotations

from halsted_ray.profiling import STAGES, StageProfile


class StageCounters:
    """Counters that Ray's metrics agent gives to Prometheus while this process is connected to a cluster:

    ``ray_halsted_stage_seconds_total{stage, clock}`` (``clock``: wall or cpu), ``ray_halsted_video_seconds_total``
    and ``ray_halsted_segments_total{state}``.
    """

    def __init__(self) -> None:
        from ray.util.metrics import Counter

        self.seconds = Counter("halsted_stage_seconds", "Seconds by stage, of all actors", tag_keys=("stage", "clock"))
        self.video_s = Counter("halsted_video_seconds", "Seconds of video finished")
        self.segments = Counter("halsted_segments", "Segments finished", tag_keys=("state",))

    def count(self, video_s: float, state: str, profile: StageProfile) -> None:
        """Adds one finished segment of ``video_s`` seconds and what it took."""
        for clock, seconds in (("wall", profile.wall_s), ("cpu", profile.cpu_s)):
            for stage in STAGES:
                if seconds[stage] > 0:
                    self.seconds.inc(seconds[stage], {"stage": stage, "clock": clock})
        self.video_s.inc(video_s)
        self.segments.inc(1, {"state": state})
