"""The child's end: the decoding process, ``python -m halsted_ray.video.decode_worker MEMORY_MB [--device]``.

It gets requests over its stdin and answers over its stdout, in messages of ``wire``. It holds no credentials, and opens
nothing but the local file that a request names. The bytes of remote files come from the parent, range by range. It
imports little, so that a new process is there in a fraction of a second after one was killed. With ``--device`` it also
imports torch and decodes on a GPU.
"""

from __future__ import annotations

import errno
import gc
import os
import select
import sys
import threading
import time
import traceback
from collections.abc import Sequence
from types import TracebackType
from typing import TYPE_CHECKING

import av.error
import numpy as np
from numpy.typing import NDArray

from halsted_ray.errors import CorruptSegment, StorageUnavailable, UnreadableVideo, UsageError, VideoError
from halsted_ray.profiling import THREAD_PROFILE
from halsted_ray.storage.ranges import RangeFile
from halsted_ray.video import wire
from halsted_ray.video.clip_span import ClipSpan
from halsted_ray.video.container import OUTAGES, VideoFile
from halsted_ray.video.describe import describe
from halsted_ray.video.encapsulated import stream_in
from halsted_ray.video.frames import ANEW, FrameStream, Missing
from halsted_ray.video.isolation import deny_network_and_programs, limit_cpu, limit_resources
from halsted_ray.video.keyframe_index import KeyframeIndex
from halsted_ray.video.packet_index import IndexSlot, PacketIndex
from halsted_ray.video.probe import probe_and_index, probe_of
from halsted_ray.video.pyav_reader import frames_in
from halsted_ray.video.readers import READERS

if TYPE_CHECKING:  # at run time it would import pyarrow into the decoding process
    from halsted_ray.records import JsonObject
    from halsted_ray.storage.ranges import Source
    from halsted_ray.video.frames import FrameSize

PART_BYTES = 8 * 1024 * 1024
"""Frames are sent in parts of this size, so that the process does not grow with the length of a segment."""

LEAD_CPU = 10
"""Seconds of CPU that decoding a second of video may take, where decoding begins long before the wanted time."""

PART_TIMES = 4096
"""The most times that a part speaks of: a time without picture takes no bytes, but a few words of the head."""


def main(memory_mb: int, on_device: bool = False) -> int:
    """Gives up all rights it does not need, then answers requests until the parent closes the pipe; the exit code.

    A GPU is made ready before that: the driver may open sockets and write files meanwhile. Its threads keep these
    rights, and no byte of a video is read by them.
    """
    requests, replies = os.dup(0), os.dup(1)
    os.dup2(2, 1)  # what a library prints must not get among the messages
    sys.excepthook = _report_without_names
    if on_device:
        prepare_device()
    limit_resources(memory_mb, on_device)
    # What stays for good is left out of collections of garbage. Else each takes 20 ms, and pictures.py wants many.
    gc.freeze()
    threading.Thread(target=end_with_parent, args=(requests,), daemon=True).start()
    wire.send(replies, {"network_open_because": deny_network_and_programs()})
    while True:
        try:
            request, body = wire.receive(requests)
            answer(request, body, requests, replies)
            # An open file and its first frame refer to each other, and few objects are made, so that Python would
            # collect them only after hundreds of requests.
            gc.collect()
        except wire.PipeClosed:
            return 0


def end_with_parent(requests: int) -> None:
    """Ends this process as soon as the parent is gone, in the middle of whatever it does: a packet pass over a large
    file asks for nothing and sends nothing for minutes. Waits without using the CPU."""
    gone = select.poll()
    gone.register(requests, 0)  # that the other end is closed is always told
    gone.poll()
    os._exit(0)


def answer(request: JsonObject, body: bytearray, requests: int, replies: int) -> None:
    """Answers one request over the file descriptor ``replies``; ``requests`` is where bytes of a remote file come from.

    A request asks to ``do`` ``probe``, ``describe``, ``frames``, ``clip`` or ``cut`` of the file at ``path``, or of a
    remote file of ``size_bytes``. For frames, ``body`` holds the times (float64) and after them the index of an earlier
    pass over the packets, if any; for a clip it holds that index. The answers to ``frames`` are messages with ``part``
    and at the end ``done``, with the index where a pass was made. The answers to ``probe``, with such an index too, and
    to ``describe`` are one message. The answers to ``clip`` are those to ``probe`` and to ``frames`` of the span, from
    one opening of the file; where the video does not have the span, the probe is the last of them. The answers to
    ``cut`` are messages with ``part`` and a piece of an MP4 each, and at the end ``frames``, their number. An ``error``
    may stand in place of any of them. A message with ``need`` asks for bytes of the remote file, a message with
    ``lead_s`` tells how much video is decoded before the first frame.
    """
    limit_cpu(request["cpu_s"])
    before, cpu_s = THREAD_PROFILE.copy(), time.process_time()
    source = request.get("path") or RangeFile(_BytesFromParent(requests, replies), request["size_bytes"])
    try:
        source = stream_in(source)
        if request["do"] == "probe":
            found, packet_index = probe_and_index(source)
            wire.send(replies, {"probe": found.asdict()}, packet_index.to_bytes() if packet_index else b"")
            return
        if request["do"] == "describe":
            wire.send(replies, {"description": describe(source, request["eye"])})
            return
        if request["do"] == "cut":
            send_cut(source, request, replies)
            return
        times_s = np.frombuffer(body, np.float64, request.get("times", 0))

        def on_lead(lead_s: float) -> None:
            limit_cpu(request["cpu_s"] + LEAD_CPU * lead_s)
            wire.send(replies, {"lead_s": lead_s})

        fallbacks: list[str] = []
        known = IndexSlot(_index_in(bytes(body[times_s.nbytes :])), on_lead, fallbacks.append)
        was_known = known.index is not None
        size = (request["size"][0], request["size"][1]) if request["size"] else None
        if request["do"] == "frames":
            rows = READERS[request["reader"]](source, times_s, size, request["fidelity"], request["eye"], known)
            send_frames(rows, replies)
        elif not send_clip(source, ClipSpan(*request["span"]), size, known, replies):
            return
        spent = THREAD_PROFILE - before
        spent.add(
            "write", 0.0, time.process_time() - cpu_s - sum(spent.cpu_s.values())
        )  # the parent counts the wall time
        made = known.index.to_bytes() if known.index and not was_known else b""
        wire.send(replies, {"done": spent.asdict(), "fallback": fallbacks[0] if fallbacks else ""}, made)
    except VideoError as error:
        span = [error.start_s, error.stop_s] if isinstance(error, CorruptSegment) else [None, None]
        wire.send(replies, {"error": type(error).__name__, "message": str(error), "span": span})
    except av.error.FFmpegError as error:
        if error.errno == errno.ENOMEM:
            raise MemoryError from None
        if error.errno in OUTAGES:
            message = (
                f"expected a file that can be read, got {type(error).__name__}: {error.strerror}; check the drive and "
                "the network, then run again"
            )
            wire.send(replies, {"error": StorageUnavailable.__name__, "message": message, "span": [None, None]})
            return
        wire.send(
            replies,
            {
                "error": UnreadableVideo.__name__,
                "span": [None, None],
                "message": f"expected data that libavcodec reads, got {type(error).__name__}: {error.strerror}; the "
                "file is damaged, copy or export it again",
            },
        )
    except (ValueError, ImportError) as error:
        kind = "ImportError" if isinstance(error, ImportError) else "ValueError"
        wire.send(replies, {"error": kind, "message": str(error), "span": [None, None]})


def send_clip(source: Source, span: ClipSpan, size: FrameSize | None, known: IndexSlot, replies: int) -> bool:
    """Sends the probe of a file, and from the same opening the frames of ``span``. Where the video does not have the
    span, it sends the probe as the last message and returns False."""
    with VideoFile(source, known) as video:
        found = probe_of(video, KeyframeIndex(video))
        try:
            times_s = span.times_s(found.duration_s)
        except UsageError:  # the parent, which has the same span and this probe, says so in words
            wire.send(replies, {"probe": found.asdict()})
            return False
        wire.send(replies, {"part": [0, 0, 0, 3], "shown": [], "probe": found.asdict()})
        send_frames(frames_in(video, times_s, size, "reference", "left"), replies)
    return True


def send_cut(source: Source, request: JsonObject, replies: int) -> None:
    """Sends a stretch of a file as an MP4, in pieces, with words drawn into its pictures where the request has any."""
    from halsted_ray.video.burnt_labels import Label, LabelPainter  # here: few processes draw, and Pillow takes 0.1 s
    from halsted_ray.video.playable import cut_clip

    def on_lead(lead_s: float) -> None:
        limit_cpu(request["cpu_s"] + LEAD_CPU * lead_s)
        wire.send(replies, {"lead_s": lead_s})

    paint = None
    if request["footer"]:
        paint = LabelPainter([Label(*label) for label in request["labels"]], request["footer"])
    with VideoFile(source, IndexSlot(None, on_lead)) as video:
        start_s, stop_s = request["span"]
        data, frames = cut_clip(video, start_s, stop_s, paint)
    for at in range(0, len(data), PART_BYTES):
        piece = data[at : at + PART_BYTES]
        wire.send(replies, {"part": len(piece)}, piece)
    wire.send(replies, {"frames": frames})


def prepare_device() -> None:
    """Makes the GPU ready, where that is possible. Where it is not, the reader ``nvdec`` finds out why."""
    try:
        from halsted_ray.video.nvdec_start import prepare  # here, since it imports torch

        prepare()
    except Exception as error:  # the library's own errors and CUDA's have no type in common
        said = next(iter(str(error).strip().splitlines()), "no message")
        sys.stderr.write(f"halsted decoding process: the GPU can't be used: {type(error).__name__}: {said}\n")


def _index_in(data: bytes) -> PacketIndex | None:
    """The index of an earlier pass over the packets; None where none was sent, or where it can't be used: then the pass
    is made again."""
    try:
        return PacketIndex.from_bytes(data) if data else None
    except ValueError:
        return None


def send_frames(rows: FrameStream, replies: int) -> None:
    """Sends what a reader gives as it comes, in parts of about ``PART_BYTES``.

    A part's head has ``part``, the shape of the pictures in its body, and ``shown``, one item per time: the picture's
    pts in seconds; or for a time without picture the fields of its ``Missing``, None where it is the one before. A part
    with ``anew`` says that the parts before it do not hold.
    """
    images: list[NDArray[np.uint8]] = []
    shown: list[float | list[float | str] | None] = []
    held_bytes = 0
    last: Missing | None = None
    for row in rows:
        if row is ANEW:
            images, shown, held_bytes, last = [], [], 0, None
            wire.send(replies, {"part": [0, 0, 0, 3], "shown": [], "anew": True})
        elif isinstance(row, Missing):
            shown.append(None if row == last else [row.start_s, row.stop_s, row.code, row.reason])
            last = row
        else:
            image_HWC, shown_s = row
            images.append(image_HWC)
            shown.append(float(shown_s))
            held_bytes += image_HWC.nbytes
        if held_bytes >= PART_BYTES or len(shown) >= PART_TIMES:
            _send_part(images, shown, replies)
            images, shown, held_bytes = [], [], 0
    _send_part(images, shown, replies)


def _send_part(images: list[NDArray[np.uint8]], shown: Sequence[object], replies: int) -> None:
    if images:
        wire.send(replies, {"part": [len(images), *images[0].shape], "shown": shown}, np.stack(images).data)
    elif shown:
        wire.send(replies, {"part": [0, 0, 0, 3], "shown": shown})


class _BytesFromParent:
    """``fetch`` of a RangeFile: asks the parent for a range of the remote file."""

    def __init__(self, requests: int, replies: int):
        self._requests, self._replies = requests, replies

    def __call__(self, start: int, stop: int) -> bytes:
        wire.send(self._replies, {"need": [start, stop]})
        _, body = wire.receive(self._requests)  # PipeClosed where the parent can't fetch them
        return bytes(body)


def _report_without_names(kind: type[BaseException], _error: BaseException, trace: TracebackType | None) -> None:
    """Prints a traceback without the error's message: messages of libav and of the system hold the file's name."""
    sys.stderr.write("halsted decoding process: " + "".join(traceback.format_tb(trace)) + kind.__name__ + "\n")


if __name__ == "__main__":
    sys.exit(main(int(sys.argv[1]), sys.argv[2:] == ["--device"]))
