"""The history of an atlas, and how a commit is made so that two writers never mix their changes.

A commit on ``samples`` carries the rest of the atlas's state as metadata: the version of ``videos``, the taxonomy, the
split by video and, if it is a release, the release's name. The commit becomes exactly the version after the one that
was read, or it fails. It is written last, so a reader sees all of a change or nothing of it.
"""

from __future__ import annotations

import getpass
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime

import pyarrow as pa
from deltalake import CommitProperties, write_deltalake
from deltalake.exceptions import CommitFailedError, DeltaError

from halsted_ray import __version__
from halsted_ray.atlas.captions import caption_rows, check_captions
from halsted_ray.atlas.contents import Atlas, Row, check_contents, sample_rows, video_rows
from halsted_ray.errors import AtlasError, OutputError
from halsted_ray.records import ATLAS_VIDEO_SCHEMA, CAPTION_SCHEMA, SAMPLE_SCHEMA, SYNTHETIC, Caption, Clip, Video
from halsted_ray.storage.delta import is_table, open_table, sole_writer, storage_options, table_uri, told
from halsted_ray.taxonomy import Taxonomy

KEEP_FOREVER = {
    "delta.logRetentionDuration": "interval 36500 days",
    "delta.deletedFileRetentionDuration": "interval 36500 days",
    "delta.enableExpiredLogCleanup": "false",
}
"""A release must stay readable as long as a model that was trained on it is in use. Delta's default deletes the history
after 30 days."""


@dataclass(frozen=True)
class Change:
    """Who makes a commit (``who``), from which source, and why."""

    who: str
    source: str
    why: str = ""
    action: str = "import"
    """``import``, ``annotate``, ``withdraw``, ``self-label``, ``write`` or ``release``."""


@dataclass(frozen=True)
class Commit:
    """One commit of the history, and the state of the atlas after it.

    ``added`` and ``removed`` count samples. ``release`` is '' for a commit that is no release.
    """

    version: int
    at: datetime
    action: str
    who: str
    source: str
    why: str
    release: str
    added: int
    removed: int
    code_version: str
    videos_version: int
    taxonomy_json: str
    taxonomy_digest: str
    split: dict[str, str]
    captions_version: int | None = None
    """Of the table of captions; None while there is none."""
    synthetic: int = 0
    """Samples of drawn videos after this commit."""


def current_user() -> str:
    """Returns the name of the user account, which commits carry unless another name is given."""
    try:
        return getpass.getuser()
    except (KeyError, OSError):  # in a container whose user is missing in /etc/passwd
        return "unknown"


def history(location: str) -> list[Commit]:
    """Returns all commits of the atlas at ``location``, oldest first.

    Costs one small read per commit. A commit of another program (such as ``OPTIMIZE``) keeps the state of the commit
    before it. Raises AtlasError where there is no atlas or it can't be read.
    """
    uri = table_uri(location, "atlas", "samples")
    try:
        if not is_table(uri):
            raise AtlasError(
                f"no atlas at {location!r}: expected a Delta table at {uri!r}; name the archive's folder (the folder "
                "that holds atlas/), or write an atlas with `halsted atlas import` or `halsted phantom`"
            )
        entries = open_table(uri).history()
    except (DeltaError, OSError) as error:
        raise AtlasError(
            f"the atlas at {location!r} can't be read: {told(error)}; check the place and the credentials"
        ) from error
    commits: list[Commit] = []
    for entry in reversed(entries):
        at = datetime.fromtimestamp(entry["timestamp"] / 1000, UTC)
        if "videos_version" in entry and "action" in entry:
            commits.append(
                Commit(
                    version=entry["version"],
                    at=at,
                    action=entry["action"],
                    who=entry["who"],
                    source=entry["source"],
                    why=entry["why"],
                    release=entry["release"],
                    added=int(entry["added"]),
                    removed=int(entry["removed"]),
                    code_version=entry["code_version"],
                    videos_version=int(entry["videos_version"]),
                    taxonomy_json=entry["taxonomy"],
                    taxonomy_digest=entry["taxonomy_digest"],
                    split=json.loads(entry["split"]),
                    captions_version=int(entry["captions_version"]) if "captions_version" in entry else None,
                    synthetic=int(entry.get("synthetic", 0)),
                )
            )
        elif commits:
            commits.append(
                replace(
                    commits[-1],
                    version=entry["version"],
                    at=at,
                    action=entry.get("operation", "other").lower(),
                    who="",
                    source=entry.get("engineInfo", ""),
                    why="",
                    release="",
                    added=0,
                    removed=0,
                    code_version="",
                )
            )
        else:
            raise AtlasError(
                f"the table at {uri!r} was not written by this program; name an atlas, or import the annotations"
            )
    return commits


def commit(
    location: str,
    base: Atlas | None,
    videos: Sequence[Video],
    clips: Sequence[Clip],
    taxonomy: Taxonomy,
    split: Mapping[str, str],
    change: Change,
    release: str = "",
    captions: Sequence[Caption] | None = None,
) -> int:
    """Commits ``videos``, ``clips`` and ``split`` as the version after ``base``; returns the number of the version.

    ``base``: the newest version, None for the first commit of an atlas. ``captions``: all captions of the new version,
    None for those of ``base``. Raises AtlasError for rows that break the
    schema. Raises OutputError where ``location`` can't be written, or where another writer changed the atlas since
    ``base`` was read; then nothing of this change is written.
    """
    check_contents(videos, clips, taxonomy, split)
    check_captions(captions or (), {video.video_id: video.duration_s for video in videos})
    before, after = (tuple(base.clips) if base else ()), tuple(clips)
    unchanged = len({sample_identity(clip) for clip in before} & {sample_identity(clip) for clip in after})
    metadata = {
        "action": change.action,
        "who": change.who,
        "source": change.source,
        "why": change.why,
        "release": release,
        "added": str(len(after) - unchanged),
        "removed": str(len(before) - unchanged),
        "code_version": __version__,
        "taxonomy": json.dumps(taxonomy.to_dict(), ensure_ascii=False),
        "taxonomy_digest": taxonomy.digest,
        "split": json.dumps(dict(split), sort_keys=True),
    }
    if synthetic := sum(clip.source == SYNTHETIC for clip in after):
        metadata["synthetic"] = str(synthetic)
    samples_uri, videos_uri, captions_uri = (
        table_uri(location, "atlas", name) for name in ("samples", "videos", "captions")
    )
    try:
        with sole_writer(f"{location.rstrip('/')}/atlas"):
            known = history(location)[-1] if is_table(samples_uri) else None
            if (known.version if known else None) != (base.version if base else None):
                raise CommitFailedError(f"its newest version is {known.version if known else None}")
            if base is not None and known is not None and tuple(base.videos) == tuple(videos):
                videos_version = known.videos_version
            else:
                newest = open_table(videos_uri).version() if is_table(videos_uri) else None
                rows = video_rows(location, videos)
                videos_version = commit_rows(videos_uri, newest, ATLAS_VIDEO_SCHEMA, rows, metadata)
            captions_version = known.captions_version if known else None
            if captions is not None:
                newest = open_table(captions_uri).version() if is_table(captions_uri) else None
                rows = caption_rows(captions)
                captions_version = commit_rows(captions_uri, newest, CAPTION_SCHEMA, rows, metadata)
            metadata["videos_version"] = str(videos_version)
            if captions_version is not None:
                metadata["captions_version"] = str(captions_version)
            samples = None if base is not None and before == after else sample_rows(clips)
            return commit_rows(samples_uri, base.version if base else None, SAMPLE_SCHEMA, samples, metadata)
    except CommitFailedError as error:
        raise OutputError(
            f"the atlas at {location!r} was changed by another writer meanwhile ({told(error)}); nothing of this "
            "change was written: give the same command again"
        ) from error
    except (DeltaError, OSError) as error:
        raise OutputError(
            f"the atlas can't be written to {location!r}: {told(error)}; name a place that you may write to"
        ) from error


def sample_identity(clip: Clip) -> tuple[object, ...]:
    """Returns what two equal samples share. Their confidence and annotator may differ."""
    return (clip.video_id, clip.start_s, clip.stop_s, clip.task, clip.source, clip.caption, *sorted(clip.tags.items()))


def commit_rows(uri: str, base: int | None, schema: pa.Schema, rows: list[Row] | None, metadata: dict[str, str]) -> int:
    """Commits ``rows`` as version ``base + 1`` of the table at ``uri``; returns the version.

    ``base``: None makes the table. ``rows``: None keeps the rows of ``base``. Raises CommitFailedError where the
    version exists already.
    """
    properties = CommitProperties(custom_metadata=metadata, max_commit_retries=0)
    if base is None:
        try:
            write_deltalake(
                uri,
                pa.Table.from_pylist(rows, schema=schema),
                mode="error",
                configuration=KEEP_FOREVER,
                commit_properties=properties,
                storage_options=storage_options(uri) or None,
            )
        except DeltaError as error:
            if is_table(uri):
                raise CommitFailedError("it was created a moment ago") from error
            raise
        return 0
    table = open_table(uri, base)
    write_deltalake(
        table,
        pa.Table.from_pylist(rows or [], schema=schema),
        mode="append" if rows is None else "overwrite",
        schema_mode="merge",  # a table from before a column was added gets the column
        commit_properties=properties,
    )
    return base + 1
