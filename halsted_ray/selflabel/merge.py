"""Trusted predictions for the windows of one video become labels that do not overlap."""

from __future__ import annotations

from bisect import bisect_left
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

GAP_S = 1.0
"""Paper, Methods: "if they reflected the same action within a 1-second time-window"."""
ROUNDING_S = 1e-6

TimeSpan = tuple[float, float]
"""(start_s, stop_s)."""


@dataclass(frozen=True)
class Label:
    """What a model says of ``[start_s, stop_s)``: the tags of one task (tag → category).

    ``confidence``: the confidence of the task's first tag.
    """

    start_s: float
    stop_s: float
    tags: Mapping[str, str]
    confidence: float


def merge(labels: Iterable[Label], tag: str, gap_s: float = GAP_S) -> list[Label]:
    """Labels with the same category of ``tag`` and at most ``gap_s`` between them become one label, in time order.

    A gap is closed whatever lies in it, a label of another category too; so the results of two categories may overlap
    (see ``cut_overlaps``). The confidence of a merged label is the mean of its labels'; each other tag gets the
    category that most of its labels say, the first of equals.
    """
    runs_of_category: dict[str, list[list[Label]]] = {}
    for label in sorted(labels, key=lambda label: (label.start_s, label.stop_s)):
        runs = runs_of_category.setdefault(label.tags[tag], [])
        if runs and label.start_s - runs[-1][-1].stop_s <= gap_s + ROUNDING_S:
            runs[-1].append(label)
        else:
            runs.append([label])
    merged = [merge_run(run) for runs in runs_of_category.values() for run in runs]
    return sorted(merged, key=lambda label: (label.start_s, label.stop_s))


def merge_run(run: Sequence[Label]) -> Label:
    """One label from the start of the first to the stop of the last label of ``run``."""
    categories_of_tag: dict[str, list[str]] = {}
    for label in run:
        for name, category in label.tags.items():
            categories_of_tag.setdefault(name, []).append(category)
    tags = {name: Counter(categories).most_common(1)[0][0] for name, categories in categories_of_tag.items()}
    return Label(run[0].start_s, run[-1].stop_s, tags, sum(label.confidence for label in run) / len(run))


def cut_overlaps(merged: Sequence[Label], labels: Iterable[Label], tag: str) -> list[Label]:
    """``merged`` (made of ``labels``) cut so that no label overlaps another: each window keeps its own category.

    The atlas has one category per tag at a time. Cutting by the windows' own categories decides every overlap, as long
    as windows lie on one grid and are no shorter than the gap that ``merge`` closes: a window in a gap has a category
    of its own, or only one category claims it.
    """
    spans_of_others: dict[str, list[TimeSpan]] = {label.tags[tag]: [] for label in merged}
    for label in sorted(labels, key=lambda label: label.start_s):
        for category, spans in spans_of_others.items():
            if category != label.tags[tag]:
                spans.append((label.start_s, label.stop_s))
    return [part for label in merged for part in subtract_spans(label, spans_of_others[label.tags[tag]])]


def subtract_spans(label: Label, spans: Sequence[TimeSpan]) -> list[Label]:
    """The parts of ``label`` that no span covers. ``spans`` are in order and do not overlap (``presence.union``)."""
    parts: list[Label] = []
    start_s = label.start_s
    first = max(0, bisect_left(spans, label.start_s, key=lambda span: span[0]) - 1)
    for span_start_s, span_stop_s in spans[first:]:
        if span_start_s >= label.stop_s:
            break
        if span_start_s - start_s > ROUNDING_S:
            parts.append(replace(label, start_s=start_s, stop_s=span_start_s))
        start_s = max(start_s, span_stop_s)
    if label.stop_s - start_s > ROUNDING_S:
        parts.append(replace(label, start_s=start_s))
    return parts
