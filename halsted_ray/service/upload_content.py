"""The id of an uploaded video, from the digests of all of its parts: every byte of a file decides it.

    video_id = the first 32 hex digits of SHA-256("halsted video 1\\n" + SHA-256 of part 1 + SHA-256 of part 2 + …)

All parts have 5 MiB but the last, so a client can compute the id itself. The id of a video of an archive comes from
samples of its bytes instead (``video.identity``), since nobody reads all bytes of an archive for its ids.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor

from halsted_ray.errors import StorageUnavailable
from halsted_ray.service.object_store import PART_BYTES
from halsted_ray.service.tables import UploadPart
from halsted_ray.storage.locations import filesystem

FORM = b"halsted video 1\n"
ID_DIGITS = 32
"""128 bits: nobody finds two files with one id."""
READ_AT_ONCE = 4
KEPT_TOGETHER = 32
"""Digests that are made before they are written to the database: 160 MiB of video."""


def content_id(digests: Sequence[str]) -> str:
    """The id of the video whose parts have these SHA-256 digests (64 hex digits each), in order."""
    return hashlib.sha256(FORM + b"".join(map(bytes.fromhex, digests))).hexdigest()[:ID_DIGITS]


def digests_of(location: str, parts: Sequence[UploadPart]) -> Iterator[dict[int, str]]:
    """Number → SHA-256 of each of ``parts``, which lie in the file at ``location``; some of them at a time.

    Raises StorageUnavailable.
    """
    if not parts:
        return
    fs, path = filesystem(location)

    def digest(part: UploadPart) -> tuple[int, str]:
        start = (part.number - 1) * PART_BYTES
        try:
            data = fs.cat_file(path, start=start, end=start + part.size_bytes)
        except Exception as error:  # each store has errors of its own, and none of them is the video's fault
            raise StorageUnavailable(
                f"could not read the bytes that give the video its id: {type(error).__name__}; complete the upload "
                "again"
            ) from None
        if len(data) != part.size_bytes:
            raise StorageUnavailable(
                f"expected {part.size_bytes} bytes of part {part.number}, got {len(data)}; complete the upload again"
            )
        return part.number, hashlib.sha256(data).hexdigest()

    with ThreadPoolExecutor(READ_AT_ONCE) as pool:
        for first in range(0, len(parts), KEPT_TOGETHER):
            yield dict(pool.map(digest, parts[first : first + KEPT_TOGETHER]))
