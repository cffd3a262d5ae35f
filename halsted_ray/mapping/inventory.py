"""What an archive holds: every file named like a video, identified by content and probed, or the reason why not."""

from __future__ import annotations

import os
import queue
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

from halsted_ray.errors import DecoderKilled, StorageUnavailable, UnreadableVideo, VideoError
from halsted_ray.mapping.progress import LOG_EVERY_S
from halsted_ray.maps.table_schemas import ArchiveFile
from halsted_ray.records import Video, digest
from halsted_ray.storage.locations import filesystem
from halsted_ray.storage.retry import PATIENCE_S, with_retries
from halsted_ray.video.decode_process import DecodeProcess
from halsted_ray.video.identity import video_id

THREADS = 16
"""They wait for storage; probing has a process a core."""


def take_inventory(
    uris: Sequence[str],
    known: Mapping[str, ArchiveFile] | None = None,
    say: Callable[[str], None] = lambda message: None,
    retry_failed: bool = False,
) -> list[ArchiveFile]:
    """Entries of the files ``uris`` (``video.archive.list_videos``), in their order.

    ``known``: uri → entry of an earlier run, trusted where size and stamp are the same; with ``retry_failed`` only
    where that run could probe the file. ``say`` is told now and then how many were looked at: 50,000 on one machine
    take half an hour.
    """
    trusted = {uri: entry for uri, entry in (known or {}).items() if not (retry_failed and entry.code)}
    return _mark_copies(probe_files(uris, trusted, say))


def written_anew(entries: Sequence[ArchiveFile], known: Mapping[str, ArchiveFile]) -> set[str]:
    """Ids of the videos with a file that is not in ``known`` or has another stamp there, though perhaps the same id:
    that is computed from samples of the content, so a repaired file keeps it, and a whole copy has it too."""
    return {
        entry.video.video_id
        for entry in entries
        if entry.video.uri not in known or known[entry.video.uri].stamp != entry.stamp
    }


def copies_of(entries: Sequence[ArchiveFile]) -> dict[str, list[str]]:
    """video_id → uris of the files beside the one that is mapped, where they have the same id and can be opened."""
    copies: dict[str, list[str]] = {}
    for entry in entries:
        if entry.copy_of and not entry.code:
            copies.setdefault(entry.video.video_id, []).append(entry.video.uri)
    return copies


def probe_files(uris: Sequence[str], known: Mapping[str, ArchiveFile], say: Callable[[str], None]) -> list[ArchiveFile]:
    entries, said_s = [], time.monotonic()
    probes: queue.SimpleQueue[DecodeProcess] = queue.SimpleQueue()
    processes = [DecodeProcess() for _ in range(max(1, min(os.cpu_count() or 1, len(uris), THREADS)))]
    for process in processes:
        probes.put(process)
    pool = ThreadPoolExecutor(THREADS)
    try:
        for entry in pool.map(lambda uri: _probe_file(uri, known.get(uri), probes), uris):
            entries.append(entry)
            if time.monotonic() - said_s > LOG_EVERY_S:
                said_s = time.monotonic()
                say(f"{len(entries):,} of {len(uris):,} files looked at")
        return entries
    finally:
        pool.shutdown(cancel_futures=True)  # else a run that is stopped would look at all the others first
        for process in processes:
            process.close()


def _mark_copies(entries: Sequence[ArchiveFile]) -> list[ArchiveFile]:
    first: dict[str, str] = {}
    for entry in sorted(entries, key=lambda entry: bool(entry.code)):  # a copy that can be read is the one to map
        first.setdefault(entry.video.video_id, entry.video.uri)
    originals = [first[entry.video.video_id] for entry in entries]
    return [
        replace(entry, copy_of="" if original == entry.video.uri else original)
        for entry, original in zip(entries, originals, strict=True)
    ]


def _probe_file(uri: str, known: ArchiveFile | None, probes: queue.SimpleQueue) -> ArchiveFile:
    size_bytes, stamp = 0, ""
    name = digest("location", uri)  # stands for the content's id until the content could be read
    try:
        fs, path = filesystem(uri)
        found = with_retries(lambda: fs.info(path), "its size", PATIENCE_S)
        if found["type"] != "file":
            raise UnreadableVideo("expected a file, got a pipe, a device or the like; remove it from the archive")
        size_bytes = found["size"]
        stamp = str(found.get("ETag") or found.get("etag") or found.get("mtime") or found.get("LastModified") or "")
        permanent = known is not None and known.code != StorageUnavailable.code
        if permanent and stamp and known.stamp == stamp and known.video.size_bytes == size_bytes:
            return replace(known, copy_of="")
        if size_bytes:  # empty files are not copies of one recording
            name = with_retries(lambda: video_id(fs, path), "its first, last and middle bytes", PATIENCE_S)
        found = _probe(uri, probes)
    except VideoError as error:
        video = Video(name, uri, size_bytes, 0.0, 0, 0, 0.0, "")
        return ArchiveFile(video, stamp, error.code, str(error))
    video = Video(name, uri, size_bytes, found.duration_s, found.width, found.height, found.fps, found.codec)
    return ArchiveFile(video, stamp)


def _probe(uri: str, probes: queue.SimpleQueue):
    process = probes.get()
    try:
        try:
            return process.probe(uri)
        except DecoderKilled:  # the machine may have been short of memory or time: twice is the file's own fault
            return process.probe(uri)
    finally:
        probes.put(process)
