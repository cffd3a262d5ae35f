"""The store of vectors: one vector per window, written once, read by training and by every later mapping.

    <location>/<encoder name>/<sampling>/<video_id>/<start_ms>-<stop_ms>-<digest>.parquet
    <location>/<encoder name>/<sampling>/<video_id>_<generation>-…-<digest>.arrow

A path says what the vectors depend on: the encoder, the sampling of frames, the video. Each row says which window it is
(kind, start_s, stop_s). No file is ever changed. ``put`` writes a span file, so that each segment is safe as soon as it
is encoded. ``pack`` makes one packed file of all files of a video, and removes them once it can be seen. Whatever is
killed on the way leaves windows that are stored twice, and the next ``pack`` of that video clears them away. Any number
of writers, packers and readers may work at once (``vector_listing`` says why). An hour of 2.5-s windows at D = 1408
takes 4 MB.
"""

from __future__ import annotations

import os
import posixpath
import threading
import time
from collections import OrderedDict, deque
from collections.abc import Callable, Collection, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, TypeVar

import numpy as np
import pyarrow as pa
import pyarrow.fs

from halsted_ray.errors import OutputError, StorageUnavailable
from halsted_ray.records import PICTURES, WindowSpec
from halsted_ray.storage.files import (
    REQUESTS_AT_ONCE,
    file_sizes,
    list_folder,
    read_file,
    read_head,
    read_natively,
    remove_folder,
    write_atomically,
)
from halsted_ray.storage.locations import filesystem, is_local
from halsted_ray.storage.vector_files import (
    Span,
    StoredFile,
    VideoVectors,
    merged,
    packed_file,
    read_spans,
    read_vectors,
    span_file,
    stored_file,
)
from halsted_ray.storage.vector_files import WindowKey as WindowKey  # here is where other rooms find it
from halsted_ray.storage.vector_listing import VectorListing

if TYPE_CHECKING:
    import fsspec

Answer = TypeVar("Answer")

READERS = 8
"""Files that ``read_videos`` reads at once."""
AHEAD_WINDOWS = 100_000
"""Windows that ``read_videos`` holds in memory at most before they are taken: 280 MB at D = 1408."""
WINDOWS_A_SPAN_FILE = 64
"""A guess, since the name of a span file does not say it."""
PACKERS = 4
"""Videos that ``pack`` packs at once. Each holds its vectors twice: 9 MB for an hour at D = 1408."""
KEPT_BYTES = 32_000_000
"""Packed files that ``get`` keeps in memory, since segments of one video are asked for one after another."""
HEAD_BYTES = 65_536
"""Holds the schema of a packed file with a thousand spans."""
FEW_VIDEOS = 8
"""So many videos are listed one by one."""
PACKED_WITHIN_S = 60.0
"""For so long a video is listed again whose files another process packs while they are read. Removing the files of a
video-hour one by one takes some seconds on S3."""
PAUSE_S = 0.02
TRIES = 10
"""How often a span file is written whose folder is removed meanwhile."""
ABANDONED_S = 3600.0
"""After this time a part of a file that a killed process left is removed."""


def sampling_name(spec: WindowSpec, fidelity: str, eye: str = "left") -> str:
    """The name of everything beside its times that decides which frames a window has, and what is seen on them.

    ``fidelity`` is one of ``video.frames.FIDELITIES``, ``eye`` one of ``video.geometry.EYES``.
    """
    name = f"{fidelity}-{spec.coarse_s:g}-{spec.fine_s:g}-{spec.frames}-{PICTURES}"
    return name if eye == "left" else f"{name}-{eye}"


def spec_in(sampling: str) -> WindowSpec | None:
    """The lengths and frames of windows that a ``sampling_name`` states; None for a name of another form."""
    parts = sampling.split("-")
    try:
        return WindowSpec(float(parts[1]), float(parts[2]), int(parts[3]))
    except (IndexError, ValueError):
        return None


def encoder_name(fingerprint: str, precision: str) -> str:
    """The name of what computed vectors: the encoder's fingerprint, and the precision where that is not fp32.

    ``precision`` is one of ``model.precision.PRECISIONS``. A ``VectorStore`` is opened under this name.
    """
    return fingerprint if precision == "fp32" else f"{fingerprint}-{precision}"


def precision_in(name: str) -> str:
    """The precision that an ``encoder_name`` states."""
    return name.partition("-")[2] or "fp32"


def stored_precisions(location: str, fingerprint: str) -> list[str]:
    """The precisions of an encoder of which vectors lie at ``location``. Raises StorageUnavailable."""
    fs, root = filesystem(location)
    names = (path.rstrip("/").rsplit("/", 1)[-1] for path in list_folder(fs, root.rstrip("/")))
    return [precision_in(name) for name in sorted(names) if name.split("-")[0] == fingerprint]


@dataclass
class PackedAmount:
    """What ``VectorStore.pack`` did."""

    videos: int = 0
    windows: int = 0
    removed_files: int = 0


@dataclass(frozen=True)
class StoredAmount:
    """What one ``VectorStore`` holds."""

    encoder: str
    sampling: str
    videos: int
    packed_files: int
    packed_windows: int
    """Windows in packed files."""
    span_files: int
    """Files that are not packed. Their names do not say how many windows they hold."""
    size_bytes: int


class VectorStore:
    """The vectors of one encoder (``encoder_name``) over frames picked in one way (``sampling_name``), at a location.

    Threads may share it. A method raises StorageUnavailable where the store is away, and ModelError where files are of
    another encoder, sampling or video than their place says.
    """

    def __init__(self, location: str, encoder: str, sampling: str):
        self.location, self.encoder, self.sampling = location, encoder, sampling
        self.stamp = {b"encoder": encoder.encode(), b"sampling": sampling.encode()}
        self.fs, root = filesystem(location)
        self.root = f"{root.rstrip('/')}/{encoder}/{sampling}"
        self.listing = VectorListing(self.fs, self.root)
        self._kept: OrderedDict[str, VideoVectors] = OrderedDict()
        self._keeping = threading.Lock()

    def __reduce__(self) -> tuple[type[VectorStore], tuple[str, str, str]]:
        """Another process gets a store of its own, with nothing kept in memory."""
        return VectorStore, (self.location, self.encoder, self.sampling)

    def get(self, video_id: str, start_s: float, stop_s: float) -> dict[WindowKey, np.ndarray]:
        """WindowKey → float16 [D], for the stored windows of a video that begin in ``[start_s, stop_s)``.

        For many videos ``read_videos`` is faster.
        """

        def read(files: list[StoredFile]) -> dict[WindowKey, np.ndarray]:
            vectors: dict[WindowKey, np.ndarray] = {}
            for file in files:
                if file.start_s < stop_s and start_s < file.stop_s:
                    vectors |= self._open(file).between(start_s, stop_s)
            return vectors

        return self._with_files(video_id, read)

    def put(self, video_id: str, start_s: float, stop_s: float, vectors: dict[WindowKey, np.ndarray]) -> None:
        """Stores the vectors (float [D]) of windows that begin in ``[start_s, stop_s)``; all of them or none.

        Raises OutputError.
        """
        if not vectors:
            return
        name, data = span_file(self.stamp, start_s, stop_s, vectors)
        for tries_left in reversed(range(TRIES)):
            try:
                return write_atomically(self.fs, f"{self.root}/{video_id}/{name}", data)
            except OutputError as error:
                # Perhaps a packer has removed the folder, which was empty, before the file lay in it.
                if not tries_left or not isinstance(error.__cause__, FileNotFoundError):
                    raise

    def holds(self, video_id: str) -> list[Span]:
        """The spans [start_s, stop_s) of a video of which some windows are stored, told by a listing."""
        return self._with_files(video_id, self._spans)

    def holds_many(self, video_ids: Iterable[str]) -> dict[str, list[Span]]:
        """video_id → ``holds``, for each of ``video_ids``, told by few listings (``VectorListing.of_all``).

        A packed file with gaps between its spans is opened too, by a request for its first bytes.
        """
        files_of = self._files(video_ids)
        with ThreadPoolExecutor(REQUESTS_AT_ONCE) as pool:
            spans = pool.map(lambda item: self._with_files(item[0], self._spans, item[1]), files_of.items())
            return dict(zip(files_of, spans, strict=True))

    def read_videos(self, video_ids: Iterable[str] | None = None, readers: int = READERS) -> Iterator[VideoVectors]:
        """All stored vectors of each video that has some, in the order of ``video_ids`` (None: of every video, by id).

        Whole files are read ahead by ``readers`` threads, up to ``AHEAD_WINDOWS``. Vectors of a packed video lie where
        the file was read to; those of other videos are copied once.
        """
        waiting = deque((video_id, files) for video_id, files in self._files(video_ids).items() if files)
        reading: deque[tuple[int, Future[VideoVectors]]] = deque()
        ahead = 0
        with ThreadPoolExecutor(readers) as pool:
            try:
                while waiting or reading:
                    while waiting and (not reading or (ahead < AHEAD_WINDOWS and len(reading) < 4 * readers)):
                        video_id, files = waiting.popleft()
                        windows = sum(file.windows or WINDOWS_A_SPAN_FILE for file in files)
                        reading.append((windows, pool.submit(self._with_files, video_id, self._read, files)))
                        ahead += windows
                    windows, task = reading.popleft()
                    found = task.result()
                    ahead -= windows
                    if len(found):
                        yield found
            finally:
                pool.shutdown(wait=True, cancel_futures=True)

    def pack(
        self, video_ids: Iterable[str] | None = None, progress: Callable[[int, int], None] | None = None
    ) -> PackedAmount:
        """Makes one packed file of each of ``video_ids`` (None: of every video), where a video lies in several files.

        May be killed at any moment and repeated. ``progress`` is called with (videos done, videos to do). Raises
        OutputError.
        """
        files_of = self._files(video_ids)
        waiting = {video_id: files for video_id, files in files_of.items() if _is_loose(files)}
        amount = PackedAmount()
        with ThreadPoolExecutor(PACKERS) as pool:
            try:
                packed = pool.map(self._pack_video, waiting.keys(), waiting.values())
                for done, (windows, removed) in enumerate(packed, 1):
                    amount.videos += 1
                    amount.windows += windows
                    amount.removed_files += removed
                    if progress:
                        progress(done, len(waiting))
            finally:
                pool.shutdown(wait=True, cancel_futures=True)
        for video_id in files_of:
            self._remove_empty_folder(f"{self.root}/{video_id}")
        return amount

    def files(self) -> list[StoredFile]:
        """Every file of this store, video by video."""
        return [file for _, files in sorted(self.listing.of_all().items()) for file in files]

    def holds_any(self) -> bool:
        """Whether anything is stored."""
        return self.listing.holds_any()

    def amount(self) -> StoredAmount:
        """What is stored, told by listings alone."""
        sizes = file_sizes(self.fs, self.root)
        found = [(file, size) for path, size in sizes.items() if (file := stored_file(path)) is not None]
        packed = [file for file, _ in found if file.is_packed]
        return StoredAmount(
            self.encoder,
            self.sampling,
            len({file.video_id for file, _ in found}),
            len(packed),
            sum(file.windows for file in packed),
            len(found) - len(packed),
            sum(size for _, size in found),
        )

    def remove(self, video_ids: Collection[str]) -> None:
        """Removes everything that is stored of ``video_ids``. A file that can't be removed is left."""
        for video_id, files in self._files(video_ids).items():
            if files:
                self._remove(files)
                remove_folder(self.fs, f"{self.root}/{video_id}")

    def _pack_video(self, video_id: str, listed: list[StoredFile]) -> tuple[int, int]:
        """(windows, files removed) of one video that was packed. ``listed``: its files by rank; those that were added
        since are left for the next packing."""

        def pack(files: list[StoredFile]) -> tuple[int, int]:
            if not _is_loose(files):
                return 0, 0  # another process has packed it
            found = merged(video_id, self._fetch_all(files))
            newest = max((file for file in files if file.is_packed), key=lambda file: file.rank, default=None)
            if newest is None or newest.content != found.content():
                # A generation of its own: so no packer writes a file that another packer is about to remove.
                generation = max(file.generation for file in files) + 1
                name, data = packed_file(self.stamp, found, generation)
                write_atomically(self.fs, f"{self.root}/{name}", data)
                newest = None
            replaced = [file for file in files if file is not newest]
            self._remove(replaced)
            return len(found), len(replaced)

        return self._with_files(video_id, pack, listed)

    def _remove(self, files: list[StoredFile]) -> None:
        def remove(file: StoredFile) -> None:
            with suppress(OSError):  # another packer did it, or this store lets nothing be removed
                self.fs.rm_file(file.path)

        self._side_by_side(remove, files)

    def _remove_empty_folder(self, folder: str) -> None:
        """Removes the local ``folder`` of a video, unless a writer has put something there meanwhile."""
        if not is_local(self.fs):
            return
        with suppress(OSError):
            for entry in os.scandir(folder):
                if entry.name.startswith(".part-") and time.time() - entry.stat().st_mtime > ABANDONED_S:
                    os.unlink(entry.path)
            os.rmdir(folder)

    def _files(self, video_ids: Iterable[str] | None) -> dict[str, list[StoredFile]]:
        """video_id → its files by rank, in the order of ``video_ids`` (None: every video, by id)."""
        if video_ids is None:
            return dict(sorted(self.listing.of_all().items()))
        wanted = list(dict.fromkeys(video_ids))
        if len(wanted) <= FEW_VIDEOS:
            return {video_id: self.listing.of_video(video_id) for video_id in wanted}
        found = self.listing.of_all()
        return {video_id: found.get(video_id, []) for video_id in wanted}

    def _with_files(
        self, video_id: str, use: Callable[[list[StoredFile]], Answer], files: list[StoredFile] | None = None
    ) -> Answer:
        """``use(files)`` with the video's files by rank (``files``, or those of a listing); again with the files of a
        new listing where another process has packed them meanwhile."""
        began_s = time.monotonic()
        while True:
            try:
                return use(self.listing.of_video(video_id) if files is None else files)
            except FileNotFoundError:
                files = None
            if time.monotonic() - began_s > PACKED_WITHIN_S:
                raise StorageUnavailable(
                    f"the files with vectors of video {video_id} at {self.root!r} went on being replaced for "
                    f"{PACKED_WITHIN_S:g} s while they were read; run again when no other process packs them"
                )
            time.sleep(PAUSE_S)

    def _spans(self, files: list[StoredFile]) -> list[Span]:
        spans: list[Span] = []
        for file in files:
            spans += [(file.start_s, file.stop_s)] if file.runs == 1 else self._stated_spans(file)
        return sorted(spans)

    def _stated_spans(self, file: StoredFile) -> list[Span]:
        try:
            return read_spans(file, read_head(self.fs, file.path, HEAD_BYTES), self.stamp, self.root)
        except pa.ArrowInvalid:
            return self._fetch(file).spans

    def _read(self, files: list[StoredFile]) -> VideoVectors:
        parts = self._fetch_all(files)
        return parts[0] if len(parts) == 1 and files[0].is_packed else merged(files[0].video_id, parts)

    def _open(self, file: StoredFile) -> VideoVectors:
        """The vectors in a file; a packed file is kept in memory for the next call."""
        if not file.is_packed:
            return self._fetch(file)
        with self._keeping:
            if file.path in self._kept:
                self._kept.move_to_end(file.path)
                return self._kept[file.path]
        found = self._fetch(file)
        with self._keeping:
            self._kept[file.path] = found
            while len(self._kept) > 1 and sum(kept.vectors_ND.nbytes for kept in self._kept.values()) > KEPT_BYTES:
                self._kept.popitem(last=False)
        return found

    def _fetch_all(self, files: list[StoredFile]) -> list[VideoVectors]:
        return self._side_by_side(self._fetch, files)

    def _side_by_side(self, do: Callable[[StoredFile], Answer], files: list[StoredFile]) -> list[Answer]:
        """``do`` of each file in order; at a remote store several at once, since each is a request."""
        if is_local(self.fs) or len(files) < 2:
            return [do(file) for file in files]
        with ThreadPoolExecutor(min(REQUESTS_AT_ONCE, len(files))) as pool:
            return list(pool.map(do, files))

    def _fetch(self, file: StoredFile) -> VideoVectors:
        data = read_natively(self._native, file.path) if self._native else read_file(self.fs, file.path)
        return read_vectors(file, data, self.stamp, self.root)

    @cached_property
    def _native(self) -> pa.fs.S3FileSystem | None:
        """Arrow's own client, where the store lies on S3: its threads need no interpreter, so it reads twice as fast as
        fsspec's on two cores, and more on more."""
        if is_local(self.fs):
            return None
        from halsted_ray.storage.delta import native_s3  # here, since it imports deltalake

        return native_s3(self.location)


def stores_at(location: str) -> list[VectorStore]:
    """Every store at ``location``: one for each encoder and sampling. Raises StorageUnavailable."""
    fs, root = filesystem(location)
    return [
        VectorStore(location, posixpath.basename(encoder), posixpath.basename(sampling))
        for encoder in _folders(fs, root.rstrip("/"))
        for sampling in _folders(fs, encoder)
    ]


def _folders(fs: fsspec.AbstractFileSystem, folder: str) -> list[str]:
    paths = sorted(path.rstrip("/") for path in list_folder(fs, folder))
    return [path for path in paths if path != folder and not posixpath.basename(path).startswith(".")]


def _is_loose(files: list[StoredFile]) -> bool:
    """Whether there is something to pack."""
    return len(files) > 1 or any(not file.is_packed for file in files)
