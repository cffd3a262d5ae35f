"""Where the time of the newest run went, kept beside the maps for the report."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field

from halsted_ray.storage.files import read_file, write_atomically
from halsted_ray.storage.locations import filesystem


@dataclass(frozen=True)
class RunProfile:
    """What one run took."""

    run_id: str
    segments: int
    video_s: float
    wall_s: float
    stages: dict[str, dict[str, float]]
    """``profiling.StageProfile.asdict``, summed over all actors. So its wall seconds add up to ``wall_s`` times the
    number of actors, less the time in which the actors start."""
    start_s: dict[str, float] = field(default_factory=dict)
    """Step of the start → seconds from the command to its end; empty in profiles of earlier versions."""
    encoding: dict[str, float] = field(default_factory=dict)
    """``embedding.batching.EncodingSummary``; empty in profiles of earlier versions."""


def write_profile(out: str, profile: RunProfile) -> None:
    """Keeps the profile of a run, in place of the profile of an earlier run. Raises OutputError."""
    fs, root = filesystem(out)
    write_atomically(fs, f"{root.rstrip('/')}/profile.json", json.dumps(asdict(profile), indent=1).encode())


def read_profile(out: str) -> RunProfile | None:
    """The profile of the newest run that finished a segment, None where there is none."""
    fs, root = filesystem(out)
    try:
        return RunProfile(**json.loads(read_file(fs, f"{root.rstrip('/')}/profile.json")))
    except FileNotFoundError:
        return None
