"""Rows follow their files: a file that was replaced leaves no rows of what it held before, and the rows of a file that
was moved carry its new name."""

from __future__ import annotations

from collections.abc import Collection, Mapping

import pyarrow as pa

from halsted_ray.maps.commits import commit_rows, delete_rows, sql_in
from halsted_ray.maps.packet_indexes import PacketIndexes
from halsted_ray.maps.reading import read_table
from halsted_ray.maps.staging import stagings
from halsted_ray.maps.table_schemas import ArchiveFile
from halsted_ray.storage.delta import is_table, table_uri
from halsted_ray.storage.vectors import stores_at

VIDEOS_A_COMMIT = 1_000
"""Videos whose rows are rewritten at once: an hour of video has some thousand rows."""
Entries = Mapping[str, ArchiveFile]
"""uri → entry."""


def drop_former_content(out: str, before: Entries, after: Entries) -> None:
    """Removes what is kept of videos of which no file is left in ``after``: rows, staged results, indexes and vectors.

    Vectors are removed in ``<out>/embeddings`` alone, since a place of their own may serve other maps too. Earlier
    versions of the Delta tables still hold the rows. Raises OutputError.
    """
    former = {entry.video.video_id for entry in before.values()} - {entry.video.video_id for entry in after.values()}
    if not former:
        return
    for name in ("timeline", "segments"):
        with_rows = sorted(_ids_in(out, name, former))
        if with_rows:
            delete_rows(table_uri(out, name), sql_in("video_id", with_rows))
    for staging in stagings(out):
        staging.drop(sorted(former & set(staging.states())), run_goes_on=True)
    PacketIndexes(out).drop(former)
    for store in stores_at(f"{out.rstrip('/')}/embeddings"):
        store.remove(former)


def follow_moved_files(out: str, before: Entries, after: Entries) -> None:
    """Writes the file that stands for a video in ``after`` into the rows of the timeline, where it stood for another
    in ``before``: one commit for VIDEOS_A_COMMIT videos. Raises OutputError."""
    earlier, now = _mapped_uris(before), _mapped_uris(after)
    moved = {video_id: uri for video_id, uri in now.items() if earlier.get(video_id, uri) != uri}
    video_ids = sorted(_ids_in(out, "timeline", moved))
    for first in range(0, len(video_ids), VIDEOS_A_COMMIT):
        chunk = video_ids[first : first + VIDEOS_A_COMMIT]
        rows = read_table(out, "timeline", filters=[("video_id", "in", chunk)])
        assert rows is not None
        uris = pa.array([moved[video_id] for video_id in rows["video_id"].to_pylist()], pa.string())
        rows = rows.set_column(rows.schema.get_field_index("uri"), "uri", uris)
        commit_rows(table_uri(out, "timeline"), rows, replaced=sql_in("video_id", chunk))


def ids_with_rows(out: str, video_ids: Collection[str]) -> set[str]:
    """Those of ``video_ids`` of which segments are published."""
    return _ids_in(out, "segments", video_ids)


def _ids_in(out: str, name: str, video_ids: Collection[str]) -> set[str]:
    """Those of ``video_ids`` that have rows in a table."""
    if not video_ids or not is_table(table_uri(out, name)):
        return set()
    rows = read_table(out, name, ["video_id"], [("video_id", "in", sorted(video_ids))])
    return set(rows["video_id"].unique().to_pylist()) if rows is not None else set()


def _mapped_uris(entries: Entries) -> dict[str, str]:
    """video_id → the uri of the file that stands for it."""
    return {entry.video.video_id: uri for uri, entry in entries.items() if not entry.copy_of}
