"""Annotations of any format become videos and samples of an atlas, in one commit."""

from __future__ import annotations

import os
import queue
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace

from halsted_ray import taxonomy as taxonomies
from halsted_ray.atlas.atlas_table import add_samples, head_of, joined_split
from halsted_ray.atlas.commits import Change, user
from halsted_ray.atlas.contents import Atlas
from halsted_ray.atlas.formats import FORMATS, ImportSettings, Recording
from halsted_ray.errors import AtlasError, DecoderKilled, StorageUnavailable, UsageError, VideoError
from halsted_ray.records import Clip, Video
from halsted_ray.storage.files import require_writable
from halsted_ray.storage.locations import filesystem
from halsted_ray.storage.retry import with_retries
from halsted_ray.taxonomy.names import nearest
from halsted_ray.video.archive import list_videos
from halsted_ray.video.decode_process import DecodeProcess
from halsted_ray.video.identity import video_id

THREADS = 16
OVERHANG_S = 1.0
"""Annotations may end this much after their video (containers and tables count the last frames differently) and are
cut there; what lies further out is of another video, or in another unit."""


@dataclass(frozen=True)
class Imported:
    """``left_out``: a line for each video or clip that is not in the atlas, with the reason and where it stands."""

    version: int
    taxonomy: str
    videos: int
    samples: int
    left_out: tuple[str, ...]


def import_annotations(
    location: str,
    source: str,
    format: str,
    *,
    videos: str = "",
    taxonomy: str = "",
    mapping: str = "",
    annotator: str = "",
    who: str | None = None,
    why: str = "",
    replace_earlier: bool = False,
    progress: Callable[[int, int], None] | None = None,
) -> Imported:
    """Adds the annotations at ``source`` (a file or folder of one of ``FORMATS``) to the atlas of ``location``.

    Videos stay where they are; the atlas names them. ``replace_earlier`` first drops what persons said of the same
    videos and tasks. ``progress`` is called with (videos read, all). Raises AtlasError for a file that breaks its
    format (file, line, got, expected) and where nothing at all can be taken; what ``add_samples`` raises.
    """
    if format not in FORMATS:
        raise UsageError(f"unknown format {format!r}; {nearest(format, FORMATS)}")
    terms = taxonomies.load(taxonomy or FORMATS[format].taxonomy)
    recordings = FORMATS[format].read(source, ImportSettings(terms, videos, annotator, mapping))
    base = head_of(location)
    require_writable(location)  # before every video is looked at
    known = {video.video_id: video for video in (base.videos if base else ())}
    answers = identify(recordings, known, videos, progress)

    there: dict[tuple[str, str], list[Clip]] = {}
    for clip in base.clips if base else ():
        there.setdefault((clip.video_id, clip.task), []).append(clip)
    rows: dict[str, Video] = {}
    clips: list[Clip] = []
    left_out: list[str] = []
    split: dict[str, str] = {}
    for recording, answer in zip(recordings, answers, strict=True):
        if isinstance(answer, VideoError):
            left_out.append(
                f"{recording.origin}: {len(recording.clips)} samples left out, their video is not where it "
                f"is looked for (--videos), or can't be read: {answer}"
            )
            continue
        rows.setdefault(answer.video_id, answer)
        taken, problems = clips_of(recording, answer, there)
        clips += taken
        left_out += problems
        if recording.part:
            split = joined_split(split, {answer.video_id: recording.part})
    if not clips:
        raise AtlasError(
            f"{source}: nothing to import; "
            + (f"{left_out[0]} ({len(left_out)} such)" if left_out else "expected at least one sample, got none")
        )
    change = Change(who or user(), f"{format} {source}", why)
    version = add_samples(
        location,
        clips,
        change,
        videos=list(rows.values()),
        taxonomy=terms,
        split=split,
        replace_source="manual" if replace_earlier else None,
    )
    return Imported(version, terms.name, len(rows), len(clips), tuple(left_out))


def clips_of(
    recording: Recording, video: Video, there: dict[tuple[str, str], list[Clip]]
) -> tuple[list[Clip], list[str]]:
    """(the recording's clips in seconds of ``video``, lines about those that lie outside of it).

    A clip in whole frames that is the rounding of one that is ``there`` ((video_id, task) → clips) gets that one's
    exact times, so that what was exported for review comes back as the same clip.
    """
    rate = recording.rate or video.fps
    if not rate:
        raise AtlasError(
            f"{recording.origin}: times in frames, and video {video.video_id} declares no rate; expected data.fps"
        )
    exact = {}
    if rate != 1.0:
        for task in {clip.task for clip in recording.clips}:
            for clip in there.get((video.video_id, task), ()):
                exact[(task, *in_frames(clip, rate))] = (clip.start_s, clip.stop_s)
    taken, problems = [], []
    for clip in recording.clips:
        start_s, stop_s = clip.start_s / rate, clip.stop_s / rate
        if stop_s == float("inf"):
            stop_s = video.duration_s
        if start_s >= video.duration_s or stop_s > video.duration_s + OVERHANG_S:
            problems.append(
                f"{recording.origin}: {clip.task} sample [{start_s:g}, {stop_s:g}) s left out, video {video.video_id} "
                f"ends at {video.duration_s:g} s; check that the video and the times belong together"
            )
            continue
        start_s, stop_s = exact.get((clip.task, clip.start_s, clip.stop_s), (start_s, min(stop_s, video.duration_s)))
        taken.append(replace(clip, video_id=video.video_id, start_s=start_s, stop_s=stop_s))
    return taken, problems


def in_frames(clip: Clip, rate: float) -> tuple[int, int]:
    """[first, stop) in whole frames, at least one: how ``formats.label_studio`` writes it."""
    first = round(clip.start_s * rate)
    return first, max(first + 1, round(clip.stop_s * rate))


def identify(
    recordings: Sequence[Recording],
    known: dict[str, Video],
    folder: str,
    progress: Callable[[int, int], None] | None = None,
) -> list[Video | VideoError]:
    """The video of each recording, or why there is none; a few at a time, each probed in a process that may die."""
    asked = {recording.video_id for recording in recordings if not recording.uri}
    named = {name: known[name] for name in asked & set(known)}
    uris = [recording.uri for recording in recordings if recording.uri]
    if asked - set(named) and folder:
        uris += list_videos(folder)
    uris = list(dict.fromkeys(uris))
    processes = [DecodeProcess() for _ in range(max(1, min(os.cpu_count() or 1, len(uris), THREADS)))]
    free: queue.SimpleQueue[DecodeProcess] = queue.SimpleQueue()
    for process in processes:
        free.put(process)
    found: dict[str, Video | VideoError] = {}
    try:
        with ThreadPoolExecutor(THREADS) as pool:
            for uri, answer in zip(uris, pool.map(lambda uri: read_video(uri, free), uris), strict=True):
                found[uri] = answer
                if progress:
                    progress(len(found), len(uris))
    finally:
        for process in processes:
            process.close()
    for answer in found.values():
        if isinstance(answer, Video):
            named.setdefault(answer.video_id, answer)
    missing = StorageUnavailable(
        "no video with this video_id; expected it in the atlas already, or in the folder that --videos names"
    )
    return [found[r.uri] if r.uri else named.get(r.video_id, missing) for r in recordings]


def read_video(uri: str, free: queue.SimpleQueue) -> Video | VideoError:
    try:
        fs, path = filesystem(uri)
        try:
            size_bytes = with_retries(lambda: fs.size(path), "its size", 60.0)
            name = with_retries(lambda: video_id(fs, path), "its first, last and middle bytes", 60.0)
        except PermissionError:
            return StorageUnavailable("no permission to read it; change its rights")
        process = free.get()
        try:
            try:
                facts = process.probe(uri)
            except DecoderKilled:  # the machine may have been short of memory: twice is the file's own fault
                facts = process.probe(uri)
        finally:
            free.put(process)
    except VideoError as error:
        return error
    return Video(name, uri, size_bytes, facts.duration_s, facts.width, facts.height, facts.fps, facts.codec)


def export_atlas(atlas: Atlas, to: str, format: str, with_files: bool = False) -> list[str]:
    """Writes ``atlas`` into the folder ``to``; returns the files. Raises UsageError, OutputError."""
    writers = {name: kind.write for name, kind in FORMATS.items() if kind.write}
    if format not in writers:
        raise UsageError(f"unknown export format {format!r}; expected one of {', '.join(writers)}")
    return writers[format](atlas, to, with_files)
