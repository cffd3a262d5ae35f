"""Frames at given times by NVDEC, the video decoder of an NVIDIA GPU; by the CPU where NVDEC would not give the same.

The packets, their times and the choice of frames are PyAV's (``pyav_reader.walked``). NVDEC turns packets into planes
on the device (``nvdec_decoder``), and only the small pictures come back (``device_pictures``).

A video that the chip can't decode, or that this code does not handle on the device, is read by the CPU, from the first
time on that has no picture yet. So is a video that NVDEC fails at. ``IndexSlot.on_fallback`` is told the reason.
"""

from __future__ import annotations

import ctypes
import importlib.util
import os
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from halsted_ray.storage.ranges import RangeFile
from halsted_ray.video.container import VideoFile
from halsted_ray.video.frames import ANEW
from halsted_ray.video.geometry import Stereo, stereo_of
from halsted_ray.video.packet_index import IndexSlot
from halsted_ray.video.pictures import PictureScaler
from halsted_ray.video.pyav_reader import pyav_frames, walked

if TYPE_CHECKING:
    from halsted_ray.storage.ranges import Source
    from halsted_ray.video.frames import FrameSize, FrameStream

CODECS = ("h264", "hevc")
"""libavcodec's names of the codecs that are given to NVDEC. What recorders of operating rooms write else (MPEG-2,
MPEG-4, ProRes) is read by the CPU."""

BITS = {"yuv420p": 8, "yuvj420p": 8, "yuv420p10le": 10, "yuv420p12le": 12}
"""libavutil's names of the pixel formats that NVDEC gives out as NV12 (8 bits) or P016 → bits of a sample."""


LIBRARY = "PyNvVideoCodec"
NO_DRIVER = "the driver's libnvcuvid is not there"
NO_LIBRARY = f"{LIBRARY} is not installed"


class NvdecRefused(Exception):
    """NVDEC does not give the pictures of this video, so the CPU must. The message is the reason, in words that are the
    same for all videos with this reason, so that it can be counted."""


class NvdecLost(NvdecRefused):
    """NVDEC lost a picture, so that pictures it gave before may stand at another's time: none of them holds."""


def nvdec_frames(
    source: Source,
    times_s: NDArray[np.float64],
    size: FrameSize | None,
    fidelity: str,
    eye: str = "left",
    known: IndexSlot | None = None,
) -> FrameStream:
    """NVDEC's answer to ``readers.read_frames``: the times and spans that PyAV gives, and its pictures up to 0.1 grey
    levels in the mean."""
    known = known or IndexSlot()
    given = 0
    try:
        if why := device_problem():
            raise NvdecRefused(why)
        for row in _by_nvdec(source, times_s, size, fidelity, eye, known):
            yield row
            given += 1
        return
    except NvdecRefused as refused:
        known.on_fallback(str(refused))
        if isinstance(refused, NvdecLost):
            given = 0
            yield ANEW
    if isinstance(source, RangeFile):
        source.seek(0)
    yield from pyav_frames(source, times_s[given:], size, fidelity, eye, known)


def _by_nvdec(
    source: Source, times_s: NDArray[np.float64], size: FrameSize | None, fidelity: str, eye: str, known: IndexSlot
) -> FrameStream:
    with VideoFile(source, known) as video:
        scaler = PictureScaler(video, size, eye)
        if reason := refusal_of(video, scaler):
            raise NvdecRefused(reason)
        from halsted_ray.video.nvdec_decoder import NvdecDecoder  # here, since it imports torch

        with NvdecDecoder(video, scaler, eye) as decoder:
            yield from walked(video, times_s, fidelity, decoder.to_rgb, decoder)
            decoder.reset()  # raises NvdecLost where a picture did not come


def device_problem() -> str:
    """Why this process can't use NVDEC, '' where it perhaps can; without importing torch and touching the device."""
    if os.environ.get("CUDA_VISIBLE_DEVICES") == "":
        return "no GPU is given to this process"
    if not any(Path("/dev").glob("nvidia[0-9]*")):
        return "no NVIDIA device"
    try:
        ctypes.CDLL("libnvcuvid.so.1")
    except OSError:
        return NO_DRIVER
    return "" if importlib.util.find_spec(LIBRARY) else NO_LIBRARY


def refusal_of(video: VideoFile, scaler: PictureScaler) -> str:
    """Why an open video is not given to NVDEC, as far as its first frame tells; '' where it is."""
    frame, codec = video.first_frame, video.stream.codec_context.name
    if codec not in CODECS:
        return f"codec {codec}"
    if not video.has_presentation_times:
        return "a container whose packets do not state when they are shown"
    if frame.format.name not in BITS:
        return f"{codec} with pixels {frame.format.name}"
    if frame.interlaced_frame:
        return "interlaced pictures"
    eye = stereo_of(frame) or Stereo()
    halves = 4 if eye.is_split else 2
    if eye.layout == "row by row" or frame.width % halves or frame.height % halves:
        return "a picture that is not cut into whole pairs of pixels"
    turned = scaler.height, scaler.width
    if scaler.stated_of(frame)[0].turns % 2:
        turned = turned[::-1]
    return unlike_swscale(turned, (frame.height, frame.width))


def unlike_swscale(size: tuple[int, int], stored: tuple[int, int]) -> str:
    """Why ``device_pictures.to_rgb`` does not give what swscale gives; '' where it does.

    swscale has other ways where it does not shrink both luma and colour, and for an odd width. ``size`` and ``stored``:
    (height, width) of the wanted and of the stored picture.
    """
    if size[1] % 2 == 0 and 2 * size[0] <= stored[0] and 2 * size[1] <= stored[1]:
        return ""
    return "a picture that is not shrunk to half its size or less"
