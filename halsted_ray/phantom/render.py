"""The picture of a script at a time: tissue under a moving camera, props, instruments, then the camera's exposure.

The camera sets its exposure and white balance so that the mean colour of each picture is the mean colour of the bare
tissue, and slowly drifts, whatever the hands do. Real endoscopes do much the same. Here it makes sure that the mean
colour tells nothing about the action.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import lru_cache

import cv2
import numpy as np
from numpy.typing import NDArray

from halsted_ray.phantom import motion, props
from halsted_ray.phantom.instruments import draw
from halsted_ray.phantom.interruptions import InterruptedView, Interruption
from halsted_ray.phantom.motion import TAU
from halsted_ray.phantom.painter import Painter
from halsted_ray.phantom.script import Event, Script
from halsted_ray.phantom.shifted import ShiftedCamera
from halsted_ray.phantom.tissue import MARGIN_X, MARGIN_Y, WIDTH, picture

_CENTRE = np.array([WIDTH / 2, 0.5])
_BRIGHTNESS = 108.0
_PIXEL = np.dtype((np.void, 3))
_LEVELS = np.arange(256.0).reshape(1, 256, 1)

TissuePicture = Callable[[str, int, str | None, float, float], NDArray[np.uint8]]
"""``picture(procedure, variant, anatomy, sx, sy)``, as ``tissue.picture``."""


class Renderer:
    """Frames of ``script`` at ``width`` × ``height`` pixels; the picture is squeezed where that is not 16:9.

    A frame depends on the script and the time alone, in whatever order times are asked for. A frame takes about 3 ms at
    640×360. ``shifted``: seen by another camera, with instruments of another make (``phantom.shifted``); that doubles
    the time. ``variant`` chooses the look of the tissue (default: the script's seed). ``pictures`` may share pictures
    of tissue between renderers of one size. ``interruptions``: views in place of the operation, as of
    ``make_interruptions``; they are seen by the same camera. ``tip_path``: the way of the leading hand's tip in every
    event, in place of the event's own.
    """

    def __init__(
        self,
        script: Script,
        width: int,
        height: int,
        *,
        shifted: bool = False,
        variant: int | None = None,
        pictures: TissuePicture | None = None,
        interruptions: Sequence[Interruption] = (),
        tip_path: motion.TipPath | None = None,
    ):
        self.script, self.width, self.height = script, width, height
        self._tip_path = tip_path
        self._scale = np.array([width / WIDTH, float(height)])
        self._variant = script.seed if variant is None else variant
        self._pictures = pictures or lru_cache(maxsize=8)(picture)
        rng = np.random.default_rng([script.seed, 41])
        self._balance = rng.uniform(0.84, 1.16) * rng.uniform(0.94, 1.06, 3)
        self._colours: dict[str | None, NDArray[np.float64]] = {}
        self._drift = rng.uniform(0, TAU, 8)
        self._zoom = float(rng.uniform(1.0, 1.08))
        self._shifted = ShiftedCamera(script.seed, width, height) if shifted else None
        self._view = InterruptedView(interruptions, script.seed, width, height) if interruptions else None
        self._vignette = _vignette(width, height, *(rng.uniform(-0.12, 0.12, 2) + _CENTRE))

    def frame(self, t_s: float) -> NDArray[np.uint8]:
        """The picture at ``t_s``: uint8 [height, width, 3] RGB."""
        event = self.script.event_at(t_s)
        zoom, shift = self._camera(event, t_s)
        image = self._tissue(event, zoom, shift)
        self._scene(Painter(image, self._scale, zoom, shift), event, t_s)
        image = self._expose(image, event, t_s)
        if self._view:
            image = self._view.over(image, t_s)
        return self._shifted.photograph(image, t_s) if self._shifted else image

    def _camera(self, event: Event, t_s: float) -> tuple[float, NDArray[np.float64]]:
        """(zoom, shift [2]) of the camera, as ``Painter`` takes them."""
        d = self._drift
        zoom = self._zoom + 0.012 * np.sin(TAU * t_s / 3.9 + d[0])
        move = 0.010 * np.array([np.sin(TAU * t_s / 11 + d[1]), np.sin(TAU * t_s / 7 + d[2])])
        if event.name == "Camera Move":
            u = TAU * motion.traits_of(event).cycles(t_s)
            zoom += 0.10 + 0.10 * np.sin(u + d[3])
            move = move + (0.26 * np.cos(u), 0.13 * np.sin(u))
        return zoom, _CENTRE * (1 - zoom) + move

    def _tissue(self, event: Event, zoom: float, shift: NDArray[np.float64]) -> NDArray[np.uint8]:
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
        traits = motion.traits_of(event)
        found = motion.hands(event, t_s, self._tip_path)
        tip = next(hand.tip for hand in found if hand.side == traits.lead)
        if traits.blood:
            x, y, size = traits.blood
            painter.disc(x, y, size * 1.5, size, (105, 5, 12))
            painter.disc(x - 0.02, y - size * 0.4, size * 0.3, size * 0.12, (255, 190, 190))
        if event.name in props.UNDER:
            props.UNDER[event.name](painter, event, traits, t_s, tip)
        for hand in found:
            draw(
                painter,
                hand.name,
                motion.PORTS[hand.side],
                hand.tip,
                hand.opening,
                other_make=self._shifted is not None,
            )
        if event.name in props.OVER:
            props.OVER[event.name](painter, event, traits, t_s, tip)

    def _expose(self, image: NDArray[np.uint8], event: Event, t_s: float) -> NDArray[np.uint8]:
        """The picture as the camera exposes it."""
        image = cv2.multiply(image, self._vignette, scale=1 / 255)
        d = self._drift
        wander = self._balance * (1 + 0.05 * np.sin(TAU * t_s / 23 + d[3]) + 0.03 * np.sin(TAU * t_s / 17 + d[4:7]))
        wanted = self._tissue_colour(event.stitch.get("anatomy")) * wander
        step = max(1, self.height // 56)
        sample = _every(step, image)
        got = np.array(cv2.mean(sample)[:3])
        gain = np.clip(wanted / got, 0.4, 2.5)
        # Bright light saturates, so the gain is corrected once for what it cuts off.
        shown = np.array(cv2.mean(cv2.LUT(sample, _gain_table(gain)))[:3])
        gain = np.clip(gain * np.clip(wanted / shown, 0.8, 1.25), 0.4, 2.5)
        return cv2.LUT(image, _gain_table(gain))

    def _tissue_colour(self, anatomy: str | None) -> NDArray[np.float64]:
        """float64 [3]: the mean colour of the bare tissue at a fixed brightness, to which the camera balances."""
        if anatomy not in self._colours:
            ground = self._pictures(self.script.procedure, self._variant, anatomy, *self._scale)
            mean = np.array(cv2.mean(ground)[:3])
            self._colours[anatomy] = mean * (_BRIGHTNESS / mean.mean())
        return self._colours[anatomy]


def _every(step: int, image: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Every ``step``-th pixel of every ``step``-th row, copied by pixels: by bytes it takes 1.7 times as long."""
    pixels = image.view(_PIXEL)[::step, ::step]
    return np.ascontiguousarray(pixels).view(np.uint8)


def _gain_table(gain: NDArray[np.float64]) -> NDArray[np.uint8]:
    """uint8 [1, 256, 3]: old → new level per channel, for ``cv2.LUT``."""
    return np.minimum(_LEVELS * gain + 0.5, 255).astype(np.uint8)


def _vignette(width: int, height: int, x: float, y: float) -> NDArray[np.uint8]:
    """uint8 [H, W, 3]: how much light reaches each pixel, most of it around (x, y)."""
    gx = ((np.arange(width) + 0.5) / width * WIDTH - x)[None, :]
    gy = ((np.arange(height) + 0.5) / height - y)[:, None]
    light = 1 - 0.42 * np.clip((gx**2 + gy**2) / 1.1, 0, 1)
    return np.repeat(np.rint(light * 255).astype(np.uint8)[:, :, None], 3, axis=2)
