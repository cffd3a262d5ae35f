"""Whether a candidate may replace the champion: what both showed on the same videos, against thresholds with reasons.

Pure: no MLflow, no files but the thresholds.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from importlib import resources

import numpy as np
import yaml

from halsted_ray.errors import UsageError
from halsted_ray.evaluation.intervals import paired_bootstrap, ratio_of_sums
from halsted_ray.evaluation.metrics import calibration_error
from halsted_ray.registry.examine import Examined
from halsted_ray.video.storage import filesystem

BOUNDS = {
    "worst_task_fall": "at_most", "mean_p_worse": "at_most", "specialty_accuracy": "at_least",
    "calibration_error": "at_most", "speed_of_champion": "at_least", "learned_test_videos": "at_most",
}


@dataclass(frozen=True)
class Threshold:
    """One bound, on the side that ``BOUNDS`` says, and why it is there."""

    bound: float
    reason: str
    of_specialty: Mapping[str, float]


@dataclass(frozen=True)
class Check:
    """One question of the gate. ``measured`` is None where it can't be asked; ``said`` tells a person what it means."""

    name: str
    measured: float | None
    bound: float | None
    passed: bool
    said: str
    reason: str


@dataclass(frozen=True)
class Verdict:
    checks: tuple[Check, ...]

    @property
    def passed(self) -> bool:
        return all(check.passed for check in self.checks)


def read_thresholds(location: str | None = None) -> dict[str, Threshold]:
    """The thresholds in the YAML file at ``location`` (default: the one that ships). Raises UsageError."""
    try:
        if location is None:
            text = (resources.files("halsted_ray.registry") / "gate.yaml").read_text(encoding="utf-8")
        else:
            fs, path = filesystem(location)
            text = fs.cat_file(path).decode()
        stated = yaml.safe_load(text)
        if not isinstance(stated, dict) or set(stated) != set(BOUNDS):
            raise UsageError(f"the gate's file {location or 'gate.yaml'!r} has "
                             f"{sorted(stated) if isinstance(stated, dict) else stated!r}; expected {sorted(BOUNDS)}")
        found = {}
        for name, side in BOUNDS.items():
            entry = stated[name]
            if not isinstance(entry, dict) or not isinstance(entry.get(side), int | float) or not entry.get("reason"):
                raise UsageError(f"the gate's file {location or 'gate.yaml'!r}: {name} needs a number {side!r} and a "
                                 f"'reason', got {entry!r}")
            found[name] = Threshold(float(entry[side]), entry["reason"].strip(), entry.get("specialties") or {})
        return found
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise UsageError(f"the gate's file {location!r} can't be read as YAML: {error}") from error


def judge(candidate: Examined, champion: Examined | None, thresholds: Mapping[str, Threshold]) -> Verdict:
    """The verdict on a candidate. Without a champion, what compares with it is passed and says so."""
    checks = []

    def check(name: str, measured: float | None, said: str, bound: float | None = None) -> None:
        threshold = thresholds[name.split("/")[0]]
        bound = threshold.bound if bound is None else bound
        at_most = BOUNDS[name.split("/")[0]] == "at_most"
        # NaN compares as false: what could not be measured does not pass.
        passed = measured is None or (measured <= bound + 1e-9 if at_most else measured >= bound - 1e-9)
        checks.append(Check(name, measured, bound, passed, said, threshold.reason))

    if champion is None:
        for name in ("worst_task_fall", "mean_p_worse", "speed_of_champion"):
            check(name, None, "there is no champion to compare with")
    else:
        common = candidate.asked_VT > 0
        common &= champion.asked_VT > 0
        ours, theirs = (examined.of_tasks(common) for examined in (candidate, champion))
        worst = min(ours, key=ours.get), min(theirs, key=theirs.get)
        check("worst_task_fall", theirs[worst[1]] - ours[worst[0]],
              f"worst task {worst[0]} {ours[worst[0]]:.3f}, the champion's {worst[1]} {theirs[worst[1]]:.3f}")
        asked_VT = np.where(common, candidate.asked_VT, 0)
        change = paired_bootstrap(np.where(common, champion.right_VT, 0), np.where(common, candidate.right_VT, 0),
                                  asked_VT)
        # One video has no spread: then the sign of the change decides.
        p_worse = float(change.value < 0) if math.isnan(change.p_worse) else change.p_worse
        check("mean_p_worse", p_worse,
              f"mean over tags changes by {change.value:+.3f} [{change.low:+.3f}, {change.high:+.3f}]")
        check("speed_of_champion", candidate.windows_per_s / champion.windows_per_s,
              f"{candidate.windows_per_s:,.0f} windows/s, the champion {champion.windows_per_s:,.0f}")
    floor = thresholds["specialty_accuracy"]
    for specialty in sorted(set(candidate.specialties)):
        videos = np.array([name == specialty for name in candidate.specialties])
        accuracy = ratio_of_sums(candidate.right_VT[videos].sum(0)[None], candidate.asked_VT[videos].sum(0)[None])[0]
        check(f"specialty_accuracy/{specialty or 'unnamed'}", float(accuracy), f"{int(videos.sum())} videos",
              floor.of_specialty.get(specialty))
    check("calibration_error", calibration_error(candidate.confidence_N, candidate.right_N),
          f"over {len(candidate.right_N):,} answers")
    learned = candidate.learned_test_videos
    check("learned_test_videos", math.nan if learned is None else len(learned),
          "which videos it learned from is not known: train it with the registry" if learned is None
          else ", ".join(learned) or "none of them")
    return Verdict(tuple(checks))
