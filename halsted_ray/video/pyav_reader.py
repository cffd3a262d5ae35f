"""Frames by PyAV: index, seek, skip; from a local path or over ranges. The default reader.

Decoding is nearly all of the cost, so the rule is: decode no frame that is not on the way to a wanted one,
and convert none that is not wanted.
"""

from __future__ import annotations

import os
from collections.abc import Iterator

import numpy as np

from halsted_ray.profiling import PROCESS_PROFILE
from halsted_ray.storage.ranges import RangeFile
from halsted_ray.video.container import VideoFile
from halsted_ray.video.frames import PictureScaler, display_size
from halsted_ray.video.walk import DisplayWalk, KeyframeWalk


def decode_rows(
    source: str | os.PathLike | RangeFile, times_s: np.ndarray, size: tuple[int, int] | None, fidelity: str
) -> Iterator[tuple[np.ndarray, float]]:
    """(uint8 [H, W, 3], pts_s) for each of ``times_s``, as they are decoded: memory does not grow with their number.

    See ``readers.read_frames`` for the arguments. Times that show the same frame share one array.
    """
    with VideoFile(source) as video:
        stream = video.stream
        if size is None:
            size = display_size(stream.width, stream.height, stream.sample_aspect_ratio, video.rotation_deg)
        scaler = PictureScaler(size, video.rotation_deg)
        walk = KeyframeWalk(video) if fidelity == "keyframes" else DisplayWalk(video, fidelity, times_s)
        converted = image_HWC = None
        for time_s in times_s:
            frame, shown_s = walk.to(float(time_s))
            if frame is not converted:
                with PROCESS_PROFILE.stage("convert"):
                    image_HWC = scaler.to_rgb(frame)
                converted = frame
            yield image_HWC, shown_s
