"""The gate: decides whether a candidate may replace the champion, from both models' results on the same videos.

Each threshold has a reason (``gate.yaml``). Nothing here imports MLflow; the thresholds are the only file it reads.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib import resources
from typing import Literal

import numpy as np
import yaml

from halsted_ray.errors import TaxonomyError, UsageError
from halsted_ray.evaluation import metrics
from halsted_ray.evaluation.model_comparison import compare_models
from halsted_ray.evaluation.predictions import TagPredictions
from halsted_ray.evaluation.scoring import AccuracyCounts, calibration, score_tasks
from halsted_ray.registry.held_out import HeldOutResult
from halsted_ray.storage.locations import filesystem
from halsted_ray.taxonomy import Taxonomy

Bounds = Mapping[str, Literal["at_most", "at_least"]]
BOUNDS: Bounds = {
    "worst_task_fall": "at_most",
    "mean_p_worse": "at_most",
    "specialty_accuracy": "at_least",
    "calibration_error": "at_most",
    "tag_calibration_rise": "at_most",
    "speed_of_champion": "at_least",
    "learned_test_videos": "at_most",
}

ADDED_LATER = ("tag_calibration_rise",)
"""Checks that a gate's file of an earlier version lacks."""


@dataclass(frozen=True)
class GateThreshold:
    """One bound (``BOUNDS`` says on which side) and the reason for it."""

    bound: float
    reason: str
    of_specialty: Mapping[str, float]
    """Specialties that have a bound of their own."""


@dataclass(frozen=True)
class Check:
    """One check of the gate.

    ``measured``: None where the check does not apply. ``said``: what was measured, in words. ``reason``: the reason of
    the threshold.
    """

    name: str
    measured: float | None
    bound: float | None
    passed: bool
    said: str
    reason: str


@dataclass(frozen=True)
class Verdict:
    """All checks on a candidate."""

    checks: tuple[Check, ...]

    @property
    def passed(self) -> bool:
        """Whether every check passed."""
        return all(check.passed for check in self.checks)


def read_thresholds(
    location: str | None = None, bounds: Bounds = BOUNDS, shipped: str = "gate.yaml"
) -> dict[str, GateThreshold]:
    """Reads the thresholds of the checks ``bounds`` from the YAML file at ``location`` (default: the file that ships,
    ``shipped``). Raises UsageError."""
    try:
        if location is None:
            text = resources.files("halsted_ray.registry").joinpath(shipped).read_text(encoding="utf-8")
        else:
            fs, path = filesystem(location)
            text = fs.cat_file(path).decode()
        stated = yaml.safe_load(text)
        if isinstance(stated, dict) and location is not None:  # a file from before a check existed takes its default
            default, added = read_thresholds(None, bounds, shipped), set(ADDED_LATER) & set(bounds)
            stated = {name: stated_again(default[name], name) for name in added if name not in stated} | stated
        if not isinstance(stated, dict) or set(stated) != set(bounds):
            raise UsageError(
                f"the gate's file {location or shipped!r} has "
                f"{sorted(stated) if isinstance(stated, dict) else stated!r}; expected {sorted(bounds)}"
            )
        found = {}
        for name, side in bounds.items():
            entry = stated[name]
            if not isinstance(entry, dict) or not isinstance(entry.get(side), int | float) or not entry.get("reason"):
                raise UsageError(
                    f"the gate's file {location or shipped!r}: {name} needs a number {side!r} and a "
                    f"'reason', got {entry!r}"
                )
            found[name] = GateThreshold(float(entry[side]), entry["reason"].strip(), entry.get("specialties") or {})
        return found
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise UsageError(f"the gate's file {location!r} can't be read as YAML: {error}") from error


def checked(
    thresholds: Mapping[str, GateThreshold],
    name: str,
    measured: float | None,
    said: str,
    bound: float | None = None,
    bounds: Bounds = BOUNDS,
) -> Check:
    """Judges one value. ``name``: a check of ``bounds``; where it is measured on several things, ``/`` and the thing
    follow. ``bound``: in place of the threshold's own. The other arguments as of ``Check``."""
    threshold, at_most = thresholds[name.split("/")[0]], bounds[name.split("/")[0]] == "at_most"
    bound = threshold.bound if bound is None else bound
    # NaN compares as false, so a value that could not be measured does not pass.
    passed = measured is None or (measured <= bound + 1e-9 if at_most else measured >= bound - 1e-9)
    return Check(name, measured, bound, passed, said, threshold.reason)


def learned_checks(
    candidate: Sequence[str] | None, champion: Sequence[str] | None, has_champion: bool
) -> list[tuple[str, float | None, str]]:
    """(name, measured, said) of the checks for test videos that a model was trained or chosen on; None: not known."""
    found: list[tuple[str, float | None, str]] = [
        (
            "learned_test_videos",
            math.nan if candidate is None else len(candidate),
            "which videos it learned from is not known: train it again"
            if candidate is None
            else ", ".join(candidate) or "none of them",
        )
    ]
    if has_champion:
        said = "none of them"
        if champion is None:
            said = "which videos the champion learned from is not known; if some of them judge here, it looks too good"
        elif champion:
            said = (
                f"the champion learned from {', '.join(champion)} and looks too good; name another release (--release)"
            )
        found.append(("learned_test_videos/champion", None if champion is None else len(champion), said))
    return found


def stated_again(threshold: GateThreshold, name: str) -> dict[str, object]:
    """Returns a threshold as a gate's file states it."""
    return {BOUNDS[name]: threshold.bound, "reason": threshold.reason}


def apply_gate(
    candidate: HeldOutResult,
    champion: HeldOutResult | None,
    taxonomy: Taxonomy,
    operations: Mapping[str, Mapping[str, str]],
    thresholds: Mapping[str, GateThreshold],
) -> Verdict:
    """Judges a candidate. ``operations``: video_id to the operation's specialty and procedure.

    Where there is a champion, the tags that both models know are compared. Without a champion, the checks that compare
    pass and say so. Raises TaxonomyError where the two models know no tag in common.
    """
    checks: list[Check] = []

    def check(name: str, measured: float | None, said: str, bound: float | None = None) -> None:
        checks.append(checked(thresholds, name, measured, said, bound))

    if champion is None:
        for name in ("worst_task_fall", "mean_p_worse", "speed_of_champion", "tag_calibration_rise"):
            check(name, None, "there is no champion to compare with")
    else:
        ours, theirs = common_tags(candidate.predictions, champion.predictions)
        (task, value), (their_task, their_value) = (worst_task(side, taxonomy) for side in (ours, theirs))
        check(
            "worst_task_fall",
            their_value - value,
            f"accuracy of the worst task: {task} {value:.3f}, the champion's {their_task} {their_value:.3f}",
        )
        change = compare_models(theirs, ours, taxonomy, operations)["mean"]
        # One video has no spread, so the sign of the change decides.
        lone = change["p_worse"] is None
        check(
            "mean_p_worse",
            float(change["value"] < 0) if lone else change["p_worse"],
            f"mean accuracy over tags changes by {change['value']:+.3f}"
            + (" on one video" if lone else f" [{change['low']:+.3f}, {change['high']:+.3f}]"),
        )
        check(
            "speed_of_champion",
            candidate.windows_per_s / champion.windows_per_s,
            f"{candidate.windows_per_s:,.0f} windows/s, the champion {champion.windows_per_s:,.0f}",
        )
        tag, error, their_error = worst_calibration_rise(ours, theirs)
        check(
            "tag_calibration_rise",
            error - their_error,
            f"calibration error of {tag}: {error:.3f}, the champion's {their_error:.3f}",
        )
    floors, counts = thresholds["specialty_accuracy"].of_specialty, AccuracyCounts.of(candidate.predictions)
    specialty_K = np.array([operations.get(str(video), {}).get("specialty", "") for video in counts.video_K])
    for specialty in map(str, np.unique(specialty_K)):
        found = counts.accuracy(counts.tags, specialty_K == specialty)
        check(
            f"specialty_accuracy/{specialty or 'unnamed'}",
            found["over_videos"],
            f"{found['videos']} videos",
            floors.get(specialty),
        )
    check("calibration_error", calibration(candidate.predictions), f"over {int(counts.total_KT.sum()):,} predictions")
    theirs_learned = champion.learned_test_videos if champion else None
    for name, measured, said in learned_checks(candidate.learned_test_videos, theirs_learned, champion is not None):
        check(name, measured, said)
    return Verdict(tuple(checks))


def common_tags(
    first: Sequence[TagPredictions], second: Sequence[TagPredictions]
) -> tuple[list[TagPredictions], list[TagPredictions]]:
    """Returns both models' predictions of the tags that both know; a model of an older taxonomy may lack a tag.

    Raises TaxonomyError where they know no tag in common.
    """
    asked = {entry.targets.tag for entry in first} & {entry.targets.tag for entry in second}
    if not asked:
        raise TaxonomyError(
            "candidate and champion know no tag in common, so nothing can be compared; promote the "
            "candidate in a registry of its own (--registry)"
        )
    return [entry for entry in first if entry.targets.tag in asked], [
        entry for entry in second if entry.targets.tag in asked
    ]


def worst_calibration_rise(
    ours: Sequence[TagPredictions], theirs: Sequence[TagPredictions]
) -> tuple[str, float, float]:
    """Returns the tag whose calibration error rises most from the champion to the candidate, and both errors: the
    candidate's and the champion's (``metrics.calibration_error``)."""
    errors: dict[str, list[float]] = {}
    for side in (ours, theirs):
        by_tag: dict[str, list[TagPredictions]] = {}
        for entry in side:
            by_tag.setdefault(entry.targets.tag, []).append(entry)
        for tag, entries in by_tag.items():
            confidence_N = np.concatenate([entry.confidence_N for entry in entries])
            right_N = np.concatenate([entry.right_N for entry in entries])
            errors.setdefault(tag, []).append(metrics.calibration_error(confidence_N, right_N))
    worst = max(errors, key=lambda tag: errors[tag][0] - errors[tag][1])
    return worst, errors[worst][0], errors[worst][1]


def worst_task(predictions: Sequence[TagPredictions], taxonomy: Taxonomy) -> tuple[str, float]:
    """Returns the name and the accuracy over videos (``scoring.score_tasks``) of the task with the least accuracy."""
    tasks = score_tasks(AccuracyCounts.of(predictions), taxonomy)["tasks"]
    worst = min(tasks, key=lambda task: tasks[task]["over_videos"])
    return worst, tasks[worst]["over_videos"]
