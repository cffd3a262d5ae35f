"""What an archive holds: every file named like a video, identified by content and probed, or the reason why not."""

from __future__ import annotations

import math
import os
import queue
import random
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace

from halsted_ray.errors import DecoderKilled, StorageUnavailable, UnreadableVideo, VideoError
from halsted_ray.mapping.progress import LOG_EVERY_S
from halsted_ray.records import Video, digest
from halsted_ray.video.archive import list_videos
from halsted_ray.video.identity import video_id
from halsted_ray.video.sandbox import DecodeProcess
from halsted_ray.video.storage import PATIENCE_S, filesystem, patiently

THREADS = 16
"""They wait for storage; probing has a process a core."""


@dataclass(frozen=True)
class Entry:
    """One file. ``code`` is empty where the video can be mapped, else it and ``reason`` say why not.

    ``stamp`` is the storage's own mark of the content (ETag, or time of change): while it and the size stay, the
    file is not read again. ``copy_of`` is the uri of the file with the same id that is mapped instead; this one
    stands in where that one is damaged.
    """

    video: Video
    stamp: str
    code: str = ""
    reason: str = ""
    copy_of: str = ""

    @property
    def is_mapped(self) -> bool:
        return not self.code and not self.copy_of


def take_inventory(
    uris: Sequence[str], known: Mapping[str, Entry] | None = None, say: Callable[[str], None] = lambda message: None
) -> list[Entry]:
    """Entries of the files ``uris`` (``video.archive.list_videos``), in their order.

    ``known``: uri → entry of an earlier run, trusted where size and stamp are the same. ``say`` is told now and then
    how many were looked at: 50,000 on one machine take half an hour.
    """
    return _mark_copies(_entries(uris, known or {}, say))


def written_anew(entries: Sequence[Entry], known: Mapping[str, Entry]) -> set[str]:
    """Ids of the videos with a file that is not in ``known`` or has another stamp there, though perhaps the same id:
    that is computed from samples of the content, so a repaired file keeps it, and a whole copy has it too."""
    return {
        entry.video.video_id
        for entry in entries
        if entry.video.uri not in known or known[entry.video.uri].stamp != entry.stamp
    }


def copies_of(entries: Sequence[Entry]) -> dict[str, list[str]]:
    """video_id → uris of the files beside the one that is mapped, where they have the same id and can be opened."""
    copies: dict[str, list[str]] = {}
    for entry in entries:
        if entry.copy_of and not entry.code:
            copies.setdefault(entry.video.video_id, []).append(entry.video.uri)
    return copies


@dataclass(frozen=True)
class Survey:
    """What an archive seems to hold, from the files that were probed: all of them, or some picked at random."""

    files: int
    probed: tuple[Entry, ...]

    @property
    def mapped(self) -> list[Video]:
        """The probed files that can be mapped."""
        return [entry.video for entry in self.probed if not entry.code]

    @property
    def is_whole(self) -> bool:
        return len(self.probed) == self.files

    def video_s(self) -> tuple[float, float, float]:
        """(seconds of video, and the interval that holds them 19 times of 20)."""
        lengths_s = [0.0 if entry.code else entry.video.duration_s for entry in self.probed]
        count = len(lengths_s)
        mean_s = sum(lengths_s) / count
        if self.is_whole or count < 2:
            return self.files * mean_s, self.files * mean_s, self.files * mean_s
        variance = sum((length_s - mean_s) ** 2 for length_s in lengths_s) / (count - 1)
        off_s = 1.96 * self.files * math.sqrt(variance / count * (1 - count / self.files))
        return self.files * mean_s, max(0.0, self.files * mean_s - off_s), self.files * mean_s + off_s


def survey(archive: str, sample: int) -> Survey:
    """Lists ``archive`` and probes at most ``sample`` of its files, the same ones each time. Copies are not looked
    for. Raises ArchiveError where there is no video."""
    uris = list_videos(archive)
    picked = uris if len(uris) <= sample else sorted(random.Random(0).sample(uris, sample))
    return Survey(len(uris), tuple(_entries(picked, {}, lambda message: None)))


def _entries(uris: Sequence[str], known: Mapping[str, Entry], say: Callable[[str], None]) -> list[Entry]:
    entries, said_s = [], time.monotonic()
    probes: queue.SimpleQueue[DecodeProcess] = queue.SimpleQueue()
    processes = [DecodeProcess() for _ in range(max(1, min(os.cpu_count() or 1, len(uris), THREADS)))]
    for process in processes:
        probes.put(process)
    pool = ThreadPoolExecutor(THREADS)
    try:
        for entry in pool.map(lambda uri: _entry(uri, known.get(uri), probes), uris):
            entries.append(entry)
            if time.monotonic() - said_s > LOG_EVERY_S:
                said_s = time.monotonic()
                say(f"{len(entries):,} of {len(uris):,} files looked at")
        return entries
    finally:
        pool.shutdown(cancel_futures=True)  # else a run that is stopped would look at all the others first
        for process in processes:
            process.close()


def _mark_copies(entries: Sequence[Entry]) -> list[Entry]:
    first: dict[str, str] = {}
    for entry in sorted(entries, key=lambda entry: bool(entry.code)):  # a copy that can be read is the one to map
        first.setdefault(entry.video.video_id, entry.video.uri)
    originals = [first[entry.video.video_id] for entry in entries]
    return [
        replace(entry, copy_of="" if original == entry.video.uri else original)
        for entry, original in zip(entries, originals, strict=True)
    ]


def _entry(uri: str, known: Entry | None, probes: queue.SimpleQueue) -> Entry:
    size_bytes, stamp = 0, ""
    name = digest("location", uri)  # stands for the content's id until the content could be read
    try:
        fs, path = filesystem(uri)
        found = patiently(lambda: fs.info(path), "its size", PATIENCE_S)
        if found["type"] != "file":
            raise UnreadableVideo("expected a file, got a pipe, a device or the like; remove it from the archive")
        size_bytes = found["size"]
        stamp = str(found.get("ETag") or found.get("etag") or found.get("mtime") or found.get("LastModified") or "")
        permanent = known is not None and known.code != StorageUnavailable.code
        if permanent and stamp and known.stamp == stamp and known.video.size_bytes == size_bytes:
            return replace(known, copy_of="")
        if size_bytes:  # empty files are not copies of one recording
            name = patiently(lambda: video_id(fs, path), "its first, last and middle bytes", PATIENCE_S)
        found = _probe(uri, probes)
    except VideoError as error:
        video = Video(name, uri, size_bytes, 0.0, 0, 0, 0.0, "")
        return Entry(video, stamp, error.code, str(error))
    video = Video(name, uri, size_bytes, found.duration_s, found.width, found.height, found.fps, found.codec)
    return Entry(video, stamp)


def _probe(uri: str, probes: queue.SimpleQueue):
    process = probes.get()
    try:
        try:
            return process.probe(uri)
        except DecoderKilled:  # the machine may have been short of memory or time: twice is the file's own fault
            return process.probe(uri)
    finally:
        probes.put(process)
