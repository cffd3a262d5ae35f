"""Frame numbers painted on pictures, which survive H.264 and scaling: 2 × 16 black and white blocks along the top.

A code holds 24 bits of the number and 8 bits of checksum, so that a frame without a code, or with a damaged code, is
never read as a number.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

COLUMNS, ROWS = 16, 2
STRIP = 1 / 8
"""The share of the picture's height that the code covers."""
LARGEST = (1 << 24) - 1


def _bits(number: int) -> NDArray[np.bool_]:
    """bool [ROWS, COLUMNS]: the code of ``number``."""
    word = (number << 8) | _checksum(number)
    return np.array([(word >> (31 - i)) & 1 for i in range(32)], bool).reshape(ROWS, COLUMNS)


def _checksum(number: int) -> int:
    """CRC-8 (polynomial 0x07, start 0xA5) of the three bytes; an all-black or all-white strip does not pass it."""
    crc = 0xA5
    for byte in number.to_bytes(3, "big"):
        crc ^= byte
        for _ in range(8):
            crc = ((crc << 1) ^ 0x07 if crc & 0x80 else crc << 1) & 0xFF
    return crc


def _edges(height: int, width: int) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """The edges of the blocks, in pixels: down the picture and across it."""
    strip = max(ROWS, round(height * STRIP))
    return np.linspace(0, strip, ROWS + 1), np.linspace(0, width, COLUMNS + 1)


def paint_frame_number(image_HWC: NDArray[np.uint8], number: int) -> None:
    """Paints ``number`` (0 … 2**24 − 1) over the top eighth of ``image_HWC`` (any number of channels), in place.

    Raises ValueError for another number.
    """
    if not 0 <= number <= LARGEST:
        raise ValueError(f"frame number {number}: expected 0 to {LARGEST}")
    ys, xs = (np.round(e).astype(int) for e in _edges(*image_HWC.shape[:2]))
    for row, bits in enumerate(_bits(number)):
        for column, bit in enumerate(bits):
            image_HWC[ys[row] : ys[row + 1], xs[column] : xs[column + 1]] = 235 if bit else 20


def read_frame_number(image_HWC: NDArray[np.uint8]) -> int:
    """The number painted on a picture (HWC or HW), at any scale down to about 64 × 48 pixels.

    Raises ValueError where no whole code is found.
    """
    gray = np.asarray(image_HWC, np.float32)
    gray = gray.mean(axis=2) if gray.ndim == 3 else gray
    ys, xs = _edges(*gray.shape)
    word = 0
    for row in range(ROWS):
        for column in range(COLUMNS):
            # The middle half of a block: scaling and chroma subsampling mix its rim with the blocks beside it.
            top, bottom = _middle(ys[row], ys[row + 1])
            left, right = _middle(xs[column], xs[column + 1])
            word = (word << 1) | int(gray[top:bottom, left:right].mean() > 127.5)
    number, check = word >> 8, word & 0xFF
    if check != _checksum(number):
        raise ValueError(
            f"no frame number on this {gray.shape[1]}x{gray.shape[0]} picture: the checksum reads "
            f"{check:#04x}, expected {_checksum(number):#04x}; was it written with paint_frame_number?"
        )
    return number


def _middle(start: float, stop: float) -> tuple[int, int]:
    """The middle half of the pixels [start, stop), at least one pixel."""
    quarter = (stop - start) / 4
    first = int(np.floor(start + quarter))
    return first, max(first + 1, int(np.ceil(stop - quarter)))
