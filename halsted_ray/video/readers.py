"""Frames of one video at given times: the one question that the rest of the package asks of a video.

Three readers answer it. PyAV is the default: it reads local and remote files, and offers every fidelity. Decoding is
nearly all of its cost. So it decodes no frame that is not on the way to a wanted frame, and converts only the wanted
frames. NVDEC gives the same on an NVIDIA GPU, and hands to PyAV what it can't. decord reads local files only; it is
there for comparison, and for random clips of short files. A further reader is one more function in ``READERS``.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import ArrayLike, NDArray

from halsted_ray.errors import UnreadableVideo
from halsted_ray.storage.locations import Location
from halsted_ray.storage.ranges import RangeFile, Source, open_source
from halsted_ray.video.colour import change_matrix, colour_of
from halsted_ray.video.container import VideoFile
from halsted_ray.video.encapsulated import stream_in
from halsted_ray.video.frames import FIDELITIES, Frames, FrameSize, FrameStream, Missing, collect
from halsted_ray.video.geometry import EYES
from halsted_ray.video.nvdec import nvdec_frames
from halsted_ray.video.packet_index import IndexSlot
from halsted_ray.video.pictures import PictureScaler, picture_of, shown_size
from halsted_ray.video.pyav_reader import pyav_frames

__all__ = ["FIDELITIES", "READERS", "Frames", "Missing", "check_request", "read_frames"]

DECORD_BATCH = 32
"""Frames asked of decord at once; in larger batches it reads ahead without a bound."""


def read_frames(
    location: Location,
    times_s: ArrayLike,
    size: FrameSize | None,
    fidelity: str = "reference",
    reader: str = "pyav",
    eye: str = "left",
) -> Frames:
    """The frames displayed at ``times_s`` (rising, seconds from the first displayed frame), scaled to ``size``.

    A frame is displayed from its pts until the next frame's pts. ``size`` is (height, width) of the upright picture, in
    pixels; None keeps the size at which the video is shown. Times past the last frame repeat it. ``fidelity`` is one of
    ``FIDELITIES``, ``reader`` one of ``READERS``, ``eye`` one of ``geometry.EYES``: which picture of a stereo pair.

    Times without picture are part of the answer (``Frames.missing``); ``Frames.require_whole`` refuses them. Raises
    UnreadableVideo, StorageUnavailable; ValueError for a wrong argument.
    """
    times_s = check_request(times_s, size, fidelity, reader, eye)
    return collect(READERS[reader](stream_in(open_source(location)), times_s, size, fidelity, eye, None), times_s, size)


def check_request(
    times_s: ArrayLike, size: FrameSize | None, fidelity: str, reader: str, eye: str = "left"
) -> NDArray[np.float64]:
    """``times_s`` as float64 [N]. Raises ValueError, which says which argument of ``read_frames`` is wrong."""
    times_s = np.asarray(times_s, np.float64)
    if times_s.ndim != 1 or not np.all(np.isfinite(times_s)):
        raise ValueError(f"expected times_s as one row of finite seconds, got an array of shape {list(times_s.shape)}")
    if len(times_s) and (times_s[0] < 0 or np.any(np.diff(times_s) < 0)):
        raise ValueError("expected times_s to rise from 0 s on, got a negative or a falling time")
    if size is not None and (len(size) != 2 or min(size) < 1):
        raise ValueError(f"expected size as (height, width) in pixels, got {size!r}")
    if fidelity not in FIDELITIES:
        raise ValueError(f"expected a fidelity of {', '.join(FIDELITIES)}, got {fidelity!r}")
    if reader not in READERS:
        raise ValueError(f"expected a reader of {', '.join(READERS)}, got {reader!r}")
    if eye not in EYES:
        raise ValueError(f"expected an eye of {', '.join(EYES)}, got {eye!r}")
    return times_s


def decord_frames(
    source: Source,
    times_s: NDArray[np.float64],
    size: FrameSize | None,
    fidelity: str,
    _eye: str = "left",
    known: IndexSlot | None = None,
) -> FrameStream:
    """decord's answer to ``read_frames``; raises ValueError for a remote file.

    Opening a file walks through every packet of it, and times are float32. Nothing is skipped, so ``reference`` gives
    the exact frame here. decord knows no edit lists, no mirrors, no stereo, no fields and no HDR, and it chooses
    another stream among several, so a file that has one of these is refused rather than read wrongly. It takes untagged
    video for BT.601; the colours of untagged HD are mended after scaling.
    """
    if isinstance(source, RangeFile):
        raise ValueError("the reader 'decord' reads local files only, got a remote location; use the reader 'pyav'")
    import decord  # here, since it is slow to import and not the default

    path = str(source)
    with VideoFile(path, known) as video:  # for its checks, limits and messages, which hold for every file
        stream = video.stream
        height, width = size or shown_size(video)
        _check_for_decord(video)
        first_HWC = PictureScaler(video, (height, width)).to_rgb(video.first_frame)
        colour = colour_of(video.first_frame, stream.codec_context.name)
        used = colour.matrix if colour.is_stated else DECORD_MATRIX
        # decord counts from the start time that the container states, and turns the picture upright by itself.
        origin_s = float((video.origin - (stream.start_time or 0)) * video.time_base)
    try:
        reader = decord.VideoReader(path, ctx=decord.cpu(0), width=width, height=height, num_threads=1)
    except (decord.DECORDError, RuntimeError) as error:
        # decord's message holds the path, which may be a patient's name.
        raise UnreadableVideo(f"decord could not open it ({type(error).__name__}); use the reader 'pyav'") from None
    starts_s = reader.get_frame_timestamp(np.arange(len(reader)))[:, 0].astype(np.float64)
    rounding_s = 2 * float(np.spacing(np.float32(starts_s[-1])))
    if abs(starts_s[0] - origin_s) > max(rounding_s, 1e-3):
        raise UnreadableVideo(
            f"expected the first frame at {origin_s:.3f} s, decord has {starts_s[0]:.3f} s: the file has an edit list "
            "or hidden first frames; use the reader 'pyav'"
        )
    if np.abs(change_matrix(reader[0].asnumpy(), used, colour.matrix).astype(np.int16) - first_HWC).mean() > ALIKE:
        raise UnreadableVideo(
            "expected decord to show the first frame as PyAV does, got another picture: it may be turned by the stream "
            "itself; use the reader 'pyav'"
        )
    starts_s -= starts_s[0]
    shown = np.searchsorted(starts_s, times_s + max(rounding_s, 1e-6), side="right") - 1
    if fidelity == "keyframes":
        keys = np.sort(reader.get_key_indices())
        shown = keys[np.searchsorted(keys, shown, side="right") - 1]
    for first in range(0, len(shown), DECORD_BATCH):
        rows = shown[first : first + DECORD_BATCH]
        for row, image_HWC in zip(rows, reader.get_batch(rows).asnumpy(), strict=True):
            yield change_matrix(image_HWC, used, colour.matrix), float(starts_s[row])


ALIKE = 12.0
"""The mean difference, in grey levels, up to which two readers show one picture. Their kernels differ by less than 3,
the colours that decord cut off by as much again."""

DECORD_MATRIX = "BT.601"
"""The matrix that decord takes where the stream names none, whatever the size."""


def _check_for_decord(video: VideoFile) -> None:
    """Raises UnreadableVideo for a picture that decord would show wrongly."""
    picture = picture_of(video)
    gray = video.first_frame.format.name.startswith("gray")
    for is_so, what in (
        (len(picture.streams) > 1, "several video streams"),
        (picture.mirrored, "a mirrored picture"),
        (picture.stereo != "none", "the pictures of two eyes"),
        (picture.interlaced, "interlaced frames"),
        (picture.transfer != "SDR", f"HDR brightness ({picture.transfer})"),
        (gray and picture.colour_range == "limited", "gray of limited range"),
    ):
        if is_so:
            raise UnreadableVideo(f"expected a file that decord reads rightly, got {what}; use the reader 'pyav'")


Reader = Callable[[Source, NDArray[np.float64], FrameSize | None, str, str, IndexSlot | None], FrameStream]
"""``reader(source, times_s, size, fidelity, eye, known)`` gives a frame or a ``Missing`` for each of ``times_s``, in
their order."""

READERS: dict[str, Reader] = {"pyav": pyav_frames, "nvdec": nvdec_frames, "decord": decord_frames}
"""The readers by name."""

AUTO = "auto"
"""In place of a reader's name, to the stage that decodes: NVDEC and the cores side by side, where a GPU may decode, and
``pyav`` where none may. Both give the same frames."""
