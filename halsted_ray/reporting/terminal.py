"""Draws a timeline as text: a lane per tag below a time axis, a key to the letters, and a table of the rows."""

from __future__ import annotations

import math
from collections.abc import Iterable

from halsted_ray.records import UNKNOWN, UNKNOWN_REASON
from halsted_ray.reporting.lanes import Lane, Timeline

LABEL_WIDTH = 12
NOTHING, NOT_MAPPED, NOT_KNOWN = "·", "░", "▒"
TICKS_S = (1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800, 3600, 7200)


def draw(timeline: Timeline, width: int = 80) -> str:
    """Draws the lanes, ``width`` columns wide, and a key to the letters.

    A column shows the category that covers most of the column's mapped time. In a video of an hour a column is about a
    minute, so a category can show even where most of the minute has none.
    """
    columns = width - LABEL_WIDTH
    lines = [axis(timeline.duration_s, columns)]
    keys: list[str] = []
    for lane in timeline.lanes:
        letters = letters_of(span.category for span in lane.spans)
        label = "  truth" if lane.is_truth else lane.tag
        lines.append(f"{label[: LABEL_WIDTH - 1]:<{LABEL_WIDTH}}" + cells(lane, timeline, letters, columns))
        if not lane.is_truth:
            keys += wrapped(lane.tag, key_of(lane, letters, timeline.duration_s), width)
    lines += ["", *keys]
    gaps = [gap for gap in timeline.gaps if gap.category != UNKNOWN]
    if gaps:
        reasons = ", ".join(f"{clock(gap.start_s)}–{clock(gap.stop_s)} {gap.category}" for gap in gaps)
        lines += wrapped(NOT_MAPPED, [f"not mapped: {reasons}"], width)
    if len(gaps) < len(timeline.gaps):
        unknown = [gap for gap in timeline.gaps if gap.category == UNKNOWN]
        spans = ", ".join(f"{clock(gap.start_s)}–{clock(gap.stop_s)}" for gap in unknown)
        lines += wrapped(NOT_KNOWN, [f"{UNKNOWN}, {UNKNOWN_REASON}: {spans}"], width)
    return "\n".join(lines)


def rows_table(timeline: Timeline, width: int = 80, limit: int | None = None) -> str:
    """Returns the rows in order of time, at most ``limit`` of them; the last line counts the rows left out."""
    rows = sorted(
        [
            (span.start_s, span.stop_s, lane.tag, span.category, span.confidence)
            for lane in timeline.lanes
            if not lane.is_truth
            for span in lane.spans
        ]
        + [
            (gap.start_s, gap.stop_s, UNKNOWN if gap.category == UNKNOWN else "not mapped", gap.category, None)
            for gap in timeline.gaps
        ]
    )
    shown = rows if limit is None else rows[:limit]
    room = width - 47
    lines = [f"{'start':>9}  {'stop':>9}  {'tag':<11}  {'category':<{room}}  {'confidence':>10}"]
    for start_s, stop_s, tag, category, confidence in shown:
        sure = "" if confidence is None else f"{confidence:.2f}"
        name = category if len(category) <= room else category[: room - 1] + "…"
        lines.append(f"{clock(start_s, 1):>9}  {clock(stop_s, 1):>9}  {tag:<11}  {name:<{room}}  {sure:>10}".rstrip())
    if len(shown) < len(rows):
        lines.append(f"… and {len(rows) - len(shown)} more rows; --rows 0 shows all rows")
    return "\n".join(lines)


def axis(duration_s: float, columns: int) -> str:
    """Returns the time axis, with ticks at round times, as many as fit."""
    tick_s = next((tick for tick in TICKS_S if duration_s / tick * 10 <= columns), TICKS_S[-1])
    line = [" "] * (LABEL_WIDTH + columns)
    for tick in range(math.floor(duration_s / tick_s) + 1):
        at = LABEL_WIDTH + int(tick * tick_s / duration_s * columns) if duration_s else LABEL_WIDTH
        text = "|" + clock(tick * tick_s)
        if at + len(text) <= len(line):
            line[at : at + len(text)] = text
    return "".join(line).rstrip()


def cells(lane: Lane, timeline: Timeline, letters: dict[str, str], columns: int) -> str:
    """Returns one lane as a line of letters, one per column."""
    column_s = timeline.duration_s / columns if timeline.duration_s else 1.0
    shares: list[dict[str, float]] = [{} for _ in range(columns)]
    marked = [(span, letters[span.category]) for span in lane.spans] + [
        (gap, NOT_KNOWN if gap.category == UNKNOWN else NOT_MAPPED) for gap in lane.gaps
    ]
    for span, letter in marked:
        first = max(0, int(span.start_s / column_s))
        last = min(columns, math.ceil(span.stop_s / column_s))
        for at in range(first, last):
            part_s = min(span.stop_s, (at + 1) * column_s) - max(span.start_s, at * column_s)
            shares[at][letter] = shares[at].get(letter, 0.0) + part_s
    return "".join(max(share, key=lambda letter: share[letter], default=NOTHING) for share in shares)


def letters_of(categories: Iterable[str]) -> dict[str, str]:
    """Returns a letter per category: the category's first letter that is free, in the order of the names."""
    letters: dict[str, str] = {}
    for category in sorted(set(categories)):
        own = [letter for letter in category if letter.isalnum()]
        candidates = [letter.upper() for letter in own] + [letter.lower() for letter in own]
        candidates += list("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789")
        letters[category] = next((letter for letter in candidates if letter not in letters.values()), "?")
    return letters


def key_of(lane: Lane, letters: dict[str, str], duration_s: float) -> list[str]:
    """Returns the key of a lane, such as ``D Dissection 2:30``, the longest category first."""
    total_s: dict[str, float] = {}
    for span in lane.spans:
        total_s[span.category] = total_s.get(span.category, 0.0) + span.stop_s - span.start_s
    by_length = sorted(total_s, key=lambda category: -total_s[category])
    return [f"{letters[category]} {category} {clock(total_s[category])}" for category in by_length]


def wrapped(label: str, parts: list[str], width: int) -> list[str]:
    """Joins ``parts`` by commas after a label, and breaks lines between parts, or between words of a long part."""
    lines: list[str] = []
    line = f"{label:<{LABEL_WIDTH}}"
    words = [word for part in parts for word in unbroken(part + ("," if part is not parts[-1] else ""), width)]
    for word in words:
        if len(line) + len(word) + 1 > width and line.strip():
            lines.append(line.rstrip())
            line = " " * LABEL_WIDTH
        line += word + " "
    return [*lines, line.rstrip()]


def unbroken(part: str, width: int) -> list[str]:
    """Returns the pieces of a part that no line break may split: the part, or its words where it is too long."""
    return [part] if len(part) <= width - LABEL_WIDTH else part.split(" ")


def short_time(seconds: float | None) -> str:
    """Returns a length as ``0.04 s`` or ``12.50 s``, from a minute on as ``clock``; – for None and for nothing."""
    if not seconds:
        return "–"
    return f"{seconds:.2f} s" if seconds < 59.995 else clock(seconds)


def clock(time_s: float, decimals: int = 0) -> str:
    """Returns a time as ``1:02:03`` or ``2:03``, with this many ``decimals`` of a second."""
    total = round(time_s * 10**decimals)
    seconds, fraction = divmod(total, 10**decimals)
    hours, minutes = seconds // 3600, seconds // 60 % 60
    text = f"{hours}:{minutes:02d}:{seconds % 60:02d}" if hours else f"{minutes}:{seconds % 60:02d}"
    return f"{text}.{fraction:0{decimals}d}" if decimals else text
