"""Lines of text as recorders burn them into a picture, over synthetic operations, with the truth of where they stand.

Shapes: H, W height and width of a picture in pixels.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import cv2
import matplotlib
import numpy as np
from PIL import Image, ImageDraw, ImageFont

from halsted_ray.phantom.catalogue import PROCEDURES
from halsted_ray.phantom.natural_tissue import natural_tissue
from halsted_ray.phantom.tissue import picture

HEIGHT, WIDTH = 720, 1280
SMALLEST_PX, LARGEST_PX = 8, 48
"""Heights of capital letters; log-uniform between."""
HERSHEY = {
    "Hershey simplex": cv2.FONT_HERSHEY_SIMPLEX,
    "Hershey duplex": cv2.FONT_HERSHEY_DUPLEX,
    "Hershey complex": cv2.FONT_HERSHEY_COMPLEX,
    "Hershey triplex": cv2.FONT_HERSHEY_TRIPLEX,
    "Hershey plain": cv2.FONT_HERSHEY_PLAIN,
    "Hershey small": cv2.FONT_HERSHEY_COMPLEX_SMALL,
}
FILES = (
    "DejaVuSans",
    "DejaVuSans-Bold",
    "DejaVuSansMono",
    "DejaVuSansMono-Bold",
    "DejaVuSerif",
    "DejaVuSerif-Bold",
    "STIXGeneral",
    "STIXGeneralBol",
    "cmss10",
    "cmtt10",
)
"""Fonts that matplotlib carries."""
BUNDLED = "Pillow's own"
FONTS = (*HERSHEY, *FILES, BUNDLED)
FAMILIES = (
    *("MEIER", "OKAFOR", "SILVA", "Nguyen", "Kowalski", "O'BRIEN", "Haddad", "LINDQVIST", "Fischer", "TANAKA"),
    *("Ivanova", "GARCIA-LOPEZ", "Al-Masri", "Rossi", "DUBOIS", "Petersen", "Kaya", "Zimmermann", "LEE", "Ng"),
)
GIVEN = ("Anna", "JOHN", "Maria", "WEI", "Fatima", "Tom", "LUISE", "Omar", "Ines", "PAVEL")
COLOURS = (
    *((255, 255, 255), (255, 255, 255), (235, 235, 235), (190, 190, 190), (255, 255, 0), (0, 255, 0), (0, 255, 255)),
    *((255, 160, 0), (255, 90, 90), (20, 20, 20)),
)
STYLES = ("plain", "outline", "box")


@dataclass(frozen=True)
class Line:
    """One planted line. ``ink``: where its letters are, as (rows, columns). ``contrast``: grey levels between the
    letters and what lies right beside them, of 255."""

    ink: tuple[np.ndarray, np.ndarray]
    font: str
    style: str
    letters_px: int
    contrast: float
    in_field: bool
    """Whether its middle lies in the endoscope's picture rather than beside it."""


def words(rng: np.random.Generator) -> str:
    """A name, a number, a date or a time, or several, as recorders write them."""
    family, given = str(rng.choice(FAMILIES)), str(rng.choice(GIVEN))
    day, month, year = rng.integers(1, 29), rng.integers(1, 13), rng.integers(1930, 2026)
    number = int(rng.integers(10_000, 99_999_999))
    clock = f"{rng.integers(0, 24):02}:{rng.integers(0, 60):02}:{rng.integers(0, 60):02}"
    dates = (f"{day:02}.{month:02}.{year}", f"{year}-{month:02}-{day:02}", f"{month:02}/{day:02}/{year}")
    date = dates[int(rng.integers(3))]
    forms: tuple[Callable[[], str], ...] = (
        lambda: f"{family}, {given[0]}.",
        lambda: f"{family.upper()} {given.upper()}",
        lambda: f"{given} {family}",
        lambda: f"{family} {date}",
        lambda: f"ID {number}",
        lambda: f"MRN: {number}",
        lambda: str(number),
        lambda: date,
        lambda: f"DOB {date}",
        lambda: f"Pat: {family} {number}",
        lambda: f"{date} {clock}",
        lambda: clock,
        lambda: f"Dr. {family}",
    )
    return forms[int(rng.integers(len(forms)))]()


def letters(text: str, font: str, letters_px: int) -> np.ndarray:
    """The ink of a line of text, 0 to 1 [H, W], as small as it goes; capitals are ``letters_px`` high."""
    if font in HERSHEY:
        thick = max(1, letters_px // 10)
        scale = cv2.getFontScaleFromHeight(HERSHEY[font], letters_px, thick)
        (width, height), below = cv2.getTextSize(text, HERSHEY[font], scale, thick)
        ink = np.zeros((height + below + 2 * thick, width + 2 * thick), np.uint8)
        cv2.putText(ink, text, (thick, height + thick), HERSHEY[font], scale, 255, thick, cv2.LINE_AA)
    else:
        drawn = _true_type(font, letters_px)
        left, top, right, bottom = (int(edge) for edge in drawn.getbbox(text))
        canvas = Image.new("L", (right - left + 4, bottom - top + 4))
        ImageDraw.Draw(canvas).text((2 - left, 2 - top), text, font=drawn, fill=255)
        ink = np.asarray(canvas)
    rows, columns = np.flatnonzero(ink.any(1)), np.flatnonzero(ink.any(0))
    return ink[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1].astype(np.float32) / 255


def _true_type(font: str, letters_px: int) -> ImageFont.FreeTypeFont:
    path = Path(matplotlib.get_data_path(), "fonts", "ttf", f"{font}.ttf")

    def at(size: float) -> ImageFont.FreeTypeFont:
        found = ImageFont.load_default(size) if font == BUNDLED else ImageFont.truetype(path, size)
        assert isinstance(found, ImageFont.FreeTypeFont)
        return found

    _, top, _, bottom = at(100).getbbox("H")
    return at(100 * letters_px / (bottom - top))


def background(rng: np.random.Generator, height: int = HEIGHT, width: int = WIDTH) -> tuple[np.ndarray, np.ndarray]:
    """(a picture of an operation, RGB [H, W, 3]; where the endoscope's field is, bool [H, W])."""
    if rng.random() < 0.5:
        seen_HWC = natural_tissue(rng, width // 2, height // 2)
    else:
        seen_HWC = picture(str(rng.choice(list(PROCEDURES))), int(rng.integers(1 << 30)), None, 600.0, 600.0)
    image_HWC = cv2.resize(seen_HWC, (width, height))
    field_HW = np.ones((height, width), np.uint8)
    if rng.random() < 0.6:  # an endoscope's round field
        field_HW[:] = 0
        cv2.circle(field_HW, (width // 2, height // 2), int(height * rng.uniform(0.42, 0.55)), 1, -1)
    return image_HWC * field_HW[:, :, None], field_HW.astype(bool)


@dataclass(frozen=True)
class Overlay:
    """A line that can be put over any picture: ``put`` writes it into RGB [H, W, 3]."""

    ink_HW: np.ndarray
    x: int
    y: int
    font: str
    style: str
    letters_px: int
    colour: tuple[int, int, int]
    strength: float

    def put(self, image_HWC: np.ndarray) -> None:
        """Writes the line over the picture, in place."""
        margin = max(2, self.letters_px // 6)
        ink_HW = np.pad(self.ink_HW, margin)
        height, width = ink_HW.shape
        part = image_HWC[self.y - margin :, self.x - margin :][:height, :width]
        seen: np.ndarray = part.astype(np.float32)
        dark = (0, 0, 0) if max(self.colour) > 60 else (225, 225, 225)
        if self.style == "box":
            seen[:] = seen * 0.15 + np.float32(dark) * 0.85
        elif self.style == "outline":
            around = cv2.dilate(ink_HW, np.ones((3, 3), np.uint8))[..., None] * self.strength
            seen = seen * (1 - around) + np.float32(dark) * around
        cover = ink_HW[..., None] * self.strength
        part[:] = np.clip(seen * (1 - cover) + np.float32(self.colour) * cover, 0, 255).astype(np.uint8)

    @property
    def ink(self) -> tuple[np.ndarray, np.ndarray]:
        """(rows, columns) of the letters in the picture."""
        rows, columns = np.nonzero(self.ink_HW > 0.4)
        return rows + self.y, columns + self.x

    def line(self, image_HWC: np.ndarray, field_HW: np.ndarray) -> Line:
        """What is known of the line in the finished picture."""
        rows, columns = self.ink
        height, width = self.ink_HW.shape
        near = np.s_[max(0, self.y - 2) : self.y + height + 2, max(0, self.x - 2) : self.x + width + 2]
        inked = np.zeros(image_HWC.shape[:2], np.uint8)
        inked[rows, columns] = 1
        ring = (cv2.dilate(inked[near], np.ones((5, 5), np.uint8)) - cv2.dilate(inked[near], np.ones((3, 3)))) > 0
        grey = cv2.cvtColor(np.ascontiguousarray(image_HWC[near]), cv2.COLOR_RGB2GRAY).astype(np.float32)
        beside = grey[ring].mean() if ring.any() else grey.mean()
        contrast = abs(float(grey[inked[near] > 0].mean() - beside))
        return Line(
            (rows, columns),
            self.font,
            self.style,
            self.letters_px,
            contrast,
            bool(field_HW[self.y + height // 2, self.x + width // 2]),
        )


def overlays(
    rng: np.random.Generator,
    count: int,
    height: int = HEIGHT,
    width: int = WIDTH,
    smallest_px: float = SMALLEST_PX,
    largest_px: float = LARGEST_PX,
) -> list[Overlay]:
    """Up to ``count`` lines that do not lie over each other."""
    taken, found = np.zeros((height, width), bool), list[Overlay]()
    for _ in range(20 * count):
        letters_px = round(float(np.exp(rng.uniform(np.log(smallest_px), np.log(largest_px)))))
        font, style = str(rng.choice(FONTS)), str(rng.choice(STYLES))
        ink_HW = letters(words(rng), font, letters_px)
        rows, columns = ink_HW.shape
        gap = letters_px + 6
        if columns + 2 * gap >= width or rows + 2 * gap >= height:
            continue
        x, y = int(rng.integers(gap, width - columns - gap)), int(rng.integers(gap, height - rows - gap))
        place = np.s_[y - gap : y + rows + gap, x - gap : x + columns + gap]
        if taken[place].any():
            continue
        taken[place] = True
        red, green, blue = COLOURS[int(rng.integers(len(COLOURS)))]
        found.append(
            Overlay(ink_HW, x, y, font, style, letters_px, (red, green, blue), float(rng.choice((1.0, 1.0, 0.7, 0.45))))
        )
        if len(found) == count:
            break
    return found


def planted_picture(rng: np.random.Generator, count: int) -> tuple[np.ndarray, list[Line]]:
    """(a picture, BGR [H, W, 3], with ``count`` lines in it as after a codec; the lines)."""
    image_HWC, field_HW = background(rng)
    placed = overlays(rng, count)
    for overlay in placed:
        overlay.put(image_HWC)
    _, packed = cv2.imencode(".jpg", image_HWC[:, :, ::-1], [cv2.IMWRITE_JPEG_QUALITY, int(rng.integers(60, 96))])
    seen_HWC = cv2.imdecode(packed, cv2.IMREAD_COLOR)
    assert seen_HWC is not None
    return seen_HWC, [overlay.line(seen_HWC[:, :, ::-1], field_HW) for overlay in placed]
