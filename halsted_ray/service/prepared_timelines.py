"""The texts of timelines and of stitches, prepared once per published version of a map, also compressed.

Reading the table, ordering it and writing it as text took a quarter of a second for a case of two hours. What is kept
is named by the table's id and version, so a map that changed, or was deleted and made again, is prepared again. What
holds stitches is named by their rule, too: a client that has them by an earlier rule gets those of today.
"""

from __future__ import annotations

import gzip
import json
import threading
from collections import OrderedDict
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from halsted_ray.maps import stitches
from halsted_ray.maps.exports import Row, canonical_rows
from halsted_ray.maps.stitch_table import video_json, write_csv
from halsted_ray.records import JsonObject
from halsted_ray.service.case_timelines import read_case_map, render_case_stitches, render_case_timeline, version_of
from halsted_ray.service.library import LibraryCase
from halsted_ray.service.proficiency import hidden_tags
from halsted_ray.service.videos import Videos, render_timeline
from halsted_ray.taxonomy import Taxonomy

STITCHES = "stitches"
"""The kind of text that holds stitches, as json or csv."""
KEPT_BYTES = 64 * 1024 * 1024
"""So many bytes of prepared texts one replica keeps; the longest unused go first."""


@dataclass(frozen=True)
class PreparedTimeline:
    """One timeline in one format. ``etag``: the name of this content, as the header ETag holds it."""

    etag: str
    text: bytes
    compressed: bytes

    def is_known(self, if_none_match: str) -> bool:
        """Whether the header If-None-Match says that the client has this content."""
        known = {tag.strip() for tag in if_none_match.split(",")}
        return bool(known & {self.etag, self.etag.removeprefix("W/"), "*"})


def _rule(kind: str) -> str:
    """What an ETag says of the rule by which stitches are found; nothing for timelines, which have none."""
    return f"-{stitches.rule_name()}" if kind == STITCHES else ""


class PreparedTimelines:
    """The timelines of ``videos`` as texts. Many threads may ask at once. ``served``: as of ``Videos.stitches``."""

    def __init__(self, videos: Videos, served: Callable[[], Taxonomy], kept_bytes: int = KEPT_BYTES) -> None:
        self.videos, self.served, self.kept_bytes = videos, served, kept_bytes
        self._kept: OrderedDict[tuple[str, ...], PreparedTimeline] = OrderedDict()
        self._bytes, self._lock = 0, threading.Lock()

    def get(
        self,
        tenant_id: str,
        video_id: str,
        format: str,
        kind: str,
        span: tuple[float, float] | None = None,
        is_unrated: bool = False,
    ) -> PreparedTimeline:
        """The timeline as ``format`` (``videos.FORMATS``); ``kind`` is for WebVTT, or ``STITCHES``. ``span``: only what
        lies in this [start_s, stop_s) of the timeline, cut at its ends. ``is_unrated``: without the rows that
        say how well something was done. Raises NotFound where there is none, StateConflict as ``Videos.stitches``."""
        version = self.videos.timeline_version(tenant_id, video_id)
        part = "" if span is None else f"-{span[0]}-{span[1]}"
        part += "-unrated" if is_unrated else ""
        return self._kept_or_made(
            (tenant_id, video_id, format, kind, part),
            f'W/"{version}-{format}-{kind}{part}{_rule(kind)}"',
            lambda: self._text(tenant_id, video_id, format, kind, span, is_unrated),
            lambda: self.videos.timeline_version(tenant_id, video_id) == version,
        )

    def of_case(self, case: LibraryCase, format: str, kind: str, head: JsonObject) -> PreparedTimeline:
        """The same of a case on one axis over its files, as its caller may see them; ``head``: what JSON has besides
        its rows. Raises NotMapped where none of them has a map, StateConflict as ``Videos.stitches``."""
        version = version_of(self.videos, case)

        def text() -> str:
            found = read_case_map(self.videos, case)
            if kind == STITCHES:
                return render_case_stitches(found, format, self.served)
            return render_case_timeline(found, head, format, kind)

        # Two callers may see different files, and so may have different texts of one case.
        return self._kept_or_made(
            (case.files[0].video.tenant_id, case.case_id, format, kind, version),
            f'W/"{version}-{format}-{kind}{_rule(kind)}"',
            text,
            lambda: version_of(self.videos, case) == version,
        )

    def _kept_or_made(
        self, name: tuple[str, ...], etag: str, text: Callable[[], str], is_current: Callable[[], bool]
    ) -> PreparedTimeline:
        with self._lock:
            found = self._kept.get(name)
            if found is not None and found.etag == etag:
                self._kept.move_to_end(name)
                return found
        made = text().encode()
        prepared = PreparedTimeline(etag, made, gzip.compress(made, 6, mtime=0))
        # Where a map was published again meanwhile, the text may be newer than its name: it is used and not kept.
        if is_current():
            self._keep(name, prepared)
        return prepared

    def drop_gone(self) -> int:
        """Drops the texts of videos that were deleted, and those of all cases, and returns how many: also of those for
        which nobody asks any more, which would stay in this process's memory."""
        with self._lock:
            kept = {name[:2] for name in self._kept}
        gone = kept - self.videos.among(kept)
        with self._lock:
            names = [name for name in self._kept if name[:2] in gone]
            self._bytes -= sum(size_of(self._kept.pop(name)) for name in names)
        return len(names)

    def _text(
        self,
        tenant_id: str,
        video_id: str,
        format: str,
        kind: str,
        span: tuple[float, float] | None,
        is_unrated: bool,
    ) -> str:
        assert not (kind == STITCHES and is_unrated), "no link gives stitches"
        if kind == STITCHES:
            found = self.videos.stitches(tenant_id, video_id, self.served)
            return write_csv([found]) if format == "csv" else json.dumps(video_json(found), ensure_ascii=False)
        timeline = self.videos.timeline(tenant_id, video_id)
        hidden = hidden_tags(timeline, self.served) if is_unrated else frozenset()
        rows = [row for row in canonical_rows(timeline) if row["tag"] not in hidden]
        if span is not None:
            rows = rows_within(rows, *span)
        if format == "json":
            return json.dumps({"video_id": video_id, "rows": rows}, ensure_ascii=False)
        return render_timeline(rows, format, kind)

    def _keep(self, name: tuple[str, ...], prepared: PreparedTimeline) -> None:
        with self._lock:
            before = self._kept.pop(name, None)
            self._kept[name] = prepared
            self._bytes += size_of(prepared) - (size_of(before) if before else 0)
            while self._bytes > self.kept_bytes:
                self._bytes -= size_of(self._kept.popitem(last=False)[1])


def rows_within(rows: Iterable[Row], start_s: float, stop_s: float) -> list[Row]:
    """The rows of a timeline that lie in [start_s, stop_s), cut at its ends."""
    return [
        {**row, "start_s": max(row["start_s"], start_s), "end_s": min(row["end_s"], stop_s)}
        for row in rows
        if row["start_s"] < stop_s and row["end_s"] > start_s
    ]


def size_of(prepared: PreparedTimeline) -> int:
    """Bytes of memory, about."""
    return len(prepared.text) + len(prepared.compressed)
