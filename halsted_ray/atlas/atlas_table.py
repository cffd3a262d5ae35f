"""Reads an atlas at a release or version, writes a whole atlas, and adds samples to one."""

from __future__ import annotations

import json
from bisect import bisect_left
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import replace
from itertools import accumulate

from deltalake.exceptions import DeltaError

from halsted_ray import taxonomy as taxonomies
from halsted_ray.atlas.captions import read_captions, with_captions
from halsted_ray.atlas.commits import Change, Commit, commit, current_user, history
from halsted_ray.atlas.contents import (
    ROUNDING_S,
    Atlas,
    check_contents,
    clips_of_table,
    complete_clips,
    content_digest,
    drawn_videos,
    videos_of_table,
)
from halsted_ray.errors import AtlasError, OutputError
from halsted_ray.records import ATLAS_VIDEO_SCHEMA, SAMPLE_SCHEMA, SYNTHETIC, Caption, Clip, Video
from halsted_ray.storage.delta import is_table, native_files, open_table, table_uri, told
from halsted_ray.taxonomy.names import nearest

HEAD = "head"
"""Means the newest version, whether it is a release or not. A digit string means a version. Neither can be the name of
a release."""


def read_atlas(location: str, release: str | None = None, version: int | None = None) -> Atlas:
    """Reads the atlas of the archive at ``location`` at one release or version.

    >>> from halsted_ray import open_atlas
    >>> atlas = open_atlas("archive")
    >>> [len(atlas.videos_of(part)) for part in ("train", "validation", "test")]
    [2, 2, 2]

    By default this is the latest release, or the newest version where there is no release. ``release`` may also be
    ``head`` or a version's number. Raises AtlasError where there is no atlas, no such release (with the nearest names)
    or version, or where the tables can't be read.
    """
    log = history(location)
    found = find_commit(location, log, release, version)
    try:
        samples = open_table(table_uri(location, "atlas", "samples"), found.version)
        videos = open_table(table_uri(location, "atlas", "videos"), found.videos_version)
        clips = clips_of_table(samples.to_pyarrow_table(columns=SAMPLE_SCHEMA.names, filesystem=native_files(samples)))
        written = {field.name for field in videos.schema().fields}
        columns = [name for name in ATLAS_VIDEO_SCHEMA.names if name in written or name != "group"]
        rows = videos_of_table(location, videos.to_pyarrow_table(columns=columns, filesystem=native_files(videos)))
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
        captions_version=found.captions_version,
    )


def find_commit(location: str, log: Sequence[Commit], release: str | None = None, version: int | None = None) -> Commit:
    """Returns the commit of ``log`` that ``release`` or ``version`` names. Raises AtlasError where there is none."""
    if release is not None and version is not None:
        raise AtlasError(
            f"got release {release!r} and version {version}; expected only one of them, since each names a version"
        )
    if release is not None and release.isdigit():
        version = int(release)
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


def read_head(location: str) -> Atlas | None:
    """Reads the newest version; None where there is no atlas yet."""
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
    captions: Sequence[Caption] | None = None,
) -> int:
    """Commits ``videos`` and ``clips`` as the release ``release`` of the archive at ``location``; returns its version.

    They replace the content of the atlas. Earlier content stays readable by its release and version. Nothing is
    committed where the release exists with the same rows. ``taxonomy``: the taxonomy of the tags (default: the
    paper's). ``annotator``: for clips that name none. ``captions``: replace those of the atlas; None leaves them.

    Raises AtlasError for rows that break the schema. Raises OutputError where ``location`` can't be written, where the
    release exists with other rows, or where another writer committed at the same time.
    """
    taxonomy, split, clips = taxonomy or taxonomies.load(), dict(split or {}), complete_clips(clips, annotator)
    check_contents(videos, clips, taxonomy, split)
    base = read_head(location)
    if base and release in {found.release for found in history(location)}:
        written = read_atlas(location, release)
        if written.content_digest == content_digest(location, videos, clips, split, taxonomy.digest):
            return written.version
        raise OutputError(
            f"the atlas at {location!r} has a release {release!r} with other rows, and a release never changes; choose "
            "another name"
        )
    change = Change(current_user(), "videos and clips given as a whole", reason, "write")
    return commit(location, base, videos, clips, taxonomy, split, change, release, captions)


def add_samples(
    location: str,
    clips: Iterable[Clip],
    change: Change,
    *,
    videos: Sequence[Video] = (),
    taxonomy: taxonomies.Taxonomy | None = None,
    split: Mapping[str, str] | None = None,
    replace_source: str | None = None,
    replaced_lanes: Collection[tuple[str, str]] = (),
    is_replaced: Callable[[Clip], bool] | None = None,
    captions: Iterable[Caption] = (),
) -> int:
    """Adds ``clips`` to the atlas at ``location`` in one commit; returns the version.

    A new sample replaces an earlier sample of the same span and task, except that a model's sample never replaces a
    person's. A person's sample also replaces every model's sample that it overlaps in its lane (one task of one video),
    as after a review. A video with synthetic samples is drawn: it goes to the part ``train`` at once, and takes samples
    of no other source. ``replace_source`` (``manual`` or ``ai``) first drops everything that this source said before of
    the same videos and tasks, and of ``replaced_lanes``, (video_id, task). ``is_replaced`` first drops the samples for
    which it is true.

    ``videos``: new videos, or known videos at new places; a known group stays where they name none. ``split``: the
    parts of new videos, such as a data set's official split. ``captions`` are added to those of the atlas. Nothing is
    committed where nothing changes.

    Raises AtlasError for rows that break the schema, for another taxonomy than the atlas's, and for a split that moves
    a video out of its part; OutputError as ``commit`` does.
    """
    clips = list(clips)
    base = read_head(location)
    taxonomy = taxonomy or (base.load_taxonomy() if base else taxonomies.load())
    if base and base.taxonomy_digest != taxonomy.digest:
        raise AtlasError(
            f"the atlas at {location!r} is in taxonomy {base.taxonomy!r} {base.taxonomy_digest}, these samples are in "
            f"{taxonomy.name!r} {taxonomy.digest}; import the samples into an atlas of their own"
        )
    refuse_relabelling(clips, drawn_videos(base.clips if base else ()))
    all_videos = {video.video_id: video for video in (base.videos if base else ())}
    for video in videos:
        known = all_videos.get(video.video_id)
        all_videos[video.video_id] = replace(video, group=known.group) if known and not video.group else video
    samples = {sample_key(clip): clip for clip in (base.clips if base else ())}
    if replace_source:
        lanes = {*replaced_lanes, *((clip.video_id, clip.task) for clip in clips)}
        samples = {
            key: clip
            for key, clip in samples.items()
            if not (clip.source == replace_source and (clip.video_id, clip.task) in lanes)
        }
    if is_replaced:
        samples = {key: clip for key, clip in samples.items() if not is_replaced(clip)}
    for clip in clips:
        earlier = samples.get(sample_key(clip))
        if earlier is None or clip.source == "manual" or earlier.source != "manual":
            samples[sample_key(clip)] = clip
    overlaps_manual = manual_overlap(clips)
    samples = {key: clip for key, clip in samples.items() if clip.source == "manual" or not overlaps_manual(clip)}
    drawn = dict.fromkeys(sorted(drawn_videos(clips)), "train")
    parts = merged_split(base.split if base else {}, drawn | dict(split or {}))
    rows = tuple(complete_clips(samples.values()))
    ordered = tuple(sorted(all_videos.values(), key=lambda video: video.video_id))
    known_captions = read_captions(base) if base else ()
    all_captions = with_captions(known_captions, captions)
    is_captioned = all_captions != known_captions
    if base and not is_captioned and (rows, parts, ordered) == (base.clips, base.split, base.videos):
        return base.version
    new_captions = all_captions if is_captioned else None
    return commit(location, base, ordered, rows, taxonomy, parts, change, captions=new_captions)


def refuse_relabelling(clips: Iterable[Clip], drawn: Collection[str]) -> None:
    """Raises AtlasError where ``clips`` would give a video of ``drawn`` samples that could judge a model."""
    for clip in clips:
        if clip.video_id in drawn and clip.source != SYNTHETIC:
            raise AtlasError(
                f"video {clip.video_id} has synthetic samples, and a sample with the source {clip.source!r} is to be "
                "added; nobody can review what never happened: add it as synthetic (--said-by synthetic), or leave it "
                "out"
            )


def withdraw_samples(location: str, is_withdrawn: Callable[[Clip], bool], change: Change) -> int | None:
    """Takes the samples for which ``is_withdrawn`` is true out of the newest version in one commit; returns it.

    A video that loses its last sample goes too, with its captions and its part of the split. Earlier versions, and
    releases among them, stay as they are. None where there is no atlas; nothing is committed where there is no such
    sample. Raises the errors of ``commit``.
    """
    base = read_head(location)
    if base is None:
        return None
    kept = tuple(clip for clip in base.clips if not is_withdrawn(clip))
    if len(kept) == len(base.clips):
        return base.version
    gone = {clip.video_id for clip in base.clips} - {clip.video_id for clip in kept}
    videos = [video for video in base.videos if video.video_id not in gone]
    split = {video_id: part for video_id, part in base.split.items() if video_id not in gone}
    captions = read_captions(base)
    left = tuple(caption for caption in captions if caption.video_id not in gone)
    return commit(
        location,
        base,
        videos,
        kept,
        base.load_taxonomy(),
        split,
        change,
        captions=None if left == captions else left,
    )


def add_ai_samples(
    location: str,
    clips: Iterable[Clip],
    *,
    model_version: str,
    why: str,
    videos: Sequence[Video] = (),
    who: str | None = None,
    replace_earlier: bool = False,
    replaced_lanes: Collection[tuple[str, str]] = (),
) -> int:
    """Adds a model's samples in one commit; returns the version.

    ``source`` of each clip becomes ``ai`` and ``annotator`` becomes ``model_version``; each clip keeps its confidence.
    ``videos``: labelled videos that the atlas lacks. ``replace_earlier`` drops what earlier models said of the same
    videos and tasks, and of ``replaced_lanes``: (video_id, task) in which this model says nothing. Raises the errors of
    ``add_samples``, and AtlasError without a model version.
    """
    if not model_version:
        raise AtlasError("AI samples without a model version; give the version that `halsted registry show` prints")
    labelled = [replace(clip, source="ai", annotator=model_version) for clip in clips]
    change = Change(who or current_user(), f"model {model_version}", why, "self-label")
    return add_samples(
        location,
        labelled,
        change,
        videos=videos,
        replace_source="ai" if replace_earlier else None,
        replaced_lanes=replaced_lanes,
    )


def manual_overlap(clips: Iterable[Clip]) -> Callable[[Clip], bool]:
    """Returns a function that says whether a clip overlaps one of a person's ``clips`` in its lane.

    Captions are ignored, since captions of several levels overlap by design.
    """
    spans: dict[tuple[str, str], list[tuple[float, float]]] = {}
    for clip in clips:
        if clip.source == "manual" and not clip.caption:
            spans.setdefault((clip.video_id, clip.task), []).append((clip.start_s, clip.stop_s))
    lanes: dict[tuple[str, str], tuple[tuple[float, ...], list[float]]] = {}
    """(video_id, task) -> (starts in rising order, the latest stop among the spans up to each start)."""
    for lane, own in spans.items():
        starts_s, stops_s = zip(*sorted(own), strict=True)
        lanes[lane] = starts_s, list(accumulate(stops_s, max))

    def overlaps_manual(clip: Clip) -> bool:
        if clip.caption or (clip.video_id, clip.task) not in lanes:
            return False
        starts_s, latest_stops_s = lanes[clip.video_id, clip.task]
        started = bisect_left(starts_s, clip.stop_s - ROUNDING_S)
        return started > 0 and latest_stops_s[started - 1] > clip.start_s + ROUNDING_S

    return overlaps_manual


def sample_key(clip: Clip) -> tuple[object, ...]:
    """Returns what an atlas holds only one sample of: a span and a task.

    For captions the level belongs to the key, since captions of several levels may share a span.
    """
    return (clip.video_id, clip.start_s, clip.stop_s, clip.task, *(sorted(clip.tags.items()) if clip.caption else ()))


def merged_split(known: Mapping[str, str], given: Mapping[str, str]) -> dict[str, str]:
    """Adds the parts ``given`` to the split ``known``. Raises AtlasError where a video would move to another part."""
    for video_id, part in given.items():
        if known.get(video_id, part) != part:
            raise AtlasError(
                f"video {video_id} is in the part {known[video_id]!r} of this atlas, and {part!r} is asked for; a part "
                "never changes, since models were trained or tested on it: start another atlas for another split"
            )
    return {**known, **given}
