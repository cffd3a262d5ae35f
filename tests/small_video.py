"""Real videos of a few kilobytes, each with a pattern of its own."""

from __future__ import annotations

from pathlib import Path

import av
import numpy as np


def write(
    path: str | Path,
    seconds: float,
    fps: int = 25,
    look: int = 0,
    size: tuple[int, int] = (64, 96),
    codec: str = "mpeg4",
    options: dict[str, str] | None = None,
) -> str:
    """Writes a video of a drifting pattern, which ``look`` decides; the suffix decides the container. Returns the
    path."""
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    height, width = size
    coarse = np.random.default_rng(look).integers(0, 256, (4, 6, 3), np.uint8)
    still_HWC = coarse.repeat(height // 4, axis=0).repeat(width // 6, axis=1)
    with av.open(str(path), "w") as container:
        stream = container.add_stream(codec, rate=fps, options={"g": "25", **(options or {})})
        stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
        for n in range(round(seconds * fps)):
            image_HWC = np.ascontiguousarray(np.roll(still_HWC, n * width // (fps * 8), axis=1))
            container.mux(stream.encode(av.VideoFrame.from_ndarray(image_HWC, format="rgb24")))
        container.mux(stream.encode(None))
    return str(path)
