"""Places that nobody at a site can change, and the digests of the audit log there.

    file:///mnt/worm/audit, s3://bucket/prefix     one new small object per digest, none is ever written again: for a
                                                   bucket with object lock, or a disk that keeps what was written
    syslog://host:port, syslog+tcp://host:port     one line per digest, for the site's log server: by UDP, by TCP, or
    syslog+tls://host:port                         by TCP with TLS, whose certificate must be valid

A bucket with object lock keeps every version of an object, yet whoever may delete can hide the newest behind a delete
marker, or lay another version over it. So all versions are read. The log server's certificate is checked against the
authorities of this machine, or against those in the file that the environment variable ``SSL_CERT_FILE`` names.
"""

from __future__ import annotations

import json
import re
import socket
import ssl
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import asdict, dataclass
from typing import Any
from urllib.parse import urlsplit

from halsted_ray.errors import OutputError, UsageError
from halsted_ray.storage.files import write_atomically
from halsted_ray.storage.locations import filesystem

SYSLOG_PORTS = {"syslog": 514, "syslog+tcp": 514, "syslog+tls": 6514}
"""How a log server is reached → its port where the place names none (RFC 5426, 6587, 5425)."""
TIMEOUT_S = 10.0
_LINE = re.compile(r"halsted-audit seq=(\d{1,10}) digest=([0-9a-f]{64})(?: at_s=(\d+(?:\.\d+)?))?")
_NAME = re.compile(r"audit-(\d{10})-[0-9a-f]{16}\.json")


@dataclass(frozen=True)
class ExportedDigest:
    """The digest of the entry ``seq``, as it was written to the place at ``at_s``."""

    seq: int
    digest: str
    at_s: float | None = None


def write(place: str, found: ExportedDigest) -> None:
    """Writes a digest to ``place``. Raises UsageError for a place that is none of the above, OutputError where it does
    not take the digest."""
    if urlsplit(place).scheme in SYSLOG_PORTS:
        _send(place, found)
        return
    target = f"{place.rstrip('/')}/audit-{found.seq:010d}-{found.digest[:16]}.json"
    try:
        fs, path = filesystem(target)
        fs.makedirs(path.rsplit("/", 1)[0], exist_ok=True)
        if not fs.exists(path):  # the transaction that wrote it before was lost; an object under lock stays as it is
            write_atomically(fs, path, json.dumps(asdict(found)).encode())
    except Exception as error:  # each store has errors of its own
        raise OutputError(f"{place}: the digest was not written: {type(error).__name__}: {error}") from None


def read(place: str) -> list[ExportedDigest]:
    """What was written to ``place``, in order. ``place`` may also be a file that a log server has written.

    Raises UsageError where nothing was written there, OutputError where it can't be read.
    """
    if urlsplit(place).scheme in SYSLOG_PORTS:
        raise UsageError(f"{place} can't be read back; name the file in which the log server keeps the lines")
    try:
        fs, path = filesystem(place)
        if fs.isfile(path):
            text = fs.cat_file(path).decode(errors="replace")
            found = [
                ExportedDigest(int(line[1]), line[2], float(line[3]) if line[3] else None)
                for line in _LINE.finditer(text)
            ]
        else:
            found = [ExportedDigest(**json.loads(content)) for content in _objects(fs, path)]
    except UsageError:
        raise
    except Exception as error:  # each store has errors of its own
        raise OutputError(f"{place}: what was exported can't be read: {type(error).__name__}: {error}") from None
    if not found:
        raise UsageError(f"{place}: no digest of an audit log was written there; name the place of HALSTED_AUDIT_TO")
    return sorted(found, key=lambda one: one.seq)


def _objects(fs: Any, folder: str) -> Iterator[bytes]:
    """What every object of an export in ``folder`` holds, and each of its versions where the store keeps versions."""
    if "s3" in fs.protocol:
        try:
            versions = list(_versions(fs, folder))
        except NotImplementedError:  # a store without versions
            versions = []
        if versions:
            bucket = folder.partition("/")[0]
            for key, version in versions:
                answer = fs.call_s3("get_object", Bucket=bucket, Key=key, VersionId=version)
                yield _body(fs, answer)
            return
    names = fs.ls(folder, detail=False) if fs.isdir(folder) else []
    for name in names:
        if _NAME.fullmatch(name.rsplit("/", 1)[-1]):
            yield fs.cat_file(name)


def _versions(fs: Any, folder: str) -> Iterator[tuple[str, str]]:
    """Key and id of each version of the exported objects, also of those that were deleted. Raises NotImplementedError
    where the store has no versions."""
    bucket, _, prefix = folder.strip("/").partition("/")
    after: dict[str, str] = {}
    while True:
        answer = fs.call_s3("list_object_versions", Bucket=bucket, Prefix=f"{prefix}/" if prefix else "", **after)
        for one in answer.get("Versions", []):
            if _NAME.fullmatch(one["Key"].rsplit("/", 1)[-1]):
                yield one["Key"], one["VersionId"]
        if not answer.get("IsTruncated"):
            return
        after = {"KeyMarker": answer["NextKeyMarker"], "VersionIdMarker": answer["NextVersionIdMarker"]}


def _body(fs: Any, answer: dict[str, Any]) -> bytes:
    """The bytes of an answer of S3, which come by the loop of ``fs``."""
    from fsspec.asyn import sync

    content: bytes = sync(fs.loop, answer["Body"].read)
    return content


def _send(place: str, found: ExportedDigest) -> None:
    parts = urlsplit(place)
    try:
        host, port = parts.hostname or "", parts.port or SYSLOG_PORTS[parts.scheme]
    except ValueError:
        host = ""
    if not host:
        raise UsageError(f"{place}: expected {parts.scheme}://host:port")
    line = f"halsted-audit seq={found.seq} digest={found.digest} at_s={found.at_s}"
    # RFC 5424: facility 13 (log audit), severity 5 (notice).
    message = f"<{13 * 8 + 5}>1 - - halsted - audit - {line}".encode()
    try:
        if parts.scheme == "syslog":
            family, kind, _, _, where = socket.getaddrinfo(host, port, type=socket.SOCK_DGRAM)[0]
            with socket.socket(family, kind) as out:
                out.sendto(message, where)
            return
        with socket.create_connection((host, port), TIMEOUT_S) as plain:
            if parts.scheme == "syslog+tcp":
                plain.sendall(message + b"\n")  # a line feed ends the message (RFC 6587)
                return
            with ssl.create_default_context().wrap_socket(plain, server_hostname=host) as secret:
                secret.sendall(f"{len(message)} ".encode() + message)  # RFC 5425: the length stands first
                with suppress(ssl.SSLEOFError):  # many servers end a connection without a farewell of their own
                    secret.unwrap()  # what the server refuses after the handshake, such as no certificate, comes here
    except OSError as error:
        raise OutputError(f"{place}: the digest was not sent: {error}") from None
