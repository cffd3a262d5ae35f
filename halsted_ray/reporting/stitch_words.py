"""Totals of stitches in words, for the terminal and for pages."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from halsted_ray.maps.stitch_table import WHY_NONE, VideoStitches
from halsted_ray.maps.stitch_totals import MedianTime, StitchTotals


def totals_in_words(totals: StitchTotals) -> list[str]:
    """One sentence each: the number of stitches, the share of high proficiency, the medians per phase. A figure that
    is not known has no sentence."""
    said = [f"{totals.count:,} stitch{'es' * (totals.count != 1)}"]
    if totals.high_share is not None and totals.high_low is not None and totals.high_high is not None:
        between = f"{100 * totals.high_low:.1f}–{100 * totals.high_high:.1f}%"
        said.append(f"high proficiency {100 * totals.high_share:.1f}% of {totals.proficiency_n:,} (95%: {between})")
    medians = (("handling", totals.handling), ("driving", totals.driving), ("withdrawal", totals.withdrawal))
    if times := [f"{name} {in_words(time)}" for name, time in medians if time.n]:
        said.append(f"median {', '.join(times)}")
    return said


def in_words(time: MedianTime) -> str:
    """``12.5 s (95%: 10–15)``; without the interval where there are too few times for it."""
    if time.low_s is None or time.high_s is None:
        return f"{time.median_s:g} s"
    return f"{time.median_s:g} s (95%: {time.low_s:g}–{time.high_s:g})"


def videos_without(videos: Sequence[VideoStitches]) -> list[str]:
    """Why videos have no stitches, and how many of them: ``no suturing found in 3 of 5 videos``."""
    states = Counter(video.state for video in videos)
    return [
        f"{why} in {states[state]:,} of {len(videos):,} videos" if len(videos) > 1 else why
        for state, why in WHY_NONE.items()
        if why and states[state]
    ]


def seconds_of(seconds: float) -> str:
    """``7.5``; '' for 0, a phase that the map does not show."""
    return f"{seconds:.1f}".removesuffix(".0") if seconds else ""


def proficiency_of(name: str | None, probability: float | None) -> str:
    """``High .88``; '' where the map says nothing."""
    return "" if name is None or probability is None else f"{name} {f'{probability:.2f}'.removeprefix('0')}"
