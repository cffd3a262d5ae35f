"""Frames at given times by PyAV, and the walk from time to time that every reader with packets of its own shares."""

from __future__ import annotations

from typing import TYPE_CHECKING, cast

import numpy as np
from av import VideoFrame
from numpy.typing import NDArray

from halsted_ray.profiling import THREAD_PROFILE
from halsted_ray.video.container import VideoFile
from halsted_ray.video.display_walk import DisplayWalk
from halsted_ray.video.frames import Missing
from halsted_ray.video.keyframe_walk import KeyframeWalk
from halsted_ray.video.pictures import PictureScaler

if TYPE_CHECKING:
    from collections.abc import Callable

    from halsted_ray.storage.ranges import Source
    from halsted_ray.video.frames import FrameSize, FrameStream
    from halsted_ray.video.libav_decoder import DecodedFrame, Decoder
    from halsted_ray.video.packet_index import IndexSlot


def pyav_frames(
    source: Source,
    times_s: NDArray[np.float64],
    size: FrameSize | None,
    fidelity: str,
    eye: str = "left",
    known: IndexSlot | None = None,
) -> FrameStream:
    """PyAV's answer to ``readers.read_frames``, frame by frame as they are decoded, so memory does not grow with their
    number.

    Times that show the same frame share one array. ``known``: as of ``VideoFile``.
    """
    with VideoFile(source, known) as video:
        yield from frames_in(video, times_s, size, fidelity, eye)


def frames_in(
    video: VideoFile, times_s: NDArray[np.float64], size: FrameSize | None, fidelity: str, eye: str
) -> FrameStream:
    """As ``pyav_frames``, of a video that is open. It may have been read before."""
    scaler = PictureScaler(video, size, eye)
    yield from walked(video, times_s, fidelity, lambda frame: scaler.to_rgb(cast(VideoFrame, frame)))


def walked(
    video: VideoFile,
    times_s: NDArray[np.float64],
    fidelity: str,
    to_rgb: Callable[[DecodedFrame], NDArray[np.uint8]],
    decoder: Decoder | None = None,
) -> FrameStream:
    """The frames at ``times_s``, by ``decoder`` (None: libavcodec) and ``to_rgb``, which is asked once per frame."""
    walk = (
        KeyframeWalk(video, times_s, decoder)
        if fidelity == "keyframes"
        else DisplayWalk(video, fidelity, times_s, decoder)
    )
    converted: DecodedFrame | None = None
    for time_s in times_s:
        answer = walk.to(float(time_s))
        if isinstance(answer, Missing):
            yield answer
            continue
        if answer.frame is not converted:
            with THREAD_PROFILE.stage("convert"):
                image_HWC = to_rgb(answer.frame)
            converted = answer.frame
        yield image_HWC, answer.shown_s
