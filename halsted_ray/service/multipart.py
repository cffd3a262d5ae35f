"""The parts of a ``multipart`` body (RFC 2046) while it comes, with a bound for everything that is kept in memory.

parser = MultipartParser(boundary_of(content_type, "related"))
for chunk in body:
    for event in parser.feed(chunk): …
parser.finish()
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from email.message import Message

from halsted_ray.errors import UsageError

LARGEST_HEAD_BYTES = 8192
"""Of the headers of a part, and of what stands before the first part."""
_BOUNDARY = re.compile(r"[0-9A-Za-z'()+_,./:=? -]{0,69}[0-9A-Za-z'()+_,./:=?-]")


class BrokenMultipart(UsageError):
    """The body is not as RFC 2046 says."""


@dataclass(frozen=True)
class PartBegun:
    """A part begins. ``headers``: their names in lower case."""

    headers: Mapping[str, str]


@dataclass(frozen=True)
class PartData:
    """More bytes of the part."""

    data: bytes


@dataclass(frozen=True)
class PartEnded:
    """The part is whole."""


Event = PartBegun | PartData | PartEnded


def boundary_of(content_type: str, subtype: str) -> tuple[bytes, str]:
    """(the boundary, the parameter ``type`` in lower case or '') of the header ``content_type``. Raises
    BrokenMultipart where it is no multipart/``subtype`` or has no boundary."""
    message = Message()
    message["content-type"] = content_type
    boundary = message.get_param("boundary")
    if message.get_content_type() != f"multipart/{subtype}" or not isinstance(boundary, str):
        raise BrokenMultipart(f"Content-Type: expected multipart/{subtype} with a boundary, got another one")
    if not _BOUNDARY.fullmatch(boundary):
        raise BrokenMultipart("boundary: expected 1 to 70 letters of RFC 2046, got others")
    kind = message.get_param("type")
    return boundary.encode(), kind.lower() if isinstance(kind, str) else ""


class MultipartParser:
    """Takes a body piece by piece. It keeps at most a piece and ``LARGEST_HEAD_BYTES``."""

    def __init__(self, boundary: bytes) -> None:
        self._delimiter = b"\r\n--" + boundary
        self._rest = bytearray(b"\r\n")  # the first delimiter may stand at the very beginning
        self._state = "preamble"

    @property
    def is_whole(self) -> bool:
        """Whether the last delimiter has come. What follows it means nothing."""
        return self._state == "end"

    def feed(self, data: bytes) -> Iterator[Event]:
        """What ``data`` brings. Raises BrokenMultipart."""
        if self._state == "end":
            return
        self._rest += data
        while True:
            if self._state in ("preamble", "data"):
                found = self._rest.find(self._delimiter)
                if found < 0:
                    yield from self._pass(max(0, len(self._rest) - len(self._delimiter) + 1))
                    return
                yield from self._pass(found)
                if self._state == "data":
                    yield PartEnded()
                self._state = "delimiter"
                del self._rest[: len(self._delimiter)]
            elif self._state == "delimiter":
                if self._rest[:2] == b"--":
                    self._state = "end"
                    self._rest.clear()
                    return
                stop = self._rest.find(b"\r\n")
                if stop < 0:
                    if len(self._rest) > LARGEST_HEAD_BYTES:
                        raise BrokenMultipart("expected a line's end after the boundary, got none")
                    return
                if self._rest[:stop].strip(b" \t"):
                    raise BrokenMultipart("expected a line's end after the boundary, got other data")
                del self._rest[:stop]  # the line's end stays: a part may have no header
                self._state = "head"
            else:
                stop = self._rest.find(b"\r\n\r\n")
                if stop < 0 or stop > LARGEST_HEAD_BYTES:
                    if len(self._rest) > LARGEST_HEAD_BYTES:
                        raise BrokenMultipart(f"expected headers of at most {LARGEST_HEAD_BYTES} bytes, got more")
                    return
                yield PartBegun(_headers(bytes(self._rest[:stop])))
                del self._rest[: stop + 4]
                # The line's end before a delimiter belongs to it, also where the part is empty.
                self._rest[:0] = b"" if not self._rest.startswith(self._delimiter[2:]) else b"\r\n"
                self._state = "data"

    def finish(self) -> None:
        """The body has ended. Raises BrokenMultipart where it was not whole."""
        if self._state != "end":
            raise BrokenMultipart("expected the closing boundary of the body, got its end; send it again")

    def _pass(self, count: int) -> Iterator[PartData]:
        """The first ``count`` bytes of what is kept: of the part, or of what stands before the first."""
        if self._state == "data" and count:
            yield PartData(bytes(self._rest[:count]))
        elif self._state == "preamble" and count > LARGEST_HEAD_BYTES:
            raise BrokenMultipart("expected the boundary that Content-Type names, got other data")
        del self._rest[:count]


def _headers(head: bytes) -> dict[str, str]:
    found = {}
    for line in head.decode("latin-1").split("\r\n"):
        name, colon, value = line.partition(":")
        if line and not colon:
            raise BrokenMultipart("expected a header of a part, got another line")
        if line:
            found[name.strip().lower()] = value.strip()
    return found
