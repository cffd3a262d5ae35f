"""What is wrong with an atlas: its rows, whoever wrote them, and the videos that they speak of."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np

from halsted_ray.atlas.contents import ROUNDING_S, SOURCES, SPLITS, Atlas, tags_problem, time_problem
from halsted_ray.errors import StorageUnavailable, UsageError, VideoError
from halsted_ray.records import Clip, Video
from halsted_ray.storage.locations import filesystem
from halsted_ray.storage.retry import with_retries
from halsted_ray.video.decode_process import DecodeProcess
from halsted_ray.video.identity import video_id

THREADS = 16
LOOKS = 8
LOOK_SIZE = (32, 32)
SAME_LENGTH_S = 1.0
SAME_LOOK = 6.0
"""Mean difference of two grey pictures, of 255, below which they show the same: copies of phantoms at a third of the
size and a seventeenth of the bytes differ by up to 3.6, two phantoms of one procedure by 14 to 53."""


@dataclass(frozen=True)
class Finding:
    """``kind``: split, end, taxonomy, overlap, row or file; ``text`` is the whole line."""

    kind: str
    video_id: str
    text: str


def verify(atlas: Atlas, with_files: bool = True) -> list[Finding]:
    """Everything wrong with ``atlas``, the gravest kind first; empty for a sound one.

    ``with_files`` also reads the videos: 1 MB of each for its content's digest, and, of those in different parts that
    are equally long, eight pictures each, which find a re-encoded copy (not one that was cut or mirrored).
    """
    findings = [*split_findings(atlas), *clip_findings(atlas), *overlap_findings(atlas)]
    if with_files:
        found_ids, of_files = read_ids(atlas.videos)
        findings += of_files
        findings += copy_findings(atlas, found_ids)
    order = ("split", "end", "taxonomy", "overlap", "row", "file")
    return sorted(findings, key=lambda finding: (order.index(finding.kind), finding.video_id))


def split_findings(atlas: Atlas) -> Iterator[Finding]:
    known: dict[str, Video] = {}
    for video in atlas.videos:
        if video.video_id in known:
            yield Finding("row", video.video_id, f"video {video.video_id}: has two rows; expected one a video")
        known[video.video_id] = video
    for name, part in atlas.split.items():
        if name not in known:
            yield Finding("split", name, f"video {name}: is {part!r} in the split, but the atlas has no such video")
        if part not in SPLITS:
            yield Finding("split", name, f"video {name}: is {part!r} in the split, expected one of {SPLITS}")


def clip_findings(atlas: Atlas) -> Iterator[Finding]:
    taxonomy = atlas.load_taxonomy()
    duration_s = {video.video_id: video.duration_s for video in atlas.videos}
    for clip in atlas.clips:

        def finding(kind: str, problem: str, clip: Clip = clip) -> Finding:
            return Finding(kind, clip.video_id, f"{place(clip)}: {problem}")

        if clip.video_id not in duration_s:
            yield finding("row", "the atlas has no such video")
        elif problem := time_problem(clip, duration_s[clip.video_id]):
            yield finding("end", problem)
        if clip.source not in SOURCES:
            yield finding("row", f"source {clip.source!r}, expected one of {SOURCES}")
        try:
            problem = tags_problem(clip, taxonomy)
        except UsageError as error:
            problem = str(error)
        if problem:
            yield finding("taxonomy", problem)


def overlap_findings(atlas: Atlas) -> Iterator[Finding]:
    """A lane is one task of one video; captions of different levels nest, so each level is a lane of its own."""
    lanes: dict[tuple, list[Clip]] = {}
    for clip in atlas.clips:
        level = tuple(sorted(clip.tags.items())) if clip.caption else ()
        lanes.setdefault((clip.video_id, clip.task, level), []).append(clip)
    for lane in lanes.values():
        lane.sort(key=lambda clip: (clip.start_s, clip.stop_s))
        last = lane[0]
        for clip in lane[1:]:
            if clip.start_s < last.stop_s - ROUNDING_S:
                yield Finding(
                    "overlap",
                    clip.video_id,
                    f"{place(clip)}: overlaps the {last.source} clip [{last.start_s:g}, {last.stop_s:g}) s of its lane",
                )
            last = max(last, clip, key=lambda clip: clip.stop_s)


def place(clip: Clip) -> str:
    return f"video {clip.video_id}, {clip.task}, {clip.source} clip [{clip.start_s:g}, {clip.stop_s:g}) s"


def read_ids(videos: tuple[Video, ...]) -> tuple[dict[str, str], list[Finding]]:
    """(id in the atlas → id of the file's content now, for files that can be read; findings of the others)."""

    def read(video: Video) -> str | VideoError:
        try:
            fs, path = filesystem(video.uri)
            return with_retries(lambda: video_id(fs, path), "its first, last and middle bytes", 20.0)
        except PermissionError:
            return StorageUnavailable("no permission to read it; change its rights")
        except VideoError as error:
            return error

    found, findings = {}, []
    with ThreadPoolExecutor(THREADS) as pool:
        for video, answer in zip(videos, pool.map(read, videos), strict=True):
            if isinstance(answer, VideoError):
                text = f"video {video.video_id}: its file can't be read: {answer}"
                findings.append(Finding("file", video.video_id, text))
                continue
            found[video.video_id] = answer
            if answer != video.video_id:
                text = f"video {video.video_id}: its file now holds other content, {answer}; put the right one back"
                findings.append(Finding("file", video.video_id, text))
    return found, findings


def copy_findings(atlas: Atlas, found_ids: dict[str, str]) -> Iterator[Finding]:
    """Videos of different parts that are the same: by content, or by look where they are equally long."""
    readable = [video for video in atlas.videos if video.video_id in found_ids]
    with DecodeProcess() as process:
        looks: dict[str, np.ndarray | None] = {}

        def look(video: Video) -> np.ndarray | None:
            if video.video_id not in looks:
                looks[video.video_id] = look_of(video, process.read_frames)
            return looks[video.video_id]

        for a, b in pairs_as_long(readable):
            parts = [atlas.split.get(video.video_id) for video in (a, b)]
            if None in parts or parts[0] == parts[1]:
                continue
            if found_ids[a.video_id] == found_ids[b.video_id]:
                how = "hold the same bytes"
            elif same_look(look(a), look(b)):
                how = "show the same pictures (a re-encoded copy)"
            else:
                continue
            yield Finding(
                "split",
                a.video_id,
                f"video {a.video_id} ({parts[0]}) and video {b.video_id} ({parts[1]}) {how}; a "
                "video in two parts lets a model be judged on what it learned from: take one of them out",
            )


def pairs_as_long(videos: list[Video]) -> Iterator[tuple[Video, Video]]:
    """Pairs that are equally long within ``SAME_LENGTH_S``, without looking at all pairs of a large archive."""
    ordered = sorted(videos, key=lambda video: video.duration_s)
    for n, a in enumerate(ordered):
        for b in ordered[n + 1 :]:
            if b.duration_s - a.duration_s > SAME_LENGTH_S:
                break
            yield a, b


def look_of(video: Video, read_frames: Callable) -> np.ndarray | None:
    """Grey pictures [LOOKS, 32, 32] at fixed shares of the length; None where they can't be decoded."""
    times_s = (np.arange(LOOKS) + 0.5) / LOOKS * video.duration_s
    try:
        images_NHWC = read_frames(video.uri, times_s, LOOK_SIZE, "exact", deadline_s=120.0).images_NHWC
    except VideoError:
        return None
    return images_NHWC.mean(axis=3)


def same_look(a_NHW: np.ndarray | None, b_NHW: np.ndarray | None) -> bool:
    if a_NHW is None or b_NHW is None:
        return False
    return bool(np.abs(a_NHW - b_NHW).mean() < SAME_LOOK)
