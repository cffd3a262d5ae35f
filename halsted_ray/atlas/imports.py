"""Imports annotations of any format into an atlas in one commit, and exports an atlas."""

from __future__ import annotations

import os
import queue
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace

from halsted_ray import taxonomy as taxonomies
from halsted_ray.atlas.atlas_table import add_samples, merged_split, read_head
from halsted_ray.atlas.commits import Change, current_user
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
"""An annotation may end this much after its video, since containers and tables count the last frames differently; it is
cut at the video's end. An annotation that ends later belongs to another video, or counts in another unit."""


@dataclass(frozen=True)
class Imported:
    """What ``import_annotations`` did.

    ``version``: the atlas's version with these samples. ``taxonomy``: its name. ``videos`` and ``samples``: how many
    were imported. ``left_out``: one line per video or clip that was not imported, with the place of its annotation and
    the reason.
    """

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
    """Adds the annotations at ``source`` to the atlas of the archive at ``location``.

    ``source``: a file or folder. ``format``: one of ``FORMATS``. ``videos``: where the videos are, '' for the place
    that the format names; they stay where they are, and the atlas refers to them. ``taxonomy``: a name or file, '' for
    the format's own. ``mapping``: a file that says what each column means (``hsa-27k``). ``annotator``: for annotations
    that name none. ``who`` and ``why``: for the history. ``replace_earlier`` first drops what persons said of the same
    videos and tasks. ``progress`` is called with (videos read, all videos).

    Raises UsageError for an unknown format. Raises AtlasError for a file that breaks its format (with file, line, got,
    expected), where nothing can be imported, and as ``add_samples`` does.
    """
    if format not in FORMATS:
        raise UsageError(f"unknown format {format!r}; {nearest(format, FORMATS)}")
    terms = taxonomies.load(taxonomy or FORMATS[format].taxonomy)
    recordings = FORMATS[format].read(source, ImportSettings(terms, videos, annotator, mapping))
    base = read_head(location)
    require_writable(location)  # before every video is looked at
    known = {video.video_id: video for video in (base.videos if base else ())}
    identified = identify_videos(recordings, known, videos, progress)

    existing: dict[tuple[str, str], list[Clip]] = {}
    for clip in base.clips if base else ():
        existing.setdefault((clip.video_id, clip.task), []).append(clip)
    rows: dict[str, Video] = {}
    clips: list[Clip] = []
    left_out: list[str] = []
    split: dict[str, str] = {}
    for recording, video in zip(recordings, identified, strict=True):
        if isinstance(video, VideoError):
            left_out.append(
                f"{recording.origin}: {len(recording.clips)} samples left out, because their video is not at the "
                f"expected place (--videos) or can't be read: {video}"
            )
            continue
        rows.setdefault(video.video_id, video)
        taken, problems = clips_in_seconds(recording, video, existing)
        clips += taken
        left_out += problems
        if recording.part:
            split = merged_split(split, {video.video_id: recording.part})
    if not clips:
        raise AtlasError(
            f"{source}: nothing to import; "
            + (
                f"the first of {len(left_out)} problems: {left_out[0]}"
                if left_out
                else "expected at least one sample, got none"
            )
        )
    change = Change(who or current_user(), f"{format} {source}", why)
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


def clips_in_seconds(
    recording: Recording, video: Video, existing: dict[tuple[str, str], list[Clip]]
) -> tuple[list[Clip], list[str]]:
    """Returns the recording's clips in seconds of ``video``, and one line per clip that is outside the video.

    ``existing``: (video_id, task) to the clips that the atlas has. A clip in whole frames that is the rounding of an
    existing clip gets the exact times of the existing clip, so that an exported clip comes back from a review as the
    same clip. Raises AtlasError where the times are frames and the frame rate is unknown.
    """
    rate = recording.rate or video.fps
    if not rate:
        raise AtlasError(
            f"{recording.origin}: the times are frames, and video {video.video_id} declares no frame rate; expected "
            "data.fps"
        )
    exact: dict[tuple[str, float, float], tuple[float, float]] = {}
    if rate != 1.0:
        for task in {clip.task for clip in recording.clips}:
            for clip in existing.get((video.video_id, task), ()):
                exact[(task, *in_frames(clip, rate))] = (clip.start_s, clip.stop_s)
    taken, problems = [], []
    for clip in recording.clips:
        start_s, stop_s = clip.start_s / rate, clip.stop_s / rate
        if stop_s == float("inf"):
            stop_s = video.duration_s
        if start_s >= video.duration_s or stop_s > video.duration_s + OVERHANG_S:
            problems.append(
                f"{recording.origin}: {clip.task} sample [{start_s:g}, {stop_s:g}) s left out, because video "
                f"{video.video_id} ends at {video.duration_s:g} s; check that video and annotation belong together"
            )
            continue
        start_s, stop_s = exact.get((clip.task, clip.start_s, clip.stop_s), (start_s, min(stop_s, video.duration_s)))
        taken.append(replace(clip, video_id=video.video_id, start_s=start_s, stop_s=stop_s))
    return taken, problems


def in_frames(clip: Clip, rate: float) -> tuple[int, int]:
    """Returns [first, stop) in whole frames, at least one frame, as ``formats.label_studio`` writes a clip."""
    first = round(clip.start_s * rate)
    return first, max(first + 1, round(clip.stop_s * rate))


def identify_videos(
    recordings: Sequence[Recording],
    known: dict[str, Video],
    folder: str,
    progress: Callable[[int, int], None] | None = None,
) -> list[Video | VideoError]:
    """Returns the video of each recording, or the reason why there is none.

    ``known``: the atlas's videos by video_id. ``folder``: searched for videos that a recording names by video_id and
    that are not known. Videos are probed in parallel, in separate processes, since a broken file can crash a decoder.
    """
    wanted = {recording.video_id for recording in recordings if not recording.uri}
    named = {name: known[name] for name in wanted & set(known)}
    uris = [recording.uri for recording in recordings if recording.uri]
    if wanted - set(named) and folder:
        uris += list_videos(folder)
    uris = list(dict.fromkeys(uris))
    processes = [DecodeProcess() for _ in range(max(1, min(os.cpu_count() or 1, len(uris), THREADS)))]
    free: queue.SimpleQueue[DecodeProcess] = queue.SimpleQueue()
    for process in processes:
        free.put(process)
    found: dict[str, Video | VideoError] = {}
    try:
        with ThreadPoolExecutor(THREADS) as pool:
            for uri, video in zip(uris, pool.map(lambda uri: identify_video(uri, free), uris), strict=True):
                found[uri] = video
                if progress:
                    progress(len(found), len(uris))
    finally:
        for process in processes:
            process.close()
    for video in found.values():
        if isinstance(video, Video):
            named.setdefault(video.video_id, video)
    missing = StorageUnavailable(
        "there is no video with this video_id; expected it in the atlas, or in the folder that --videos names"
    )
    return [found[r.uri] if r.uri else named.get(r.video_id, missing) for r in recordings]


def identify_video(uri: str, free: queue.SimpleQueue[DecodeProcess]) -> Video | VideoError:
    """Returns the video at ``uri`` with its video_id and properties, or the reason why it can't be read.

    ``free``: decoding processes that nobody is using.
    """
    try:
        fs, path = filesystem(uri)
        try:
            size_bytes = with_retries(lambda: fs.size(path), "its size", 60.0)
            name = with_retries(lambda: video_id(fs, path), "its first, last and middle bytes", 60.0)
        except PermissionError:
            return StorageUnavailable("no permission to read it; give this account the right to read it")
        process = free.get()
        try:
            try:
                facts = process.probe(uri)
            except DecoderKilled:  # perhaps the machine was short of memory; a second time it is the file's fault
                facts = process.probe(uri)
        finally:
            free.put(process)
    except VideoError as error:
        return error
    return Video(name, uri, size_bytes, facts.duration_s, facts.width, facts.height, facts.fps, facts.codec)


def export_atlas(atlas: Atlas, to: str, format: str, with_files: bool = False) -> list[str]:
    """Writes ``atlas`` into the folder ``to`` in one of ``FORMATS``; returns the written files.

    ``with_files`` adds the videos' uris, which can contain a patient's name. Raises UsageError for a format that can't
    be written, OutputError where ``to`` can't be written.
    """
    writers = {name: kind.write for name, kind in FORMATS.items() if kind.write}
    if format not in writers:
        raise UsageError(f"unknown export format {format!r}; expected one of {', '.join(writers)}")
    return writers[format](atlas, to, with_files)
