"""What an archive holds: every file that is named like a video, identified by its content and probed, or the reason why
it can't be mapped."""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import replace
from typing import TypeAlias

from halsted_ray.compute.progress import LOG_EVERY_S
from halsted_ray.errors import BeyondLimits, StorageUnavailable, UnreadableVideo, VideoError
from halsted_ray.maps.table_schemas import ArchiveFile
from halsted_ray.records import Video, digest
from halsted_ray.storage.locations import filesystem
from halsted_ray.storage.retry import PATIENCE_S, with_retries
from halsted_ray.video.file_head import dicom_reason, holds_dicom_stream, is_dicom
from halsted_ray.video.identity import file_info, identify
from halsted_ray.video.limits import DEFAULT_LIMITS, VideoLimits
from halsted_ray.video.probe import PROBE_VERSION
from halsted_ray.video.probers import Probers

OnIndex: TypeAlias = Callable[[str, str, bytes], None]
"""``on_index(video_id, uri, packet_index)``"""


def take_inventory(
    uris: Sequence[str],
    known: Mapping[str, ArchiveFile] | None = None,
    on_message: Callable[[str], None] = lambda message: None,
    retry_failed: bool = False,
    still_written: Callable[[Mapping[str, int]], Collection[str]] = lambda sizes: (),
    on_index: OnIndex = lambda video_id, uri, packet_index: None,
    limits: VideoLimits = DEFAULT_LIMITS,
) -> list[ArchiveFile]:
    """Entries of the files ``uris`` (``video.archive.list_archive``), in their order.

    ``known``: uri → entry of an earlier run. A file whose size and stamp are the same is not read again, but for a
    file that could not be probed then where ``retry_failed`` asks for it. ``still_written`` is asked when all files
    were looked at, with uri → size in bytes of those that are not empty; the files that it names get no entry.
    ``on_index`` gets the video's id, the uri and the packet index of each file whose packets had to be read
    (``DecodeProcess.probe_and_index``). ``limits``: a longer video can't be mapped.
    ``on_message`` is called once per minute with the number of files so far: 50,000 files take half an hour on one
    machine.
    """
    entries = probe_files(uris, known or {}, on_message, retry_failed, on_index, limits)
    changing = set(still_written({e.video.uri: e.video.size_bytes for e in entries if e.video.size_bytes}))
    return _mark_copies([entry for entry in entries if entry.video.uri not in changing])


def new_or_changed(entries: Sequence[ArchiveFile], known: Mapping[str, ArchiveFile]) -> set[str]:
    """Ids of the videos with a file that is not in ``known``, or that has another stamp there.

    Such a video may have the same id as before: the id is computed from samples of the content, so a repaired file
    keeps it, and an undamaged copy has it too.
    """
    return {
        entry.video.video_id
        for entry in entries
        if entry.video.uri not in known or known[entry.video.uri].stamp != entry.stamp
    }


def copies_of(entries: Sequence[ArchiveFile]) -> dict[str, list[str]]:
    """video_id → uris of the other files with this id that can be opened, beside the file that is mapped."""
    copies: dict[str, list[str]] = {}
    for entry in entries:
        if entry.copy_of and not entry.code:
            copies.setdefault(entry.video.video_id, []).append(entry.video.uri)
    return copies


def probe_files(
    uris: Sequence[str],
    known: Mapping[str, ArchiveFile],
    on_message: Callable[[str], None],
    retry_failed: bool = False,
    on_index: OnIndex = lambda video_id, uri, packet_index: None,
    limits: VideoLimits = DEFAULT_LIMITS,
) -> list[ArchiveFile]:
    """As ``take_inventory``, but copies are not looked for."""
    entries, logged_s = [], time.monotonic()
    with Probers(len(uris)) as probers:

        def look(uri: str) -> ArchiveFile:
            return _probe_file(uri, known.get(uri), probers, retry_failed, on_index, limits)

        for entry in probers.each(look, uris):
            entries.append(entry)
            if time.monotonic() - logged_s > LOG_EVERY_S:
                logged_s = time.monotonic()
                on_message(f"{len(entries):,} of {len(uris):,} files looked at")
    return entries


def _mark_copies(entries: Sequence[ArchiveFile]) -> list[ArchiveFile]:
    first: dict[str, str] = {}
    for entry in sorted(entries, key=lambda entry: bool(entry.code)):  # of several copies, map one that can be read
        first.setdefault(entry.video.video_id, entry.video.uri)
    originals = [first[entry.video.video_id] for entry in entries]
    return [
        replace(entry, copy_of="" if original == entry.video.uri else original)
        for entry, original in zip(entries, originals, strict=True)
    ]


def _probe_file(
    uri: str,
    known: ArchiveFile | None,
    probers: Probers,
    retry_failed: bool,
    on_index: OnIndex,
    limits: VideoLimits,
) -> ArchiveFile:
    size_bytes, stamp = 0, ""
    # Stands for the content's id until the content could be read. While a store is away, a file keeps the id that it
    # had: another id would say that it was replaced.
    name = known.video.video_id if known is not None else digest("location", uri)
    try:
        fs, path = filesystem(uri)
        info = file_info(fs, path)
        size_bytes = info["size"]
        stamp = str(info.get("ETag") or info.get("etag") or info.get("mtime") or info.get("LastModified") or "")
        if known is not None and _is_current(known, stamp, size_bytes) and not (retry_failed and known.code):
            return replace(known, copy_of="", gone=False)
        if not size_bytes:  # empty files are not copies of one recording
            name = digest("location", uri)
        else:
            name, head = with_retries(lambda: identify(fs, path), "its first, last and middle bytes", PATIENCE_S)
            if is_dicom(head) and not holds_dicom_stream(head):
                raise UnreadableVideo(dicom_reason(head))
        found, packet_index = probers.probe_and_index(uri)
        limits.check(found)
        if packet_index:
            on_index(name, uri, packet_index)
    except VideoError as error:
        video = Video(name, uri, size_bytes, 0.0, 0, 0, 0.0, "")
        return ArchiveFile(video, stamp, error.code, str(error), probe_version=PROBE_VERSION)
    video = Video(name, uri, size_bytes, found.duration_s, found.width, found.height, found.fps, found.codec)
    return ArchiveFile(video, stamp, probe_version=PROBE_VERSION)


def _is_current(known: ArchiveFile, stamp: str, size_bytes: int) -> bool:
    """Whether an entry of an earlier run still holds: the file is the same, it was probed in the same way, and its
    failure was neither the storage's nor a bound of that run."""
    is_same = bool(stamp) and known.stamp == stamp and known.video.size_bytes == size_bytes
    return (
        is_same
        and known.probe_version == PROBE_VERSION
        and known.code not in (StorageUnavailable.code, BeyondLimits.code)
    )
