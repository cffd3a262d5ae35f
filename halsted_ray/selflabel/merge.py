"""Trusted answers about windows of one video become clips."""

from __future__ import annotations

from bisect import bisect_left
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

GAP_S = 1.0
"""Paper, Methods: "if they reflected the same action within a 1-second time-window"."""
ROUNDING_S = 1e-6

TimeSpan = tuple[float, float]


@dataclass(frozen=True)
class Label:
    """What a model says of ``[start_s, stop_s)``: the tags of one task, with the confidence of the first."""

    start_s: float
    stop_s: float
    tags: Mapping[str, str]
    confidence: float


def merge(labels: Iterable[Label], tag: str, gap_s: float = GAP_S) -> list[Label]:
    """Labels of one category of ``tag`` with at most ``gap_s`` between them become one, in order of time.

    Whatever lies in the gap, a label of another category too: results of two categories may overlap (``apart``).
    A merged confidence is the mean of its labels'; each other tag is what most of them say, the first of equals.
    """
    of_category: dict[str, list[list[Label]]] = {}
    for label in sorted(labels, key=lambda label: (label.start_s, label.stop_s)):
        runs = of_category.setdefault(label.tags[tag], [])
        if runs and label.start_s - runs[-1][-1].stop_s <= gap_s + ROUNDING_S:
            runs[-1].append(label)
        else:
            runs.append([label])
    merged = [one(run) for runs in of_category.values() for run in runs]
    return sorted(merged, key=lambda label: (label.start_s, label.stop_s))


def one(run: Sequence[Label]) -> Label:
    said: dict[str, list[str]] = {}
    for label in run:
        for name, category in label.tags.items():
            said.setdefault(name, []).append(category)
    tags = {name: Counter(categories).most_common(1)[0][0] for name, categories in said.items()}
    return Label(run[0].start_s, run[-1].stop_s, tags, sum(label.confidence for label in run) / len(run))


def apart(merged: Sequence[Label], labels: Iterable[Label], tag: str) -> list[Label]:
    """``merged`` (of ``labels``) cut so that none overlaps another: what a window was said to show, it shows.

    A lane of the atlas has one answer at a time. Windows on one grid, no shorter than the gap that ``merge`` closes,
    leave nothing else to decide: a window in a gap has an answer of its own, or one category alone claims it.
    """
    spans_of: dict[str, list[TimeSpan]] = {label.tags[tag]: [] for label in merged}  # category → where another was said
    for label in sorted(labels, key=lambda label: label.start_s):
        for category, spans in spans_of.items():
            if category != label.tags[tag]:
                spans.append((label.start_s, label.stop_s))
    return [part for label in merged for part in without(label, spans_of[label.tags[tag]])]


def union(spans: Iterable[TimeSpan]) -> list[TimeSpan]:
    """The same time as ``spans``, in order and with no overlap."""
    joined: list[TimeSpan] = []
    for start_s, stop_s in sorted(spans):
        if joined and start_s <= joined[-1][1]:
            joined[-1] = (joined[-1][0], max(joined[-1][1], stop_s))
        else:
            joined.append((start_s, stop_s))
    return joined


def without(label: Label, spans: Sequence[TimeSpan]) -> list[Label]:
    """The parts of ``label`` that no span covers. ``spans`` are in order and don't overlap (``union``)."""
    parts, start_s = [], label.start_s
    for span_start_s, span_stop_s in spans[max(0, bisect_left(spans, (label.start_s,)) - 1) :]:
        if span_start_s >= label.stop_s:
            break
        if span_start_s - start_s > ROUNDING_S:
            parts.append(replace(label, start_s=start_s, stop_s=span_start_s))
        start_s = max(start_s, span_stop_s)
    if label.stop_s - start_s > ROUNDING_S:
        parts.append(replace(label, start_s=start_s))
    return parts
