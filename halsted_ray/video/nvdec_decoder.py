"""NVDEC as the decoder of a walk: packets in Annex B form go to PyNvVideoCodec, planes on the device come back.

Where libavcodec says of each frame whether it is sound, NVDEC says little. So whatever is not as expected ends NVDEC's
part in a request (``NvdecRefused``), and the CPU goes on:

- the keyframe at which a request begins is decoded by both, and the two pictures must be alike;
- every packet must come back as a picture, once, in the order of display, with the size of the first. The library
  sorts the times that come with the packets, and gives each picture the earliest time that is left (PyNvVideoCodec
  2.2.4 on an H100, seen with H.264 and HEVC). So a picture that is lost moves all later ones to another's time, and is
  noticed only where no more packets come and a time is left over. Then nothing that was given holds (``NvdecLost``);
- the parameter sets must stay what they were, since the library scales pictures of another size to the first;
- no packet may be damaged, and the library may not print that a picture did not decode.
"""

from __future__ import annotations

import ctypes
import os
from contextlib import suppress
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Any

import av
import numpy as np
import torch
from av import VideoFrame
from av.bitstream import BitStreamFilterContext
from numpy.typing import NDArray

from halsted_ray.profiling import THREAD_PROFILE
from halsted_ray.video import device_pictures, nvdec_library
from halsted_ray.video.colour import colour_of, to_standard_range
from halsted_ray.video.device_pictures import Planes
from halsted_ray.video.h264_sps import h264_sequence, parameter_sets
from halsted_ray.video.nvdec import BITS, NvdecLost, NvdecRefused
from halsted_ray.video.slices import length_bytes

if TYPE_CHECKING:
    from collections.abc import Sequence

    from halsted_ray.video.container import VideoFile, VideoPacket
    from halsted_ray.video.libav_decoder import DecodedFrame, LeaveOut
    from halsted_ray.video.pictures import PictureScaler

ALIKE = 1.5
"""The mean difference in grey levels up to which the two decoders show one picture."""

HEVC_UNREFERENCED = range(0, 15, 2)
"""Types of HEVC's units that no other picture of their layer refers to (H.265, table 7-1)."""


@dataclass(frozen=True)
class NvdecFrame:
    """One picture on the device. ``pts``: ticks of the stream on the video's own axis."""

    planes: Planes
    pts: int
    key_frame: bool
    dts: int | None = None
    is_corrupt: bool = False


class NvdecDecoder:
    """Decodes the packets of one open video, which ``nvdec.refusal_of`` lets through. A ``libav_decoder.Decoder``.

    Raises NvdecRefused, here and from every method, where the CPU must read the video.
    """

    def __init__(self, video: VideoFile, scaler: PictureScaler, eye: str):
        self._video, self._scaler, self._eye = video, scaler, eye
        frame, context = video.first_frame, video.stream.codec_context
        self._codec = context.name
        self._size = frame.height, frame.width
        self._colour = colour_of(frame, self._codec)
        self._orientation, self._stereo = scaler.stated_of(frame)
        self._library = nvdec_library.load()
        _check_capabilities(self._library, self._codec, BITS[frame.format.name], self._size)
        self._stream = nvdec_library.stream()
        self._decoder = _called(
            self._library.CreateDecoder,
            gpuid=0,  # the only one that this process sees
            codec=_codec_id(self._library, self._codec),
            cudacontext=0,
            cudastream=self._stream.cuda_stream if self._stream else 0,
            usedevicememory=True,
        )
        self._filter = BitStreamFilterContext(_filters(self._codec, bytes(context.extradata or b"")), video.stream)
        self._leaves_out: LeaveOut = "DEFAULT"
        self._sent: dict[int, bool] = {}
        """Time of each packet whose picture has not come → whether it is a keyframe."""
        self._start_pts: int | None = None
        """The keyframe at which decoding began. Pictures displayed before it refer to what was not decoded."""
        self._holds_data = False
        """Whether packets came since the last end of a stream."""
        self._parameters: set[bytes] = set()
        self._expected_HWC: NDArray[np.uint8] | None = None
        self._is_checked = False
        self._printed = _PrintedErrors()

    def __enter__(self) -> NvdecDecoder:
        return self

    def __exit__(self, *_exc: object) -> None:
        self._decoder = None  # gives the session back
        self._printed.close()

    def decode(self, packet: VideoPacket | None) -> Sequence[DecodedFrame] | None:
        if packet is None:
            frames = self._pictures(b"", 0)
            self._require_all()
            return frames
        if packet.is_corrupt or packet.pts is None:
            raise NvdecRefused("damaged data")
        data = self._annex_b(packet)
        if self._is_left_out(packet, data) or (self._start_pts is None and not packet.is_keyframe):
            return []
        self._check_parameters(data)
        if self._start_pts is None:
            self._start_pts = packet.pts
            if not self._is_checked:
                self._expected_HWC = self._by_cpu(packet)
        if packet.pts < self._start_pts:
            return []  # shown before the keyframe and refers to what was not decoded; no later picture refers to it
        if packet.pts in self._sent:
            raise NvdecRefused("two packets of one time")
        self._sent[packet.pts] = packet.is_keyframe
        return self._pictures(data, packet.pts)

    def leave_out(self, which: LeaveOut) -> None:
        self._leaves_out = which

    def reset(self) -> None:
        if self._holds_data:
            # The end of a stream empties the parser, and data from another place may follow.
            for decoded in self._decode(b"", 0):
                self._sent.pop(int(decoded.getPTS()), None)
        self._require_all()
        self._filter.flush()
        self._start_pts = None

    def note_damage(self) -> None:
        raise NvdecRefused("damaged data")

    def to_rgb(self, frame: DecodedFrame) -> NDArray[np.uint8]:
        """The frame as ``PictureScaler.to_rgb`` gives it: uint8 [height, width, 3] on the host."""
        if isinstance(frame, VideoFrame):
            return self._scaler.to_rgb(frame)  # the first frame of the file, where reading begins with it
        assert isinstance(frame, NvdecFrame)
        planes, size = frame.planes, (self._scaler.height, self._scaler.width)
        if self._stereo.is_split:
            planes = planes.cut(
                *eye_part(self._stereo.layout, self._stereo.left_first == (self._eye == "left"), planes.size)
            )
        if self._orientation.turns % 2:
            size = size[::-1]
        with torch.cuda.stream(self._stream):
            small = _called(lambda: device_pictures.to_rgb(planes, size, self._colour).cpu())
        small_HWC: NDArray[np.uint8] = small.numpy()
        if self._colour.transfer != "SDR":
            small_HWC = to_standard_range(small_HWC, self._colour.transfer)
        return self._orientation.upright(small_HWC)

    def _pictures(self, data: bytes, pts: int) -> list[NvdecFrame]:
        found = []
        for decoded in self._decode(data, pts):
            shown = int(decoded.getPTS())
            is_key = self._sent.pop(shown, None)
            if is_key is None:
                raise NvdecRefused("NVDEC gave a picture without the time of a packet")
            if any(other < shown for other in self._sent):
                raise NvdecRefused("NVDEC gave pictures in another order than that of display")
            frame = NvdecFrame(self._planes(decoded), shown, is_key)
            self._check(frame)
            found.append(frame)
        return found

    def _require_all(self) -> None:
        """Raises NvdecLost where a packet has not come back as a picture, and none follows."""
        if self._sent:
            raise NvdecLost("NVDEC gave no picture for a packet")

    def _decode(self, data: bytes, pts: int) -> list[Any]:
        packet = self._library.PacketData()
        held = np.frombuffer(data, np.uint8)  # must live until the call returns
        if data:
            packet.bsl_data, packet.bsl, packet.pts = held.ctypes.data, len(data), pts
        with THREAD_PROFILE.stage("decode"):
            frames: list[Any] = _called(self._decoder.Decode, packet)
        self._holds_data = bool(data)
        self._printed.check()
        return frames

    def _planes(self, decoded: Any) -> Planes:
        """A copy of a picture on the device: its own memory is written again by the next packet."""
        height, width = self._size
        with torch.cuda.stream(self._stream):
            rows = _called(lambda: torch.from_dlpack(decoded).clone())
        if tuple(rows.shape) != (height * 3 // 2, width) or rows.dtype not in (torch.uint8, torch.uint16):
            raise NvdecRefused("NVDEC gave a picture of another size or layout")
        return Planes(rows[:height], rows[height:].reshape(height // 2, width // 2, 2))

    def _check(self, frame: NvdecFrame) -> None:
        """Holds the first picture of a request against libavcodec's."""
        if self._expected_HWC is None:
            return
        difference = np.abs(self.to_rgb(frame).astype(np.int16) - self._expected_HWC).mean()
        self._expected_HWC, self._is_checked = None, True
        if difference > ALIKE:
            raise NvdecRefused("NVDEC shows the first keyframe otherwise than the CPU")

    def _by_cpu(self, packet: VideoPacket) -> NDArray[np.uint8]:
        """A keyframe by libavcodec. What it states of the picture holds for the whole request."""
        context = self._video.stream.codec_context
        context.skip_frame = "DEFAULT"
        frames = [*(self._video.decode(packet) or ()), *(self._video.decode(None) or ())]
        context.flush_buffers()
        if not frames or frames[0].pts != packet.pts or frames[0].is_corrupt:
            raise NvdecRefused("keyframes that do not decode alone")
        frame, first = frames[0], self._video.first_frame
        if (
            frame.interlaced_frame
            or frame.format.name != first.format.name
            or (frame.height, frame.width) != self._size
        ):
            raise NvdecRefused("a picture whose kind or size changes")
        self._colour = colour_of(frame, self._codec)
        self._orientation, self._stereo = self._scaler.stated_of(frame)
        return self._scaler.to_rgb(frame)

    def _annex_b(self, packet: VideoPacket) -> bytes:
        copy: Any = av.Packet(bytes(packet))  # the filter takes a packet's bytes and times away
        copy.pts, copy.dts, copy.is_keyframe = packet.pts, packet.dts, packet.is_keyframe
        return b"".join(bytes(filtered) for filtered in _called(self._filter.filter, copy))

    def _is_left_out(self, packet: VideoPacket, data: bytes) -> bool:
        if self._leaves_out == "NONKEY":
            return not packet.is_keyframe
        return self._leaves_out == "NONREF" and is_unreferenced(data, self._codec)

    def _check_parameters(self, data: bytes) -> None:
        found = set(parameter_sets(data, self._codec))
        if not found or found <= self._parameters:
            return
        if self._parameters:
            raise NvdecRefused("a stream whose parameters change")
        self._parameters = found
        for unit in found if self._codec == "h264" else ():
            try:
                sequence = h264_sequence(unit)
            except ValueError:
                raise NvdecRefused("damaged data") from None
            if not sequence.frames_only:
                raise NvdecRefused("a stream whose pictures may be interlaced")
            if sequence.left or sequence.top:
                raise NvdecRefused("a picture that is cut on the left or at the top")


def eye_part(layout: str, first: bool, size: tuple[int, int]) -> tuple[int, int, int, int]:
    """(top, left, height, width) of one eye in a stored picture of ``size``. ``first``: the left or the upper half."""
    height, width = size
    if layout == "side by side":
        return 0, 0 if first else width // 2, height, width // 2
    return 0 if first else height // 2, 0, height // 2, width


def is_unreferenced(data: bytes, codec: str) -> bool:
    """Whether no other picture refers to the picture of a packet in Annex B form: its slices say so."""
    at = data.find(b"\0\0\1")
    while 0 <= at < len(data) - 4:
        header = data[at + 3]
        if codec == "h264" and 1 <= header & 31 <= 5:
            return header >> 5 & 3 == 0
        if codec == "hevc" and header >> 1 & 63 < 32:
            return (header >> 1 & 63) in HEVC_UNREFERENCED
        at = data.find(b"\0\0\1", at + 3)
    return False


def _filters(codec: str, extradata: bytes) -> str:
    """libavcodec's bitstream filters to Annex B. Before each keyframe stand the parameter sets of the container, where
    it holds units by their lengths and may hold these sets nowhere else."""
    return f"{codec}_mp4toannexb" + (",dump_extra=freq=keyframe" if length_bytes(codec, extradata) else "")


def _codec_id(library: Any, codec: str) -> Any:
    return library.cudaVideoCodec.H264 if codec == "h264" else library.cudaVideoCodec.HEVC


def _called(function: Any, *arguments: Any, **named: Any) -> Any:
    """What a call into the library or the device gives. Its errors are of many types, some of them RuntimeError and
    some of its own; whatever fails there, the CPU goes on."""
    try:
        return function(*arguments, **named)
    except Exception as error:
        raise NvdecRefused(f"NVDEC failed ({nvdec_library.said_by(error)})") from error


@lru_cache(maxsize=16)
def capabilities(library: Any, codec: str, bits: int) -> dict[str, int]:
    """What the chip decodes. Asked once: the library makes and destroys a context of the device for the answer.

    Raises NvdecRefused where there is no answer.
    """
    chroma = getattr(library.cudaVideoChromaFormat, "420")
    found: dict[str, int] = _called(
        library.GetDecoderCaps, gpuid=0, codec=_codec_id(library, codec), chromaformat=chroma, bitdepth=bits
    )
    return found


def _check_capabilities(library: Any, codec: str, bits: int, size: tuple[int, int]) -> None:
    able = capabilities(library, codec, bits)
    height, width = size
    if not able["supported"]:
        raise NvdecRefused(f"the chip does not decode {codec} with {bits} bits")
    pairs = ((width, able["width_min"], able["width_max"]), (height, able["height_min"], able["height_max"]))
    blocks = -(-width // 16) * -(-height // 16)
    if not all(least <= side <= most for side, least, most in pairs) or blocks > able["mb_num_max"]:
        raise NvdecRefused(f"a size that the chip does not decode in {codec}")


class _PrintedErrors:
    """What the library prints of pictures that did not decode; it tells this in no other way.

    From here to ``close`` what this process prints on stdout goes through a pipe, and on to where it went before.
    """

    MARK = b"Decode Error"

    def __init__(self) -> None:
        self._libc = ctypes.CDLL(None)
        self._libc.fflush(None)
        self._before = os.dup(1)
        self._pipe, into = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        os.dup2(into, 1)
        os.close(into)

    def check(self) -> None:
        """Raises NvdecRefused where an error was printed since the last check."""
        self._libc.fflush(None)
        try:
            said = os.read(self._pipe, 1 << 16)
        except BlockingIOError:
            return
        if self.MARK in said:
            raise NvdecRefused("NVDEC could not decode a picture")
        with suppress(OSError):  # the process may not write to a file, if stdout is one
            os.write(self._before, said)

    def close(self) -> None:
        """Lets stdout go where it went before."""
        try:
            self.check()
        except NvdecRefused:
            pass  # of a picture that nobody asked for any more
        os.dup2(self._before, 1)
        os.close(self._before)
        os.close(self._pipe)
