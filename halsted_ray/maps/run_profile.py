"""Where a run's time went: kept beside the maps for the report, and counted for Prometheus while the run goes on."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass

from halsted_ray.storage.files import read_file, write_atomically
from halsted_ray.storage.locations import filesystem


@dataclass(frozen=True)
class RunProfile:
    """One run. ``stages``: ``profiling.StageProfile.asdict``, summed over all actors, so that wall seconds add up to
    ``wall_s`` times the actors less their start."""

    run_id: str
    segments: int
    video_s: float
    wall_s: float
    stages: dict[str, dict[str, float]]


def write_profile(out: str, profile: RunProfile) -> None:
    """Keeps the profile of the newest run that did something. Raises OutputError."""
    fs, root = filesystem(out)
    write_atomically(fs, f"{root.rstrip('/')}/profile.json", json.dumps(asdict(profile), indent=1).encode())


def read_profile(out: str) -> RunProfile | None:
    """None where no run left one."""
    fs, root = filesystem(out)
    try:
        return RunProfile(**json.loads(read_file(fs, f"{root.rstrip('/')}/profile.json")))
    except FileNotFoundError:
        return None
