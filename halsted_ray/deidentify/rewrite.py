"""The clean file: a new MP4 with one stream, the picture. Nothing of the old file's container comes over.

Where nothing has to become black, each coded frame is copied, bit by bit, but for its units without picture
(``coded_units``). Around what has to become black, stretches between two keyframes that stand alone are decoded,
painted and coded again; the frames beside them are copied. Where a stream can't be copied packet by packet, it is coded
again as a whole. Every frame keeps its time in both cases, and the finished file is read back to see that.
"""

from __future__ import annotations

import contextlib
import heapq
import os
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING

import av
import av.error
from av import VideoFrame
from av.video.codeccontext import VideoCodecContext
from av.video.stream import VideoStream

from halsted_ray.deidentify.black_frames import with_black
from halsted_ray.deidentify.coded_units import UnitCleaner, cleaner_of
from halsted_ray.deidentify.disk import raise_where_full
from halsted_ray.deidentify.spans import Mask, Span
from halsted_ray.deidentify.survey import (
    CUT_CODECS,
    Carried,
    NotCopyable,
    carried_by,
    cleaned,
    cut_points,
    new_cleaner,
)
from halsted_ray.errors import UnreadableVideo
from halsted_ray.video.container import VideoFile
from halsted_ray.video.geometry import orientation_of, stereo_of
from halsted_ray.video.packet_times import pts_of

if TYPE_CHECKING:
    from halsted_ray.video.container import VideoPacket

QUALITY = "18"
"""The constant rate factor of what is coded again: without visible loss at twice to three times the bits of 23."""
KEYFRAME_EVERY_S = 2.0
PACKINGS = {"row by row": 2, "side by side": 3, "top and bottom": 4}
"""Layout of two eyes → libx264's number for it. libx264 can say of no layout that the right eye comes first."""
END = 1 << 62


@dataclass(frozen=True)
class Rewritten:
    """How a clean file came about. Times in seconds from the first displayed frame."""

    frames: int
    """Coded frames of the clean file."""
    copied: int
    """Those of them that were copied bit by bit."""
    coded_again: list[tuple[float, float]]
    """[start_s, stop_s) of the stretches that were coded again, black parts and what lies around them."""
    why_whole: str
    """Why the whole stream was coded again; empty where it was not."""
    removed_units: dict[str, int]
    """Kind of unit in the coded picture → how many went."""
    carried: Carried = field(default_factory=Carried)
    """What the old file carried beside its picture. All of it went."""


Watch = Callable[[float], None]
"""Is called with the second of the source that is being written."""


def black_out(
    source: str | Path,
    out: str | Path,
    spans: Sequence[Span],
    masks: Sequence[Mask] = (),
    on_progress: Watch = lambda at_s: None,
) -> Rewritten:
    """Writes the clean copy of the video at ``source`` to the new file ``out``, black in ``spans`` and ``masks``.

    Both are local paths. ``out`` is an MP4 that holds the picture and nothing else; each frame has the time it had,
    counted from the first displayed frame. Without spans and masks every frame is copied where the codec is H.264,
    HEVC, MPEG-2 or MPEG-4 part 2. Raises UnreadableVideo where the source can't be read, or where no clean copy with
    the same times can be made, and OSError where the disk is full; then there is no ``out``.
    """
    try:
        try:
            found = _copy(source, out, spans, masks, on_progress)
        except (NotCopyable, av.error.FFmpegError) as error:
            raise_where_full(out)
            why = str(error) if isinstance(error, NotCopyable) else f"{type(error).__name__} while copying"
            found = _code_whole(source, out, spans, masks, why, on_progress)
    except BaseException as error:
        try:
            if isinstance(error, Exception):
                raise_where_full(out)
        finally:
            with contextlib.suppress(FileNotFoundError):
                os.unlink(out)
        if isinstance(error, NotCopyable):
            raise UnreadableVideo(
                f"expected a video that can be written again with the same times, got {error}; transcode it to H.264"
            ) from None
        raise
    return found


def _copy(
    source: str | Path, out: str | Path, spans: Sequence[Span], masks: Sequence[Mask], on_progress: Watch
) -> Rewritten:
    """Copies packets, and codes again what lies around black parts. Raises NotCopyable."""
    with VideoFile(os.fspath(source)) as video:
        carried, points = carried_by(video), cut_points(video)
        painter = Painter(video, spans, masks)
        codec = video.stream.codec_context.name
        ranges = points.ranges(painter.spans)
        if ranges and codec not in CUT_CODECS:
            raise NotCopyable(f"{codec} with black parts")
        first, last = int(points.pts[0]), int(points.pts[-1])
        if ranges and ranges[0][0] <= first and ranges[0][1] > last:
            raise NotCopyable("black parts between all keyframes")
        if ranges and points.shown_by_messages:
            raise NotCopyable("messages that say how pictures are shown, with black parts")
        cleaner = new_cleaner(video)
        with _Writer(out, video, points.delay) as writer:
            writer.add_copied(cleaner.header, in_band=bool(ranges))
            copied = _copy_and_paint(video, ranges, painter, cleaner, writer, on_progress)
        seconds = [
            (max(0.0, video.seconds(start)), video.seconds(min(stop, last + writer.step))) for start, stop in ranges
        ]
        _check_times(out, [(pts - video.origin) * video.time_base for pts in writer.times])
    return Rewritten(len(writer.times), copied, seconds, "", dict(cleaner.removed), carried)


def _copy_and_paint(
    video: VideoFile,
    ranges: Sequence[tuple[int, int]],
    painter: Painter,
    cleaner: UnitCleaner,
    writer: _Writer,
    on_progress: Watch,
) -> int:
    """Writes all frames, those in ``ranges`` painted and coded again; how many were copied."""
    encoder = CUT_CODECS.get(video.stream.codec_context.name, "")
    coder: _Coder | None = None
    number, copied, sets_due, seen_key = 0, 0, False, False
    for packet in video.packets():
        data = cleaned(cleaner, bytes(packet))
        seen_key = seen_key or bool(packet.is_keyframe)
        if not data or not seen_key:  # what comes before the first keyframe can't be decoded: nobody has looked at it
            continue
        assert packet.pts is not None, "the survey has seen all packets"
        on_progress(video.seconds(packet.pts))
        # Ranges begin and end at clean cuts, so the packets of one follow each other.
        if coder and packet.pts >= ranges[number][1]:
            writer.write_all(coder.finish())
            coder, sets_due, number = None, True, number + 1
        if coder is None and number < len(ranges) and packet.pts >= ranges[number][0]:
            coder = _Coder(video, painter, lambda: av.CodecContext.create(encoder, "w"))  # type: ignore[arg-type,return-value]
        if coder is not None:
            writer.write_all(coder.code(packet))
            continue
        if sets_due:
            data, sets_due = cleaner.parameter_sets() + data, False
        writer.write(data, packet.pts, bool(packet.is_keyframe), packet.duration or 0)
        copied += 1
    if coder:
        writer.write_all(coder.finish())
    return copied


def _code_whole(
    source: str | Path, out: str | Path, spans: Sequence[Span], masks: Sequence[Mask], why: str, on_progress: Watch
) -> Rewritten:
    """Decodes all frames and codes them as H.264. Raises NotCopyable where no frame decodes, or times are lost."""
    with VideoFile(os.fspath(source)) as video:
        carried = carried_by(video)
        video.reopen()
        with _Writer(out, video, 0) as writer:
            coder = _Coder(video, Painter(video, spans, masks), writer.add_coded)
            for packet in video.packets():
                if packet.pts is not None:
                    on_progress(video.seconds(packet.pts))
                writer.write_all(coder.code(packet))
            writer.write_all(coder.finish())
        if not writer.times:
            raise NotCopyable("no frame that decodes")
        _check_times(out, [(pts - writer.times[0]) * video.time_base for pts in writer.times])
        end_s = video.seconds(writer.times[-1] + writer.step)
    return Rewritten(len(writer.times), 0, [(0.0, end_s)], why, {}, carried)


def _check_times(out: str | Path, expected_s: list[Fraction]) -> None:
    """Reads the finished file back. Raises NotCopyable where a frame is missing or has another time."""
    with VideoFile(os.fspath(out)) as video:
        video.reopen()  # opening it has read the first frames
        found_s = [
            (packet.pts - video.origin) * video.time_base for packet in video.packets() if packet.pts is not None
        ]
    if sorted(found_s) != sorted(expected_s):
        raise NotCopyable("frames whose times the new file does not keep")


class Painter:
    """Which frames of a video become black, wholly or in boxes."""

    def __init__(self, video: VideoFile, spans: Sequence[Span], masks: Sequence[Mask]):
        self._black = [(video.ticks(span.start_s), _stop(video, span.stop_s)) for span in spans]
        self._masks = [(video.ticks(mask.start_s), _stop(video, mask.stop_s), mask.box) for mask in masks]

    @property
    def spans(self) -> list[tuple[int, int]]:
        """[start, stop) in ticks of all that becomes black."""
        return [*self._black, *((start, stop) for start, stop, _ in self._masks)]

    def paint(self, frame: VideoFrame, pts: int, next_pts: int) -> VideoFrame:
        """The frame as it is to be coded; it is displayed from ``pts`` to ``next_pts``."""
        if any(start < next_pts and pts < stop for start, stop in self._black):
            return with_black(frame, None)
        return with_black(frame, [box for start, stop, box in self._masks if start < next_pts and pts < stop])


def _stop(video: VideoFile, stop_s: float) -> int:
    """The first tick at or after ``stop_s``, which may be infinite."""
    if stop_s == float("inf"):
        return END
    return video.ticks(stop_s) + (video.seconds(video.ticks(stop_s)) < stop_s)


Coded = tuple[bytes, int, bool, int]
"""(coded frame, pts, whether it is a keyframe, duration in ticks or 0)"""


class _Coder:
    """Decodes packets, paints the frames and codes them again, each with its own pts, in order of display.

    ``new_context`` gives the encoder, which is set up and opened when the first frame is there.
    """

    def __init__(self, video: VideoFile, painter: Painter, new_context: Callable[[], VideoCodecContext]):
        self.video, self.painter, self.new_context = video, painter, new_context
        self._context: VideoCodecContext | None = None
        self._cleaner: UnitCleaner | None = None
        self._held: tuple[VideoFrame, int] | None = None
        """The last decoded frame: it is painted when it is known how long it is displayed."""
        video.stream.codec_context.flush_buffers()

    def code(self, packet: VideoPacket | None) -> Iterator[Coded]:
        """What can be coded once this packet is known."""
        for frame in self.video.decode(packet) or ():
            pts = pts_of(frame)
            if pts is None:
                continue
            held = self._held
            if held is not None and pts <= held[1]:  # damaged times: the frame follows its neighbour
                pts = held[1] + 1
            self._held = frame, pts
            if held is not None:
                yield from self._code(*held, pts)

    def finish(self) -> Iterator[Coded]:
        """The frames that decoder and encoder still hold."""
        yield from self.code(None)
        self.video.stream.codec_context.flush_buffers()
        if self._held is not None:
            yield from self._code(*self._held, self._held[1] + 1)
        if self._context is not None:
            yield from self._taken(self._context.encode(None))

    def _code(self, frame: VideoFrame, pts: int, next_pts: int) -> Iterator[Coded]:
        painted = self.painter.paint(frame, pts, next_pts)
        if self._context is None:
            self._context = self._open(frame, painted)
        if (painted.width, painted.height) != (self._context.width, self._context.height):
            raise NotCopyable("pictures that change their size")
        painted.pts, painted.time_base = pts, self.video.time_base
        yield from self._taken(self._context.encode(painted))

    def _taken(self, packets: Sequence[VideoPacket]) -> Iterator[Coded]:
        assert self._cleaner is not None, "the encoder is open"
        for packet in packets:
            assert packet.pts is not None, "the encoder was given a pts"
            yield cleaned(self._cleaner, bytes(packet)), packet.pts, bool(packet.is_keyframe), 0

    def _open(self, frame: VideoFrame, black: VideoFrame) -> VideoCodecContext:
        old, context = self.video.stream.codec_context, self.new_context()
        context.width, context.height, context.pix_fmt = black.width, black.height, black.format.name
        context.time_base = self.video.time_base
        context.framerate = rate = self.video.stream.average_rate or self.video.stream.guessed_rate or Fraction(25)
        context.color_range, context.colorspace = int(black.color_range), int(black.colorspace)
        context.color_primaries, context.color_trc = old.color_primaries, old.color_trc
        if old.sample_aspect_ratio:
            context.sample_aspect_ratio = old.sample_aspect_ratio
        context.gop_size = max(1, round(float(rate) * KEYFRAME_EVERY_S))
        # No frame refers to a later one, so that frames leave in the order of display.
        context.max_b_frames = 0
        context.thread_count = 1
        options = {"preset": "veryfast", "crf": QUALITY, "forced-idr": "1"}
        if context.name == "libx265":
            options["x265-params"] = "log-level=error:info=0:bframes=0:open-gop=0:repeat-headers=1:pools=none"
        else:
            stereo = stereo_of(frame)
            packing = PACKINGS.get(stereo.layout) if stereo and stereo.left_first else None
            words = [f"frame-packing={packing}"] if packing else []
            options["x264-params"] = ":".join([*words, *(["tff=1"] if frame.interlaced_frame else [])])
        context.options = options
        context.open()
        self._cleaner = cleaner_of("hevc" if context.name == "libx265" else "h264", context.extradata or b"")
        assert self._cleaner is not None, "both codecs are known"
        if context.extradata:
            context.extradata = self._cleaner.header
        return context


class _Writer:
    """Writes an MP4 with one stream. Coded frames come in decoding order with their pts, in ticks of the source.

    ``delay``: by how many places frames may be out of the order of display. ``times``: the pts of all frames so far.
    """

    def __init__(self, out: str | Path, video: VideoFile, delay: int):
        self.video, self.delay = video, delay
        self.times: list[int] = []
        base, rate = video.time_base, video.stream.average_rate or video.stream.guessed_rate
        self.step = max(1, round(1 / float(rate * base))) if rate else 1
        """Ticks that a frame usually lasts."""
        self._container = av.open(
            os.fspath(out),
            "w",
            format="mp4",
            options={
                "fflags": "+bitexact",  # else the muxer writes its name and version
                "movflags": "+faststart",
                "strict": "unofficial",  # else it drops which half of the picture is for which eye
                "video_track_timescale": str(base.denominator),
                "movie_timescale": str(base.denominator),
            },
        )
        self._stream: VideoStream | None = None
        self._order: list[int] = []
        self._held: deque[Coded] = deque()
        self._muxed, self._earliest, self._last_dts = 0, 0, -END

    def __enter__(self) -> _Writer:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        try:
            while kind is None and self._held:
                self._mux_next()
        finally:
            self._container.close()

    def add_copied(self, header: bytes, in_band: bool) -> None:
        """Makes the stream like the source's. ``header``: parameter sets behind start codes. ``in_band``: others stand
        among the frames."""
        source = self.video.stream
        self._stream = self._container.add_stream_from_template(source)
        context = self._stream.codec_context
        context.extradata = header or None
        if in_band:
            context.codec_tag = {"h264": "avc3", "hevc": "hev1"}[source.codec_context.name]
        self._stream.time_base = Fraction(1, self.video.time_base.denominator)

    def add_coded(self) -> VideoCodecContext:
        """Makes a stream of H.264; the encoder for it, not opened yet."""
        self._stream = self._container.add_stream("libx264")
        self._stream.time_base = Fraction(1, self.video.time_base.denominator)
        if orientation := orientation_of(self.video.first_frame):
            # It mirrors after the turn, and an orientation before it: the other way round the turn changes its sign.
            turn = orientation.rotation_deg
            self._stream.set_display_rotation(-turn if orientation.mirrored else turn, hflip=orientation.mirrored)
        return self._stream.codec_context

    def write_all(self, frames: Iterator[Coded]) -> None:
        """Writes several frames."""
        for frame in frames:
            self.write(*frame)

    def write(self, data: bytes, pts: int, is_key: bool, duration: int) -> None:
        """Writes one coded frame; ``duration`` 0: not known. Raises NotCopyable where it has another's time."""
        self.times.append(pts)
        heapq.heappush(self._order, pts)
        self._held.append((data, pts, is_key, duration))
        if len(self._held) > self.delay:
            self._mux_next()

    def _mux_next(self) -> None:
        assert self._stream is not None, "the stream comes before its frames"
        data, pts, is_key, duration = self._held.popleft()
        if not self._muxed:
            self._earliest = self._order[0]
        # The times of decoding are the times of display in rising order, ``delay`` places later.
        if self._muxed < self.delay:
            dts = self._earliest - (self.delay - self._muxed) * self.step
        else:
            dts = heapq.heappop(self._order)
        if not self._last_dts < dts <= pts:
            raise NotCopyable("times that do not fit the order of the frames")
        self._last_dts = dts
        self._muxed += 1
        ticks, origin = self.video.time_base.numerator, self.video.origin
        packet = av.Packet(data)
        packet.stream = self._stream
        packet.time_base = Fraction(1, self.video.time_base.denominator)
        packet.pts, packet.dts = (pts - origin) * ticks, (dts - origin) * ticks
        packet.duration = (duration or self.step) * ticks
        packet.is_keyframe = is_key
        self._container.mux(packet)
