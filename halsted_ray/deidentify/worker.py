"""The process that reads the untrusted file: ``python -m halsted_ray.deidentify.worker MEMORY_MB``.

It takes one request over its stdin (a message of ``video.wire``) and answers over its stdout: messages with ``at_s``
while it works, and one with ``done`` or ``error`` at the end. It can't open sockets or start programs, and where it
only looks for text it can't write files either. It ends when its stdin does, so with the process that asked.
"""

from __future__ import annotations

import errno
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

from halsted_ray.deidentify.disk import DISK_FULL, STORE_FAULTS, raise_where_full
from halsted_ray.deidentify.spans import Box, Mask, Span
from halsted_ray.errors import DecoderKilled, OutputError, UnreadableVideo, UsageError, VideoError
from halsted_ray.video import wire
from halsted_ray.video.decode_process import worker_environment
from halsted_ray.video.isolation import deny_network_and_programs, limit_cpu, limit_resources

if TYPE_CHECKING:
    from halsted_ray.records import JsonObject

MEMORY_MB = 3072
"""What the networks and the encoder may take beyond the process's own memory; 1080p takes about 1 GB."""
SILENCE_S = 600.0
"""A worker that says nothing for so long hangs."""
SILENT_CPU_S = 900.0
ERRORS: dict[str, type[Exception]] = {
    "usage": UsageError,
    "full": OutputError,
    "store": OutputError,
    "video": UnreadableVideo,
}
"""What a worker's error is here."""
TELL_EVERY_S = 1.0
WRITES_AT_MOST = 40
"""The clean file may have so many times the bytes of the source: a stretch that is coded again may grow."""
WRITES_BYTES = 1 << 28


def ask_worker(
    request: JsonObject, memory_mb: int = MEMORY_MB, on_progress: Callable[[float], None] = lambda at_s: None
) -> JsonObject:
    """The answer of a new worker to one request. ``on_progress`` is called with the second of the video at which the
    worker is. Raises VideoError, DecoderKilled where it dies or hangs, UsageError where it lacks a package, OutputError
    where the disk is full."""
    process = subprocess.Popen(
        [sys.executable, "-P", "-m", "halsted_ray.deidentify.worker", str(memory_mb)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,  # messages of libraries may hold the file's name
        env=worker_environment(),
    )
    assert process.stdin is not None and process.stdout is not None
    try:
        wire.send(process.stdin.fileno(), request)
        while True:
            head, _ = wire.receive(process.stdout.fileno(), time.monotonic() + SILENCE_S)
            if "at_s" in head:
                on_progress(float(head["at_s"]))
                continue
            if "error" in head:
                raise ERRORS.get(head["error"], UnreadableVideo)(head["message"])
            answer: JsonObject = head["done"]
            return answer
    except wire.DeadlineOver:
        raise DecoderKilled(
            f"expected a sign of work within {SILENCE_S:.0f} s, got none: the decoder hung and was killed", hung=True
        ) from None
    except wire.PipeClosed:
        raise DecoderKilled(
            "expected a copy of the video, but the process died, most often out of memory; transcode it to H.264"
        ) from None
    finally:
        process.kill()
        process.wait()
        process.stdin.close()
        process.stdout.close()


def main(memory_mb: int) -> int:
    """Answers one request; the exit code."""
    requests, replies = os.dup(0), os.dup(1)
    os.dup2(2, 1)
    request, _ = wire.receive(requests)
    threading.Thread(target=_end_with, args=(requests,), daemon=True).start()
    try:
        work = {"text": _find, "write": _write, "playable": _write_playable}[request["do"]]
        answer = work(request, memory_mb, _Progress(replies))
        wire.send(replies, {"done": answer})
    except UsageError as error:
        wire.send(replies, {"error": "usage", "message": str(error)})
    except VideoError as error:
        wire.send(replies, {"error": "video", "message": str(error)})
    except OSError as error:
        if error.errno in DISK_FULL:
            wire.send(replies, {"error": "full", "message": "the disk has no room for the copy; make room"})
        elif error.errno in STORE_FAULTS:
            why = f"disk or file server fails ({errno.errorcode[error.errno]}); check it"
            wire.send(replies, {"error": "store", "message": why})
        else:
            wire.send(replies, {"error": "video", "message": f"the file can't be read: {type(error).__name__}"})
    except Exception as error:  # its message may hold the file's name
        wire.send(replies, {"error": "video", "message": f"the file can't be read to its end: {type(error).__name__}"})
    return 0


def _end_with(requests: int) -> None:
    """Ends this process when nobody holds the other end of ``requests`` any more."""
    while os.read(requests, 1):
        pass
    os._exit(1)


class _Progress:
    """Tells the parent how far the work is, at most once per second, and allows the CPU time until the next sign."""

    def __init__(self, replies: int) -> None:
        self._replies, self._told_s = replies, -float("inf")

    def __call__(self, at_s: float) -> None:
        now_s = time.monotonic()
        if now_s - self._told_s >= TELL_EVERY_S:
            self._told_s = now_s
            limit_cpu(SILENT_CPU_S)
            wire.send(self._replies, {"at_s": at_s})


def _find(request: JsonObject, memory_mb: int, on_progress: _Progress) -> JsonObject:
    from halsted_ray.deidentify.text import TextReader, find_text
    from halsted_ray.video.container import VideoFile

    reader = TextReader()  # reads its networks before the rights to do so go
    limit_resources(memory_mb)
    deny_network_and_programs()

    on_progress(0.0)
    with VideoFile(request["path"]) as video:
        masks = find_text(video, reader, on_progress)
    return {"masks": [asdict(mask) for mask in masks]}


def _write(request: JsonObject, memory_mb: int, on_progress: _Progress) -> JsonObject:
    from halsted_ray.deidentify.rewrite import black_out

    most = WRITES_AT_MOST * os.path.getsize(request["path"]) + WRITES_BYTES
    limit_resources(memory_mb, writes_bytes=most)
    deny_network_and_programs()
    spans = [Span(**span) for span in request["spans"]]
    masks = [mask_of(mask) for mask in request["masks"]]
    on_progress(0.0)
    found = asdict(black_out(Path(request["path"]), Path(request["out"]), spans, masks, on_progress))
    return found


def _write_playable(request: JsonObject, memory_mb: int, on_progress: _Progress) -> JsonObject:
    from halsted_ray.video.container import VideoFile
    from halsted_ray.video.playable import write_playable

    limit_resources(memory_mb, writes_bytes=WRITES_AT_MOST * os.path.getsize(request["path"]) + WRITES_BYTES)
    deny_network_and_programs()
    on_progress(0.0)
    try:
        with VideoFile(request["path"]) as video:
            return {"frames": write_playable(video, request["out"], on_progress)}
    except Exception:
        raise_where_full(request["out"])
        raise


def mask_of(fields: JsonObject) -> Mask:
    """A mask from its fields as JSON values."""
    return Mask(**(fields | {"box": Box(**fields["box"])}))


if __name__ == "__main__":
    sys.exit(main(int(sys.argv[1])))
