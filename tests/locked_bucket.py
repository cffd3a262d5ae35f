"""A bucket with object lock over HTTP: it keeps every version, refuses to delete one, and takes no object without a
checksum, as S3 says of a bucket whose objects get a retention period. The S3 server of the other tests keeps no
versions. What it answers was held against moto's server, see ``docs/decisions/every-version-of-a-digest.md``."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from itertools import count
from urllib.parse import parse_qs, unquote, urlsplit
from xml.sax.saxutils import escape

BUCKET = "worm"
PAGE = 2
"""So few versions one answer lists, so that a reader must ask for the next page."""


class LockedBucket:
    """Key → its versions, the oldest first: (id, content, None for a delete marker). ``refused``: how often somebody
    asked to delete a version."""

    def __init__(self) -> None:
        self.versions: dict[str, list[tuple[str, bytes | None]]] = {}
        self.refused = 0
        self._numbers, self._lock = count(1), threading.Lock()

    def add(self, key: str, content: bytes | None) -> str:
        """A new version in front of the others."""
        with self._lock:
            version = f"v{next(self._numbers):06d}"
            self.versions.setdefault(key, []).append((version, content))
        return version

    def newest(self, key: str) -> bytes | None:
        """What a reader gets who names no version; None after a deletion."""
        return self.versions[key][-1][1] if key in self.versions else None


@contextmanager
def running() -> Iterator[tuple[LockedBucket, str]]:
    """The bucket and the address of its server."""
    bucket = LockedBucket()

    class Requests(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def parts(self) -> tuple[str, dict[str, str]]:
            parts = urlsplit(self.path)
            query = {name: values[0] for name, values in parse_qs(parts.query, keep_blank_values=True).items()}
            return unquote(parts.path).removeprefix(f"/{BUCKET}").lstrip("/"), query

        def do_PUT(self) -> None:
            key, _ = self.parts()
            content = self.rfile.read(int(self.headers.get("content-length", 0)))
            names = {name.lower() for name in self.headers}
            if not key:
                self.answer(409, self.problem("BucketAlreadyOwnedByYou"))
            elif "content-md5" not in names and not any(name.startswith("x-amz-checksum-") for name in names):
                self.answer(400, self.problem("InvalidRequest"))
            else:
                self.answer(200, **{"x-amz-version-id": bucket.add(key, content), "etag": '"e"'})

        def do_DELETE(self) -> None:
            key, query = self.parts()
            if "versionId" in query:
                bucket.refused += 1
                self.answer(403, self.problem("AccessDenied"))
            else:
                self.answer(204, **{"x-amz-version-id": bucket.add(key, None), "x-amz-delete-marker": "true"})

        def do_GET(self) -> None:
            key, query = self.parts()
            if key:
                found = dict(bucket.versions.get(key, [])).get(query.get("versionId", ""), bucket.newest(key))
                self.answer(404, self.problem("NoSuchKey")) if found is None else self.answer(200, found)
            elif "versions" in query:
                self.answer(200, self.list_versions(query))
            else:
                self.answer(200, self.list_newest(query))

        def do_HEAD(self) -> None:
            key, _ = self.parts()
            content = bucket.newest(key) if key else b""
            self.answer(404) if content is None else self.answer(200, content)

        def list_newest(self, query: dict[str, str]) -> bytes:
            shown = [key for key in sorted(bucket.versions) if key.startswith(query.get("prefix", ""))]
            entries = "".join(
                f"<Contents><Key>{escape(key)}</Key><Size>{len(content)}</Size>"
                "<LastModified>2026-01-01T00:00:00.000Z</LastModified><ETag>e</ETag></Contents>"
                for key in shown
                if (content := bucket.newest(key)) is not None
            )
            return f"<ListBucketResult><IsTruncated>false</IsTruncated>{entries}</ListBucketResult>".encode()

        def list_versions(self, query: dict[str, str]) -> bytes:
            every = [
                (key, version, content)
                for key in sorted(bucket.versions)
                for version, content in bucket.versions[key]
                if key.startswith(query.get("prefix", ""))
            ]
            after = (query.get("key-marker", ""), query.get("version-id-marker", ""))
            rest = [one for one in every if one[:2] > after]
            entries = "".join(
                f"<{kind}><Key>{escape(key)}</Key><VersionId>{version}</VersionId></{kind}>"
                for key, version, content in rest[:PAGE]
                for kind in ["DeleteMarker" if content is None else "Version"]
            )
            more = str(len(rest) > PAGE).lower()
            last = rest[:PAGE][-1] if rest else ("", "", b"")
            return (
                f"<ListVersionsResult><IsTruncated>{more}</IsTruncated><NextKeyMarker>{escape(last[0])}</NextKeyMarker>"
                f"<NextVersionIdMarker>{last[1]}</NextVersionIdMarker>{entries}</ListVersionsResult>"
            ).encode()

        def problem(self, code: str) -> bytes:
            return f"<Error><Code>{code}</Code><Message>{code}</Message></Error>".encode()

        def answer(self, status: int, body: bytes = b"", **headers: str) -> None:
            self.send_response(status)
            self.send_header("content-length", str(len(body)))
            self.send_header("last-modified", "Thu, 01 Jan 2026 00:00:00 GMT")
            for name, value in headers.items():
                self.send_header(name, value)
            self.end_headers()
            if self.command != "HEAD":
                self.wfile.write(body)

        def log_message(self, *_arguments: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Requests)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield bucket, f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()
