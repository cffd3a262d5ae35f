"""How far economy of motion goes with a proficiency that people gave: a ridge regression, judged on people or videos
that were held out.

Legend: V videos, F features, G groups.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass

import numpy as np
from scipy import stats

from halsted_ray.errors import UsageError
from halsted_ray.evaluation.intervals import DRAWS, LEVEL, percentiles
from halsted_ray.evaluation.json_values import without_nan
from halsted_ray.records import JsonObject
from halsted_ray.sequences.economy import FEATURES, WARNING, VideoEconomy
from halsted_ray.storage.files import read_bytes

PENALTY = 1.0
"""Of the ridge, on standardised features; a fixed value, because so few videos can't choose one."""
LEAST_GROUPS = 6
LEVELS = {"low": 0.0, "high": 1.0}
"""Words that stand for a score."""


@dataclass(frozen=True)
class ProficiencyLabel:
    """``score``: higher is better, such as a global rating. ``group``: whose video it is; '' means that it stands
    alone."""

    score: float
    group: str = ""


def read_labels(location: str) -> dict[str, ProficiencyLabel]:
    """video_id → label, from a CSV file with the columns ``video_id``, ``score`` (a number, low or high) and optionally
    ``group`` (a pseudonym of the person). Raises UsageError, which names the line and no value of a group."""
    try:
        text = read_bytes(location).decode("utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(
            f"the labels {location!r} can't be read ({type(error).__name__}); give a CSV file in UTF-8 with "
            "video_id,score[,group]"
        ) from error
    reader = csv.DictReader(io.StringIO(text))
    if missing := [name for name in ("video_id", "score") if name not in (reader.fieldnames or ())]:
        raise UsageError(f"the labels {location!r} have no column {missing[0]!r}; expected video_id,score[,group]")
    labels: dict[str, ProficiencyLabel] = {}
    for row in reader:
        said = (row["score"] or "").strip().lower()
        try:
            score = LEVELS[said] if said in LEVELS else float(said)
        except ValueError:
            score = float("nan")
        if not np.isfinite(score):
            raise UsageError(f"{location}:{reader.line_num}: got no score {said!r}; expected a number, or low or high")
        if row["video_id"] in labels:
            raise UsageError(f"{location}:{reader.line_num}: a video stands twice; keep one of the lines")
        labels[row["video_id"]] = ProficiencyLabel(score, (row.get("group") or "").strip())
    if not labels:
        raise UsageError(f"the labels {location!r} have no row; expected one per video")
    return labels


def regress(
    videos: Sequence[VideoEconomy], labels: Mapping[str, ProficiencyLabel], draws: int = DRAWS, seed: int = 0
) -> JsonObject:
    """Figures of the regression as JSON values.

    Each group is predicted by a ridge regression that learned from the other groups (leave one group out).
    ``spearman``: rank correlation of predicted and given scores; ``r2``: share of the variance explained, below 0 where
    the mean of the others says more. ``weights``: feature → standardised weight of the regression over all videos.
    Each is [value, low, high], from groups drawn with replacement. A feature that no video has, or that is the same in
    all, is left out; where one video lacks a feature, it has the mean. Raises UsageError for fewer than LEAST_GROUPS
    groups, and where all scores are the same.
    """
    known = [video for video in videos if video.video_id in labels]
    score_V = np.array([labels[video.video_id].score for video in known])
    group_V = np.array([labels[video.video_id].group or video.video_id for video in known])
    groups = sorted(set(group_V.tolist()))
    if len(groups) < LEAST_GROUPS:
        raise UsageError(
            f"{len(known)} mapped videos of {len(groups)} people or videos have a label; expected at least "
            f"{LEAST_GROUPS}: no regression over fewer says anything"
        )
    if np.ptp(score_V) == 0:
        raise UsageError("all videos have the same score; a regression needs at least two different ones")
    table_VF = np.array([[_number(asdict(video)[name]) for name in FEATURES] for video in known])
    has_F = [np.ptp(known_V) > 0 if len(known_V := column[~np.isnan(column)]) else False for column in table_VF.T]
    names, table_VF = [name for name, has in zip(FEATURES, has_F, strict=True) if has], table_VF[:, has_F]
    predicted_V = np.empty(len(known))
    for group in groups:
        out_V = group_V == group
        learned_VF = table_VF[~out_V]
        weights_F, base = fit_ridge(_standard(learned_VF, learned_VF), score_V[~out_V])
        predicted_V[out_V] = _standard(table_VF[out_V], learned_VF) @ weights_F + base
    places = [np.flatnonzero(group_V == group) for group in groups]
    rng = np.random.default_rng(seed)
    drawn = [np.concatenate([places[g] for g in rng.integers(len(places), size=len(places))]) for _ in range(draws)]
    weights_BF = np.array([_weights(table_VF[rows], score_V[rows]) for rows in drawn])
    whole_F = _weights(table_VF, score_V)

    def triple(value: float, values: Sequence[float]) -> list[float]:
        return [value, *percentiles(np.array(values), LEVEL)]

    figures: JsonObject = {
        "videos": len(known),
        "groups": len(groups),
        "spearman": triple(_rank(predicted_V, score_V), [_rank(predicted_V[rows], score_V[rows]) for rows in drawn]),
        "r2": triple(
            _explained(predicted_V, score_V), [_explained(predicted_V[rows], score_V[rows]) for rows in drawn]
        ),
        "weights": {name: triple(whole_F[f], weights_BF[:, f].tolist()) for f, name in enumerate(names)},
        "warning": WARNING,
    }
    told: JsonObject = without_nan(figures)
    return told


def fit_ridge(table_VF: np.ndarray, score_V: np.ndarray, penalty: float = PENALTY) -> tuple[np.ndarray, float]:
    """(weights [F], intercept) that minimise the squared error plus ``penalty`` times the squared weights; the
    intercept is not penalised (Hoerl and Kennard 1970)."""
    mean_F, base = table_VF.mean(0), float(score_V.mean())
    centred_VF = table_VF - mean_F
    weights_F = np.linalg.solve(
        centred_VF.T @ centred_VF + penalty * np.eye(table_VF.shape[1]), centred_VF.T @ (score_V - base)
    )
    return weights_F, base - float(mean_F @ weights_F)


def _standard(table_VF: np.ndarray, by_VF: np.ndarray) -> np.ndarray:
    """``table_VF`` standardised by the means and deviations of ``by_VF``; where there is no value, the mean."""
    known_VF = ~np.isnan(by_VF)
    count_F = known_VF.sum(0)
    mean_F = np.where(count_F > 0, np.where(known_VF, by_VF, 0).sum(0) / np.maximum(count_F, 1), 0)
    spread_F = np.sqrt(np.where(known_VF, (by_VF - mean_F) ** 2, 0).sum(0) / np.maximum(count_F, 1))
    spread_F = np.where(spread_F > 0, spread_F, 1)
    return np.nan_to_num((table_VF - mean_F) / spread_F)


def _weights(table_VF: np.ndarray, score_V: np.ndarray) -> np.ndarray:
    return fit_ridge(_standard(table_VF, table_VF), score_V)[0]


def _rank(predicted_V: np.ndarray, score_V: np.ndarray) -> float:
    if np.ptp(predicted_V) == 0 or np.ptp(score_V) == 0:
        return float("nan")
    return float(stats.spearmanr(predicted_V, score_V).statistic)


def _explained(predicted_V: np.ndarray, score_V: np.ndarray) -> float:
    total = float(((score_V - score_V.mean()) ** 2).sum())
    return 1 - float(((score_V - predicted_V) ** 2).sum()) / total if total else float("nan")


def _number(value: float | None) -> float:
    return float("nan") if value is None else float(value)
