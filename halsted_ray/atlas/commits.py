"""The history of an atlas: what each commit says of itself, and how a commit is made so that two never mix.

A commit on ``samples`` carries the whole state beside its rows: version of ``videos``, taxonomy, split by video, and,
where it is one, the name of a release. It is written at exactly the version after the one that was read, or not at
all, and it comes last, so a reader sees all of a change or nothing of it.
"""

from __future__ import annotations

import getpass
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

import pyarrow as pa
from deltalake import CommitProperties, write_deltalake
from deltalake.exceptions import CommitFailedError, DeltaError

from halsted_ray import __version__
from halsted_ray.atlas.contents import Atlas, check_contents, sample_rows, video_rows
from halsted_ray.errors import AtlasError, OutputError
from halsted_ray.records import SAMPLE_SCHEMA, VIDEO_SCHEMA, Clip, Video
from halsted_ray.storage.delta import is_table, open_table, sole_writer, storage_options, table_uri, told
from halsted_ray.taxonomy import Taxonomy

KEPT_FOR_GOOD = {
    "delta.logRetentionDuration": "interval 36500 days",
    "delta.deletedFileRetentionDuration": "interval 36500 days",
    "delta.enableExpiredLogCleanup": "false",
}
"""A release must be readable for as long as a model made from it is; Delta's default forgets after 30 days."""


@dataclass(frozen=True)
class Change:
    """Who makes a commit, from what, and why."""

    who: str
    source: str
    why: str = ""
    action: str = "import"
    """What: ``import``, ``self-label``, ``write`` or ``release``."""


@dataclass(frozen=True)
class Commit:
    """One line of the history, and the state it left."""

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


def user() -> str:
    """The name that commits carry where nobody gives another."""
    try:
        return getpass.getuser()
    except (KeyError, OSError):  # a container whose user has no entry in its passwd
        return "unknown"


def history(location: str) -> list[Commit]:
    """All commits of the atlas at ``location``, oldest first. Raises AtlasError where there is no atlas.

    Costs one small read a commit. A commit of another program (``OPTIMIZE``) leaves the state of the one before.
    """
    uri = table_uri(location, "atlas", "samples")
    try:
        if not is_table(uri):
            raise AtlasError(
                f"no atlas at {location!r}: expected a Delta table at {uri!r}; name the archive's folder (the one that "
                "holds atlas/), or write one with `halsted atlas import` or `halsted phantom`"
            )
        entries = open_table(uri).history()
    except (DeltaError, OSError) as error:
        raise AtlasError(
            f"the atlas at {location!r} can't be read: {told(error)}; check the place and its keys"
        ) from error
    commits: list[Commit] = []
    for entry in reversed(entries):
        at = datetime.fromtimestamp(entry["timestamp"] / 1000, UTC)
        if "videos_version" in entry and "action" in entry:
            commits.append(
                Commit(
                    entry["version"],
                    at,
                    *(entry[name] for name in ("action", "who", "source", "why", "release")),
                    int(entry["added"]),
                    int(entry["removed"]),
                    entry["code_version"],
                    int(entry["videos_version"]),
                    entry["taxonomy"],
                    entry["taxonomy_digest"],
                    json.loads(entry["split"]),
                )
            )
        elif commits:
            last = commits[-1]
            commits.append(
                Commit(
                    entry["version"],
                    at,
                    entry.get("operation", "other").lower(),
                    "",
                    entry.get("engineInfo", ""),
                    "",
                    "",
                    0,
                    0,
                    "",
                    last.videos_version,
                    last.taxonomy_json,
                    last.taxonomy_digest,
                    last.split,
                )
            )
        else:
            raise AtlasError(f"the table at {uri!r} was not written by this program; name an atlas, or import the data")
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
) -> int:
    """Makes ``videos``, ``clips`` and ``split`` the newest version after ``base`` (None: the first); returns it.

    Raises AtlasError for rows that break the schema, OutputError where ``location`` can't be written or somebody
    changed the atlas since ``base`` was read: then nothing of this change is there.
    """
    check_contents(videos, clips, taxonomy, split)
    before, after = (tuple(base.clips) if base else ()), tuple(clips)
    stayed = len({identity(clip) for clip in before} & {identity(clip) for clip in after})
    metadata = {
        "action": change.action,
        "who": change.who,
        "source": change.source,
        "why": change.why,
        "release": release,
        "added": str(len(after) - stayed),
        "removed": str(len(before) - stayed),
        "code_version": __version__,
        "taxonomy": json.dumps(taxonomy.to_dict(), ensure_ascii=False),
        "taxonomy_digest": taxonomy.digest,
        "split": json.dumps(dict(split), sort_keys=True),
    }
    samples_uri, videos_uri = (table_uri(location, "atlas", name) for name in ("samples", "videos"))
    try:
        with sole_writer(f"{location.rstrip('/')}/atlas"):
            known = history(location)[-1] if is_table(samples_uri) else None
            if (known.version if known else None) != (base.version if base else None):
                raise CommitFailedError(f"its newest version is {known.version if known else None}")
            if base is not None and tuple(base.videos) == tuple(videos):
                videos_version = known.videos_version
            else:
                newest = open_table(videos_uri).version() if is_table(videos_uri) else None
                videos_version = put(videos_uri, newest, VIDEO_SCHEMA, video_rows(location, videos), metadata)
            metadata["videos_version"] = str(videos_version)
            rows = None if base is not None and before == after else sample_rows(clips)
            return put(samples_uri, base.version if base else None, SAMPLE_SCHEMA, rows, metadata)
    except CommitFailedError as error:
        raise OutputError(
            f"the atlas at {location!r} was changed by another writer meanwhile ({told(error)}); nothing of this "
            "change was written: read it again and repeat"
        ) from error
    except (DeltaError, OSError) as error:
        raise OutputError(
            f"the atlas can't be written to {location!r}: {told(error)}; name a place you may write"
        ) from error


def identity(clip: Clip) -> tuple:
    """What makes two samples the same to a history or a comparison; confidence and annotator do not."""
    return (clip.video_id, clip.start_s, clip.stop_s, clip.task, clip.source, clip.caption, *sorted(clip.tags.items()))


def put(uri: str, base: int | None, schema: pa.Schema, rows: list[dict] | None, metadata: dict[str, str]) -> int:
    """Commits ``rows`` (None: the same ones again) as version ``base + 1``. Raises CommitFailedError when it exists."""
    properties = CommitProperties(custom_metadata=metadata, max_commit_retries=0)
    if base is None:
        try:
            write_deltalake(
                uri,
                pa.Table.from_pylist(rows, schema=schema),
                mode="error",
                configuration=KEPT_FOR_GOOD,
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
        commit_properties=properties,
    )
    return base + 1
