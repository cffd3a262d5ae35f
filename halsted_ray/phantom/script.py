"""What happens in a synthetic video: steps of minutes, which consist of actions or phases of suturing, of seconds.

A script is the truth about its video: everything that is drawn follows from it, and it says which tags hold at any
time.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from halsted_ray.phantom import catalogue
from halsted_ray.records import Clip


@dataclass(frozen=True, eq=False)
class Event:
    """One action or one phase of suturing, in ``[start_s, stop_s)``.

    ``tags`` (tag → category) holds everything that is true of it. ``stitch`` holds the proficiency, anatomy, extent and
    direction of the stitch that a suturing event belongs to; anatomy, extent and direction are tags only while the
    needle is driven. ``seed`` decides how the event looks.
    """

    start_s: float
    stop_s: float
    step: str
    name: str
    tags: dict[str, str]
    stitch: dict[str, str]
    seed: int


@dataclass(frozen=True, eq=False)
class Script:
    """The truth of one video: ``events`` cover ``[0, duration_s)`` without gap or overlap."""

    seed: int
    duration_s: float
    procedure: str
    events: tuple[Event, ...]

    @property
    def specialty(self) -> str:
        """The specialty that the procedure belongs to."""
        return catalogue.SPECIALTY_OF[self.procedure]

    @cached_property
    def _starts(self) -> list[float]:
        return [event.start_s for event in self.events]

    @cached_property
    def steps(self) -> tuple[tuple[float, float, str], ...]:
        """(start_s, stop_s, step) of each stretch of events of one step."""
        runs: list[tuple[float, float, str]] = []
        for event in self.events:
            if runs and runs[-1][2] == event.step:
                runs[-1] = (runs[-1][0], event.stop_s, event.step)
            else:
                runs.append((event.start_s, event.stop_s, event.step))
        return tuple(runs)

    def event_at(self, t_s: float) -> Event:
        """The event at ``t_s``; times outside the video belong to its first or last event."""
        return self.events[max(0, bisect_right(self._starts, t_s) - 1)]

    def tags_at(self, t_s: float) -> dict[str, str]:
        """Every tag that is true at ``t_s``: tag name → category."""
        event = self.event_at(t_s)
        return {"specialty": self.specialty, "procedure": self.procedure, "step": event.step, **event.tags}

    def clips(self, video_id: str) -> list[Clip]:
        """The truth as annotated clips: task by task, the clips of each task in order of time."""
        macro = {"specialty": self.specialty, "procedure": self.procedure}
        clips = [
            Clip(video_id, start_s, stop_s, "macro", {**macro, "step": step}) for start_s, stop_s, step in self.steps
        ]
        for event in self.events:
            task = "micro" if event.step == "Dissection" else "proficiency"
            own = {tag: event.tags[tag] for tag in _TAGS[task]}
            clips.append(Clip(video_id, event.start_s, event.stop_s, task, own))
            if event.name == "Driving":
                own = {tag: event.tags[tag] for tag in _TAGS["context"]}
                clips.append(Clip(video_id, event.start_s, event.stop_s, "context", own))
        return sorted(clips, key=lambda clip: (_LANES.index(clip.task), clip.start_s))


_TAGS = {
    "micro": ("action", "arm", "instrument"),
    "proficiency": ("phase", "proficiency"),
    "context": ("anatomy", "extent", "direction"),
}
STEPS = ("Suturing", "Dissection")
_LANES = ("macro", "micro", "proficiency", "context")


def make_script(
    seed: int, duration_s: float, procedure: str | None = None, pace: float = 1.0, first_step: str | None = None
) -> Script:
    """The script of one video, which depends on these arguments alone.

    ``pace``: 2 makes actions, and the phases of a stitch, half as long, so that a minute holds twice as many. Motions
    keep their own pace. ``first_step``: the step that the video begins with (default: drawn).

    A video of at least 2 minutes holds both steps. Steps last 60 to 120 s in videos of up to 10 minutes, and 2.5 to
    7 minutes in longer videos. ``procedure`` is drawn evenly where it is not given. Raises ValueError for an unknown
    procedure or step, and for a length or pace of 0.
    """
    if duration_s <= 0 or pace <= 0:
        raise ValueError(f"duration_s={duration_s}, pace={pace}: expected both above 0")
    if procedure is not None and procedure not in catalogue.PROCEDURES:
        raise ValueError(f"unknown procedure {procedure!r}; expected one of {', '.join(catalogue.PROCEDURES)}")
    if first_step not in (None, *STEPS):
        raise ValueError(f"unknown step {first_step!r}; expected one of {', '.join(STEPS)}")
    rng = np.random.default_rng([seed, 11])
    drawn = catalogue.PROCEDURES[rng.integers(len(catalogue.PROCEDURES))]
    procedure = procedure or drawn
    low, high = (60, 120) if duration_s <= 600 else (150, 420)
    count = max(2 if duration_s >= 120 else 1, round(duration_s / ((low + high) / 2)))
    lengths = rng.uniform(low, high, count)
    edges = np.concatenate([[0.0], np.cumsum(lengths * (duration_s / lengths.sum()))])
    edges[-1] = duration_s
    deck = Deck(rng, procedure)
    first = int(rng.integers(2))
    if first_step is not None:
        first = STEPS.index(first_step)
    events: list[Event] = []
    for i in range(count):
        fill = dissection if (i + first) % 2 else suturing
        events += fill(deck, float(edges[i]), float(edges[i + 1]), pace=pace)
    return Script(seed, float(duration_s), procedure, tuple(events))


class Deck:
    """Draws categories like cards from a deck: over a video all categories of a tag come equally often, and never twice
    in a row where that can be avoided."""

    def __init__(self, rng: np.random.Generator, procedure: str):
        self.rng = rng
        self.procedure = procedure
        self._cards: dict[str, list[str]] = {}
        self._last: dict[str, str] = {}

    def draw(self, tag: str, categories: tuple[str, ...]) -> str:
        """The next category of ``tag``; the deck is shuffled anew when all ``categories`` were drawn."""
        cards = self._cards.setdefault(tag, [])
        if not cards:
            cards.extend(categories[i] for i in self.rng.permutation(len(categories)))
            if len(cards) > 1 and cards[-1] == self._last.get(tag):
                cards[0], cards[-1] = cards[-1], cards[0]
        self._last[tag] = cards.pop()
        return self._last[tag]

    def seed(self) -> int:
        """A new random seed."""
        return int(self.rng.integers(1 << 31))


def dissection(
    deck: Deck, start_s: float, stop_s: float, first: str | None = None, *, pace: float = 1.0
) -> list[Event]:
    """Actions of 6 to 20 s that fill ``[start_s, stop_s)``, shorter by ``pace``; ``first`` fixes the first action."""
    edges = _edges(deck.rng, start_s, stop_s, lambda: deck.rng.uniform(6, 20) / pace)
    events: list[Event] = []
    for i in range(len(edges) - 1):
        action = deck.draw("action", catalogue.ACTIONS)
        if i == 0 and first:
            action = first
        elif events and action == events[-1].name:
            action = deck.draw("action", catalogue.ACTIONS)
        names = catalogue.INSTRUMENTS
        instrument = names[deck.rng.choice(len(names), p=catalogue.INSTRUMENT_CHANCE[action])]
        tags = {"action": action, "arm": deck.draw("arm", catalogue.ARMS), "instrument": instrument}
        events.append(Event(edges[i], edges[i + 1], "Dissection", action, tags, {}, deck.seed()))
    return events


def suturing(
    deck: Deck, start_s: float, stop_s: float, stitch: dict[str, str] | None = None, *, pace: float = 1.0
) -> list[Event]:
    """Stitches (handling 5-10 s, driving 8-15 s, withdrawal 5-10 s) that fill ``[start_s, stop_s)``, shorter by
    ``pace``.

    ``stitch`` fixes tags of the first stitch.
    """
    spans = ((5, 10), (8, 15), (5, 10))
    edges = _edges(deck.rng, start_s, stop_s, lambda: deck.rng.uniform(18, 35) / pace)
    events = []
    for i in range(len(edges) - 1):
        own = {
            "proficiency": deck.draw("proficiency", catalogue.PROFICIENCIES),
            "anatomy": deck.draw("anatomy", catalogue.ANATOMY_OF_PROCEDURE[deck.procedure]),
            "extent": deck.draw("extent", catalogue.EXTENTS),
            "direction": deck.draw("direction", catalogue.DIRECTIONS),
        }
        own |= stitch if stitch and i == 0 else {}
        shares = np.array([deck.rng.uniform(*span) for span in spans])
        cuts = edges[i] + np.cumsum(shares / shares.sum()) * (edges[i + 1] - edges[i])
        bounds = [edges[i], float(cuts[0]), float(cuts[1]), edges[i + 1]]
        for phase, a, b in zip(catalogue.PHASES, bounds[:-1], bounds[1:], strict=True):
            tags = {"phase": phase, "proficiency": own["proficiency"]}
            if phase == "Driving":
                tags |= {tag: own[tag] for tag in _TAGS["context"]}
            events.append(Event(a, b, "Suturing", phase, tags, own, deck.seed()))
    return events


def _edges(rng: np.random.Generator, start_s: float, stop_s: float, draw: Callable[[], float]) -> list[float]:
    """The edges of the pieces into which ``[start_s, stop_s)`` is cut. ``draw`` gives the length of each piece; all are
    stretched a little to fit."""
    span = stop_s - start_s
    lengths = [draw()]
    while sum(lengths) < span:
        lengths.append(draw())
    if len(lengths) > 1 and sum(lengths) - span > span - sum(lengths[:-1]):
        lengths.pop()
    cuts = start_s + np.cumsum(lengths) * (span / sum(lengths))
    return [start_s, *(float(cut) for cut in cuts[:-1]), stop_s]
