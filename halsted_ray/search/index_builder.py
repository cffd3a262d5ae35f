"""The steps of making an index: sample, centres, parts, merging (``index_build`` says when)."""

from __future__ import annotations

import os
import random
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Protocol

import numpy as np

from halsted_ray.errors import ModelError, UsageError
from halsted_ray.search.centres import centres_of, choose_centres, nearest_centres, write_centres
from halsted_ray.search.index_manifest import IndexPart, Manifest, content_of
from halsted_ray.search.index_parts import (
    MomentRows,
    coded,
    file_digest,
    merged_lists,
    open_parts,
    sorted_by_list,
    write_part,
)
from halsted_ray.search.moments import VideoMoments, moments_of, unit
from halsted_ray.storage.files import move_file
from halsted_ray.storage.vector_files import VideoVectors
from halsted_ray.storage.vectors import VectorStore

CHUNK_ROWS = 400_000
"""Moments in memory at once: 154 MB of codes and 307 MB while they are assigned, at D = 192."""
ROWS_A_LIST = 500
MOST_LISTS = 2048
SAMPLE_A_LIST = 64
"""Moments of the sample per centre."""
SAMPLE_VIDEOS = 400
"""The sample is taken from so many videos."""
ROUNDS = 10
MOST_PARTS = 8
"""An index with more parts is merged: each part costs a request per list at a remote store."""
Progress = Callable[[int, int], None]
"""Called with (videos done, videos to do)."""


class Projection(Protocol):
    """How the stored vectors of a video become moments. ``name``: names the index."""

    @property
    def name(self) -> str:
        """The name of the index's folder."""
        ...

    @property
    def is_centred(self) -> bool:
        """Whether what all vectors have in common is taken from each."""
        ...

    def moments(self, found: VideoVectors) -> VideoMoments:
        """The moments of one video."""
        ...

    def fits(self, store: VectorStore) -> bool:
        """Whether the vectors of a store are those that this projection is for."""
        ...

    def check(self, store: VectorStore) -> None:
        """Raises ModelError where the vectors of a store are not those that this projection is for."""
        ...


@dataclass(frozen=True)
class ByExample:
    """Moments as they are stored, for questions by example."""

    name: str = "like"
    is_centred: bool = True

    def moments(self, found: VideoVectors) -> VideoMoments:
        """The moments of one video (``moments_of``)."""
        return moments_of(found)

    def fits(self, store: VectorStore) -> bool:
        """Vectors of every encoder fit."""
        return True

    def check(self, store: VectorStore) -> None:
        """Vectors of every encoder fit."""


@dataclass(frozen=True)
class Refreshed:
    """What ``refresh`` did. ``made_anew``: the whole index was made, with new centres."""

    name: str
    videos: int
    moments: int
    added: int
    removed: int
    made_anew: bool


@dataclass(frozen=True)
class IndexBuilder:
    """Makes files of the index at ``place`` in ``folder``, which is on this machine, and moves them there."""

    store: VectorStore
    projection: Projection
    place: str
    folder: Path
    progress: Progress

    def make(self, video_ids: list[str]) -> tuple[Refreshed, Manifest]:
        """A whole index of ``video_ids``."""
        sample_ND, estimate = self._sample(video_ids)
        mean_D = (sample_ND.mean(0, dtype=np.float64) * self.projection.is_centred).astype(np.float32)
        lists = max(1, min(MOST_LISTS, estimate // ROWS_A_LIST))
        centres_LD = choose_centres(unit(sample_ND - mean_D), lists)
        path = self.folder / "centres"
        write_centres(str(path), centres_LD)
        name, _, _ = self._publish(path, "centres")
        manifest = Manifest(
            self.store.encoder,
            self.store.sampling,
            len(mean_D),
            lists,
            mean_D.tolist(),
            0,
            name,
        )
        parts = self._add(manifest, centres_LD, video_ids)
        manifest = replace(manifest, parts=parts)
        manifest = replace(manifest, trained_rows=manifest.rows)
        videos = sum(len(part.videos) for part in parts)
        return Refreshed(self.projection.name, videos, manifest.rows, videos, 0, True), manifest

    def change(self, before: Manifest, stored: dict[str, str]) -> tuple[Refreshed, Manifest]:
        """``before``, with what changed in the store since. ``stored``: as ``stored_contents``."""
        known = before.contents()
        stale = {video for video, content in known.items() if stored.get(video) != content}
        new = sorted(video for video, content in stored.items() if known.get(video) != content)
        kept = [part for part in before.parts if not stale & set(part.videos)]
        touched = [part for part in before.parts if stale & set(part.videos)]
        parts = kept + [part for one in touched for part in self._merge(before, [one], stale)]
        if new:
            centres_LD = centres_of(self.place, before)
            parts += self._add(before, centres_LD, new)
        if len(parts) > MOST_PARTS:
            parts = self._merge(before, parts, set())
        manifest = replace(before, parts=parts)
        videos = sum(len(part.videos) for part in parts)
        removed = len(stale - set(stored))
        return Refreshed(self.projection.name, videos, manifest.rows, len(new), removed, False), manifest

    def _sample(self, video_ids: list[str]) -> tuple[np.ndarray, int]:
        """(moments float32 [N, D] of some videos, about how many moments all videos have)."""
        chosen = random.Random(0).sample(video_ids, min(SAMPLE_VIDEOS, len(video_ids)))
        found = [moments.vectors_MD for moments in self._moments(chosen) if len(moments)]
        if not found:
            raise UsageError("the store holds no windows of a video's grid to index; make some with halsted embed")
        sample_ND = np.concatenate(found)
        estimate = round(len(sample_ND) * len(video_ids) / len(chosen))
        most = SAMPLE_A_LIST * MOST_LISTS
        if len(sample_ND) > most:
            sample_ND = sample_ND[np.sort(np.random.default_rng(0).choice(len(sample_ND), most, replace=False))]
        return sample_ND, estimate

    def _moments(self, video_ids: list[str]) -> Iterator[VideoMoments]:
        for found in self.store.read_videos(video_ids):
            yield self.projection.moments(found)

    def _add(self, manifest: Manifest, centres_LD: np.ndarray, video_ids: list[str]) -> list[IndexPart]:
        """The moments of ``video_ids`` as one part."""
        chunks: list[IndexPart] = []
        rows: list[MomentRows] = []
        lists: list[np.ndarray] = []
        names: list[str] = []
        contents: list[str] = []
        held_rows = 0

        def flush() -> None:
            if rows:
                path = self.folder / f"chunk-{len(chunks)}"
                listed = sorted_by_list(MomentRows.joined(rows), np.concatenate(lists), manifest.lists)
                count = write_part(str(path), manifest.dim, listed)
                chunks.append(IndexPart(str(path), path.stat().st_size, "", count, [*names], [*contents]))
            for held in (rows, lists, names, contents):
                held.clear()

        listed = self.store.listing.of_all()  # a video that is deleted meanwhile is not among those that are read
        for done, moments in enumerate(self._moments(video_ids), 1):
            if moments.vectors_MD.shape[1] != manifest.dim:
                raise ModelError(
                    f"video {moments.video_id}: its vectors have width {moments.vectors_MD.shape[1]}, expected "
                    f"{manifest.dim} as in the index; delete the folder .search beside the vectors"
                )
            unit_MD = unit(moments.vectors_MD - manifest.mean_D)
            names.append(moments.video_id)
            contents.append(content_of(listed.get(moments.video_id, [])))
            lists.append(nearest_centres(unit_MD, centres_LD))
            rest_MD = unit_MD - centres_LD[lists[-1]]
            rows.append(coded(len(names) - 1, moments.start_s_M, moments.stop_s_M, rest_MD))
            held_rows += len(rest_MD)
            if held_rows >= CHUNK_ROWS:
                flush()
                held_rows = 0
            self.progress(done, len(video_ids))
        flush()
        return self._merge(manifest, chunks, set()) if chunks else []

    def _merge(self, manifest: Manifest, parts: list[IndexPart], without: set[str]) -> list[IndexPart]:
        """``parts`` as one, without some videos; no part where nothing is left."""
        videos: list[str] = []
        contents: list[str] = []
        number_of = []
        for part in parts:
            numbers = np.full(len(part.videos), -1, np.int32)
            for number, (video, content) in enumerate(zip(part.videos, part.contents, strict=True)):
                if video not in without:
                    numbers[number] = len(videos)
                    videos.append(video)
                    contents.append(content)
            number_of.append(numbers)
        if not videos:
            return []
        path = self.folder / "merged"
        with ExitStack() as stack:
            opened = open_parts(
                stack, [(self._location(part), part.size_bytes) for part in parts], manifest.dim, manifest.lists
            )
            count = write_part(str(path), manifest.dim, merged_lists(opened, number_of, manifest.lists))
        name, digest, size_bytes = self._publish(path, "part")
        for part in parts:
            if not part.digest:
                os.unlink(part.name)
        return [IndexPart(name, size_bytes, digest, count, videos, contents)]

    def _location(self, part: IndexPart) -> str:
        return f"{self.place}/{part.name}" if part.digest else part.name

    def _publish(self, path: Path, what: str) -> tuple[str, str, int]:
        """Moves a finished file to the index: (its name, the digest of its content, bytes)."""
        with path.open("rb") as file:
            digest = file_digest(file)
        name, size_bytes = f"{digest}.{what}.arrow", path.stat().st_size
        move_file(str(path), f"{self.place}/{name}")
        return name, digest, size_bytes
