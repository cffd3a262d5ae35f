"""How sure the figures of a map are, and how good they could be.

By span: a true span is right where the map shows its category for most of it. Spans are counted, so their standard
error says whether a set of videos is large enough. Intervals come from videos drawn with replacement.

Two ceilings say what is left to gain. The oracle is the truth cut to the windows of the map: what a model would score
that is right about every window. The second is a person's: the truth with its edges moved, as if a second person had
annotated the same videos.

Legend: V videos, T tags.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from halsted_ray.evaluation.intervals import bootstrap
from halsted_ray.evaluation.json_values import Figures, without_nan
from halsted_ray.evaluation.map_accuracy import (
    NONE,
    LabelledSpan,
    Lanes,
    count_windows,
    covering,
    joined,
    lanes_of_clips,
    lanes_of_rows,
    span_figures,
)
from halsted_ray.evaluation.metrics import Span
from halsted_ray.maps.timeline import TOUCHING_S
from halsted_ray.records import Clip, WindowSpec
from halsted_ray.taxonomy import Tag, Taxonomy

EDGE_DEVIATION_S = 1.0
"""Deviation of the edges that a second person sets. An assumption: no source that we know measured it for these tags.
"""
EDGE_DRAWS = 5
"""How often edges are moved; the figures are means over the draws."""
LaneChange = Callable[[list[LabelledSpan], Tag, float, float], list[LabelledSpan]]
"""(lane, tag, length of a window in s, end of the video in s) → the lane as a ceiling shows it."""
CEILING_FIGURES = ("accuracy", "f1_10", "f1_50", "edit")
CEILINGS_EXPLANATION = (
    "By span: share of the annotated spans for most of which the map shows their category, ± 1 standard error. "
    "Oracle: F1@10 and F1@50 of the truth itself, cut to the map's windows; no model of these windows can do better. "
    f"Second person: the same figures of the truth with its edges moved by {EDGE_DEVIATION_S:g} s (standard deviation, "
    "an assumption)."
)


@dataclass(frozen=True)
class SpanCount:
    """Spans of the truth of one video and tag, and how many of them the map shows rightly."""

    right: int
    total: int


def map_certainty(
    rows: Sequence[Mapping[str, Any]],
    clips: Iterable[Clip],
    taxonomy: Taxonomy,
    accuracy: Figures,
    spec: WindowSpec | None = None,
    durations_s: Mapping[str, float] | None = None,
) -> Figures:
    """What ``map_accuracy.score_timeline`` leaves open, as JSON values (NaN becomes None); ``accuracy`` is its answer.

    ``tags``: tag → ``interval`` (of the accuracy by window), ``spans`` (``right``, ``total``, ``accuracy``,
    ``standard_error``, ``interval``), ``oracle`` and ``second_person`` (``CEILING_FIGURES`` each). ``how``: in words.
    Intervals hold 95% and are None with fewer than two videos. ``rows``, ``clips``, ``taxonomy``, ``spec`` and
    ``durations_s``: what ``accuracy`` was made from.
    """
    spec, clips = spec or WindowSpec(), list(clips)
    videos = sorted(accuracy["videos"])
    predicted, truth = lanes_of_rows(rows), lanes_of_clips(clips)
    ends_s = {video_id: max(clip.stop_s for clip in clips if clip.video_id == video_id) for video_id in videos}
    ends_s |= {video_id: durations_s[video_id] for video_id in videos if durations_s and video_id in durations_s}
    tags: dict[str, Figures] = {}
    for name in accuracy["tags"]:
        tag = taxonomy.tag(name)
        counts = [
            count_spans(predicted.get((video_id, name), []), joined(truth.get((video_id, name), [])), tag)
            for video_id in videos
        ]
        tags[name] = {
            "interval": window_interval(accuracy["videos"], name),
            "spans": span_accuracy(counts),
            "oracle": ceiling(truth, tag, spec.fine_s, ends_s, oracle_lane),
            "second_person": second_person(truth, tag, spec.fine_s, ends_s),
        }
    figures: Figures = without_nan({"how": CEILINGS_EXPLANATION, "tags": tags})
    return figures


def count_spans(predicted: Sequence[LabelledSpan], truth: Sequence[Span], tag: Tag) -> SpanCount:
    """Counts the spans of ``truth`` for most of which ``predicted`` shows their category; showing nothing, or no
    category of ``tag``, competes too."""
    right = 0
    for span in truth:
        shown_s: dict[str, float] = dict.fromkeys(tag.categories, 0.0)
        for own in predicted:
            if own.label in shown_s:
                shown_s[own.label] += max(0.0, min(own.stop, span.stop) - max(own.start, span.start))
        nothing_s = span.stop - span.start - sum(shown_s.values())
        best = max(shown_s, key=lambda category: shown_s[category])
        right += best == span.label and shown_s[best] >= nothing_s
    return SpanCount(right, len(truth))


def span_accuracy(counts: Sequence[SpanCount]) -> Figures:
    """Accuracy over all spans with its binomial standard error, and the interval over videos."""
    right, total = sum(count.right for count in counts), sum(count.total for count in counts)
    share = right / total if total else math.nan
    right_VT, total_VT = (
        np.array([getattr(count, name) for count in counts], float).reshape(-1, 1) for name in ("right", "total")
    )
    borders = bootstrap(right_VT, total_VT)
    return {
        "right": right,
        "total": total,
        "accuracy": share,
        "standard_error": math.sqrt(share * (1 - share) / total) if total else math.nan,
        "interval": [borders.low, borders.high],
    }


def window_interval(videos: Mapping[str, Mapping[str, Mapping[str, float | None]]], tag: str) -> list[float]:
    """The interval of the accuracy by window of ``tag``, from ``videos`` of ``score_timeline``."""
    found = [of_tags[tag] for of_tags in videos.values() if of_tags.get(tag, {}).get("windows")]
    if not found:
        return [math.nan, math.nan]
    total_VT = np.array([[float(own["windows"] or 0)] for own in found])
    borders = bootstrap(np.array([[own["accuracy"] or 0.0] for own in found]) * total_VT, total_VT)
    return [borders.low, borders.high]


def oracle_lane(lane: list[LabelledSpan], tag: Tag, window_s: float, end_s: float) -> list[LabelledSpan]:
    """``lane`` as a map would show it that is right about every window of ``window_s``."""
    chosen_W, _ = covering(lane, tag.categories, window_s, end_s)
    return [
        LabelledSpan(tag.categories[category], w * window_s, min((w + 1) * window_s, end_s))
        for w, category in enumerate(chosen_W)
        if category != NONE
    ]


def moved_lane(lane: list[LabelledSpan], rng: np.random.Generator, end_s: float) -> list[LabelledSpan]:
    """``lane`` with each edge moved by a normal draw. Two spans that share an edge still share it; the video's start
    and end stay; a span that would end before it starts vanishes."""
    edges_s = sorted({edge for span in lane for edge in (span.start, span.stop)})
    shared_s: list[float] = []
    for edge in edges_s:  # edges of touching spans are one edge
        if not shared_s or edge - shared_s[-1] > TOUCHING_S:
            shared_s.append(edge)
    at_s = np.array(shared_s)
    fixed = (at_s <= TOUCHING_S) | (at_s >= end_s - TOUCHING_S)
    drawn_s = np.clip(at_s + np.where(fixed, 0.0, rng.normal(0, EDGE_DEVIATION_S, len(at_s))), 0.0, end_s)
    drawn_s = np.maximum.accumulate(drawn_s)

    def moved(edge: float) -> float:
        return float(drawn_s[np.abs(at_s - edge).argmin()])

    spans = [replace(span, start=moved(span.start), stop=moved(span.stop)) for span in lane]
    return [span for span in spans if span.stop - span.start > TOUCHING_S]


def second_person(truth: Lanes, tag: Tag, window_s: float, ends_s: Mapping[str, float]) -> Figures:
    """The figures of the truth against itself with moved edges: means over ``EDGE_DRAWS``, the same in every call."""
    rng = np.random.default_rng(0)
    draws = [
        ceiling(truth, tag, window_s, ends_s, lambda lane, _tag, _window_s, end_s: moved_lane(lane, rng, end_s))
        for _ in range(EDGE_DRAWS)
    ]
    return {name: float(np.mean([draw[name] for draw in draws])) for name in CEILING_FIGURES}


def ceiling(truth: Lanes, tag: Tag, window_s: float, ends_s: Mapping[str, float], change: LaneChange) -> Figures:
    """The figures (``CEILING_FIGURES``) of the truth as ``change`` shows it, against the truth as it is."""
    right = total = 0
    lanes: list[tuple[list[Span], list[Span]]] = []
    for video_id, end_s in ends_s.items():
        own = truth.get((video_id, tag.name), [])
        if not own:
            continue
        shown = change(own, tag, window_s, end_s)
        confusion = count_windows(shown, own, [], tag, window_s, end_s).confusion_TP
        right, total = right + int(np.trace(confusion)), total + int(confusion.sum())
        lanes.append((joined(shown), joined(own)))
    if not lanes:
        return dict.fromkeys(CEILING_FIGURES, math.nan)
    spans = span_figures(lanes)
    return {"accuracy": right / total if total else math.nan} | {name: spans[name] for name in CEILING_FIGURES[1:]}
