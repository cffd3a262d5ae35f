"""How well stitches are counted and placed: from the truth of phantoms, from maps, and from a truth with errors.

    halsted phantom judge --videos 24 --minutes 2 --seed 202 --size 384x216 --fps 15
    halsted map judge/videos --out maps
    python benchmarks/stitches.py judge --maps maps --errors 0.05,0.1,0.2
    python benchmarks/stitches.py learn --errors 0,0.1 --pauses 0,5,10 --repositions 0,2.5,5,7.5,10

A row per source. ``true rows``: the annotated clips as they are. ``on windows``: the clips cut to windows of 2.5 s,
what a model would say that is right about every window. An error of 0.1 puts another phase at random into a tenth of
these windows, with a mean over ``--draws``. ``rule``: the longest pause and the longest handling after driving. A found
stitch is right where it overlaps a true one by more than half of their union. ``per video``: the mean distance between
the counts of a video. ``start`` and ``stop``: the mean distance in seconds over the right ones. The last columns: how
many of them have the right target, direction, extent and proficiency. Below, for maps: how often a stitch of a
confidence is right.
"""

from __future__ import annotations

import argparse
import random
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from itertools import product
from typing import Any

import numpy as np

from halsted_ray import taxonomy as taxonomies
from halsted_ray.atlas import read_atlas
from halsted_ray.cli.text_tables import table
from halsted_ray.maps.reading import read_timeline
from halsted_ray.maps.stitches import RULE, Stitch, StitchRule, find_stitches
from halsted_ray.maps.timeline import merge
from halsted_ray.records import Clip, Prediction

WINDOW_S = 2.5
PHASES = ("Needle Handling", "Driving", "Withdrawal")
TOLD = ("target", "direction", "extent", "proficiency")
TASKS = ("proficiency", "context")
EDGES = (0.0, 0.5, 0.7, 0.8, 0.9, 1.01)
Rows = list[dict[str, Any]]


def main() -> None:
    """Prints one table over all sources and rules, and one of confidences for each map."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("archive", help="annotated archive of phantoms")
    parser.add_argument("--maps", action="append", default=[], metavar="DIR", help="maps of its videos")
    parser.add_argument("--errors", default="", help="shares of windows with a wrong phase, with commas")
    parser.add_argument("--pauses", default=f"{RULE.longest_pause_s:g}", help="of StitchRule.longest_pause_s")
    parser.add_argument("--repositions", default=f"{RULE.longest_reposition_s:g}", help="of longest_reposition_s")
    parser.add_argument("--draws", type=int, default=20)
    options = parser.parse_args()
    clips: dict[str, list[Clip]] = {}
    for clip in sorted(read_atlas(options.archive).clips, key=lambda clip: clip.start_s):
        clips.setdefault(clip.video_id, []).append(clip)
    true = {video_id: true_stitches(own) for video_id, own in clips.items()}
    sources: dict[str, list[Mapping[str, Rows]]] = {
        "true rows": [{video_id: exact_rows(own) for video_id, own in clips.items()}],
        "on windows": [{video_id: window_rows(own) for video_id, own in clips.items()}],
    }
    for share in filter(None, options.errors.split(",")):
        sources[f"error {share}"] = [
            {
                video_id: window_rows(own, float(share), random.Random(f"{draw} {video_id}"))
                for video_id, own in clips.items()
            }
            for draw in range(options.draws)
        ]
    for place in options.maps:
        of_map: dict[str, Rows] = {video_id: [] for video_id in clips}
        for row in read_timeline(place).to_pylist():
            of_map[row["video_id"]].append(row)
        sources[place] = [of_map]
    rules = [
        StitchRule(float(pause), float(reposition))
        for pause, reposition in product(options.pauses.split(","), options.repositions.split(","))
    ]
    taxonomy, lines, below = taxonomies.load(), [], []
    for (name, drawn), rule in product(sources.items(), rules):
        score = Score()
        for rows in drawn:
            for video_id, own in true.items():
                score.add(find_stitches(rows[video_id], taxonomy, rule), own)
        lines.append((name, f"{rule.longest_pause_s:g}/{rule.longest_reposition_s:g}", *score.cells(len(drawn))))
        if name in options.maps:
            below.append(f"{name}\n{score.by_confidence()}")
    header = ("rows", "rule", "true", "found", "right", "per video", "start", "stop", *(name[:6] for name in TOLD))
    print("\n\n".join([table(header, lines, right=range(2, len(header))), *below]))


@dataclass(frozen=True)
class TrueStitch:
    """One stitch of the script, with what is true of it."""

    start_s: float
    stop_s: float
    told: tuple[str, ...]


def true_stitches(clips: Sequence[Clip]) -> list[TrueStitch]:
    """The stitches of a video: a phantom's script has every phase of every stitch, in order."""
    phases = [clip for clip in clips if clip.task == "proficiency"]
    driven = {clip.start_s: clip.tags for clip in clips if clip.task == "context"}
    found = []
    for first, middle, last in zip(phases, phases[1:], phases[2:], strict=False):
        if middle.tags["phase"] == "Driving":
            assert (first.tags["phase"], last.tags["phase"]) == (PHASES[0], PHASES[2])
            tags = {**driven[middle.start_s], **middle.tags}
            told = tuple(tags[name] for name in ("anatomy", "direction", "extent", "proficiency"))
            found.append(TrueStitch(first.start_s, last.stop_s, told))
    return found


def exact_rows(clips: Sequence[Clip]) -> Rows:
    """The clips as rows of a timeline."""
    return [
        row(clip.start_s, clip.stop_s, clip.task, tag, category)
        for clip in clips
        for tag, category in clip.tags.items()
    ]


def row(start_s: float, stop_s: float, task: str, tag: str, category: str) -> dict[str, Any]:
    """A row of the truth."""
    return asdict(Prediction(start_s, stop_s, task, tag, category, 1.0)) | {"source": "ai"}


def window_rows(clips: Sequence[Clip], error: float = 0.0, drawn: random.Random | None = None) -> Rows:
    """The clips cut to windows: each window has the tags of the clip that covers most of it, if that is half of it. A
    share ``error`` of the windows has another phase."""
    predictions = []
    for start_s in np.arange(0, max(clip.stop_s for clip in clips), WINDOW_S).tolist():
        for task in TASKS:
            shared = [
                (min(start_s + WINDOW_S, clip.stop_s) - max(start_s, clip.start_s), place)
                for place, clip in enumerate(clips)
                if clip.task == task
            ]
            most_s, place = max(shared, default=(0.0, 0))
            if most_s < WINDOW_S / 2:
                continue
            tags = dict(clips[place].tags)
            if "phase" in tags and drawn is not None and drawn.random() < error:
                tags["phase"] = drawn.choice([phase for phase in PHASES if phase != tags["phase"]])
            predictions += [
                Prediction(start_s, start_s + WINDOW_S, task, tag, category, 1.0) for tag, category in tags.items()
            ]
    return [asdict(interval) for interval in merge(predictions)]


@dataclass
class Score:
    """Counts over videos, and what is known of each found stitch."""

    true: int = 0
    count_errors: list[int] = field(default_factory=list)
    starts_s: list[float] = field(default_factory=list)
    stops_s: list[float] = field(default_factory=list)
    told: list[list[bool]] = field(default_factory=list)
    confidences: list[tuple[float, bool]] = field(default_factory=list)

    def add(self, found: Sequence[Stitch], true: Sequence[TrueStitch]) -> None:
        """The stitches of one video."""
        self.true += len(true)
        self.count_errors.append(len(found) - len(true))
        paired = dict(pairs(found, true))
        for place, stitch in enumerate(found):
            self.confidences.append((stitch.confidence, place in paired))
            if place in paired:
                other = true[paired[place]]
                self.starts_s.append(abs(stitch.start_s - other.start_s))
                self.stops_s.append(abs(stitch.stop_s - other.stop_s))
                self.told.append([getattr(stitch, name) == is_ for name, is_ in zip(TOLD, other.told, strict=True)])

    def cells(self, draws: int) -> tuple[str, ...]:
        """One line of the table."""
        counts = (self.true, len(self.confidences), len(self.starts_s))
        return (
            *(f"{count / draws:g}" for count in counts),
            f"{np.mean(np.abs(self.count_errors)):.2f}",
            f"{np.mean(self.starts_s):.2f}",
            f"{np.mean(self.stops_s):.2f}",
            *(f"{count / draws:g}" for count in np.sum(self.told, axis=0)),
        )

    def by_confidence(self) -> str:
        """How often the stitches of a confidence are right."""
        lines = []
        for low, high in zip(EDGES, EDGES[1:], strict=False):
            own = [(confidence, is_right) for confidence, is_right in self.confidences if low <= confidence < high]
            if own:
                mean, right = np.mean(own, axis=0)
                lines.append((f"{low:g} to {min(high, 1.0):g}", len(own), f"{mean:.2f}", f"{right:.2f}"))
        return table(("confidence", "stitches", "mean", "right"), lines, right=(1, 2, 3))


def pairs(found: Sequence[Stitch], true: Sequence[TrueStitch]) -> Iterator[tuple[int, int]]:
    """(place in ``found``, place in ``true``) of stitches that overlap by half of their union: at most one each."""
    for (n, one), (m, other) in product(enumerate(found), enumerate(true)):
        shared_s = min(one.stop_s, other.stop_s) - max(one.start_s, other.start_s)
        if shared_s > 0.5 * (max(one.stop_s, other.stop_s) - min(one.start_s, other.start_s)):
            yield n, m


if __name__ == "__main__":
    main()
