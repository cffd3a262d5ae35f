"""Read an atlas, write a whole one, and let one grow."""

from __future__ import annotations

import json
from bisect import bisect_left
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from itertools import accumulate

from deltalake.exceptions import DeltaError

from halsted_ray import taxonomy as taxonomies
from halsted_ray.atlas.commits import Change, Commit, commit, history, user
from halsted_ray.atlas.contents import (
    ROUNDING_S,
    Atlas,
    check_contents,
    clips_of_table,
    content_digest,
    videos_of_table,
    with_operation,
)
from halsted_ray.errors import AtlasError, OutputError
from halsted_ray.records import SAMPLE_SCHEMA, VIDEO_SCHEMA, Clip, Video
from halsted_ray.storage.delta import is_table, native_files, open_table, table_uri, told
from halsted_ray.taxonomy.names import nearest

HEAD = "head"
"""Names the newest version, released or not. A number names a version; neither can be a release's name."""


def read_atlas(location: str, release: str | None = None, version: int | None = None) -> Atlas:
    """The atlas of the archive at ``location`` at a release: its samples, videos, split, and what they are pinned by.

    Without ``release`` and ``version``: the latest release or, where there is none, the newest version. ``release``
    may also be ``head`` or a version's number. Raises AtlasError where there is no atlas, no such release (with the
    nearest names) or version, or the tables can't be read.
    """
    log = history(location)
    found = find_commit(location, log, release, version)
    try:
        samples = open_table(table_uri(location, "atlas", "samples"), found.version)
        videos = open_table(table_uri(location, "atlas", "videos"), found.videos_version)
        clips = clips_of_table(samples.to_pyarrow_table(columns=SAMPLE_SCHEMA.names, filesystem=native_files(samples)))
        rows = videos_of_table(
            location, videos.to_pyarrow_table(columns=VIDEO_SCHEMA.names, filesystem=native_files(videos))
        )
    except (DeltaError, OSError, ValueError) as error:
        raise AtlasError(
            f"version {found.version} of the atlas at {location!r} can't be read: {told(error)}; if its files were "
            "removed (vacuum), restore them from a backup or read another release"
        ) from error
    return Atlas(
        root=location,
        release=found.release,
        version=found.version,
        taxonomy=json.loads(found.taxonomy_json)["name"],
        taxonomy_digest=found.taxonomy_digest,
        taxonomy_json=found.taxonomy_json,
        split=found.split,
        videos=rows,
        clips=clips,
    )


def find_commit(location: str, log: Sequence[Commit], release: str | None = None, version: int | None = None) -> Commit:
    """The commit of ``log`` that ``release`` or ``version`` names. Raises AtlasError."""
    if release is not None and version is not None:
        raise AtlasError(f"release {release!r} and version {version}: expected one of them, since each names a version")
    if release is not None and release.isdigit():
        release, version = None, int(release)
    if version is not None:
        for found in log:
            if found.version == version:
                return found
        raise AtlasError(
            f"version {version} of the atlas at {location!r} can't be read: versions are 0 to {log[-1].version}"
        )
    named = {found.release: found for found in log if found.release}
    if release is None:
        return list(named.values())[-1] if named else log[-1]
    if release == HEAD:
        return log[-1]
    if release not in named:
        known = nearest(release, named) if named else "it has none yet: make one with `halsted atlas release`"
        raise AtlasError(f"the atlas at {location!r} has no release {release!r}; {known}")
    return named[release]


def head_of(location: str) -> Atlas | None:
    """The newest version, None where there is no atlas yet."""
    return read_atlas(location, HEAD) if is_table(table_uri(location, "atlas", "samples")) else None


def write_atlas(
    location: str,
    videos: Sequence[Video],
    clips: Iterable[Clip],
    release: str,
    *,
    taxonomy: taxonomies.Taxonomy | None = None,
    split: Mapping[str, str] | None = None,
    reason: str = "",
    annotator: str = "",
) -> int:
    """Commits ``videos`` and ``clips`` as the release ``release`` of the archive at ``location``; returns its version.

    What the atlas held before is replaced and stays readable by release and version. Nothing is committed when the
    release is there with these rows. ``taxonomy`` is where the tags come from (default: the paper's). Raises
    AtlasError for rows that break the schema, OutputError where ``location`` can't be written, the release is there
    with other rows, or somebody else committed at the same time.
    """
    taxonomy, split, clips = taxonomy or taxonomies.load(), dict(split or {}), with_operation(clips, annotator)
    check_contents(videos, clips, taxonomy, split)
    base = head_of(location)
    if base and release in {found.release for found in history(location)}:
        written = read_atlas(location, release)
        if written.content_digest == content_digest(location, videos, clips, split, taxonomy.digest):
            return written.version
        raise OutputError(
            f"the atlas at {location!r} has a release {release!r} with other rows; a release never changes: choose "
            "another name"
        )
    change = Change(user(), "videos and clips given as a whole", reason, "write")
    return commit(location, base, videos, clips, taxonomy, split, change, release)


def add_samples(
    location: str,
    clips: Iterable[Clip],
    change: Change,
    *,
    videos: Sequence[Video] = (),
    taxonomy: taxonomies.Taxonomy | None = None,
    split: Mapping[str, str] | None = None,
    replace_source: str | None = None,
) -> int:
    """Adds ``clips`` (and ``videos``, or their new places) to the atlas at ``location`` in one commit.

    A sample of the same span and task as one that is there takes its place, but an AI's never that of a person; a
    person's also that of an AI's which it overlaps in its lane (one task of one video), as after a review.
    ``replace_source`` (``manual`` or ``ai``) first drops what that source said before of the same videos and tasks.
    ``split`` gives parts of new videos (a data set's official ones). Where nothing changes nothing is committed.
    Returns the version.

    Raises AtlasError for rows that break the schema, for another taxonomy than the atlas has, and for a split that
    moves a video which has its part already; OutputError as ``commit`` does.
    """
    clips = list(clips)
    base = head_of(location)
    taxonomy = taxonomy or (base.load_taxonomy() if base else taxonomies.load())
    if base and base.taxonomy_digest != taxonomy.digest:
        raise AtlasError(
            f"the atlas at {location!r} is in taxonomy {base.taxonomy!r} {base.taxonomy_digest}, these samples are in "
            f"{taxonomy.name!r} {taxonomy.digest}; import them into an atlas of their own"
        )
    all_videos = {video.video_id: video for video in (*(base.videos if base else ()), *videos)}
    samples = {span(clip): clip for clip in (base.clips if base else ())}
    if replace_source:
        asked = {(clip.video_id, clip.task) for clip in clips}
        samples = {
            key: clip
            for key, clip in samples.items()
            if not (clip.source == replace_source and (clip.video_id, clip.task) in asked)
        }
    for clip in clips:
        there = samples.get(span(clip))
        if there is None or clip.source == "manual" or there.source == "ai":
            samples[span(clip)] = clip
    spoken = spoken_for(clips)
    samples = {key: clip for key, clip in samples.items() if clip.source == "manual" or not spoken(clip)}
    parts = joined_split(base.split if base else {}, split or {})
    rows = tuple(with_operation(samples.values()))
    ordered = tuple(sorted(all_videos.values(), key=lambda video: video.video_id))
    if base and (rows, parts, ordered) == (base.clips, base.split, base.videos):
        return base.version
    return commit(location, base, ordered, rows, taxonomy, parts, change)


def add_ai_samples(
    location: str,
    clips: Iterable[Clip],
    *,
    model_version: str,
    why: str,
    videos: Sequence[Video] = (),
    who: str | None = None,
    replace_earlier: bool = False,
) -> int:
    """Adds what a model said, in one commit: ``source`` becomes ``ai`` and ``annotator`` the model's version.

    Confidence is each clip's own. ``videos``: those it labelled that the atlas lacks. ``replace_earlier`` drops what
    earlier models said of the same videos and tasks. Raises as ``add_samples``.
    """
    if not model_version:
        raise AtlasError("AI samples without a model version; give the version that `halsted registry show` prints")
    labelled = [replace(clip, source="ai", annotator=model_version) for clip in clips]
    change = Change(who or user(), f"model {model_version}", why, "self-label")
    return add_samples(location, labelled, change, videos=videos, replace_source="ai" if replace_earlier else None)


def spoken_for(clips: Iterable[Clip]) -> Callable[[Clip], bool]:
    """Whether a clip overlaps one of a person's ``clips`` in its lane. Captions of several levels nest, so they count
    for nothing."""
    spans: dict[tuple[str, str], list[tuple[float, float]]] = {}
    for clip in clips:
        if clip.source == "manual" and not clip.caption:
            spans.setdefault((clip.video_id, clip.task), []).append((clip.start_s, clip.stop_s))
    lanes = {}
    for lane, own in spans.items():
        starts_s, stops_s = zip(*sorted(own), strict=True)
        lanes[lane] = starts_s, list(accumulate(stops_s, max))

    def is_spoken_for(clip: Clip) -> bool:
        if clip.caption or (clip.video_id, clip.task) not in lanes:
            return False
        starts_s, latest_stops_s = lanes[clip.video_id, clip.task]
        begun = bisect_left(starts_s, clip.stop_s - ROUNDING_S)
        return begun > 0 and latest_stops_s[begun - 1] > clip.start_s + ROUNDING_S

    return is_spoken_for


def span(clip: Clip) -> tuple:
    """One answer stands for it: narrated captions of several levels may share a span."""
    return (clip.video_id, clip.start_s, clip.stop_s, clip.task, *(sorted(clip.tags.items()) if clip.caption else ()))


def joined_split(known: Mapping[str, str], given: Mapping[str, str]) -> dict[str, str]:
    """``known`` with the parts of further videos. Raises AtlasError when a video would move."""
    for video_id, part in given.items():
        if known.get(video_id, part) != part:
            raise AtlasError(
                f"video {video_id} is {known[video_id]!r} in this atlas, and {part!r} is asked; a part never changes, "
                "since models were trained or judged on it: start another atlas for another split"
            )
    return {**known, **given}
