"""1080p30 H.264 to measure decoding with: made here, since no footage may be shipped; bit rate and GOP as recorders
have them. A texture under a moving camera, a moving instrument, and grain, so that the decoder has real work."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path

import av
import numpy as np

WIDTH, HEIGHT, FPS, GOP = 1920, 1080, 30, 60


def write_minute(path: Path, seconds: int = 60, bit_rate: int = 8_000_000) -> None:
    """About 8 Mbit/s, keyframe every 2 s, x264's usual three B-frames, one of them a reference."""
    rng = np.random.default_rng(0)
    coarse = rng.integers(60, 200, (40, 60, 3)).astype(np.uint8)
    large = np.kron(coarse, np.ones((40, 48, 1), np.uint8))
    grain = [rng.integers(0, 12, (HEIGHT, WIDTH, 1)).astype(np.uint8) for _ in range(8)]
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=FPS, options={
            "preset": "veryfast", "bf": "3", "x264-params": f"keyint={GOP}:min-keyint={GOP}:scenecut=0"})
        stream.width, stream.height, stream.pix_fmt, stream.bit_rate = WIDTH, HEIGHT, "yuv420p", bit_rate
        for number in range(seconds * FPS):
            top = 200 + int(150 * np.sin(number / 40))
            left = 400 + int(350 * np.sin(number / 67))
            image_HWC = large[top : top + HEIGHT, left : left + WIDTH] + grain[number % 8]
            x, y = 800 + int(500 * np.sin(number / 11)), 500 + int(300 * np.cos(number / 17))
            image_HWC[y : y + 60, x : x + 400] = 220
            frame = av.VideoFrame.from_ndarray(image_HWC, format="rgb24")
            frame.pts, frame.time_base = number, Fraction(1, FPS)
            container.mux(stream.encode(frame))
        container.mux(stream.encode())


def repeat(path: Path, minute: Path, times: int) -> None:
    """The same packets again and again: a long file without a long encoding."""
    with av.open(str(path), "w") as container:
        with av.open(str(minute)) as source:
            stream = container.add_stream_from_template(source.streams.video[0])
        for number in range(times):
            with av.open(str(minute)) as source:
                video = source.streams.video[0]
                shift = round(number * video.frames / FPS / video.time_base)
                for packet in source.demux(video):
                    if packet.size:
                        packet.pts, packet.dts, packet.stream = packet.pts + shift, packet.dts + shift, stream
                        container.mux(packet)
