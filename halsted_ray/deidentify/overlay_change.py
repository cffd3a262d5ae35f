"""Whether writing has come up in a picture: edges that stand still while the picture moves."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray


class OverlayChange:
    """Says of frame after frame whether something like writing has come up since the last sample."""

    WIDTH, CELL, EDGE, DENSE, RUN = 480, 8, 48, 0.2, 3

    def __init__(self) -> None:
        self._before: NDArray[np.float32] | None = None
        self._known: NDArray[np.uint8] | None = None
        self._still: NDArray[np.uint8] | None = None

    def has_come(self, grey_HW: NDArray[np.uint8]) -> bool:
        """Looks at a frame, grey and ``WIDTH`` columns wide."""
        edges = np.abs(cv2.Sobel(grey_HW, cv2.CV_32F, 1, 0, ksize=1)) * 2
        rows, columns = grey_HW.shape[0] // self.CELL, grey_HW.shape[1] // self.CELL
        density = cv2.resize((edges > self.EDGE).astype(np.float32), (columns, rows), interpolation=cv2.INTER_AREA)
        if self._before is None or self._before.shape != edges.shape:
            self._before, self._still, self._known = edges, (density > self.DENSE).astype(np.uint8), None
            return True
        moved = cv2.resize(np.abs(edges - self._before), (columns, rows), interpolation=cv2.INTER_AREA)
        strength = cv2.resize(edges, (columns, rows), interpolation=cv2.INTER_AREA)
        self._before = edges
        self._still = ((density > self.DENSE) & (moved < 0.35 * strength)).astype(np.uint8)
        if self._known is None:
            return False
        new = self._still & ~cv2.dilate(self._known, np.ones((3, 3), np.uint8)) & 1
        return bool(cv2.erode(new, np.ones((1, self.RUN), np.uint8)).any())

    def sampled(self) -> None:
        """The last frame was read: what stands in it is known."""
        self._known = self._still
