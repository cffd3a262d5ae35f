"""Write and read an atlas."""

from __future__ import annotations

import json
import posixpath
from dataclasses import asdict, dataclass, replace

import pyarrow as pa
from deltalake import CommitProperties, write_deltalake
from deltalake.exceptions import CommitFailedError, DeltaError

from halsted_ray import __version__
from halsted_ray import taxonomy as taxonomies
from halsted_ray.atlas.delta import is_table, open_table, storage_options, table_uri
from halsted_ray.errors import AtlasError, OutputError
from halsted_ray.records import SAMPLE_SCHEMA, VIDEO_SCHEMA, Clip, Video, digest

SPLITS = ("train", "validation", "test")


@dataclass(frozen=True)
class Atlas:
    """One version of an atlas, in memory. ``videos`` carry uris that can be opened as they are.

    ``split`` maps video_id to ``train``, ``validation`` or ``test``; videos it does not name have no part yet.
    """

    root: str
    release: str
    version: int
    """Version of the samples table: the number that lineage quotes."""
    taxonomy: str
    taxonomy_digest: str
    content_digest: str
    split: dict[str, str]
    videos: tuple[Video, ...]
    clips: tuple[Clip, ...]

    def videos_of(self, split: str) -> tuple[Video, ...]:
        return tuple(video for video in self.videos if self.split.get(video.video_id) == split)


def write_atlas(
    location: str,
    videos: list[Video],
    clips: list[Clip],
    release: str,
    *,
    taxonomy: taxonomies.Taxonomy | None = None,
    split: dict[str, str] | None = None,
    reason: str = "",
    annotator: str = "",
) -> int:
    """Commits ``videos`` and ``clips`` as the atlas of the archive at ``location``; returns the new version.

    The atlas is replaced, its history stays readable by version. Nothing is committed when the newest version
    already is this release with these rows. ``taxonomy`` is where the tags come from (default: the paper's).
    Raises AtlasError for rows that break the schema, OutputError where ``location`` can't be written or somebody
    else committed at the same time.
    """
    taxonomy = taxonomy or taxonomies.load()
    split = split or {}
    check_rows(videos, clips, taxonomy, split)
    video_rows = sorted(
        ({**asdict(video), "uri": relative_uri(location, video.uri)} for video in videos),
        key=lambda row: row["video_id"],
    )
    sample_rows = sample_rows_of(clips, annotator)
    metadata = {
        "release": release, "taxonomy": taxonomy.name, "taxonomy_digest": taxonomy.digest,
        "split": json.dumps(split, sort_keys=True), "reason": reason, "code_version": __version__,
        "content_digest": digest(video_rows, sample_rows, split, taxonomy.digest),
    }
    samples_uri = table_uri(location, "atlas", "samples")
    if is_table(samples_uri):
        newest = open_table(samples_uri)
        written = newest.history(1)[0]
        if all(written.get(key) == metadata[key] for key in ("release", "content_digest")):
            return newest.version()
    try:
        videos_version = commit(table_uri(location, "atlas", "videos"), VIDEO_SCHEMA, video_rows, metadata)
        return commit(samples_uri, SAMPLE_SCHEMA, sample_rows, metadata | {"videos_version": str(videos_version)})
    except CommitFailedError as error:
        raise OutputError(
            f"the atlas at {location!r} was changed by another writer meanwhile; read it again and repeat ({error})"
        ) from error
    except (DeltaError, OSError) as error:
        raise OutputError(f"the atlas can't be written to {location!r}: {error}; name a place you may write") from error


def read_atlas(location: str, version: int | None = None) -> Atlas:
    """The atlas of the archive at ``location``, newest version unless ``version`` says another.

    Raises AtlasError where there is none, the version does not exist, or the tables can't be read.
    """
    samples_uri = table_uri(location, "atlas", "samples")
    if not is_table(samples_uri):
        raise AtlasError(
            f"no atlas at {location!r}: expected a Delta table at {samples_uri!r}; "
            "name the archive's folder (the one that holds atlas/ and videos/), or write one with `halsted phantom`"
        )
    try:
        samples = open_table(samples_uri, version)
        # A table opened at an older version numbers its history wrongly (deltalake 1.6): ask the newest.
        commits = {commit["version"]: commit for commit in open_table(samples_uri).history()}
        metadata = commits[samples.version()]
        rows = samples.to_pyarrow_table().select(SAMPLE_SCHEMA.names).to_pylist()
        videos = open_table(table_uri(location, "atlas", "videos"), int(metadata["videos_version"]))
        video_rows = videos.to_pyarrow_table().select(VIDEO_SCHEMA.names).to_pylist()
    except KeyError as error:
        raise AtlasError(f"the atlas at {location!r} lacks {error}; it was not written by this program") from error
    except (DeltaError, OSError) as error:
        newest = open_table(samples_uri).version()
        raise AtlasError(
            f"version {version} of the atlas at {location!r} can't be read: {error}; versions are 0 to {newest}"
        ) from error
    clips = [
        Clip(row["video_id"], row["start_s"], row["stop_s"], row["task"], dict(row["tags"]), row["source"])
        for row in rows
    ]
    return Atlas(
        root=location, release=metadata["release"], version=samples.version(), taxonomy=metadata["taxonomy"],
        taxonomy_digest=metadata["taxonomy_digest"], content_digest=metadata["content_digest"],
        split=json.loads(metadata["split"]),
        videos=tuple(replace(Video(**row), uri=absolute_uri(location, row["uri"])) for row in video_rows),
        clips=tuple(clips),
    )


def check_rows(videos: list[Video], clips: list[Clip], taxonomy: taxonomies.Taxonomy, split: dict[str, str]) -> None:
    duration_s = {video.video_id: video.duration_s for video in videos}
    if len(duration_s) != len(videos):
        twice = sorted({v.video_id for v in videos if sum(v.video_id == w.video_id for w in videos) > 1})
        raise AtlasError(f"videos with the same content: {twice}; an atlas names each video once")
    if bad := {part for part in split.values() if part not in SPLITS}:
        raise AtlasError(f"unknown part of the split: {sorted(bad)}; expected one of {SPLITS}")
    if unknown := sorted(set(split) - set(duration_s)):
        raise AtlasError(f"the split names videos that the atlas lacks: {unknown}")
    for clip in clips:
        where = f"clip [{clip.start_s}, {clip.stop_s}) s of video {clip.video_id}, task {clip.task!r}"
        if clip.video_id not in duration_s:
            raise AtlasError(f"{where}: the atlas has no such video; add its row to videos")
        if not 0 <= clip.start_s < clip.stop_s <= duration_s[clip.video_id] + 1e-6:
            raise AtlasError(f"{where}: expected 0 <= start < stop <= duration {duration_s[clip.video_id]} s")
        known = {tag.name: tag.categories for tag in taxonomy.task(clip.task).tags}
        for tag, category in clip.tags.items():
            if category not in known.get(tag, ()):
                expected = f"one of {known[tag]}" if tag in known else f"a tag of {sorted(known)}"
                raise AtlasError(
                    f"{where}: {tag}={category!r} is not in taxonomy {taxonomy.name!r}; expected {expected}"
                )


def sample_rows_of(clips: list[Clip], annotator: str) -> list[dict]:
    """Rows of the samples table; specialty and procedure are those of the video's macro clips, '' without any."""
    operation: dict[str, dict[str, str]] = {}
    for clip in clips:
        if "procedure" in clip.tags or "specialty" in clip.tags:
            operation.setdefault(clip.video_id, clip.tags)
    rows = [
        {
            "clip_id": digest(clip.video_id, clip.start_s, clip.stop_s), "video_id": clip.video_id,
            "start_s": clip.start_s, "stop_s": clip.stop_s, "task": clip.task, "tags": sorted(clip.tags.items()),
            "source": clip.source, "annotator": annotator, "confidence": 1.0,
            "specialty": operation.get(clip.video_id, {}).get("specialty", ""),
            "procedure": operation.get(clip.video_id, {}).get("procedure", ""),
        }
        for clip in clips
    ]
    return sorted(rows, key=lambda row: (row["video_id"], row["start_s"], row["stop_s"], row["task"]))


def relative_uri(location: str, uri: str) -> str:
    """``uri`` as seen from the archive at ``location``; one that lies elsewhere stays absolute."""
    prefix = location.rstrip("/") + "/"
    return uri[len(prefix):] if uri.startswith(prefix) else uri


def absolute_uri(location: str, uri: str) -> str:
    return uri if "://" in uri else posixpath.join(location, uri)


def commit(uri: str, schema: pa.Schema, rows: list[dict], metadata: dict[str, str]) -> int:
    write_deltalake(
        uri, pa.Table.from_pylist(rows, schema=schema), mode="overwrite",
        commit_properties=CommitProperties(custom_metadata=metadata), storage_options=storage_options(uri) or None,
    )
    return open_table(uri).version()
