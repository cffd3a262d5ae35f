"""Film strips: a few frames of a window side by side, as one small JPEG inside the page."""

from __future__ import annotations

import base64
from collections.abc import Mapping, Sequence
from typing import Any

import cv2
import numpy as np

from halsted_ray.errors import VideoError
from halsted_ray.records import Video, Window
from halsted_ray.video.decode_process import DecodeProcess
from halsted_ray.video.presence import pictures_of

FRAMES, HEIGHT_PX, QUALITY = 6, 110, 72
DEADLINE_S = 60.0


def film_strips(spans: Sequence[Mapping[str, Any]], videos: Mapping[str, Video]) -> list[str]:
    """Returns per span (video_id, start_s, stop_s) a ``data:`` URL of about 15 KB, or the reason why there is none.

    ``videos``: by video_id.
    """
    if not spans:
        return []
    found = []
    with DecodeProcess() as decoder:
        for span in spans:
            video = videos[span["video_id"]]
            length_s = min(span["stop_s"], video.duration_s) - span["start_s"]
            times_s = span["start_s"] + length_s * (np.arange(FRAMES) + 0.5) / FRAMES
            width_px = max(2, round(HEIGHT_PX * video.width / video.height / 2) * 2)
            try:
                frames = decoder.read_frames(
                    video.uri, times_s, (HEIGHT_PX, width_px), "reference", deadline_s=DEADLINE_S
                )
                images = pictures_of(frames, Window("clip", span["start_s"], span["stop_s"]), least_present=0.0)
            except VideoError as error:
                found.append(f"{error.code}: {error}")
                continue
            found.append(jpeg_url(np.concatenate(list(images), axis=1)))
    return found


def jpeg_url(image_HWC: np.ndarray) -> str:
    """Returns an RGB image (uint8 [H, W, 3]) as the ``data:`` URL of a JPEG."""
    _, data = cv2.imencode(".jpg", cv2.cvtColor(image_HWC, cv2.COLOR_RGB2BGR), [cv2.IMWRITE_JPEG_QUALITY, QUALITY])
    return "data:image/jpeg;base64," + base64.b64encode(data.tobytes()).decode()
