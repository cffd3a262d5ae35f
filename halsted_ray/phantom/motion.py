"""Where the hands are at a time: every action and every phase of suturing has a motion of its own.

Motions repeat about every 1 to 2 s, and each event starts at a random point of the cycle. So any 2.5-s window shows a
whole cycle, and no grid of windows is favoured. Positions are in heights of the picture. ``side`` is −1 for the left
hand and +1 for the right hand.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from halsted_ray.phantom.script import Event
from halsted_ray.phantom.tissue import WIDTH, WOUND_X

PORTS = {-1: (-0.02, 1.14), 1: (WIDTH + 0.02, 1.14), 0: (WIDTH / 2 + 0.14, -0.35)}
"""side → where its instrument enters the picture; side 0 is the assistant's."""
PARKED = {-1: (0.30, 0.80), 1: (WIDTH - 0.30, 0.80)}
"""side → where the tip of an idle instrument rests."""
ENTRY_S = 0.4
"""How long a hand takes to come in at the start of an event, and to leave at its end."""
TAU = 2 * np.pi


TipPath = tuple[tuple[float, float], ...]
"""The way of a tip: points (x, y) in heights of the picture, at even steps of time from the start of an event to its
end."""


@dataclass(frozen=True)
class Hand:
    """One instrument in the picture: its ``side`` (0 is the assistant's), its very tip, and how far its jaws are open
    (0 … 1)."""

    side: int
    name: str
    tip: tuple[float, float]
    opening: float


@dataclass(frozen=True)
class EventTraits:
    """How one event looks, from its start to its end. Lengths are in heights of the picture."""

    period_s: float
    phase: float
    """Where in its cycle the motion is at 0 s, 0 … 1."""
    site: tuple[float, float]
    """Where the hands work."""
    lead: int
    """The side of the leading hand, −1 or 1."""
    reach: float
    """How far the needle moves when it is driven."""
    tilt: float
    """The slope of the needle's way."""
    wobble: NDArray[np.float64]
    """float64 [8], phases 0 … 2π of everything that trembles or drifts."""
    blood: tuple[float, float, float] | None
    """(x, y, size) of a pool of blood, None where there is none."""
    other: str | None
    """The instrument of the other hand, None where there is none."""

    def cycles(self, t_s: float) -> float:
        """How many cycles of the motion have passed at ``t_s``."""
        return t_s / self.period_s + self.phase


def ramp(u: float, slow: float = 0.82) -> float:
    """0 → 1 slowly, 1 → 0 quickly, once per cycle. At a random time, its value is evenly distributed over 0 … 1."""
    f = u % 1.0
    return f / slow if f < slow else (1 - f) / (1 - slow)


def swing(u: float) -> float:
    """0 → 1 → 0 at an even pace, once per cycle. At a random time its value is distributed like ``ramp``'s."""
    return 1 - abs(2 * (u % 1.0) - 1)


def wave(u: float) -> float:
    """0 → 1 → 0 as a cosine, once per cycle."""
    return 0.5 - 0.5 * float(np.cos(TAU * u))


PERIOD_S = {
    "Assistant": 1.5,
    "Cold Cut": 1.0,
    "Hot Cut": 1.0,
    "Cautery": 0.7,
    "Extraction": 2.0,
    "Fluorescence": 1.8,
    "Hook": 1.3,
    "Idle": 2.0,
    "Clip": 1.4,
    "Camera Move": 2.2,
    "Mesh": 1.7,
    "Push/Peel": 1.8,
    "Retraction": 1.6,
    "Spread": 1.5,
    "Sponge": 0.95,
    "Stapler": 1.7,
    "Tube": 1.6,
    "Tug": 0.75,
    "Other": 1.2,
    "Needle Handling": 1.5,
    "Driving": 1.7,
    "Withdrawal": 1.9,
}
"""action or phase of suturing → the length of its cycle in seconds."""

MOTIONS: dict[str, Callable[[float], tuple[float, float, float]]] = {
    "Assistant": lambda u: (0.22, 0.12, 0.1),
    "Cold Cut": lambda u: (0.14 - 0.42 * ramp(u / 4, 0.93), 0.0, wave(u)),
    "Hot Cut": lambda u: (0.14 - 0.42 * ramp(u / 4, 0.93), 0.0, wave(u)),
    "Cautery": lambda u: (0.05 + 0.10 * swing(u), 0.04 * swing(u), 0.0),
    "Extraction": lambda u: (0.34 * ramp(u), 0.26 * ramp(u), 0.0),
    "Fluorescence": lambda u: (0.30, 0.22, 0.1),
    "Hook": lambda u: (0.13 * np.cos(TAU * u), -0.08 + 0.13 * np.sin(TAU * u), 0.0),
    "Idle": lambda u: (0.16, 0.14, 0.15),
    "Clip": lambda u: (0.0, 0.10 * wave(u), 0.9 * wave(u)),
    "Camera Move": lambda u: (0.16, 0.14, 0.15),
    "Mesh": lambda u: (0.20 * np.cos(TAU * u), -0.04, 0.0),
    "Push/Peel": lambda u: (0.24 - 0.48 * ramp(u), 0.10 - 0.20 * ramp(u), 0.1),
    "Retraction": lambda u: (0.05 + 0.015 * np.sin(TAU * u), -0.24 + 0.015 * np.cos(TAU * u), 0.0),
    "Spread": lambda u: (0.0, 0.0, 1.25 * wave(u)),
    "Sponge": lambda u: (0.05, 0.05 - 0.18 * wave(u), 0.1),
    "Stapler": lambda u: (0.12, 0.10, 0.5 * wave(u)),
    "Tube": lambda u: (0.08, -0.20 + 0.30 * swing(u), 0.0),
    "Tug": lambda u: (0.04 + 0.15 * ramp(u, 0.25), 0.04 + 0.13 * ramp(u, 0.25), 0.0),
    "Other": lambda u: (0.38, 0.22, 0.2),
}
"""action → ``motion(cycles)`` gives the tip's offset from the site (x toward the hand's own side, y down), and how far
the jaws are open. The phases of suturing have functions below."""

_SIDES = {"Left": (-1,), "Right": (1,), "Both": (-1, 1)}
_LEFT_HOLDERS = ("Grasper", "Fenestrated Forceps", "Prograsp Forceps", "Cadiere Forceps")


@lru_cache(maxsize=64)
def traits_of(event: Event) -> EventTraits:
    """The traits of an event, a function of its seed."""
    rng = np.random.default_rng([event.seed, 31])
    suturing = event.step == "Suturing"
    lead = 1 if suturing else _SIDES[event.tags["arm"]][-1]
    site = (WIDTH / 2 + rng.uniform(-0.13, 0.13), 0.50 + rng.uniform(-0.07, 0.07))
    blood = (float(rng.uniform(0.3, 1.5)), float(rng.uniform(0.45, 0.95)), float(rng.uniform(0.04, 0.09)))
    other = _LEFT_HOLDERS[rng.integers(4)] if suturing else ("Plain" if rng.random() < 0.5 else None)
    return EventTraits(
        period_s=PERIOD_S[event.name] * rng.uniform(0.87, 1.15),
        phase=float(rng.random()),
        site=site,
        lead=lead,
        reach=float(rng.uniform(0.47, 0.56)),
        tilt=float(rng.uniform(-0.2, 0.2)),
        wobble=rng.uniform(0, TAU, 8),
        blood=blood if rng.random() < 0.5 else None,
        other=other,
    )


def tremor(event: Event, t_s: float, hand: int) -> tuple[float, float]:
    """How far a suturing hand is off its way (x, y): more than 3% of the picture's width where proficiency is low.

    ``hand`` is the side, −1 or 1.
    """
    w = traits_of(event).wobble
    size = 1.0 if event.stitch["proficiency"] == "Low" else 0.04
    a, b = w[0] + hand, w[1] - hand
    x = 0.022 * np.sin(TAU * 1.9 * t_s + a) + 0.014 * np.sin(TAU * 2.8 * t_s + b)
    y = 0.060 * np.sin(TAU * 2.3 * t_s + w[2] + hand) + 0.030 * np.sin(TAU * 1.3 * t_s + w[3])
    return size * x, size * y


def stroke(event: Event, t_s: float) -> float:
    """How far the needle is driven: from 0 (far from the wound) to 1 (at the wound).

    Direction ``In`` moves slowly inward and quickly back, ``Out`` is the same film backwards, and ``Both`` moves at an
    even pace. In a single frame the three have the same distribution, so only motion tells them apart. Low proficiency
    adds a second attempt half-way.
    """
    u = traits_of(event).cycles(t_s)
    direction = event.stitch["direction"]
    s = swing(u) if direction == "Both" else ramp(u) if direction == "In" else ramp(-u)
    if event.stitch["proficiency"] == "Low":
        s = float(np.interp(s, (0, 0.40, 0.52, 0.60, 1), (0, 0.46, 0.40, 0.48, 1)))
    return s


def along_wound(event: Event, t_s: float) -> float:
    """Where along the wound the stitch is (y); it moves on a little while the suture is run."""
    share = (t_s - event.start_s) / (event.stop_s - event.start_s)
    return 0.44 + 0.10 * share + 0.04 * traits_of(event).tilt


def hands(event: Event, t_s: float, tip_path: TipPath | None = None) -> list[Hand]:
    """The instruments in the picture, from the back to the front. ``tip_path``: the way of the leading hand's tip, in
    place of its own."""
    found = _suturing_hands(event, t_s) if event.step == "Suturing" else _dissecting_hands(event, t_s)
    if tip_path:
        lead = traits_of(event).lead
        tip = tip_on(tip_path, (t_s - event.start_s) / (event.stop_s - event.start_s))
        found = [replace(hand, tip=tip) if hand.side == lead else hand for hand in found]
    shown = min(1.0, (t_s - event.start_s) / ENTRY_S, (event.stop_s - t_s) / ENTRY_S)
    if shown >= 1:
        return found
    # Hands come in from their ports and go back to them, so that no instrument changes in plain sight.
    k = 0.45 + 0.55 * max(0.0, shown)
    entering = []
    for hand in found:
        port_x, port_y = PORTS[hand.side]
        tip = (port_x + (hand.tip[0] - port_x) * k, port_y + (hand.tip[1] - port_y) * k)
        entering.append(Hand(hand.side, hand.name, tip, hand.opening))
    return entering


def tip_on(path: TipPath, share: float) -> tuple[float, float]:
    """Where a tip is after ``share`` (0 … 1) of the time that it takes for ``path``."""
    points = np.asarray(path)
    at = np.linspace(0.0, 1.0, len(points))
    return float(np.interp(share, at, points[:, 0])), float(np.interp(share, at, points[:, 1]))


def _dissecting_hands(event: Event, t_s: float) -> list[Hand]:
    traits = traits_of(event)
    u = traits.cycles(t_s)
    pair = event.tags["instrument"].split("–")
    names = {-1: pair[0], 1: pair[-1]}
    working = _SIDES[event.tags["arm"]]
    found: list[Hand] = []
    for side in (-1, 1):
        if side in working:
            x, y, opening = MOTIONS[event.name](u + (0.5 if side != traits.lead else 0.0))
            apart = 0.10 if len(working) == 2 else 0.0
            tip = (traits.site[0] + side * (x + apart), traits.site[1] + y)
            found.append(Hand(side, names[side], tip, opening))
        elif names[-1] != names[1]:
            found.insert(0, Hand(side, names[side], PARKED[side], 0.1))
        elif traits.other:
            found.insert(0, Hand(side, traits.other, PARKED[side], 0.1))
    if event.name == "Assistant":
        tip = (traits.site[0] + 0.16 * np.sin(TAU * u), traits.site[1] - 0.12 + 0.14 * np.cos(TAU * u))
        found.append(Hand(0, "Assistant", tip, 0.0))
    return found


def _suturing_hands(event: Event, t_s: float) -> list[Hand]:
    traits = traits_of(event)
    assert traits.other is not None, "every suturing event has a second instrument"
    u = traits.cycles(t_s)
    lx, ly = tremor(event, t_s, -1)
    rx, ry = tremor(event, t_s, 1)
    if event.name == "Needle Handling":
        left = (WOUND_X - 0.20 + 0.16 * wave(u), 0.30 + 0.05 * wave(u))
        right = (WOUND_X + 0.22 + 0.03 * np.sin(TAU * u), 0.26 + 0.03 * np.cos(TAU * u))
        opening = 0.8 * wave(u)
    elif event.name == "Driving":
        left = (WOUND_X - 0.26, along_wound(event, t_s) + 0.02)
        out = traits.reach * (1 - stroke(event, t_s))
        right = (WOUND_X + 0.05 + out, along_wound(event, t_s) + traits.tilt * 0.5 * out)
        opening = 0.05
    else:
        pull = ramp(u, 0.7)
        left = (WOUND_X - 0.20 - 0.22 * ramp(u + 0.5, 0.7), 0.42 + 0.10 * ramp(u + 0.5, 0.7))
        right = (WOUND_X + 0.16 + 0.36 * pull, 0.46 - 0.28 * pull)
        opening = 0.05
    return [
        Hand(-1, traits.other, (left[0] + lx, left[1] + ly), 0.3 * opening),
        Hand(1, "Needle Driver", (right[0] + rx, right[1] + ry), opening),
    ]
