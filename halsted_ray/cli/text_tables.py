"""Tables for a terminal of 80 columns, and the line of progress."""

from __future__ import annotations

import sys
import textwrap
from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from halsted_ray.maps.status import VideoStatus
    from halsted_ray.records import JsonObject

WIDTH = 80
"""Columns of a terminal."""
FAILURES_AT_MOST = 50
"""Videos that ``failures`` lists; it counts the rest."""


def show_progress(text: str, is_last: bool) -> None:
    """Prints progress: in a terminal a line that is rewritten, elsewhere only the last state."""
    if sys.stderr.isatty():
        print(f"\r\033[K{text}", end="\n" if is_last else "", file=sys.stderr, flush=True)
    elif is_last:
        print(text, file=sys.stderr)


def table(header: Sequence[str], rows: Sequence[Sequence[object]], right: Sequence[int] = ()) -> str:
    """A table of text. Each column is as wide as its widest cell; a last column too wide for the terminal wraps.

    ``right`` are the indices of the columns that are aligned to the right.
    """
    widths = [max(len(str(row[k])) for row in [header, *rows]) for k in range(len(header))]
    indent = sum(widths[:-1]) + 2 * (len(widths) - 1)
    room = max(16, WIDTH - indent)
    lines = []
    for row in [header, *rows]:
        cells = [
            str(cell).rjust(width) if k in right else str(cell).ljust(width)
            for k, (cell, width) in enumerate(zip(row[:-1], widths, strict=False))
        ]
        last = str(row[-1]).rjust(widths[-1]) if len(header) - 1 in right else str(row[-1])
        wrapped = textwrap.wrap(last, room, drop_whitespace=False) or [""]
        lines.append("  ".join([*cells, wrapped[0]]).rstrip())
        lines += [" " * indent + line.strip() for line in wrapped[1:]]
    return "\n".join(lines)


def counted(number: int, one: str, many: str = "") -> str:
    """``1 video``, ``1,234 videos``. ``many``: the plural, where it is not ``one`` with an s."""
    return f"{number:,} {one if number == 1 else many or f'{one}s'}"


def percent(value: float | None) -> str:
    """``0.1234`` → ``12.3%``; – for None."""
    return "–" if value is None else f"{100 * value:.1f}%"


def accuracy_table(accuracy: JsonObject) -> str:
    """The figures of ``evaluation.map_accuracy`` as a table: one line per tag, of how many videos, and how measured."""
    rows = [
        (
            tag,
            *(percent(of_tag[name]) for name in ("accuracy", "chance", "majority")),
            "–" if of_tag["f1_10"] is None else f"{of_tag['f1_10']:.2f}",
            of_tag["windows"],
            of_tag["unpredicted"],
        )
        for tag, of_tag in accuracy["tags"].items()
    ]
    header = ("tag", "accuracy", "chance", "commonest", "F1@10", "windows", "no answer")
    left_out = ", ".join(
        f"{accuracy[key]} {what}"
        for key, what in (("without_truth", "mapped without truth"), ("not_mapped", "annotated but not mapped"))
        if accuracy[key]
    )
    compared = f"{counted(accuracy['compared'], 'video')} compared{f' (not compared: {left_out})' if left_out else ''}"
    if not rows:
        return textwrap.fill(f"{compared}: no annotated video has rows in the maps", WIDTH)
    text = (
        table(header, rows, right=range(1, len(header))) + f"\n\n{compared}\n" + textwrap.fill(accuracy["how"], WIDTH)
    )
    return text + (f"\n\n{certainty_table(accuracy['certainty'])}" if "certainty" in accuracy else "")


def certainty_table(certainty: JsonObject) -> str:
    """The figures of ``evaluation.map_certainty`` as a table: one line per tag, and what they mean."""
    rows = [
        (
            tag,
            interval(of_tag["interval"]),
            with_error(of_tag["spans"]),
            of_tag["spans"]["total"],
            *(f"{of_tag[side][name]:.2f}" for side in ("oracle", "second_person") for name in ("f1_10", "f1_50")),
        )
        for tag, of_tag in certainty["tags"].items()
        if of_tag["spans"]["total"]
    ]
    header = ("tag", "95% interval", "by span", "spans", "oracle@10", "@50", "person@10", "@50")
    return table(header, rows, right=range(1, len(header))) + "\n\n" + textwrap.fill(certainty["how"], WIDTH)


def with_error(share: JsonObject) -> str:
    """``93.1 ±1.6``: a share in percent with its standard error; – where there is none."""
    value, error = share["accuracy"], share["standard_error"]
    return "–" if value is None or error is None else f"{100 * value:.1f} ±{100 * error:.1f}"


def interval(borders: Sequence[float | None]) -> str:
    """An interval in percent; – where it is unknown. It is cut at 0 and 100: a t interval of few folds exceeds them."""
    low, high = borders
    return "–" if low is None or high is None else f"{100 * max(0, low):.1f}–{100 * min(1, high):.1f}"


def failures(videos: Sequence[VideoStatus]) -> str:
    """One line per video that is not mapped whole, with its reason, cut to the terminal; '' where all are mapped."""
    rest = [video for video in videos if video["status"] != "mapped"]
    lines = [
        textwrap.shorten(
            f"{video['video_id']} {video['status']}: {video['reason'] or 'no reason'}", WIDTH, placeholder=" …"
        )
        for video in rest[:FAILURES_AT_MOST]
    ]
    if len(rest) > len(lines):
        lines.append(f"and {len(rest) - len(lines):,} more")
    return "\n".join(lines)


def status_table(videos: Sequence[VideoStatus]) -> str:
    """One line per video, or per case: its state, length, segments done of all, time without picture, time that the
    model does not know, and why it is not mapped whole. A case is followed by the number of its videos: ``3f2a… ×4``.
    """
    from halsted_ray.reporting.terminal import clock, short_time

    rows = [
        (
            video["video_id"] + (f" ×{video['videos']}" if video.get("videos", 1) > 1 else ""),
            video["status"],
            clock(video["duration_s"]) if video["duration_s"] else "–",
            f"{video['segments_done']}/{video['segments']}",
            short_time(video["missing_s"]),
            short_time(video["unknown_s"]),
            "; ".join(filter(None, (video["reason"], "the file is gone" if video["gone"] else ""))),
        )
        for video in videos
    ]
    return table(("video", "status", "length", "segments", "missing", "unknown", "reason"), rows, right=(2, 3, 4, 5))
