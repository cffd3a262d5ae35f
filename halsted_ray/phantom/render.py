"""Pictures of a script: tissue under a moving camera, props, instruments, then the camera's own exposure.

The camera sets its exposure and white balance so that the mean colour of each picture is that of the bare tissue, with
a wander of its own, whatever the hands do. Real endoscopes do much the same; here it makes sure that mean colour tells
nothing about the action.
"""

from __future__ import annotations

from functools import lru_cache

import cv2
import numpy as np

from halsted_ray.phantom import motion, props
from halsted_ray.phantom.instruments import draw
from halsted_ray.phantom.motion import TAU
from halsted_ray.phantom.painter import Painter
from halsted_ray.phantom.script import Event, Script
from halsted_ray.phantom.tissue import MARGIN_X, MARGIN_Y, WIDTH, picture

_CENTRE = np.array([WIDTH / 2, 0.5])
_BRIGHTNESS = 108.0
_LEVELS = np.arange(256.0).reshape(1, 256, 1)


class Renderer:
    """Frames of ``script`` at ``width`` × ``height`` pixels; the picture is squeezed where they are not 16:9.

    A frame is a function of the script and the time alone, in any order of times. Costs about 3 ms at 640×360.
    ``variant`` (default: the script's seed) chooses the look of the tissue; ``pictures`` may share tissue between
    renderers of one size: called with (procedure, variant, anatomy or None, sx, sy), like ``tissue.picture``.
    """

    def __init__(self, script: Script, width: int, height: int, *, variant: int | None = None, pictures=None):
        self.script, self.width, self.height = script, width, height
        self._scale = np.array([width / WIDTH, float(height)])
        self._variant = script.seed if variant is None else variant
        self._pictures = pictures or lru_cache(maxsize=8)(picture)
        rng = np.random.default_rng([script.seed, 41])
        self._balance = rng.uniform(0.84, 1.16) * rng.uniform(0.94, 1.06, 3)
        self._colours: dict[str | None, np.ndarray] = {}
        self._drift = rng.uniform(0, TAU, 8)
        self._zoom = float(rng.uniform(1.0, 1.08))
        self._vignette = _vignette(width, height, *(rng.uniform(-0.12, 0.12, 2) + _CENTRE))

    def frame(self, t_s: float) -> np.ndarray:
        """The picture at ``t_s``: uint8 [height, width, 3] RGB."""
        event = self.script.event_at(t_s)
        zoom, shift = self._camera(event, t_s)
        image = self._tissue(event, zoom, shift)
        self._scene(Painter(image, self._scale, zoom, shift), event, t_s)
        return self._expose(image, event, t_s)

    def _camera(self, event: Event, t_s: float) -> tuple[float, np.ndarray]:
        d = self._drift
        zoom = self._zoom + 0.012 * np.sin(TAU * t_s / 3.9 + d[0])
        move = 0.010 * np.array([np.sin(TAU * t_s / 11 + d[1]), np.sin(TAU * t_s / 7 + d[2])])
        if event.name == "Camera Move":
            u = TAU * motion.beat(event).cycles(t_s)
            zoom += 0.10 + 0.10 * np.sin(u + d[3])
            move = move + (0.26 * np.cos(u), 0.13 * np.sin(u))
        return zoom, _CENTRE * (1 - zoom) + move

    def _tissue(self, event: Event, zoom: float, shift: np.ndarray) -> np.ndarray:
        sx, sy = self._scale
        ground = self._pictures(self.script.procedure, self._variant, event.stitch.get("anatomy"), sx, sy)
        # Pixel centre of the frame → height units → the point before zoom and shift → pixel of the tissue's picture.
        to_ground = np.array(
            [
                [1 / zoom, 0, ((0.5 / sx - shift[0]) / zoom + MARGIN_X) * sx - 0.5],
                [0, 1 / zoom, ((0.5 / sy - shift[1]) / zoom + MARGIN_Y) * sy - 0.5],
            ]
        )
        return cv2.warpAffine(
            ground,
            to_ground,
            (self.width, self.height),
            flags=cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP,
            borderMode=cv2.BORDER_REFLECT,
        )

    def _scene(self, painter: Painter, event: Event, t_s: float) -> None:
        own = motion.beat(event)
        found = motion.hands(event, t_s)
        tip = next(hand.tip for hand in found if hand.side == own.lead)
        if own.blood:
            x, y, size = own.blood
            painter.disc(x, y, size * 1.5, size, (105, 5, 12))
            painter.disc(x - 0.02, y - size * 0.4, size * 0.3, size * 0.12, (255, 190, 190))
        if event.name in props.UNDER:
            props.UNDER[event.name](painter, event, own, t_s, tip)
        for hand in found:
            draw(painter, hand.name, motion.PORTS[hand.side], hand.tip, hand.opening)
        if event.name in props.OVER:
            props.OVER[event.name](painter, event, own, t_s, tip)

    def _expose(self, image: np.ndarray, event: Event, t_s: float) -> np.ndarray:
        image = cv2.multiply(image, self._vignette, scale=1 / 255)
        d = self._drift
        wander = self._balance * (1 + 0.05 * np.sin(TAU * t_s / 23 + d[3]) + 0.03 * np.sin(TAU * t_s / 17 + d[4:7]))
        wanted = self._tissue_colour(event.stitch.get("anatomy")) * wander
        step = max(1, self.height // 56)
        sample = np.ascontiguousarray(image[::step, ::step])
        got = np.array(cv2.mean(sample)[:3])
        gain = np.clip(wanted / got, 0.4, 2.5)
        # Bright light saturates: a second look makes up for what the first gain cuts off.
        shown = np.array(cv2.mean(cv2.LUT(sample, _gain_table(gain)))[:3])
        gain = np.clip(gain * np.clip(wanted / shown, 0.8, 1.25), 0.4, 2.5)
        return cv2.LUT(image, _gain_table(gain))

    def _tissue_colour(self, anatomy: str | None) -> np.ndarray:
        """Mean colour of the bare tissue, brought to one brightness: what the camera balances its pictures to."""
        if anatomy not in self._colours:
            ground = self._pictures(self.script.procedure, self._variant, anatomy, *self._scale)
            mean = np.array(cv2.mean(ground)[:3])
            self._colours[anatomy] = mean * (_BRIGHTNESS / mean.mean())
        return self._colours[anatomy]


def _gain_table(gain: np.ndarray) -> np.ndarray:
    return np.minimum(_LEVELS * gain + 0.5, 255).astype(np.uint8)


def _vignette(width: int, height: int, x: float, y: float) -> np.ndarray:
    gx = ((np.arange(width) + 0.5) / width * WIDTH - x)[None, :]
    gy = ((np.arange(height) + 0.5) / height - y)[:, None]
    light = 1 - 0.42 * np.clip((gx**2 + gy**2) / 1.1, 0, 1)
    return np.repeat(np.rint(light * 255).astype(np.uint8)[:, :, None], 3, axis=2)
