"""What a camera sees outside of the body: an operating room, faces, a table, drapes, a hand, gauze, a trocar's tube.

A scene is drawn from random numbers, and then from a time, so the same arguments give the same pixels. Lengths are in
heights of the picture, as everywhere in the phantom: x runs from 0 to 16/9, y from 0 to 1.

Shapes: H, W height and width of a frame in pixels.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import cv2
import numpy as np
from numpy.typing import NDArray

from halsted_ray.phantom.painter import CIRCLE, Colour, Painter
from halsted_ray.phantom.tissue import WIDTH

Image = NDArray[np.uint8]
Scene = Callable[[Image, float, float], Image]
"""``scene(inside, t_s, share)``: the frame [H, W, 3] RGB. ``inside``: what the camera would see in the body; ``t_s``:
seconds since the scene began; ``share``: how much of the scene has passed, 0 to 1."""

_CLOTH: tuple[Colour, ...] = (
    (40, 110, 150),
    (60, 150, 150),
    (60, 130, 105),
    (130, 185, 170),
    (95, 125, 175),
    (35, 60, 110),
    (205, 215, 220),
    (110, 160, 200),
    (225, 216, 200),
)
_SKIN: tuple[Colour, ...] = (
    (244, 206, 182),
    (228, 178, 146),
    (205, 150, 115),
    (172, 115, 82),
    (125, 80, 55),
    (78, 50, 38),
)
_GLOVE: tuple[Colour, ...] = (
    (235, 225, 205),
    (215, 190, 150),
    (160, 130, 95),
    (120, 160, 200),
    (245, 245, 245),
    (190, 215, 190),
)
_STEEL: Colour = (190, 195, 200)


def _pick(rng: np.random.Generator, colours: Sequence[Colour], spread: float = 0.12) -> Colour:
    """One of ``colours``, each channel brighter or darker by up to ``spread``."""
    chosen = np.asarray(colours[int(rng.integers(len(colours)))]) * rng.uniform(1 - spread, 1 + spread, 3)
    red, green, blue = np.clip(chosen * rng.uniform(0.8, 1.1), 0, 255).astype(int).tolist()
    return red, green, blue


def _shaded(colour: Colour, by: float) -> Colour:
    red, green, blue = (int(min(255, max(0, value * by))) for value in colour)
    return red, green, blue


def _painter(image: Image, zoom: float = 1.0, shift: tuple[float, float] = (0.0, 0.0)) -> Painter:
    height, width = image.shape[:2]
    return Painter(image, np.array([width / WIDTH, float(height)]), zoom, np.asarray(shift))


def _relief(rng: np.random.Generator, width: int, height: int, waves: int, turn: float) -> NDArray[np.float32]:
    """Smooth waves [H, W], about −1 to 1, that run like the folds of cloth; ``turn``: their direction in radians."""
    x = np.linspace(0, WIDTH, width, dtype=np.float32)[None]
    y = np.linspace(0, 1, height, dtype=np.float32)[:, None]
    lattice = rng.standard_normal((5, 8)).astype(np.float32)
    rough = cv2.resize(lattice, (width, height), interpolation=cv2.INTER_CUBIC)
    along = np.cos(turn) * x + np.sin(turn) * y
    return np.asarray(0.6 * np.sin(waves * along + 1.6 * rough) + 0.4 * rough, np.float32)


def _cloth(rng: np.random.Generator, width: int, height: int, colour: Colour | None = None) -> Image:
    """Cloth with folds that fills the picture."""
    colour = colour or _pick(rng, _CLOTH)
    folds = _relief(rng, width, height, int(rng.integers(3, 16)), float(rng.uniform(0, np.pi)))
    # Of its own random numbers: how many it takes depends on the resolution, and what is drawn after it must not.
    grain = np.random.default_rng(int(rng.integers(1 << 30)))
    weave = grain.normal(0, 0.015, (height, width)).astype(np.float32)
    light = 1 + rng.uniform(0.08, 0.28) * folds + weave
    return np.clip(light[..., None] * np.asarray(colour, np.float32), 0, 255).astype(np.uint8)


def _sway(rng: np.random.Generator, reach: float) -> Callable[[float], tuple[float, float]]:
    """A hand-held camera's slow movement: seconds to (x, y)."""
    phase, pace = rng.uniform(0, 2 * np.pi, 2), rng.uniform(0.2, 1.4, 2)
    return lambda t_s: (
        float(reach * np.sin(pace[0] * t_s + phase[0])),
        float(0.6 * reach * np.sin(pace[1] * t_s + phase[1])),
    )


def _face(p: Painter, x: float, y: float, size: float, skin: Colour, cap: Colour, mask: Colour | None) -> None:
    """A head of the half-height ``size``: hair or cap, eyes, and a mask or a mouth."""
    p.disc(x, y, 0.74 * size, size, skin)
    p.shape(CIRCLE[9:] * (0.78 * size, 1.02 * size) + (x, y - 0.22 * size), cap)
    for side in (-1, 1):
        eye = x + side * 0.28 * size
        p.disc(eye, y - 0.06 * size, 0.14 * size, 0.075 * size, (240, 240, 238))
        p.disc(eye, y - 0.06 * size, 0.06 * size, 0.07 * size, (45, 35, 30))
        p.bar(
            (eye - 0.16 * size, y - 0.2 * size), (eye + 0.16 * size, y - 0.22 * size), 0.05 * size, _shaded(skin, 0.4)
        )
    if mask:
        p.shape(
            np.array([(-0.62, 0.14), (0.0, 0.04), (0.62, 0.14), (0.5, 0.72), (0, 0.98), (-0.5, 0.72)]) * size + (x, y),
            mask,
        )
    else:
        p.poly(np.array([(-0.09, 0.3), (0.0, 0.02), (0.09, 0.3)]) * size + (x, y), _shaded(skin, 0.85))
        p.disc(x, y + 0.54 * size, 0.24 * size, 0.06 * size, (165, 75, 75))


def _person(p: Painter, rng: np.random.Generator, x: float, y: float, size: float) -> None:
    """A person in a gown, seen from the front; ``size``: half the height of the head."""
    gown, skin = _pick(rng, _CLOTH), _pick(rng, _SKIN)
    body = np.array([(-1.0, 1.0), (1.0, 1.0), (1.9, 2.0), (1.8, 9.0), (-1.8, 9.0), (-1.9, 2.0)]) * size + (x, y)
    p.shape(body, gown)
    p.bar((x, y + 1.2 * size), (x + 0.1 * size, y + 8 * size), 0.12 * size, _shaded(gown, 0.8))
    for side in (-1, 1):
        elbow = (x + side * 2.3 * size, y + 3.8 * size)
        hand = (x + side * float(rng.uniform(0.2, 2.4)) * size, y + float(rng.uniform(4.0, 5.6)) * size)
        p.bar((x + side * 1.5 * size, y + 1.8 * size), elbow, 0.9 * size, _shaded(gown, 0.92))
        p.bar(elbow, hand, 0.75 * size, _shaded(gown, 0.88))
        p.disc(*hand, 0.5 * size, 0.5 * size, _pick(rng, _GLOVE))
    mask = _pick(rng, ((140, 190, 215), (225, 230, 232), (150, 200, 180))) if rng.random() < 0.7 else None
    _face(p, x, y, size, skin, _pick(rng, _CLOTH if rng.random() < 0.7 else ((40, 30, 25), (90, 60, 35))), mask)


def _lamp(p: Painter, x: float, y: float, size: float, lit: bool) -> None:
    p.bar((x, y), (x + 0.3 * size, y - 3), 0.12 * size, (150, 152, 155))
    p.disc(x, y, size, 0.55 * size, (215, 218, 220))
    if lit:
        for turn in np.linspace(0, 2 * np.pi, 6, endpoint=False):
            p.disc(
                x + 0.55 * size * np.cos(turn), y + 0.3 * size * np.sin(turn), 0.2 * size, 0.12 * size, (255, 255, 250)
            )
        p.cloud(x, y, 2.2 * size, 1.8 * size, (255, 252, 240), 0.6)


def _blurred(image: Image, heights: float) -> Image:
    """``image`` out of focus by ``heights`` of the picture."""
    sigma = heights * image.shape[0]
    return image if sigma < 0.3 else np.asarray(cv2.GaussianBlur(image, (0, 0), sigma), np.uint8)


def operating_room(rng: np.random.Generator, width: int, height: int) -> Scene:
    """The room from where the camera is held: walls, floor, lamps, a screen, the draped patient, people who move."""
    wall = _pick(rng, ((200, 210, 205), (170, 190, 200), (215, 210, 195), (120, 150, 140), (90, 100, 110)))
    floor = _pick(rng, ((110, 125, 120), (80, 90, 105), (150, 140, 125)))
    edge, people = float(rng.uniform(0.45, 0.8)), int(rng.integers(1, 5))
    places = rng.uniform((0.0, 0.15, 0.05), (WIDTH, 0.5, 0.16), (people, 3))
    seeds, sway, defocus = rng.integers(1 << 30, size=people), _sway(rng, 0.12), float(rng.uniform(0, 0.012))
    lamps = rng.uniform((0.1, -0.05, 0.08), (WIDTH - 0.1, 0.2, 0.25), (int(rng.integers(0, 4)), 3))
    lit, screen, drape = rng.random() < 0.8, rng.uniform((0, 0.05), (WIDTH - 0.4, 0.3)), _pick(rng, _CLOTH)
    glow, dim, pace = (
        _pick(rng, ((160, 70, 60), (40, 60, 90), (150, 160, 170))),
        float(rng.uniform(0.3, 1.15)),
        rng.uniform(0.3, 1.2, people),
    )
    has_screen, has_table = rng.random() < 0.6, rng.random() < 0.7
    turned = float(rng.normal(0, 12))

    def draw(_inside: Image, t_s: float, _share: float) -> Image:
        image = np.empty((height, width, 3), np.uint8)
        image[:] = wall
        dx, dy = sway(t_s)
        p = _painter(image, 1.25, (dx - 0.2, dy - 0.12))
        p.shape([(-1, edge), (3, edge), (3, 3), (-1, 3)], floor)
        p.bar((-1, edge), (3, edge), 0.02, _shaded(wall, 0.6))
        for x in (0.2, 0.9, 1.5):
            p.bar((x, -1), (x, edge), 0.008, _shaded(wall, 0.85))
        if has_screen:
            x, y = screen
            p.shape([(x, y), (x + 0.4, y), (x + 0.4, y + 0.26), (x, y + 0.26)], (25, 25, 28))
            p.shape([(x + 0.02, y + 0.02), (x + 0.38, y + 0.02), (x + 0.38, y + 0.24), (x + 0.02, y + 0.24)], glow)
        for place, seed, beat in zip(places, seeds, pace, strict=True):
            x, y, size = place
            _person(p, np.random.default_rng(int(seed)), x + 0.03 * np.sin(beat * t_s), y, size)
        if has_table:
            p.shape([(0.1, 0.78), (1.6, 0.72), (1.9, 1.4), (-0.2, 1.4)], drape)
            p.shape([(0.1, 0.78), (1.6, 0.72), (1.62, 0.76), (0.1, 0.82)], _shaded(drape, 1.2))
        for x, y, size in lamps:
            _lamp(p, x, y, size, lit)
        if abs(turned) > 1:
            matrix = cv2.getRotationMatrix2D((width / 2, height / 2), turned, 1.1)
            image = np.asarray(cv2.warpAffine(image, matrix, (width, height), borderMode=cv2.BORDER_REFLECT), np.uint8)
        return _blurred(np.asarray(cv2.convertScaleAbs(image, alpha=dim), np.uint8), defocus)

    return draw


def close_face(rng: np.random.Generator, width: int, height: int) -> Scene:
    """A face that fills much of the picture, as when somebody looks at the camera's tip."""
    skin, cap = _pick(rng, _SKIN), _pick(rng, (*_CLOTH, (40, 30, 25)))
    mask = _pick(rng, ((140, 190, 215), (225, 230, 232))) if rng.random() < 0.5 else None
    size, x, y = float(rng.uniform(0.3, 0.85)), float(rng.uniform(0.5, 1.3)), float(rng.uniform(0.3, 0.7))
    ground, sway = _cloth(rng, width, height, _pick(rng, (*_CLOTH, (200, 205, 200), (70, 75, 80)))), _sway(rng, 0.08)
    defocus, turn = float(rng.uniform(0, 0.02)), float(rng.normal(0, 25))

    def draw(_inside: Image, t_s: float, _share: float) -> Image:
        image, (dx, dy) = ground.copy(), sway(t_s)
        p = _painter(image)
        p.shape(
            [(x - 0.45 * size, y), (x + 0.45 * size, y), (x + 0.5 * size, 2), (x - 0.5 * size, 2)], _shaded(skin, 0.8)
        )
        _face(p, x + dx, y + dy, size, skin, cap, mask)
        p.cloud(x + dx - 0.2 * size, y + dy - 0.2 * size, 0.6 * size, 0.8 * size, (255, 245, 235), 0.2)
        matrix = cv2.getRotationMatrix2D((width / 2, height / 2), turn, 1.05)
        image = np.asarray(cv2.warpAffine(image, matrix, (width, height), borderMode=cv2.BORDER_REFLECT), np.uint8)
        return _blurred(image, defocus)

    return draw


def _tool(p: Painter, rng: np.random.Generator) -> None:
    """An instrument that lies on a table: a shaft, and rings or a handle."""
    x, y, turn = rng.uniform(0.1, WIDTH - 0.1), rng.uniform(0.1, 0.9), rng.uniform(0, 2 * np.pi)
    length, metal = rng.uniform(0.3, 0.8), _pick(rng, (_STEEL, (120, 125, 130), (60, 62, 66), (205, 180, 110)))
    way = np.array([np.cos(turn), np.sin(turn)])
    a, b = np.array([x, y]), np.array([x, y]) + way * length
    width = float(rng.uniform(0.012, 0.04))
    p.bar(a + (0.01, 0.015), b + (0.01, 0.015), width, (40, 50, 60))
    p.bar(a, b, width, metal)
    p.bar(a, b, width * 0.3, _shaded(metal, 1.25))
    if rng.random() < 0.6:
        across = np.array([-way[1], way[0]])
        for side in (-1, 1):
            ring = a - way * 0.06 + across * side * 0.05
            p.band(np.concatenate([CIRCLE, CIRCLE[:1]]) * 0.045 + ring, 0.016, metal)
            p.bar(ring + way * 0.04, a + way * 0.12, 0.016, metal)


def instrument_table(rng: np.random.Generator, width: int, height: int) -> Scene:
    """Instruments, bowls and gauze on a cloth, at times with a gloved hand above them."""
    ground = _cloth(rng, width, height)
    p = _painter(ground)
    for _ in range(int(rng.integers(0, 4))):
        x, y, side = rng.uniform(0.1, 1.6), rng.uniform(0.1, 0.9), rng.uniform(0.05, 0.18)
        p.shape(
            [(x - side, y - side), (x + side, y - 0.8 * side), (x + 0.9 * side, y + side), (x - side, y + side)],
            (238, 238, 235),
        )
    for _ in range(int(rng.integers(0, 3))):
        x, y, size = rng.uniform(0.2, 1.6), rng.uniform(0.2, 0.8), rng.uniform(0.08, 0.2)
        p.disc(x, y, size, size, _STEEL)
        p.disc(x, y, 0.85 * size, 0.85 * size, _pick(rng, ((120, 125, 130), (110, 40, 35), (225, 230, 235))))
    for _ in range(int(rng.integers(2, 10))):
        _tool(p, rng)
    hand = _gloved_hand(rng) if rng.random() < 0.5 else None
    sway, defocus, zoom = _sway(rng, 0.12), float(rng.uniform(0, 0.012)), float(rng.uniform(1.0, 1.6))

    def draw(_inside: Image, t_s: float, _share: float) -> Image:
        dx, dy = sway(t_s)
        matrix = np.array(
            [[zoom, 0, (dx - (zoom - 1) / 2) * width * 0.5], [0, zoom, (dy - (zoom - 1) / 2) * height]], np.float64
        )
        image = np.asarray(cv2.warpAffine(ground, matrix, (width, height), borderMode=cv2.BORDER_REFLECT), np.uint8)
        if hand:
            hand(_painter(image), 0.9 + 2 * dx, 0.75 + dy, 0.5)
        return _blurred(image, defocus)

    return draw


def drapes(rng: np.random.Generator, width: int, height: int) -> Scene:
    """Drapes around a field of skin, with trocars standing in it or hands at work on it, or drapes alone."""
    ground = _cloth(rng, width, height)
    p = _painter(ground)
    if rng.random() < 0.6:
        x, y = rng.uniform(0.6, 1.2), rng.uniform(0.35, 0.65)
        rx, ry = rng.uniform(0.25, 0.7), rng.uniform(0.2, 0.45)
        skin = _pick(rng, _SKIN)
        p.shape(CIRCLE * (rx, ry) + (x, y), _shaded(skin, 0.8))
        p.shape(CIRCLE * (0.95 * rx, 0.95 * ry) + (x, y - 0.01), skin)
        p.disc(x, y, 0.02, 0.015, _shaded(skin, 0.5))
        for _ in range(int(rng.integers(1, 5))):
            at = np.array([x + rng.uniform(-0.8, 0.8) * rx, y + rng.uniform(-0.8, 0.8) * ry])
            tube = _pick(rng, ((60, 62, 66), (200, 205, 210), (90, 130, 180)))
            p.bar(at, at + rng.uniform((-0.15, -0.3), (0.15, -0.1)), 0.07, tube)
            p.disc(float(at[0]), float(at[1]), 0.06, 0.04, _shaded(tube, 0.7))
    if rng.random() < 0.5:
        cable = rng.uniform((0, 0), (WIDTH, 1), (2, 2))
        bend = np.linspace(0, 1, 20)[:, None]
        p.band(cable[0] * (1 - bend) + cable[1] * bend + 0.1 * np.sin(6 * bend), 0.025, (50, 52, 55))
    for _ in range(int(rng.integers(0, 3)) if rng.random() < 0.5 else 0):
        _gloved_hand(rng)(p, float(rng.uniform(0.2, 1.6)), float(rng.uniform(0.3, 0.9)), float(rng.uniform(0.15, 0.35)))
    sway, defocus, zoom = _sway(rng, 0.15), float(rng.uniform(0, 0.03)), float(rng.uniform(1.0, 1.8))

    def draw(_inside: Image, t_s: float, _share: float) -> Image:
        dx, dy = sway(t_s)
        matrix = np.array(
            [[zoom, 0, (dx - (zoom - 1) / 2) * width * 0.5], [0, zoom, (dy - (zoom - 1) / 2) * height]], np.float64
        )
        return _blurred(
            np.asarray(cv2.warpAffine(ground, matrix, (width, height), borderMode=cv2.BORDER_REFLECT), np.uint8),
            defocus,
        )

    return draw


def _gloved_hand(rng: np.random.Generator) -> Callable[[Painter, float, float, float], None]:
    """A hand of one colour: ``hand(painter, x, y, size)`` draws it with the palm at (x, y)."""
    glove = _pick(rng, (*_GLOVE, *_SKIN[:4]))
    turn, spread, arm = float(rng.uniform(0, 2 * np.pi)), float(rng.uniform(0.08, 0.3)), _pick(rng, _CLOTH)
    lengths = rng.uniform(0.7, 1.1, 5) * (0.75, 1.0, 1.05, 0.95, 0.75)

    def hand(p: Painter, x: float, y: float, size: float) -> None:
        back = np.array([np.cos(turn + np.pi), np.sin(turn + np.pi)])
        palm = np.array([x, y])
        p.bar(palm + back * 0.5 * size, palm + back * 4 * size, 0.8 * size, arm)
        p.bar(palm, palm + back * 0.8 * size, 0.7 * size, _shaded(glove, 0.9))
        p.disc(x, y, 0.5 * size, 0.5 * size, glove)
        for number, length in enumerate(lengths):
            way = turn + (number - 2) * spread * 1.6
            tip = palm + np.array([np.cos(way), np.sin(way)]) * length * 1.3 * size
            p.bar(palm, tip, 0.22 * size, _shaded(glove, 0.86 + 0.05 * number))
            p.disc(float(tip[0]), float(tip[1]), 0.11 * size, 0.11 * size, _shaded(glove, 1.02))

    return hand


def hand_before_lens(rng: np.random.Generator, width: int, height: int) -> Scene:
    """A hand that holds or covers the camera's tip, out of focus, before a room or a cloth."""
    ground = operating_room(rng, width, height) if rng.random() < 0.5 else drapes(rng, width, height)
    hand, size, sway = _gloved_hand(rng), float(rng.uniform(0.4, 1.3)), _sway(rng, 0.25)
    x, y, defocus = float(rng.uniform(0.3, 1.5)), float(rng.uniform(0.2, 0.9)), float(rng.uniform(0.005, 0.05))

    def draw(inside: Image, t_s: float, share: float) -> Image:
        image, (dx, dy) = ground(inside, t_s, share), sway(t_s)
        hand(_painter(image), x + dx, y + dy, size)
        return _blurred(image, defocus)

    return draw


def gauze(rng: np.random.Generator, width: int, height: int) -> Scene:
    """Gauze that wipes the lens: a white weave, close and moving, with stains."""
    sx, sy = width / WIDTH, float(height)
    x = (np.arange(2 * width, dtype=np.float32) / sx)[None]
    y = (np.arange(2 * height, dtype=np.float32) / sy)[:, None]
    waves, turn = float(rng.uniform(40, 160)), float(rng.uniform(-0.5, 0.5))
    u, v = np.cos(turn) * x + np.sin(turn) * y, np.cos(turn) * y - np.sin(turn) * x
    weave = np.sin(waves * u) * np.sin(waves * v)
    folds = _relief(rng, 2 * width, 2 * height, int(rng.integers(2, 8)), float(rng.uniform(0, np.pi)))
    light = rng.uniform(0.7, 1.0) + rng.uniform(0.03, 0.15) * weave + rng.uniform(0.05, 0.2) * folds
    cloth = np.clip(
        light[..., None] * np.asarray(_pick(rng, ((245, 245, 240), (235, 240, 245)), 0.05), np.float32), 0, 255
    ).astype(np.uint8)
    p = _painter(cloth)
    for _ in range(int(rng.integers(0, 4))):
        stain = _pick(rng, ((190, 40, 40), (150, 60, 45), (200, 120, 90)))
        x0, y0, rx, ry = rng.uniform((0, 0, 0.2, 0.2), (3, 2, 0.7, 0.7)).tolist()
        p.cloud(x0, y0, rx, ry, stain, 0.7)
    phase, pace, defocus = rng.uniform(0, 6, 2), rng.uniform(1.5, 6, 2), float(rng.uniform(0, 0.03))

    def draw(_inside: Image, t_s: float, _share: float) -> Image:
        left = int((0.5 + 0.5 * np.sin(pace[0] * t_s + phase[0])) * width)
        top = int((0.5 + 0.5 * np.sin(pace[1] * t_s + phase[1])) * height)
        return _blurred(cloth[top : top + height, left : left + width].copy(), defocus)

    return draw


def trocar(rng: np.random.Generator, width: int, height: int) -> Scene:
    """The way through a trocar: a dark tube with rings, and its bright opening, in which the body is seen."""
    sx, sy = width / WIDTH, float(height)
    x = (np.arange(width, dtype=np.float32) + 0.5)[None] / sx - WIDTH / 2
    y = (np.arange(height, dtype=np.float32) + 0.5)[:, None] / sy - 0.5
    at, outward = rng.uniform(-0.12, 0.12, 2), rng.random() < 0.5
    radius = np.hypot(x - at[0], y - at[1])
    wide, narrow = rng.uniform(0.36, 0.5), rng.uniform(0.06, 0.18)
    tint = np.asarray(_pick(rng, ((90, 95, 100), (130, 135, 140), (80, 110, 140), (60, 60, 62))), np.float32)
    phase, rings, gloss = rng.uniform(0, 6), rng.uniform(8, 22), rng.uniform(0.05, 0.5)
    around = np.cos(np.arctan2(y, x) * int(rng.integers(1, 4)) + phase)
    defocus = float(rng.uniform(0, 0.012))

    def draw(inside: Image, _t_s: float, share: float) -> Image:
        passed = 1 - share if outward else share
        opening = float(narrow + (wide - narrow) * passed)
        depth = np.clip(opening / np.maximum(radius, 1e-3), 0, 1)  # perspective: nearer to the opening is farther away
        wall = depth**1.5 * (0.55 + gloss * around + 0.22 * np.sin(rings / np.maximum(radius, 0.05) + 9 * passed))
        image = np.clip(wall[..., None] * tint, 0, 255)
        rim = np.exp(-(((radius - opening) / 0.022) ** 2))[..., None]
        image = image * (1 - rim) + rim * (235, 232, 225)
        scale = 2.2 * opening
        to_small = np.array(
            [[scale, 0, width / 2 * (1 - scale) + at[0] * sx], [0, scale, height / 2 * (1 - scale) + at[1] * sy]]
        )
        small = cv2.warpAffine(inside, to_small, (width, height), borderMode=cv2.BORDER_REFLECT)
        seen = np.clip((opening - radius) * sy / 2 + 0.5, 0, 1)[..., None]
        return _blurred((image * (1 - seen) + seen * small).astype(np.uint8), defocus)

    return draw


SCENES: dict[str, Callable[[np.random.Generator, int, int], Scene]] = {
    "operating room": operating_room,
    "face": close_face,
    "instrument table": instrument_table,
    "drapes": drapes,
    "hand": hand_before_lens,
    "gauze": gauze,
    "trocar": trocar,
}
"""Name of a scene → what makes it from (random numbers, width, height)."""
