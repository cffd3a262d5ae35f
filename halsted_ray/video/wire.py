"""Messages between the two ends of a pipe: a JSON head and raw bytes. No pickle: the decoding process has read
untrusted data, so nothing that it sends is ever executed."""

from __future__ import annotations

import json
import os
import select
import struct
import time

HEAD = struct.Struct("<IQ")
MAX_HEAD_BYTES = 1 << 24
MAX_BODY_BYTES = 1 << 30


class PipeClosed(Exception):
    """The other end is gone."""


class DeadlineOver(Exception):
    """The other end did not answer in time."""


def send(fd: int, head: dict, body: bytes | memoryview = b"") -> None:
    text = json.dumps(head).encode()
    body = memoryview(body).cast("B")
    try:
        for piece in (memoryview(HEAD.pack(len(text), len(body)) + text), body):
            while piece:
                piece = piece[os.write(fd, piece) :]
    except BrokenPipeError:
        raise PipeClosed from None


def receive(fd: int, until_s: float | None = None) -> tuple[dict, bytearray]:
    """(head, body). ``until_s`` is on the monotonic clock; raises DeadlineOver after it, PipeClosed at the end."""
    head_bytes, body_bytes = HEAD.unpack(_read(fd, HEAD.size, until_s))
    if head_bytes > MAX_HEAD_BYTES or body_bytes > MAX_BODY_BYTES:
        raise PipeClosed  # not this protocol: the other end's memory is in disorder
    return json.loads(bytes(_read(fd, head_bytes, until_s))), _read(fd, body_bytes, until_s)


def _read(fd: int, count: int, until_s: float | None) -> bytearray:
    data = bytearray(count)
    view = memoryview(data)
    while view:
        if until_s is not None:
            left_s = until_s - time.monotonic()
            if left_s <= 0 or not select.select([fd], [], [], left_s)[0]:
                raise DeadlineOver
        got = os.readv(fd, [view])
        if not got:
            raise PipeClosed
        view = view[got:]
    return data
