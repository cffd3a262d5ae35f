"""From a decoded frame to the picture that a model looks at: one eye, one field, upright, in RGB, at model size.

    streams.py    which stream is the picture
    geometry.py   how a stored picture is turned, mirrored, and holds two eyes
    colour.py     what its numbers mean

The order is the cheapest: eyes and fields are cut out by moving pointers, swscale converts and shrinks in one pass, and
the small picture is turned.
"""

from __future__ import annotations

import gc
from dataclasses import asdict, dataclass
from functools import cache
from typing import TYPE_CHECKING

import numpy as np
from av import VideoFrame
from av.filter import Graph
from av.video.reformatter import ColorRange, Interpolation, VideoReformatter
from numpy.typing import NDArray

from halsted_ray.video.colour import SWSCALE, colour_of, to_limits, to_standard_range
from halsted_ray.video.container import VideoFile, check_picture
from halsted_ray.video.frames import FrameSize, display_size
from halsted_ray.video.geometry import Filters, Orientation, Stereo, filter_graph, orientation_of, stereo_of
from halsted_ray.video.streams import best_stream, described, moving_pictures

if TYPE_CHECKING:  # at run time it would import pyarrow into the decoding process
    from halsted_ray.records import JsonObject

SCALING = Interpolation.BILINEAR | Interpolation.ACCURATE_RND
"""swscale widens the bilinear kernel where it shrinks a picture, so it averages and does not alias. The kernel is
fixed, because another kernel would give the encoder other input. (Area costs the same and blurs more at these
ratios.)"""

CODED_AS_FIELDS = ("hevc",)
"""Codecs whose decoder gives out single fields where the stream is interlaced. All others join the two fields."""

FIRST_FIELD = ("separatefields", "")
"""libavfilter's filter that gives out the field shown first, without copying.

An interlaced frame holds two instants, every other row of each. The first field is the picture at the frame's own time.
At model size it is nearer to the truth than a deinterlaced frame (mean error of moving pictures at 224x224: 6.2 grey
levels, by bwdif 7.0, with both fields 10.4 to 12.9), and scaling it costs half of what scaling both costs. Progressive
video that is marked as interlaced loses 0.1 to 0.3 grey levels by it.
"""

UPPER_FIELD = ("field", "type=top")
"""For an odd number of rows, which ``separatefields`` refuses."""

GRAPHS_KEPT = 8
"""Damaged streams may name a new picture size with every frame."""


@cache
def collected_generation() -> int:
    """Which generation of objects is collected after a look at a frame.

    A frame that was looked at is still held at the next look, so it is not among the youngest any more. All are cheap
    to collect in a decoding process, which froze what it imported. Python counts all frozen objects to tell their
    number, 2 ms, and a process freezes before it decodes: once per process is enough.
    """
    return 2 if gc.get_freeze_count() else 0


class PictureScaler:
    """Turns the frames of one video into upright RGB pictures of one size: the whole picture of one eye, not a crop.

    ``size`` is (height, width); None keeps the size at which the video is shown. ``eye``: one of ``geometry.EYES``,
    for a stereo pair. A frame that brings an orientation or a stereo layout of its own has it; other frames have the
    first frame's, while they are of its size. Keeps one swscale context for all frames, since building a context costs
    more than using it.
    """

    def __init__(self, video: VideoFile, size: FrameSize | None, eye: str = "left"):
        self.height, self.width = size or shown_size(video)
        self._eye = eye
        self._codec = video.stream.codec_context.name
        first = video.first_frame
        self._stored = first.width, first.height
        orientation, stereo = orientation_of(first), stereo_of(first)
        self._is_stated = orientation is not None or stereo is not None
        self._orientation, self._stereo = orientation or Orientation(), stereo or Stereo()
        self._reformatter = VideoReformatter()
        self._graphs: dict[tuple[int, int, str, Filters], Graph] = {}
        self._garbage = collected_generation()

    def to_rgb(self, frame: VideoFrame) -> NDArray[np.uint8]:
        """The frame as uint8 [height, width, 3] RGB. Raises UnreadableVideo for a picture beyond the limit."""
        check_picture(frame.width, frame.height)  # a stream may change its size half-way
        orientation, stereo = self.stated_of(frame)
        colour = colour_of(frame, self._codec)
        height, width = (self.width, self.height) if orientation.turns % 2 else (self.height, self.width)
        filters = self._filters(frame, stereo)
        small = self._reformatter.reformat(
            self._filtered(frame, filters) if filters else frame,
            width=width,
            height=height,
            format="rgb24",
            src_colorspace=SWSCALE[colour.matrix],
            src_color_range=ColorRange.JPEG if colour.full_range else ColorRange.MPEG,
            interpolation=SCALING,
            threads=1,
        )
        small_HWC = np.asarray(small.to_ndarray(), np.uint8)
        if colour.is_gray and not colour.full_range:
            small_HWC = to_limits(small_HWC)
        if colour.transfer != "SDR":
            small_HWC = to_standard_range(small_HWC, colour.transfer)
        return orientation.upright(small_HWC)

    def stated_of(self, frame: VideoFrame) -> tuple[Orientation, Stereo]:
        """How a frame lies, and which eyes it shows: its own statement, else the first frame's while it is of its size.

        A look at the side data of a frame ties the two in a circle, so that the frame's memory is free only after a
        collection of garbage (measured: decoding 1080p takes 1.5 times as long where every frame is looked at). So
        frames are looked at where the first frame or this frame shows that something is stated, and keyframes are.
        """
        as_first = (frame.width, frame.height) == self._stored
        orientation, stereo = None, None
        if self._is_stated or frame.key_frame or frame.rotation or not as_first:
            orientation, stereo = orientation_of(frame), stereo_of(frame)
            gc.collect(self._garbage)  # the frames that were looked at before
        return (
            orientation or (self._orientation if as_first else Orientation()),
            stereo or (self._stereo if as_first else Stereo()),
        )

    def _filters(self, frame: VideoFrame, stereo: Stereo) -> Filters:
        """What cuts the wanted part out of a frame; nothing for ordinary frames."""
        eye = stereo.cut(self._eye)
        if not frame.interlaced_frame:
            return (eye,) if eye else ()
        if self._codec in CODED_AS_FIELDS or stereo.layout == "row by row":
            # swscale would scale the even and the odd rows of this one instant apart.
            return (("setfield", "prog"), eye) if eye else (("setfield", "prog"),)
        first = UPPER_FIELD if frame.height % 2 else FIRST_FIELD
        return (first, eye) if eye else (first,)

    def _filtered(self, frame: VideoFrame, filters: Filters) -> VideoFrame:
        key = frame.width, frame.height, frame.format.name, filters
        graph = self._graphs.get(key)
        if graph is None:
            if len(self._graphs) >= GRAPHS_KEPT:
                self._graphs.clear()
            graph = self._graphs[key] = filter_graph(frame, filters)
        graph.vpush(frame)
        part = graph.vpull()
        try:
            while True:  # the second field of the frame before comes first
                part = graph.vpull()
        except BlockingIOError:
            return part


def shown_size(video: VideoFile) -> FrameSize:
    """(height, width) at which a video is shown: one eye, in square pixels, upright."""
    stream, frame = video.stream, video.first_frame
    of_fields = 2 if frame.interlaced_frame and stream.codec_context.name in CODED_AS_FIELDS else 1
    height, width = display_size(frame.width, frame.height * of_fields, stream.sample_aspect_ratio, 0)
    width, height = (stereo_of(frame) or Stereo()).eye_size(width, height)
    return (width, height) if (orientation_of(frame) or Orientation()).turns % 2 else (height, width)


@dataclass(frozen=True)
class Picture:
    """What a file says of its picture, beside its size and rate, and what is made of it.

    ``streams`` describes every video stream that is no cover, ``stream`` is the index of the stream that is read.
    ``rotation_deg`` (counter-clockwise, after the mirror) and ``mirrored`` turn a stored picture upright. ``stereo`` is
    one of ``geometry.LAYOUTS``. ``matrix``, ``colour_range`` (limited or full) and ``transfer`` (SDR, PQ or HLG) are
    those that are used; ``matrix_stated`` says whether the stream names its matrix. ``remarks``: what a person should
    know of it, each a whole sentence without a name.
    """

    stream: int
    streams: tuple[str, ...]
    rotation_deg: int
    mirrored: bool
    stereo: str
    left_first: bool
    interlaced: bool
    matrix: str
    matrix_stated: bool
    colour_range: str
    transfer: str
    remarks: tuple[str, ...]

    def asdict(self) -> JsonObject:
        """The fields as JSON values."""
        return {**asdict(self), "streams": list(self.streams), "remarks": list(self.remarks)}


def picture_of(video: VideoFile, eye: str = "left") -> Picture:
    """What an open video says of its picture; ``eye``: which picture of a stereo pair is read."""
    frame, codec = video.first_frame, video.stream.codec_context.name
    orientation, stereo = orientation_of(frame) or Orientation(), stereo_of(frame) or Stereo()
    colour = colour_of(frame, codec)
    streams = moving_pictures(video.container.streams.video)
    taken = best_stream(streams)
    remarks = []
    if len(streams) > 1:
        others = ", ".join(described(stream) for stream in streams if stream is not taken)
        remarks.append(f"It has {len(streams)} video streams; the largest is read ({described(taken)}), not {others}.")
    if orientation.remark:
        remarks.append(f"Of its orientation: {orientation.remark}.")
    remarks += _stereo_remarks(stereo, eye, str(video.stream.metadata.get("stereo_mode", "")))
    if frame.interlaced_frame:
        remarks.append("It is interlaced; of each frame the field that is shown first is read.")
    if colour.transfer != "SDR":
        remarks.append(f"Its brightness is HDR ({colour.transfer}); light above reference white is cut off.")
    if colour.remark:
        remarks.append(f"Of its colours: {colour.remark}.")
    return Picture(
        stream=taken.index,
        streams=tuple(described(stream) for stream in streams),
        rotation_deg=orientation.rotation_deg,
        mirrored=orientation.mirrored,
        stereo=stereo.layout,
        left_first=stereo.left_first,
        interlaced=frame.interlaced_frame,
        matrix=colour.matrix,
        matrix_stated=colour.is_stated,
        colour_range="full" if colour.full_range else "limited",
        transfer=colour.transfer,
        remarks=tuple(remarks),
    )


def _stereo_remarks(stereo: Stereo, eye: str, matroska_mode: str) -> list[str]:
    if "anaglyph" in matroska_mode:
        return ["It holds two eyes in complementary colours (anaglyph); it is read as it is, with false colours."]
    if stereo.layout == "none":
        return []
    if stereo.is_split:
        return [f"It holds two eyes, {stereo.layout}; the {eye} eye is read."]
    return [f"It holds two eyes, {stereo.layout}, which are not told apart; its pictures are read as they are."]
