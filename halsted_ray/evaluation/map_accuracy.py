"""How right a map is: its timeline against the annotated clips of the same videos.

Each tag is judged in two ways. By window: time is cut into the fine windows of the map, and each window is right or
wrong. By span: neighbouring windows of one category are one span, and spans are matched by overlap (temporal F1) and
by order (edit score).

Legend: W windows of one video, K categories of one tag. A lane is the spans of one tag of one video, in time order.
"""

from __future__ import annotations

import math
from bisect import bisect_left
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np
import pyarrow as pa

from halsted_ray.errors import TaxonomyError
from halsted_ray.evaluation import metrics
from halsted_ray.evaluation.json_values import Figures, without_nan
from halsted_ray.evaluation.metrics import Matches, Span
from halsted_ray.maps.timeline import TOUCHING_S
from halsted_ray.records import UNKNOWN, Clip, WindowSpec
from halsted_ray.taxonomy import Tag, Taxonomy

OVERLAPS = {"f1_10": 0.10, "f1_25": 0.25, "f1_50": 0.50}
"""Name of the F1 → overlap (IoU) from which a span counts as found."""
EDGE_WITHIN_S = 5.0
"""An edge that is further away is another edge."""
NONE = -1
"""In the place of a category where a window has none."""
Lanes = dict[tuple[str, str], list["LabelledSpan"]]
"""(video_id, tag) → spans in time order."""
EXPLANATION = (
    "Time is cut into windows of {:g} s. The category that the map shows for most of a window is compared with the "
    "category that the truth shows for most of it; a window for which the map shows nothing counts as wrong. `halsted "
    "evaluate` asks the model about every window that has a truth, coarse windows too: its figures are the model's "
    "without the workflow."
)


@dataclass
class WindowCounts:
    """Counts of the windows of one tag whose truth is a category. They add up over videos."""

    confusion_TP: np.ndarray
    """[K, K + 1] counts, truth by prediction; the last column counts windows without a prediction."""
    in_gap: int = 0
    """Windows without a prediction that lie in a gap of the map."""
    only_predicted: int = 0
    """Windows with a prediction but without a truth; they count neither as right nor as wrong."""
    false_alarms: int = 0
    """Of those, the windows whose time the truth gives to something else: what the tag's task waits for is annotated
    with another category there, so this tag does not hold."""
    confidences: list[float] = field(default_factory=list)
    """Of the windows with a truth and a prediction; ``rights``: whether each prediction is right."""
    rights: list[bool] = field(default_factory=list)

    def add(self, other: WindowCounts) -> None:
        """Adds the counts of another video."""
        self.confusion_TP += other.confusion_TP
        self.in_gap += other.in_gap
        self.only_predicted += other.only_predicted
        self.false_alarms += other.false_alarms
        self.confidences += other.confidences
        self.rights += other.rights

    def figures(self) -> Figures:
        """The tag's figures by window, as JSON values (NaN where there is no window)."""
        windows, right = int(self.confusion_TP.sum()), int(np.trace(self.confusion_TP))
        categories = len(self.confusion_TP)
        majority = self.confusion_TP.sum(1).max() / windows if windows else math.nan
        accuracy = right / windows if windows else math.nan
        chance = metrics.uniform_chance(categories)
        return {
            "windows": windows,
            "right": right,
            "accuracy": accuracy,
            "chance": chance,
            "majority": float(majority),
            "relative_improvement": metrics.relative_improvement(accuracy, chance),
            "unpredicted": int(self.confusion_TP[:, -1].sum()),
            "in_gap": self.in_gap,
            "only_predicted": self.only_predicted,
            "false_alarms": self.false_alarms,
            "calibration_error": metrics.calibration_error(np.array(self.confidences), np.array(self.rights)),
        }


def score_timeline(
    rows: pa.Table | Iterable[Mapping[str, Any]],
    clips: Iterable[Clip],
    taxonomy: Taxonomy,
    spec: WindowSpec | None = None,
    durations_s: Mapping[str, float] | None = None,
) -> Figures:
    """Figures of a timeline (rows of ``maps.table_schemas.TIMELINE_SCHEMA``) against ``clips``, as JSON values (NaN
    becomes None).

    The videos that are both mapped and annotated are compared; the other videos are counted. ``durations_s`` (video_id
    → length) cuts the last window at the video's end; without it a video ends with its last clip or row. Raises
    TaxonomyError for a tag or category that ``taxonomy`` lacks.

    The truth of a window is the category that covers most of it, where "no category" competes too; its prediction is
    found in the same way. A window with a true category counts as wrong where the prediction is another category, or
    none, or the window lies in a gap. Chance is 1/K over the tag's K categories; ``majority`` is the share of the
    truth's commonest category.

    ``tags``: tag → figures by window, figures by span (``f1_10`` pooled over videos, ``f1_10_per_video``, …, ``edit``)
    and ``confusion``. ``videos``: video_id → tag → accuracy, windows and F1@10.
    """
    spec = spec or WindowSpec()
    rows = rows.to_pylist() if isinstance(rows, pa.Table) else list(rows)
    clips = list(clips)
    mapped, annotated = {row["video_id"] for row in rows}, {clip.video_id for clip in clips}
    both = sorted(mapped & annotated)
    ends_s = {video_id: 0.0 for video_id in both}
    stops = [(row["video_id"], row["stop_s"]) for row in rows] + [(clip.video_id, clip.stop_s) for clip in clips]
    for video_id, stop_s in stops:
        if video_id in ends_s:
            ends_s[video_id] = max(ends_s[video_id], stop_s)
    ends_s |= {video_id: durations_s[video_id] for video_id in both if durations_s and video_id in durations_s}
    predicted, truth = lanes_of_rows(rows), lanes_of_clips(clips)
    require_known(predicted, taxonomy, "map")
    require_known(truth, taxonomy, "truth")

    tags: dict[str, Figures] = {}
    videos: dict[str, dict[str, Figures]] = {video_id: {} for video_id in both}
    for tag in taxonomy.tags:
        total = WindowCounts(np.zeros((len(tag.categories), len(tag.categories) + 1), np.int64))
        lanes: list[tuple[list[Span], list[Span]]] = []
        for video_id in both:
            predicted_lane, true_lane = predicted.get((video_id, tag.name), []), truth.get((video_id, tag.name), [])
            if not predicted_lane and not true_lane:
                continue
            gaps = predicted.get((video_id, "gap"), [])
            elsewhere = excluding_spans(truth, video_id, tag, taxonomy)
            counts = count_windows(predicted_lane, true_lane, gaps, tag, spec.fine_s, ends_s[video_id], elsewhere)
            total.add(counts)
            predicted_spans, true_spans = joined(predicted_lane), joined(true_lane)
            lanes.append((predicted_spans, true_spans))
            of_video = counts.figures()
            videos[video_id][tag.name] = {name: of_video[name] for name in ("accuracy", "windows")} | {
                "f1_10": metrics.match_spans(predicted_spans, true_spans, 0.10).f1
            }
        if lanes:
            tags[tag.name] = (
                {"task": taxonomy.task_of_tag(tag.name).name}
                | total.figures()
                | span_figures(lanes)
                | {"confusion": {"categories": list(tag.categories), "counts": total.confusion_TP.tolist()}}
            )
    figures: Figures = without_nan(
        {
            "how": EXPLANATION.format(spec.fine_s),
            "window_s": spec.fine_s,
            "compared": len(both),
            "without_truth": len(mapped - annotated),
            "not_mapped": len(annotated - mapped),
            "tags": tags,
            "videos": videos,
        }
    )
    return figures


@dataclass(frozen=True)
class LabelledSpan(Span):
    """A span of one category, with the confidence of its row of the timeline; a span of the truth has confidence 1."""

    label: str
    confidence: float = 1.0


def lanes_of_rows(rows: Sequence[Mapping[str, Any]]) -> Lanes:
    """The predicted lanes of a timeline; gaps, and what the model does not know, are the lane of the tag ``gap``."""
    lanes: Lanes = {}
    for row in rows:
        lane = "gap" if row["source"] in ("gap", UNKNOWN) else row["tag"]
        span = LabelledSpan(row["category"], row["start_s"], row["stop_s"], row["confidence"])
        lanes.setdefault((row["video_id"], lane), []).append(span)
    return {key: sorted(lane, key=lambda span: span.start) for key, lane in lanes.items()}


def lanes_of_clips(clips: Sequence[Clip]) -> Lanes:
    """The true lanes of annotated clips."""
    lanes: Lanes = {}
    for clip in clips:
        for tag, category in clip.tags.items():
            lanes.setdefault((clip.video_id, tag), []).append(LabelledSpan(category, clip.start_s, clip.stop_s))
    return {key: sorted(lane, key=lambda span: span.start) for key, lane in lanes.items()}


def joined(lane: list[LabelledSpan]) -> list[Span]:
    """Maximal spans of one category: spans that touch become one span, as MS-TCN collapses frames to runs."""
    spans: list[Span] = []
    for span in lane:
        if spans and spans[-1].label == span.label and span.start - spans[-1].stop <= TOUCHING_S:
            spans[-1] = Span(span.label, spans[-1].start, max(span.stop, spans[-1].stop))
        else:
            spans.append(Span(span.label, span.start, span.stop))
    return spans


def require_known(lanes: Lanes, taxonomy: Taxonomy, side: str) -> None:
    """Raises TaxonomyError for a tag or category that ``taxonomy`` lacks. ``side``: ``map`` or ``truth``."""
    for (video_id, tag), lane in lanes.items():
        if tag == "gap":
            continue
        unknown = sorted({span.label for span in lane} - set(taxonomy.tag(tag).categories))
        if unknown:
            raise TaxonomyError(
                f"the {side} of video {video_id} has tag {tag!r} with {unknown}, expected categories of taxonomy "
                f"{taxonomy.name!r} ({taxonomy.digest}); compare with the taxonomy that the model was trained on"
            )


def excluding_spans(truth: Lanes, video_id: str, tag: Tag, taxonomy: Taxonomy) -> list[LabelledSpan]:
    """The spans of one video in which the truth says that ``tag`` does not hold: the tag that its task waits for
    (``Task.when``) has another category there."""
    return [
        span
        for awaited, category in taxonomy.task_of_tag(tag.name).when
        for span in truth.get((video_id, awaited), [])
        if span.label != category
    ]


def covering(
    lane: list[LabelledSpan], names: tuple[str, ...], length_s: float, end_s: float
) -> tuple[np.ndarray, np.ndarray]:
    """Per window of ``length_s``: index in ``names`` of the category that covers most of it (NONE where no category
    does), and the mean confidence of that category's spans there.

    A category that covers exactly half of a window wins over no category; of equal categories the first wins.
    """
    windows = max(0, math.ceil(end_s / length_s - 1e-9))
    edges_s = np.minimum(np.arange(windows + 1) * length_s, end_s)
    covered_WK = np.zeros((windows, len(names)))
    confident_WK = np.zeros((windows, len(names)))
    index = {name: k for k, name in enumerate(names)}
    for span in lane:
        first, last = int(span.start // length_s), min(windows, math.ceil(span.stop / length_s))
        covered_s = np.minimum(span.stop, edges_s[first + 1 : last + 1]) - np.maximum(span.start, edges_s[first:last])
        covered_s = np.maximum(covered_s, 0)
        covered_WK[first:last, index[span.label]] += covered_s
        confident_WK[first:last, index[span.label]] += covered_s * span.confidence
    best_W = covered_WK.argmax(1) if len(names) and windows else np.zeros(windows, int)
    most_W = covered_WK[np.arange(windows), best_W]
    nothing_W = np.diff(edges_s) - covered_WK.sum(1)
    confidence_W = confident_WK[np.arange(windows), best_W] / np.maximum(most_W, 1e-12)
    return np.where(most_W >= np.maximum(nothing_W - 1e-9, 1e-9), best_W, NONE), confidence_W


def count_windows(
    predicted: list[LabelledSpan],
    truth: list[LabelledSpan],
    gaps: list[LabelledSpan],
    tag: Tag,
    length_s: float,
    end_s: float,
    elsewhere: Sequence[LabelledSpan] = (),
) -> WindowCounts:
    """The counts of one tag of one video, which ends at ``end_s``, over windows of ``length_s``. ``elsewhere``: the
    spans in which the truth says that this tag does not hold (``excluding_spans``)."""
    true_W, _ = covering(truth, tag.categories, length_s, end_s)
    predicted_W, confidence_W = covering(predicted, tag.categories, length_s, end_s)
    reasons = tuple(sorted({gap.label for gap in gaps}))
    gap_W = covering(gaps, reasons, length_s, end_s)[0] != NONE if gaps else np.zeros(len(true_W), bool)
    other = [LabelledSpan("", span.start, span.stop) for span in elsewhere]
    elsewhere_W = covering(other, ("",), length_s, end_s)[0] != NONE
    has_truth_W, has_prediction_W = true_W != NONE, predicted_W != NONE
    confusion = np.zeros((len(tag.categories), len(tag.categories) + 1), np.int64)
    # NONE is -1, which is the last column.
    np.add.at(confusion, (true_W[has_truth_W], predicted_W[has_truth_W]), 1)
    has_both_W = has_truth_W & has_prediction_W
    return WindowCounts(
        confusion,
        in_gap=int((has_truth_W & ~has_prediction_W & gap_W).sum()),
        only_predicted=int((~has_truth_W & has_prediction_W).sum()),
        false_alarms=int((~has_truth_W & has_prediction_W & elsewhere_W).sum()),
        confidences=confidence_W[has_both_W].tolist(),
        rights=(true_W == predicted_W)[has_both_W].tolist(),
    )


def span_figures(lanes: list[tuple[list[Span], list[Span]]]) -> Figures:
    """Figures by span of one tag, from (predicted spans, true spans) per video."""
    figures: Figures = {}
    for name, overlap in OVERLAPS.items():
        figures[name] = metrics.segmental_f1(lanes, overlap, "pooled")
        figures[f"{name}_per_video"] = metrics.segmental_f1(lanes, overlap, "per_video")
    matches = sum((metrics.match_spans(*pair, 0.10) for pair in lanes), Matches(0, 0, 0))
    edits = [metrics.edit_score([s.label for s in predicted], [s.label for s in true]) for predicted, true in lanes]
    errors_s = [error_s for predicted, true in lanes for error_s in edge_errors_s(predicted, true)]
    return figures | {
        "matches_10": asdict(matches),
        "edit": float(np.mean(edits)),
        "edges_found": len(errors_s),
        "edges": sum(len(edges_of(true)) for _, true in lanes),
        "edge_error_s": float(np.median(errors_s)) if errors_s else math.nan,
    }


def edges_of(lane: list[Span]) -> list[tuple[Any, Any, float]]:
    """(category before, category after, time in s) where two spans of ``lane`` touch."""
    return [
        (before.label, after.label, after.start)
        for before, after in zip(lane, lane[1:], strict=False)
        if after.start - before.stop <= TOUCHING_S
    ]


def edge_errors_s(predicted: list[Span], truth: list[Span]) -> list[float]:
    """Seconds from each true edge to the nearest predicted edge between the same two categories, where that lies within
    ``EDGE_WITHIN_S``; an edge that was not found so has no error, and counts in ``edges`` less ``edges_found``."""
    found_s: dict[tuple[Any, Any], list[float]] = {}
    for before, after, at_s in edges_of(predicted):
        found_s.setdefault((before, after), []).append(at_s)
    errors_s = []
    for before, after, at_s in edges_of(truth):
        own_s = found_s.get((before, after), [])
        place = bisect_left(own_s, at_s)
        nearest = min((abs(other_s - at_s) for other_s in own_s[max(0, place - 1) : place + 1]), default=math.inf)
        if nearest <= EDGE_WITHIN_S:
            errors_s.append(nearest)
    return errors_s
