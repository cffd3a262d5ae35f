"""The decoding process: ``python -m halsted_ray.video.decode_worker MEMORY_MB``, spoken to over its stdin and stdout.

It holds no credentials and opens nothing but the local file that it is told: bytes of remote files come from the
parent, by range. It imports little, so that a killed one is back in a fraction of a second.
"""

from __future__ import annotations

import errno
import os
import sys
import time
import traceback

import av.error
import numpy as np

from halsted_ray.errors import StorageUnavailable, UnreadableVideo, VideoError
from halsted_ray.profiling import PROCESS_PROFILE
from halsted_ray.storage.ranges import RangeFile
from halsted_ray.video import wire
from halsted_ray.video.isolation import deny_network_and_programs, limit_cpu, limit_resources
from halsted_ray.video.probe import probe_source
from halsted_ray.video.readers import READERS

PART_BYTES = 8 * 1024 * 1024
"""Frames are sent on in parts of this size, so the process does not grow with the segment."""

OUTAGES = (
    errno.EIO,
    errno.ESTALE,
    errno.ETIMEDOUT,
    errno.ENOTCONN,
    errno.EHOSTDOWN,
    errno.EHOSTUNREACH,
    errno.ENETDOWN,
    errno.ENETUNREACH,
    errno.ENODEV,
    errno.ENXIO,
    errno.EREMOTEIO,
    errno.EACCES,
    errno.EPERM,
)
"""What the system says of a drive that is away, or of a right to read that is missing: no fault of the video."""


def main(memory_mb: int) -> int:
    requests, replies = os.dup(0), os.dup(1)
    os.dup2(2, 1)  # a library that prints must not end up among the messages
    sys.excepthook = _report_without_names
    limit_resources(memory_mb)
    wire.send(replies, {"network_open_because": deny_network_and_programs()})
    while True:
        try:
            request, body = wire.receive(requests)
            answer(request, body, requests, replies)
        except wire.PipeClosed:
            return 0


def answer(request: dict, body: bytearray, requests: int, replies: int) -> None:
    limit_cpu(request["cpu_s"])
    before, cpu_s = PROCESS_PROFILE.copy(), time.process_time()
    source = request.get("path") or RangeFile(_Asker(requests, replies), request["size_bytes"])
    try:
        if request["do"] == "probe":
            wire.send(replies, {"probe": probe_source(source).asdict()})
            return
        times_s = np.frombuffer(body, np.float64)
        size = tuple(request["size"]) if request["size"] else None
        send_frames(READERS[request["reader"]](source, times_s, size, request["fidelity"]), replies)
        spent = PROCESS_PROFILE - before
        spent.add("write", 0.0, time.process_time() - cpu_s - sum(spent.cpu_s.values()))  # the parent counts its wall
        wire.send(replies, {"done": spent.asdict()})
    except VideoError as error:
        span = [getattr(error, "start_s", None), getattr(error, "stop_s", None)]
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


def send_frames(rows, replies: int) -> None:
    images, pts_s, held_bytes = [], [], 0
    for image_HWC, shown_s in rows:
        images.append(image_HWC)
        pts_s.append(shown_s)
        held_bytes += image_HWC.nbytes
        if held_bytes >= PART_BYTES:
            _send_part(images, pts_s, replies)
            images, pts_s, held_bytes = [], [], 0
    _send_part(images, pts_s, replies)


def _send_part(images: list, pts_s: list, replies: int) -> None:
    if images:
        wire.send(replies, {"part": [len(images), *images[0].shape], "pts_s": pts_s}, np.stack(images))


class _Asker:
    """``fetch`` of a RangeFile whose bytes the parent has."""

    def __init__(self, requests: int, replies: int):
        self._requests, self._replies = requests, replies

    def __call__(self, start: int, stop: int) -> bytes:
        wire.send(self._replies, {"need": [start, stop]})
        _, body = wire.receive(self._requests)  # PipeClosed where the parent can't fetch the bytes: it raises its error
        return bytes(body)


def _report_without_names(kind, error, trace) -> None:
    """A traceback without the message: messages of libav and of the system hold the file's name."""
    sys.stderr.write("halsted decoding process: " + "".join(traceback.format_tb(trace)) + kind.__name__ + "\n")


if __name__ == "__main__":
    sys.exit(main(int(sys.argv[1])))
