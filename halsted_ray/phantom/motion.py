"""Where the hands are at a time: the signature of every action and of every phase of suturing.

Motions are periodic (about 1 to 2 s) with a phase of their own, so any 2.5-s window shows a whole cycle and no window
grid is favoured. Positions are in heights of the picture; ``side`` is −1 for the left hand and +1 for the right.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from halsted_ray.phantom.script import Event
from halsted_ray.phantom.tissue import WIDTH, WOUND_X

PORTS = {-1: (-0.02, 1.14), 1: (WIDTH + 0.02, 1.14), 0: (WIDTH / 2 + 0.14, -0.35)}
PARKED = {-1: (0.30, 0.80), 1: (WIDTH - 0.30, 0.80)}
ENTRY_S = 0.4
TAU = 2 * np.pi


@dataclass(frozen=True)
class Hand:
    """One instrument: ``side`` (0 is the assistant's), its very tip, and how far its jaws are open (0 … 1)."""

    side: int
    name: str
    tip: tuple[float, float]
    opening: float


@dataclass(frozen=True)
class Beat:
    """What is constant through an event: its pace, its place, its peculiarities."""

    period_s: float
    phase: float
    site: tuple[float, float]
    lead: int
    reach: float
    tilt: float
    wobble: np.ndarray
    blood: tuple[float, float, float] | None
    other: str | None

    def cycles(self, t_s: float) -> float:
        return t_s / self.period_s + self.phase


def ramp(u: float, slow: float = 0.82) -> float:
    """0 → 1 slowly, 1 → 0 quickly, over and over. At a time drawn evenly its value is even on 0 … 1."""
    f = u % 1.0
    return f / slow if f < slow else (1 - f) / (1 - slow)


def swing(u: float) -> float:
    """0 → 1 → 0 in even strokes. At a time drawn evenly its value is even on 0 … 1, as that of ``ramp``."""
    return 1 - abs(2 * (u % 1.0) - 1)


def wave(u: float) -> float:
    return 0.5 - 0.5 * float(np.cos(TAU * u))


# action: (period in s, (cycles, side) -> tip's offset from the site (x toward the hand's own side, y down), opening)
Motion = tuple[float, Callable[[float], tuple[float, float, float]]]
MOTIONS: dict[str, Motion] = {
    "Assistant": (1.5, lambda u: (0.22, 0.12, 0.1)),
    "Cold Cut": (1.0, lambda u: (0.14 - 0.42 * ramp(u / 4, 0.93), 0.0, wave(u))),
    "Hot Cut": (1.0, lambda u: (0.14 - 0.42 * ramp(u / 4, 0.93), 0.0, wave(u))),
    "Cautery": (0.7, lambda u: (0.05 + 0.10 * swing(u), 0.04 * swing(u), 0.0)),
    "Extraction": (2.0, lambda u: (0.34 * ramp(u), 0.26 * ramp(u), 0.0)),
    "Fluorescence": (1.8, lambda u: (0.30, 0.22, 0.1)),
    "Hook": (1.3, lambda u: (0.13 * np.cos(TAU * u), -0.08 + 0.13 * np.sin(TAU * u), 0.0)),
    "Idle": (2.0, lambda u: (0.16, 0.14, 0.15)),
    "Clip": (1.4, lambda u: (0.0, 0.10 * wave(u), 0.9 * wave(u))),
    "Camera Move": (2.2, lambda u: (0.16, 0.14, 0.15)),
    "Mesh": (1.7, lambda u: (0.20 * np.cos(TAU * u), -0.04, 0.0)),
    "Push/Peel": (1.8, lambda u: (0.24 - 0.48 * ramp(u), 0.10 - 0.20 * ramp(u), 0.1)),
    "Retraction": (1.6, lambda u: (0.05 + 0.015 * np.sin(TAU * u), -0.24 + 0.015 * np.cos(TAU * u), 0.0)),
    "Spread": (1.5, lambda u: (0.0, 0.0, 1.25 * wave(u))),
    "Sponge": (0.95, lambda u: (0.05, 0.05 - 0.18 * wave(u), 0.1)),
    "Stapler": (1.7, lambda u: (0.12, 0.10, 0.5 * wave(u))),
    "Tube": (1.6, lambda u: (0.08, -0.20 + 0.30 * swing(u), 0.0)),
    "Tug": (0.75, lambda u: (0.04 + 0.15 * ramp(u, 0.25), 0.04 + 0.13 * ramp(u, 0.25), 0.0)),
    "Other": (1.2, lambda u: (0.38, 0.22, 0.2)),
    "Needle Handling": (1.5, None),
    "Driving": (1.7, None),
    "Withdrawal": (1.9, None),
}
_SIDES = {"Left": (-1,), "Right": (1,), "Both": (-1, 1)}
_LEFT_HOLDERS = ("Grasper", "Fenestrated Forceps", "Prograsp Forceps", "Cadiere Forceps")


@lru_cache(maxsize=64)
def beat(event: Event) -> Beat:
    rng = np.random.default_rng([event.seed, 31])
    sewing = event.step == "Suturing"
    lead = 1 if sewing else _SIDES[event.tags["arm"]][-1]
    site = (WIDTH / 2 + rng.uniform(-0.13, 0.13), 0.50 + rng.uniform(-0.07, 0.07))
    blood = (float(rng.uniform(0.3, 1.5)), float(rng.uniform(0.45, 0.95)), float(rng.uniform(0.04, 0.09)))
    other = _LEFT_HOLDERS[rng.integers(4)] if sewing else ("Plain" if rng.random() < 0.5 else None)
    return Beat(
        period_s=MOTIONS[event.name][0] * rng.uniform(0.87, 1.15),
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
    """Unsteadiness of a suturing hand (x, y): more than 3% of the picture's width where proficiency is low."""
    w = beat(event).wobble
    size = 1.0 if event.stitch["proficiency"] == "Low" else 0.04
    a, b = w[0] + hand, w[1] - hand
    x = 0.022 * np.sin(TAU * 1.9 * t_s + a) + 0.014 * np.sin(TAU * 2.8 * t_s + b)
    y = 0.060 * np.sin(TAU * 2.3 * t_s + w[2] + hand) + 0.030 * np.sin(TAU * 1.3 * t_s + w[3])
    return size * x, size * y


def stroke(event: Event, t_s: float) -> float:
    """How far the needle is driven: 0 outside (far from the wound) … 1 inside (at the wound).

    In: slowly inward, quickly back. Out: the same film backwards. Both: even strokes. Seen at one moment the three
    have the same distribution, so only motion tells them apart. Low proficiency adds a second attempt half-way.
    """
    own = beat(event)
    u = own.cycles(t_s)
    direction = event.stitch["direction"]
    s = swing(u) if direction == "Both" else ramp(u) if direction == "In" else ramp(-u)
    if event.stitch["proficiency"] == "Low":
        s = float(np.interp(s, (0, 0.40, 0.52, 0.60, 1), (0, 0.46, 0.40, 0.48, 1)))
    return s


def along_wound(event: Event, t_s: float) -> float:
    """Where along the wound the stitch is (y); moves on a little as the running suture goes."""
    share = (t_s - event.start_s) / (event.stop_s - event.start_s)
    return 0.44 + 0.10 * share + 0.04 * beat(event).tilt


def hands(event: Event, t_s: float) -> list[Hand]:
    """The instruments in the picture, from the back to the front."""
    found = _sewing(event, t_s) if event.step == "Suturing" else _dissecting(event, t_s)
    shown = min(1.0, (t_s - event.start_s) / ENTRY_S, (event.stop_s - t_s) / ENTRY_S)
    if shown >= 1:
        return found
    # Hands come in from their ports and leave to them, so that no instrument changes in plain sight.
    k = 0.45 + 0.55 * max(0.0, shown)
    return [
        Hand(h.side, h.name, tuple(p + (q - p) * k for p, q in zip(PORTS[h.side], h.tip, strict=True)), h.opening)
        for h in found
    ]


def _dissecting(event: Event, t_s: float) -> list[Hand]:
    own = beat(event)
    u = own.cycles(t_s)
    names = event.tags["instrument"].split("–")
    names = {-1: names[0], 1: names[-1]}
    working = _SIDES[event.tags["arm"]]
    found = []
    for side in (-1, 1):
        if side in working:
            x, y, opening = MOTIONS[event.name][1](u + (0.5 if side != own.lead else 0.0))
            apart = 0.10 if len(working) == 2 else 0.0
            tip = (own.site[0] + side * (x + apart), own.site[1] + y)
            found.append(Hand(side, names[side], tip, opening))
        elif names[-1] != names[1]:
            found.insert(0, Hand(side, names[side], PARKED[side], 0.1))
        elif own.other:
            found.insert(0, Hand(side, own.other, PARKED[side], 0.1))
    if event.name == "Assistant":
        tip = (own.site[0] + 0.16 * np.sin(TAU * u), own.site[1] - 0.12 + 0.14 * np.cos(TAU * u))
        found.append(Hand(0, "Assistant", tip, 0.0))
    return found


def _sewing(event: Event, t_s: float) -> list[Hand]:
    own = beat(event)
    u = own.cycles(t_s)
    lx, ly = tremor(event, t_s, -1)
    rx, ry = tremor(event, t_s, 1)
    if event.name == "Needle Handling":
        left = (WOUND_X - 0.20 + 0.16 * wave(u), 0.30 + 0.05 * wave(u))
        right = (WOUND_X + 0.22 + 0.03 * np.sin(TAU * u), 0.26 + 0.03 * np.cos(TAU * u))
        opening = 0.8 * wave(u)
    elif event.name == "Driving":
        left = (WOUND_X - 0.26, along_wound(event, t_s) + 0.02)
        out = own.reach * (1 - stroke(event, t_s))
        right = (WOUND_X + 0.05 + out, along_wound(event, t_s) + own.tilt * 0.5 * out)
        opening = 0.05
    else:
        pull = ramp(u, 0.7)
        left = (WOUND_X - 0.20 - 0.22 * ramp(u + 0.5, 0.7), 0.42 + 0.10 * ramp(u + 0.5, 0.7))
        right = (WOUND_X + 0.16 + 0.36 * pull, 0.46 - 0.28 * pull)
        opening = 0.05
    return [
        Hand(-1, own.other, (left[0] + lx, left[1] + ly), 0.3 * opening),
        Hand(1, "Needle Driver", (right[0] + rx, right[1] + ry), opening),
    ]
