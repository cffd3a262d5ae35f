"""What the hands work on: lines of cuts, clips, meshes, bags, smoke, needle and thread.

``UNDER`` and ``OVER`` say which function draws the prop of an action or phase, beneath the instruments or above them.
Each function gets the painter, the event, the event's traits, the time, and the tip of the leading hand.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from halsted_ray.phantom import motion
from halsted_ray.phantom.motion import TAU, EventTraits, along_wound, ramp, wave
from halsted_ray.phantom.painter import Colour, Painter, Point
from halsted_ray.phantom.script import Event
from halsted_ray.phantom.tissue import WIDTH, WOUND_X

THREAD, NEEDLE = (50, 60, 255), (255, 255, 255)
_ARC = np.stack([np.cos(np.linspace(0, np.pi, 11)), np.sin(np.linspace(0, np.pi, 11))], axis=1)


def _cut(p: Painter, traits: EventTraits, tip: Point, line: Colour, rim: Colour) -> None:
    start = (traits.site[0] + traits.lead * 0.30, traits.site[1] + 0.02)
    stop = (tip[0] - traits.lead * 0.02, traits.site[1])
    p.bar(start, stop, 0.085, rim)
    p.bar(start, stop, 0.045, line)


def _smoke(p: Painter, traits: EventTraits, t_s: float, x: float, y: float) -> None:
    for i in range(3):
        rise = (t_s * 0.55 + i / 3 + traits.phase) % 1.0
        p.cloud(
            x + 0.08 * np.sin(5 * rise + i),
            y - 0.05 - 0.40 * rise,
            0.14 + 0.18 * rise,
            0.12 + 0.14 * rise,
            (205, 205, 210),
            round(0.75 * (1 - rise), 1),
        )


def cold_cut(p: Painter, event: Event, traits: EventTraits, t_s: float, tip: Point) -> None:
    """The red line of a cut by scissors, up to the tip."""
    _cut(p, traits, tip, (225, 0, 25), (255, 205, 190))


def hot_cut(p: Painter, event: Event, traits: EventTraits, t_s: float, tip: Point) -> None:
    """The black line of a cut by heat, up to the tip."""
    _cut(p, traits, tip, (15, 10, 10), (125, 75, 35))


def hot_glow(p: Painter, event: Event, traits: EventTraits, t_s: float, tip: Point) -> None:
    """The glow and the smoke at the tip during a hot cut."""
    _smoke(p, traits, t_s, tip[0], tip[1])
    p.cloud(tip[0], tip[1], 0.17, 0.17, (255, 150, 20), 0.9)
    p.disc(tip[0], tip[1], 0.035, 0.035, (255, 250, 200))


def char(p: Painter, event: Event, traits: EventTraits, t_s: float, tip: Point) -> None:
    """The burnt spot at the site of cautery."""
    x, y = traits.site
    p.disc(x + traits.lead * 0.08, y + 0.02, 0.17, 0.13, (125, 75, 35))
    p.disc(x + traits.lead * 0.08, y + 0.02, 0.11, 0.085, (15, 10, 10))


def spark(p: Painter, event: Event, traits: EventTraits, t_s: float, tip: Point) -> None:
    """The spark and the smoke at the tip during cautery."""
    _smoke(p, traits, t_s, tip[0], tip[1])
    size = 0.05 + 0.08 * abs(np.sin(19 * t_s))
    p.poly(
        [(tip[0] - size, tip[1]), (tip[0], tip[1] - size), (tip[0] + size, tip[1]), (tip[0], tip[1] + size)],
        (150, 225, 255),
    )
    p.disc(tip[0], tip[1], 0.03, 0.03, (255, 255, 255))


def strand(p: Painter, event: Event, traits: EventTraits, t_s: float, tip: Point) -> None:
    """A strand of tissue that the hook lifts."""
    x, y = traits.site
    p.disc(x, y + 0.10, 0.27, 0.05, (110, 25, 30))
    p.bar((x - 0.27, y + 0.09), (tip[0], tip[1]), 0.06, (250, 225, 150))
    p.bar((tip[0], tip[1]), (x + 0.27, y + 0.09), 0.06, (250, 225, 150))


def bag(p: Painter, event: Event, traits: EventTraits, t_s: float, tip: Point) -> None:
    """A bag with a specimen in it, held by the tip."""
    away = -traits.lead
    x, y = tip[0] + away * 0.20, tip[1] - 0.10
    p.disc(x, y, 0.24, 0.17, (120, 150, 190))
    p.disc(x, y, 0.215, 0.148, (185, 215, 245))
    p.disc(x + away * 0.04, y - 0.01, 0.12, 0.08, (150, 70, 60))
    p.bar((x - away * 0.20, y - 0.13), (x - away * 0.17, y + 0.14), 0.045, (245, 245, 255))


def glow(p: Painter, event: Event, traits: EventTraits, t_s: float, tip: Point) -> None:
    """The green glow of fluorescence beside the site."""
    x, y = traits.site
    strength = 0.7 + 0.3 * wave(traits.cycles(t_s))
    p.cloud(x - traits.lead * 0.10, y - 0.06, 0.42, 0.34, (20, 255, 70), strength)
    p.cloud(x - traits.lead * 0.10, y - 0.06, 0.22, 0.18, (120, 255, 130), strength)


def duct(p: Painter, event: Event, traits: EventTraits, t_s: float, tip: Point) -> None:
    """A duct with three clips on it."""
    x, y = traits.site
    p.bar((x - 0.42, y - 0.05), (x + 0.42, y - 0.05), 0.15, (170, 110, 60))
    p.bar((x - 0.42, y - 0.06), (x + 0.42, y - 0.06), 0.11, (245, 220, 160))
    for i in range(3):
        cx = x - traits.lead * (0.12 + 0.10 * i)
        p.bar((cx, y - 0.16), (cx, y + 0.05), 0.05, (60, 60, 75))
        p.bar((cx, y - 0.15), (cx, y + 0.04), 0.03, (235, 245, 255))


def mesh(p: Painter, event: Event, traits: EventTraits, t_s: float, tip: Point) -> None:
    """A white mesh with blue threads, laid over the site."""
    x, y = traits.site
    p.poly([(x - 0.30, y - 0.22), (x + 0.30, y - 0.22), (x + 0.30, y + 0.14), (x - 0.30, y + 0.14)], (245, 245, 250))
    for i in range(5):
        p.bar((x - 0.30 + 0.15 * i, y - 0.22), (x - 0.30 + 0.15 * i, y + 0.14), 0.03, (60, 90, 190))
    for i in range(4):
        p.bar((x - 0.30, y - 0.22 + 0.12 * i), (x + 0.30, y - 0.22 + 0.12 * i), 0.03, (60, 90, 190))


def flap(p: Painter, event: Event, traits: EventTraits, t_s: float, tip: Point) -> None:
    """A flap of tissue that is peeled off up to the tip."""
    x, y = traits.site
    side, far = traits.lead, x - traits.lead * 0.42
    p.poly([(x + side * 0.30, y - 0.12), (x + side * 0.34, y + 0.20), (far, y + 0.04), (far, y - 0.24)], (120, 25, 30))
    fold = tip[0] - side * 0.03
    p.poly([(fold, y - 0.22), (fold, y + 0.20), (far, y + 0.08), (far - side * 0.02, y - 0.26)], (245, 185, 120))
    p.bar((fold, y - 0.24), (fold, y + 0.22), 0.07, (255, 228, 185))


def tent(p: Painter, event: Event, traits: EventTraits, t_s: float, tip: Point) -> None:
    """A fold of tissue that the tip lifts."""
    x, y = traits.site
    base = y + 0.20
    p.poly([(x - 0.36, base), (tip[0], tip[1] - 0.02), (x + 0.36, base)], (215, 120, 105))
    p.poly([(x - 0.36, base), (tip[0], tip[1] - 0.02), (x - traits.lead * 0.05, base)], (155, 60, 60))
    for share in (-0.36, 0.0, 0.36):
        p.bar((x + share, base), (tip[0], tip[1]), 0.03, (255, 215, 200))


def gap(p: Painter, event: Event, traits: EventTraits, t_s: float, tip: Point) -> None:
    """A gap in the tissue, which opens as the jaws spread."""
    opening = motion.MOTIONS["Spread"](traits.cycles(t_s))[2]
    x, y = traits.site
    p.disc(x - traits.lead * 0.06, y - 0.05, 0.20, 0.05 + 0.14 * opening, (255, 225, 150))
    p.disc(x - traits.lead * 0.06, y - 0.05, 0.17, 0.02 + 0.13 * opening, (50, 8, 12))


def gauze(p: Painter, event: Event, traits: EventTraits, t_s: float, tip: Point) -> None:
    """A sponge with a spot of blood, under the tip."""
    x, y = tip[0] - traits.lead * 0.06, tip[1] - 0.04
    p.poly([(x - 0.17, y - 0.11), (x + 0.13, y - 0.14), (x + 0.17, y + 0.11), (x - 0.13, y + 0.14)], (250, 250, 245))
    p.disc(x, y + 0.02, 0.07, 0.05, (225, 110, 110))


def cartridge(p: Painter, event: Event, traits: EventTraits, t_s: float, tip: Point) -> None:
    """The two jaws of a stapler with two rows of staples."""
    x, y = traits.site
    open_ = 0.13 * wave(traits.cycles(t_s))
    for sign, tone in ((-1, (60, 90, 160)), (1, (95, 100, 115))):
        p.bar((x - 0.36, y - 0.02 + sign * (0.05 + open_)), (x + 0.30, y - 0.02 + sign * (0.05 + open_)), 0.09, tone)
    for i in range(7):
        for row in (-0.065, -0.035):
            staple_x, staple_y = x - 0.33 + 0.10 * i, y + row - open_
            p.bar((staple_x, staple_y), (staple_x + 0.05, staple_y), 0.018, (255, 255, 255))


def drain(p: Painter, event: Event, traits: EventTraits, t_s: float, tip: Point) -> None:
    """A tube that comes in from above and ends at the tip."""
    x, y = traits.site
    s = np.linspace(0, 1, 9)
    side = traits.lead
    start = np.array((x - side * 0.55, -0.1))
    middle = np.array((x - side * 0.35, y + 0.10))
    points = ((1 - s) ** 2)[:, None] * start + (2 * s * (1 - s))[:, None] * middle + (s**2)[:, None] * np.array(tip)
    p.band(points, 0.13, (130, 150, 150))
    p.band(points, 0.10, (240, 250, 245))
    for i in range(1, 9):
        a, b = points[i - 1], points[i]
        n = np.array((a[1] - b[1], b[0] - a[0])) / np.hypot(*(b - a)) * 0.05
        p.bar(b - n, b + n, 0.03, (60, 170, 170))


def pulled(p: Painter, event: Event, traits: EventTraits, t_s: float, tip: Point) -> None:
    """A red strand that grows thinner as the tip tugs at it."""
    x, y = traits.site
    root = (x - traits.lead * 0.24, y - 0.20)
    p.disc(root[0], root[1], 0.10, 0.08, (120, 15, 25))
    taut = ramp(traits.cycles(t_s), 0.25)
    p.bar(root, (tip[0], tip[1]), 0.10 - 0.06 * taut, (235, 60, 60))
    p.bar(root, (tip[0], tip[1]), 0.03, (255, 190, 170))


def spray(p: Painter, event: Event, traits: EventTraits, t_s: float, tip: Point) -> None:
    """Drops that run down all over the picture."""
    for i in range(7):
        x = traits.wobble[i] / TAU * 1.7 + 0.04 * np.sin(3 * t_s + i)
        y = (t_s * (0.45 + 0.05 * i) + traits.wobble[7 - i] / TAU) % 1.3 - 0.15
        size = 0.085 + 0.012 * i
        p.disc(x, y, size, size * 1.15, (120, 150, 185))
        p.disc(x - 0.01, y - 0.015, size * 0.8, size * 0.9, (205, 230, 250))
        p.disc(x - size * 0.3, y - size * 0.4, size * 0.25, size * 0.25, (255, 255, 255))


def needle(p: Painter, x: float, y: float, angle: float, share: float = 1.0) -> None:
    """Draws a curved needle that is held at (x, y); ``share`` of it shows, from the held end on."""
    points = (_ARC[: max(3, round(len(_ARC) * share))] - (1, 0)) * 0.13
    cos, sin = np.cos(angle), np.sin(angle)
    points = points @ np.array([(cos, sin), (-sin, cos)]) + (x, y)
    p.band(points, 0.050, (40, 40, 60))
    p.band(points, 0.032, NEEDLE)


def _bites(p: Painter, event: Event, t_s: float) -> None:
    """Draws the marks of the stitch: one pair of bites, two pairs, or a thread that lies on the surface."""
    y = along_wound(event, t_s)
    extent = event.stitch["extent"]
    rows = {"Single": (y - 0.14,), "Double": (y - 0.19, y - 0.08), "Surface": ()}[extent]
    for row in rows:
        p.bar((WOUND_X - 0.13, row), (WOUND_X + 0.13, row), 0.028, THREAD)
        for side in (-1, 1):
            p.disc(WOUND_X + side * 0.13, row, 0.045, 0.045, (255, 255, 255))
            p.disc(WOUND_X + side * 0.13, row, 0.03, 0.03, (10, 0, 20))
    if extent == "Surface":
        corners = [(WOUND_X + (0.11 if i % 2 else -0.11), y - 0.24 + 0.05 * i) for i in range(5)]
        for a, b in zip(corners[:-1], corners[1:], strict=True):
            p.bar(a, b, 0.028, THREAD)


def held_needle(p: Painter, event: Event, traits: EventTraits, t_s: float, tip: Point) -> None:
    """A needle with its thread, turned by the needle driver."""
    turn = 1.2 * np.sin(TAU * traits.cycles(t_s))
    p.band([(tip[0], tip[1] + 0.02), (tip[0] + 0.05, tip[1] + 0.22), (tip[0] - 0.02, tip[1] + 0.36)], 0.028, THREAD)
    needle(p, tip[0], tip[1], turn + np.pi / 8)


def driven_needle(p: Painter, event: Event, traits: EventTraits, t_s: float, tip: Point) -> None:
    """The stitch, and the needle on its way into the tissue."""
    _bites(p, event, t_s)
    needle(p, tip[0], tip[1], -0.5, 1.0 if event.stitch["extent"] == "Surface" else 0.7)


def thread(p: Painter, event: Event, traits: EventTraits, t_s: float, tip: Point) -> None:
    """The thread that both hands pull out of the finished stitch."""
    _bites(p, event, event.stop_s)
    share = (t_s - event.start_s) / (event.stop_s - event.start_s)
    root = (WOUND_X, 0.50)
    x, y = (tip[0] + root[0]) / 2, (tip[1] + root[1]) / 2 + 0.10 * (1 - share)
    p.band([root, (x, y), (tip[0], tip[1])], 0.035, THREAD)
    left = motion.hands(event, t_s)[0].tip
    p.band([root, ((left[0] + root[0]) / 2, (left[1] + root[1]) / 2 + 0.05), left], 0.035, THREAD)
    slack = 0.15 + 0.35 * share
    p.band(
        [(tip[0], tip[1]), (tip[0] + 0.10, tip[1] + slack * 0.6), (min(tip[0] + 0.04, WIDTH), tip[1] + slack)],
        0.03,
        THREAD,
    )
    needle(p, tip[0], tip[1], 0.4)


DrawProp = Callable[[Painter, Event, EventTraits, float, Point], None]

UNDER: dict[str, DrawProp] = {
    "Cold Cut": cold_cut,
    "Hot Cut": hot_cut,
    "Cautery": char,
    "Hook": strand,
    "Extraction": bag,
    "Clip": duct,
    "Mesh": mesh,
    "Push/Peel": flap,
    "Retraction": tent,
    "Spread": gap,
    "Sponge": gauze,
    "Stapler": cartridge,
    "Tube": drain,
    "Tug": pulled,
    "Driving": driven_needle,
    "Withdrawal": thread,
}
OVER: dict[str, DrawProp] = {
    "Hot Cut": hot_glow,
    "Cautery": spark,
    "Fluorescence": glow,
    "Other": spray,
    "Needle Handling": held_needle,
}
