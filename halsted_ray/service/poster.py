"""The poster of a video: one frame as a small JPEG that stands for it in a list.

It is chosen among a few key frames of the clean copy when an upload was cleaned, and for a video without one when
somebody first asks for it. It lies beside the clean copy, so it goes when the video goes.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

import cv2
import numpy as np
from numpy.typing import NDArray
from sqlalchemy import update

from halsted_ray.errors import OutputError, UnreadableVideo, VideoError
from halsted_ray.service.errors import NotFound
from halsted_ray.service.tables import StoredVideo
from halsted_ray.storage.files import write_atomically
from halsted_ray.storage.locations import filesystem
from halsted_ray.video.decode_process import DecodeProcess

if TYPE_CHECKING:
    from halsted_ray.service.videos import Videos

log = logging.getLogger(__name__)
WIDTH_PX, QUALITY = 320, 80
MOST_HEIGHT_PX = 640
FRAMES = 8
"""Key frames that are looked at, at equal distances."""
DEADLINE_S = 60.0
DARK, BRIGHT = 24, 240
"""Lumas (0 to 255) below and above which a pixel shows nothing."""
LEAST_SEEN = 0.2
"""A frame in which fewer of the pixels show something is black, or white."""
REDDER = 1.1
"""Tissue is redder than this times its green and its blue."""


def make_poster(location: str, duration_s: float, width: int, height: int) -> tuple[bytes, float]:
    """(a JPEG of WIDTH_PX, the time in seconds of its frame). ``width``, ``height``: of the video, in pixels.

    Of FRAMES key frames, or of any frames where no key frame shows anything, it is the one with the greatest product of
    sharpness (the logarithm of the variance of the Laplacian) and the share of pixels that look like tissue, plus a
    tenth. Frames that are black or white are left out. Raises VideoError where no frame can be read, UnreadableVideo
    where none shows anything.
    """
    times_s = duration_s * (np.arange(FRAMES) + 0.5) / FRAMES
    size = (min(MOST_HEIGHT_PX, max(2, round(WIDTH_PX * height / max(1, width) / 2) * 2)), WIDTH_PX)
    with DecodeProcess() as process:
        for fidelity in ("keyframes", "reference"):  # a file can have one key frame, and that can be black
            frames = process.read_frames(location, times_s, size, fidelity, deadline_s=DEADLINE_S)
            scores = np.array([score(image) for image in frames.images_NHWC]) * frames.present_N
            best = int(np.argmax(scores))
            if scores[best] > 0:
                return _jpeg(frames.images_NHWC[best]), round(float(frames.pts_s[best]), 3)
    raise UnreadableVideo(f"expected a picture in one of {FRAMES} frames, and all are black or can't be read")


def score(image_HWC: NDArray[np.uint8]) -> float:
    """How well a frame (uint8 RGB [H, W, 3]) stands for its video, 0 where it shows nothing; see ``make_poster``."""
    luma = cv2.cvtColor(image_HWC, cv2.COLOR_RGB2GRAY)
    seen = (luma >= DARK) & (luma <= BRIGHT)
    if seen.mean() < LEAST_SEEN:
        return 0.0
    red, green, blue = (image_HWC[..., channel].astype(np.float32) for channel in range(3))
    tissue = seen & (red > REDDER * green) & (red > REDDER * blue)
    sharpness = float(np.log1p(cv2.Laplacian(luma, cv2.CV_32F).var()))
    return sharpness * (0.1 + float(tissue.mean()))


def poster_place(place: str) -> str:
    """Where the poster of the video at ``place`` lies: in the same folder."""
    return f"{place.rsplit('/', 1)[0]}/poster.jpg"


def store_poster(location: str, data: bytes) -> None:
    """Writes the poster of the video at ``location``. Raises OutputError."""
    fs, path = filesystem(poster_place(location))
    write_atomically(fs, path, data)


def read_poster(videos: Videos, video: StoredVideo) -> tuple[bytes, float]:
    """(the JPEG, the time in seconds of its frame). It is made now where nobody has yet: that takes a second, and
    longer over a network. Raises StateConflict while the video is being cleaned, NotFound where no frame shows
    anything, OutputError where the store fails now."""
    location = videos.location(video)
    known = video.poster
    if known is None:
        try:
            data, at_s = make_poster(location, video.duration_s, video.width, video.height)
            store_poster(location, data)
            known = {"at_s": at_s}
        except VideoError as error:
            if not error.permanent:
                raise
            known, data = {"none": str(error)}, b""
        with videos.database.writing() as session:
            own = (StoredVideo.tenant_id == video.tenant_id, StoredVideo.video_id == video.video_id)
            session.execute(update(StoredVideo).where(*own, StoredVideo.place == video.place).values(poster=known))
        if data:
            return data, known["at_s"]
    if "none" in known:
        raise NotFound(f"video {video.video_id!r} has no poster: {known['none']}")
    fs, path = filesystem(poster_place(location))
    try:
        return bytes(fs.cat_file(path)), known["at_s"]
    except Exception as error:  # each store has errors of its own
        raise OutputError(f"the poster of video {video.video_id!r} can't be read now: {type(error).__name__}") from None


def _jpeg(image_HWC: NDArray[np.uint8]) -> bytes:
    done, data = cv2.imencode(".jpg", cv2.cvtColor(image_HWC, cv2.COLOR_RGB2BGR), [cv2.IMWRITE_JPEG_QUALITY, QUALITY])
    assert done, "a picture of whole bytes is always encoded"
    return data.tobytes()
