"""Bounds of the connections of a DICOM receiver, which ``pynetdicom`` does not set.

It would read a PDU of any announced length into memory, start two threads for every connection, and wait for a TLS
handshake in the thread that accepts. Here a connection has a largest PDU, a largest instance, a least rate and room on
the disk; what breaks a bound is closed.
"""

from __future__ import annotations

import logging
import shutil
import socket
import ssl
import struct
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from socketserver import BaseServer
from typing import Any

from pynetdicom.association import Association
from pynetdicom.transport import AssociationSocket, RequestHandler, ThreadedAssociationServer

log = logging.getLogger(__name__)
LARGEST_PDU_BYTES = 1 << 20
"""The largest PDU that is read. What is announced to senders is ``PDU_BYTES``; a request of association may be larger
than that."""
PDU_BYTES = 1 << 18
HEADER, PDU_KINDS = struct.Struct(">BxI"), range(1, 8)
"""Before a PDU stand its kind and its length (PS3.8, 9.3)."""
GRACE_S, LEAST_RATE = 60.0, 4096
"""After ``GRACE_S`` seconds an instance must have come with so many bytes per second in the mean."""
ROOM_EVERY_BYTES = 16 << 20
"""How often the room on the disk is looked at while an instance comes. A smaller instance is answered when it is
there."""


@dataclass(frozen=True)
class ReceiverLimits:
    """The bounds of a receiver."""

    associations: int = 16
    """At once. Twice as many connections are open at most: what is above gets an answer, what is above that none."""
    instance_bytes: int = 64 * 1024**3
    """Of one instance."""
    reserve_bytes: int = 1024**3
    """What stays free on the disk."""
    silence_s: float = 60.0
    """A connection that says nothing for so long is closed. A PDU must be whole after that time."""


class BrokenBound(OSError):
    """A connection broke a bound; ``status`` and the message are for the list of refusals."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status


class BoundedSocket(AssociationSocket):
    """The socket of one association, which refuses to read beyond the bounds."""

    def __init__(
        self,
        association: Association,
        connection: socket.socket,
        limits: ReceiverLimits,
        spool: Path,
        on_broken: Callable[[Association, BrokenBound], None],
    ) -> None:
        super().__init__(association, client_socket=connection)
        self._limits, self._spool, self._on_broken = limits, spool, on_broken
        self._is_header_next = True
        self.begin_instance()

    def begin_instance(self) -> None:
        """From here on the bytes are those of another instance."""
        self._bytes, self._began_s, self._looked = 0, 0.0, 1

    def recv(self, nr_bytes: int) -> bytearray:
        """Exactly ``nr_bytes``, or less where the peer ended the connection. Raises OSError, BrokenBound.

        ``pynetdicom`` asks for the six bytes before a PDU and for the PDU in turn. After a PDU of no known kind it
        would go on with the next six bytes, and take all that a peer sends for PDUs.
        """
        try:
            self._count(nr_bytes)
            data = self._read(nr_bytes)
            if self._is_header_next and len(data) == HEADER.size:
                _check_header(data)
            self._is_header_next = not self._is_header_next
            return data
        except BrokenBound as error:
            self._on_broken(self.assoc, error)
            self._shutdown_socket()
            raise

    def _count(self, count: int) -> None:
        limits, now_s = self._limits, time.monotonic()
        self._began_s = self._began_s or now_s
        self._bytes += count
        if self._bytes > limits.instance_bytes:
            raise BrokenBound(
                0xA700, f"expected an instance of at most {limits.instance_bytes:,} bytes (--largest-gb), got more"
            )
        if now_s - self._began_s > GRACE_S and self._bytes < LEAST_RATE * (now_s - self._began_s):
            raise BrokenBound(0xC000, f"expected at least {LEAST_RATE} bytes per second, got less")
        if self._bytes // ROOM_EVERY_BYTES >= self._looked:
            self._looked = self._bytes // ROOM_EVERY_BYTES + 1
            if shutil.disk_usage(self._spool).free < limits.reserve_bytes:
                raise BrokenBound(0xA700, "the disk has no room for more videos; make room, then send again")

    def _read(self, count: int) -> bytearray:
        data, at = bytearray(count), 0
        until_s = time.monotonic() + self._limits.silence_s
        while at < count:
            connection = self.socket
            left_s = until_s - time.monotonic()
            if connection is None or left_s <= 0:
                raise BrokenBound(0xC000, f"expected the rest of a PDU within {self._limits.silence_s:g} s, got none")
            connection.settimeout(left_s)
            read = connection.recv_into(memoryview(data)[at:])
            if not read:
                return data[:at]
            at += read
        return data


def _check_header(data: bytearray) -> None:
    kind, length = HEADER.unpack(data)
    if kind not in PDU_KINDS:
        raise BrokenBound(0xC000, "expected a PDU of DICOM, got other data")
    if length > LARGEST_PDU_BYTES:
        raise BrokenBound(0xC000, f"expected a PDU of at most {LARGEST_PDU_BYTES:,} bytes, got {length:,}")


class BoundedServer(ThreadedAssociationServer):
    """Accepts connections, up to a bound. ``limits``, ``spool`` and ``on_broken`` are those of ``BoundedSocket``."""

    daemon_threads = True
    request_queue_size = 64

    def __init__(
        self,
        *args: Any,
        limits: ReceiverLimits,
        spool: Path,
        on_broken: Callable[[Association, BrokenBound], None],
        **named: Any,
    ) -> None:
        self.limits, self.spool, self.on_broken = limits, spool, on_broken
        self._connections: list[socket.socket] = []
        super().__init__(*args, request_handler=_Handler, **named)

    def get_request(self) -> tuple[socket.socket, Any]:
        """Accepts a connection. A TLS handshake comes with the first read, in the thread of the connection."""
        assert self.socket is not None
        connection, address = self.socket.accept()
        connection.settimeout(self.limits.silence_s)
        if self.ssl_context is not None:
            connection = self.ssl_context.wrap_socket(connection, server_side=True, do_handshake_on_connect=False)
        return connection, address

    def verify_request(self, request: Any, client_address: Any) -> bool:
        """Whether there is a place for the connection."""
        self._connections = [connection for connection in self._connections if connection.fileno() >= 0]
        if len(self._connections) >= 2 * self.limits.associations:
            return False
        self._connections.append(request)
        return True

    def service_actions(self) -> None:
        """Twice per second: removes what an association left on the disk that ended before its instance was whole."""
        super().service_actions()
        sweep(self.spool, older_than_s=2 * self.limits.silence_s)

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Where socketserver would print the address and a traceback."""
        log.warning("a connection could not be served")

    def shutdown(self) -> None:
        """Stops accepting, and ends all associations."""
        BaseServer.shutdown(self)
        self.server_close()
        for association in self.active_associations:
            association.abort()


def sweep(spool: Path, older_than_s: float = 0.0) -> None:
    """Removes the files of instances from ``spool`` to which nothing was added for ``older_than_s`` seconds."""
    for path in spool.glob("*.dcm"):
        with suppress(FileNotFoundError):
            if time.time() - path.stat().st_mtime >= older_than_s:
                path.unlink()


class _Handler(RequestHandler):
    def _create_association(self) -> Association:
        association = super()._create_association()
        server = self.server
        assert isinstance(server, BoundedServer) and isinstance(self.request, socket.socket)
        association.dul.event_queue.get_nowait()  # the new socket tells of its connection again
        association.dul.socket = BoundedSocket(association, self.request, server.limits, server.spool, server.on_broken)
        return association


def server_context(certificate: str, key: str, clients: str | None) -> ssl.SSLContext:
    """TLS 1.2 or later with the certificate in the file ``certificate``; with ``clients``, a file of authorities,
    senders must show a certificate of one of these authorities. Raises OSError (also ssl.SSLError) where a file
    can't be used."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.load_cert_chain(certificate, key)
    if clients is not None:
        context.load_verify_locations(clients)
        context.verify_mode = ssl.CERT_REQUIRED
    return context
