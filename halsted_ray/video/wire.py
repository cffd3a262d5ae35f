"""The messages between the two ends of a pipe: a head in JSON, then raw bytes.

There is no pickle in them: the decoding process reads data that can't be trusted, so nothing that it sends is executed.
"""

from __future__ import annotations

import json
import os
import select
import struct
import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from typing_extensions import Buffer

    from halsted_ray.records import JsonObject  # at run time it would import pyarrow into the decoding process

LENGTHS = struct.Struct("<IQ")
"""The lengths of the head and of the body, in bytes, with which every message begins."""
MAX_HEAD_BYTES = 1 << 24
MAX_BODY_BYTES = 1 << 30


class PipeClosed(Exception):
    """The other end is gone."""


class DeadlineOver(Exception):
    """The other end did not answer in time."""


def send(fd: int, head: JsonObject, body: Buffer = b"") -> None:
    """Sends one message. Raises PipeClosed."""
    text = json.dumps(head).encode()
    data = memoryview(body).cast("B")
    try:
        for piece in (memoryview(LENGTHS.pack(len(text), len(data)) + text), data):
            while piece:
                piece = piece[os.write(fd, piece) :]
    except BrokenPipeError:
        raise PipeClosed from None


def receive(fd: int, until_s: float | None = None) -> tuple[JsonObject, bytearray]:
    """The next message: (head, body).

    Raises PipeClosed where the other end is gone, and DeadlineOver at ``until_s`` on the monotonic clock.
    """
    head_bytes, body_bytes = LENGTHS.unpack(_read(fd, LENGTHS.size, until_s))
    if head_bytes > MAX_HEAD_BYTES or body_bytes > MAX_BODY_BYTES:
        raise PipeClosed  # no message of this protocol, so the other end's memory is damaged
    text, body = bytes(_read(fd, head_bytes, until_s)), _read(fd, body_bytes, until_s)
    try:
        head = json.loads(text)
    except (ValueError, RecursionError):
        raise PipeClosed from None
    if not isinstance(head, dict):
        raise PipeClosed
    return head, body


def _read(fd: int, count: int, until_s: float | None) -> bytearray:
    """``count`` bytes."""
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
