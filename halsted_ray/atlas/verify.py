"""Finds what is wrong with an atlas: with its rows, whoever wrote them, and with the videos that they describe."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np

from halsted_ray.atlas.contents import ROUNDING_S, SPLITS, Atlas, drawn_problems, tags_problem, time_problem
from halsted_ray.atlas.groups import leak_texts
from halsted_ray.errors import UsageError, VideoError
from halsted_ray.records import SOURCES, Clip, Video
from halsted_ray.storage.files import REQUESTS_AT_ONCE
from halsted_ray.storage.locations import filesystem
from halsted_ray.storage.retry import with_retries
from halsted_ray.video.cases import CHAPTERS, group_cases
from halsted_ray.video.decode_process import DecodeProcess
from halsted_ray.video.identity import video_id

PICTURES = 8
"""Pictures per video that are compared to find a re-encoded copy."""
PICTURE_SIZE = (32, 32)
SAME_LENGTH_S = 1.0
SAME_PICTURE = 6.0
"""Two grey pictures show the same where their mean difference is below this, on a scale of 255. Copies of phantoms at a
third of the size and a seventeenth of the bytes differ by up to 3.6; two phantoms of one procedure differ by 14 to 53.
"""


@dataclass(frozen=True)
class Finding:
    """One thing that is wrong. ``kind``: split, end, taxonomy, overlap, row or file. ``text``: the whole message."""

    kind: str
    video_id: str
    text: str


def verify(atlas: Atlas, with_files: bool = True, case_by: str = CHAPTERS) -> list[Finding]:
    """Returns everything that is wrong with ``atlas``, the gravest kind first; empty for a sound atlas.

    ``with_files`` also reads the videos: 1 MB per video for the digest of its content, and 8 pictures per video for
    videos in different parts that are equally long. The pictures find a re-encoded copy, but no copy that was cut or
    mirrored. ``case_by``: the rule by which videos are chapters of one case (``video.cases``).
    """
    findings = [
        *split_findings(atlas),
        *(Finding("split", video_id, text) for video_id, text in leak_texts(atlas)),
        *(Finding("split", video_id, text) for video_id, text in drawn_problems(atlas.clips, atlas.split).items()),
        *chapter_findings(atlas, case_by),
        *clip_findings(atlas),
        *overlap_findings(atlas),
    ]
    if with_files:
        found_ids, of_files = read_ids(atlas.videos)
        findings += of_files
        findings += copy_findings(atlas, found_ids)
    order = ("split", "end", "taxonomy", "overlap", "row", "file")
    return sorted(findings, key=lambda finding: (order.index(finding.kind), finding.video_id))


def split_findings(atlas: Atlas) -> Iterator[Finding]:
    """Finds videos with two rows, and entries of the split without a video or with an unknown part."""
    known: dict[str, Video] = {}
    for video in atlas.videos:
        if video.video_id in known:
            yield Finding("row", video.video_id, f"video {video.video_id}: has two rows; expected one row per video")
        known[video.video_id] = video
    for name, part in atlas.split.items():
        if name not in known:
            yield Finding("split", name, f"video {name}: is in the split as {part!r}, but the atlas has no such video")
        if part not in SPLITS:
            yield Finding("split", name, f"video {name}: is in the split as {part!r}; expected one of {SPLITS}")


def chapter_findings(atlas: Atlas, case_by: str = CHAPTERS) -> Iterator[Finding]:
    """Finds cases whose videos are in different parts of the split. Raises UsageError for a rule that can't be used."""
    ids = {video.uri: video.video_id for video in atlas.videos}
    for uris in group_cases(ids, case_by, atlas.root, strict=False).values():
        video_ids = [ids[uri] for uri in uris if ids[uri] in atlas.split]
        parts = {part: [name for name in video_ids if atlas.split[name] == part] for part in SPLITS}
        spread = {part: names for part, names in parts.items() if names}
        if len(spread) > 1:
            held = ", ".join(f"{' '.join(names)} ({part})" for part, names in spread.items())
            yield Finding(
                "split",
                video_ids[0],
                f"videos {held}: by the rule {case_by!r} they are chapters of one case, and a case in two parts lets "
                f"a model be tested on its own training data; make a release with --case-by {case_by}, or give the "
                "split yourself (--split)",
            )


def clip_findings(atlas: Atlas) -> Iterator[Finding]:
    """Finds clips of unknown videos, with wrong times, an unknown source, or tags outside the taxonomy."""
    taxonomy = atlas.load_taxonomy()
    duration_s = {video.video_id: video.duration_s for video in atlas.videos}
    for clip in atlas.clips:

        def finding(kind: str, problem: str, clip: Clip = clip) -> Finding:
            return Finding(kind, clip.video_id, f"{clip_text(clip)}: {problem}")

        if clip.video_id not in duration_s:
            yield finding("row", "the atlas has no such video")
        elif problem := time_problem(clip, duration_s[clip.video_id]):
            yield finding("end", problem)
        if clip.source not in SOURCES:
            yield finding("row", f"source {clip.source!r}; expected one of {SOURCES}")
        try:
            problem = tags_problem(clip, taxonomy)
        except UsageError as error:
            problem = str(error)
        if problem:
            yield finding("taxonomy", problem)


def overlap_findings(atlas: Atlas) -> Iterator[Finding]:
    """Finds clips that overlap in one lane, which is one task of one video.

    Captions of different levels overlap by design, so each level is a lane of its own. So are the tags of a task of
    which several answers may hold at one moment.
    """
    several = {task.name for task in atlas.load_taxonomy().tasks if task.several}
    lanes: dict[tuple[object, ...], list[Clip]] = {}
    for clip in atlas.clips:
        own = tuple(sorted(clip.tags.items())) if clip.caption or clip.task in several else ()
        lanes.setdefault((clip.video_id, clip.task, own), []).append(clip)
    for lane in lanes.values():
        lane.sort(key=lambda clip: (clip.start_s, clip.stop_s))
        last = lane[0]
        for clip in lane[1:]:
            if clip.start_s < last.stop_s - ROUNDING_S:
                yield Finding(
                    "overlap",
                    clip.video_id,
                    f"{clip_text(clip)}: overlaps the {last.source} clip [{last.start_s:g}, {last.stop_s:g}) s of the "
                    "same video and task",
                )
            last = max(last, clip, key=lambda clip: clip.stop_s)


def clip_text(clip: Clip) -> str:
    """Returns the name of a clip for messages: its video, task, source and times."""
    return f"video {clip.video_id}, {clip.task}, {clip.source} clip [{clip.start_s:g}, {clip.stop_s:g}) s"


def read_ids(videos: tuple[Video, ...]) -> tuple[dict[str, str], list[Finding]]:
    """Reads the files of all videos in parallel.

    Returns video_id to the id of the file's present content, for files that can be read; and findings about files that
    can't be read or hold other content.
    """

    def read(video: Video) -> str | VideoError:
        try:
            fs, path = filesystem(video.uri)
            return with_retries(lambda: video_id(fs, path), "its first, last and middle bytes", 20.0)
        except VideoError as error:
            return error

    found: dict[str, str] = {}
    findings: list[Finding] = []
    with ThreadPoolExecutor(REQUESTS_AT_ONCE) as pool:
        for video, content in zip(videos, pool.map(read, videos), strict=True):
            if isinstance(content, VideoError):
                text = f"video {video.video_id}: its file can't be read: {content}"
                findings.append(Finding("file", video.video_id, text))
                continue
            found[video.video_id] = content
            if content != video.video_id:
                text = f"video {video.video_id}: its file now holds other content, {content}; put the right file back"
                findings.append(Finding("file", video.video_id, text))
    return found, findings


def copy_findings(atlas: Atlas, found_ids: dict[str, str]) -> Iterator[Finding]:
    """Finds videos in different parts that are the same: same bytes, or equally long with the same pictures.

    ``found_ids``: from ``read_ids``.
    """
    readable = [video for video in atlas.videos if video.video_id in found_ids]
    with DecodeProcess() as process:
        pictures: dict[str, np.ndarray | None] = {}

        def pictures_of(video: Video) -> np.ndarray | None:
            if video.video_id not in pictures:
                pictures[video.video_id] = read_pictures(video, process)
            return pictures[video.video_id]

        for a, b in equally_long_pairs(readable):
            parts = [atlas.split.get(video.video_id) for video in (a, b)]
            if None in parts or parts[0] == parts[1]:
                continue
            if found_ids[a.video_id] == found_ids[b.video_id]:
                how = "hold the same bytes"
            elif same_pictures(pictures_of(a), pictures_of(b)):
                how = "show the same pictures (a re-encoded copy)"
            else:
                continue
            yield Finding(
                "split",
                a.video_id,
                f"video {a.video_id} ({parts[0]}) and video {b.video_id} ({parts[1]}) {how}; a video in two parts "
                "lets a model be tested on its own training data, so take one of the two out",
            )


def equally_long_pairs(videos: list[Video]) -> Iterator[tuple[Video, Video]]:
    """Yields the pairs that are equally long within ``SAME_LENGTH_S``, without comparing all pairs of an archive."""
    ordered = sorted(videos, key=lambda video: video.duration_s)
    for n, a in enumerate(ordered):
        for b in ordered[n + 1 :]:
            if b.duration_s - a.duration_s > SAME_LENGTH_S:
                break
            yield a, b


def read_pictures(video: Video, process: DecodeProcess) -> np.ndarray | None:
    """Returns grey pictures [PICTURES, 32, 32] at fixed shares of the length, NaN where the video has no picture; None
    where it can't be decoded."""
    times_s = (np.arange(PICTURES) + 0.5) / PICTURES * video.duration_s
    try:
        frames = process.read_frames(video.uri, times_s, PICTURE_SIZE, "exact", deadline_s=120.0)
    except VideoError:
        return None
    grey_NHW: np.ndarray = frames.images_NHWC.mean(axis=3)
    grey_NHW[~frames.present_N] = np.nan
    return grey_NHW


def same_pictures(a_NHW: np.ndarray | None, b_NHW: np.ndarray | None) -> bool:
    """Returns whether two videos show the same, by the pictures that both have; False where these are fewer than half,
    or either video could not be read."""
    if a_NHW is None or b_NHW is None:
        return False
    difference_N = np.abs(a_NHW - b_NHW).mean(axis=(1, 2))
    known = ~np.isnan(difference_N)
    return bool(known.sum() >= PICTURES / 2 and difference_N[known].mean() < SAME_PICTURE)
