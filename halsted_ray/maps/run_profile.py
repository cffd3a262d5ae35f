"""Where the time of the newest run went, kept beside the maps for the report."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field

from halsted_ray.storage.files import read_json, write_json


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
    write_json(f"{out.rstrip('/')}/profile.json", asdict(profile))


def read_profile(out: str) -> RunProfile | None:
    """The profile of the newest run that finished a segment; None where there is none, or where a power cut left it
    empty."""
    try:
        return RunProfile(**read_json(f"{out.rstrip('/')}/profile.json"))
    except (FileNotFoundError, ValueError):
        return None
