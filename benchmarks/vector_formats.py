"""Which files hold vectors best: writes the vectors of many video-hours in each form, reads them back, adds to them.

    python benchmarks/vector_formats.py /tmp/place --hours 500
    python benchmarks/vector_formats.py s3://bucket/place --hours 100 --forms video-arrow,pack-arrow

A video-hour is 1,560 vectors (26 windows per minute) of float16 [D]. "cold": the files' pages were dropped from this
machine's cache before reading; a store's own cache is left as it is. "raw": the same files' bytes, fetched by as many
threads and looked at by nobody. The form ``lance`` needs the package pylance, which this project does not depend on.
Prints one line of JSON per form.
"""

from __future__ import annotations

import argparse
import io
import json
import os
import shutil
import statistics
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor

import fsspec
import numpy as np
import pyarrow as pa
import pyarrow.fs
import pyarrow.parquet as pq

PER_MINUTE, MINUTES, DIM = 26, 60, 1408
READERS = 8
VIDEOS_A_PACK = 16
ROUNDS = 3


def minute_of(video: int, minute: int, rng: np.random.Generator) -> pa.Table:
    """The rows of one minute of a video: 2 coarse and 24 fine windows."""
    starts_s = minute * 60 + np.concatenate([np.arange(2) * 30.0, np.arange(24) * 2.5])
    kinds = ["coarse"] * 2 + ["fine"] * 24
    lengths_s = np.array([30.0] * 2 + [2.5] * 24)
    bits = rng.integers(0, 0x7C00, (PER_MINUTE, DIM), np.uint16)  # any finite float16: nothing to compress
    return table_of(f"{video:016x}", kinds, starts_s, starts_s + lengths_s, bits.view(np.float16))


def table_of(
    video_id: str, kinds: list[str], starts_s: np.ndarray, stops_s: np.ndarray, rows_ND: np.ndarray
) -> pa.Table:
    vectors = pa.FixedSizeListArray.from_arrays(pa.array(rows_ND.ravel()), DIM)
    return pa.table(
        {
            "video_id": pa.array([video_id] * len(kinds)).dictionary_encode(),
            "kind": kinds,
            "start_s": starts_s,
            "stop_s": stops_s,
            "vector": vectors,
        }
    ).combine_chunks()


def matrix(table: pa.Table) -> np.ndarray:
    """float16 [N, D] of a table, without a copy where the column has one chunk."""
    column = table["vector"]
    column = column.chunk(0) if column.num_chunks == 1 else column.combine_chunks()  # which copies one chunk too
    if pa.types.is_fixed_size_binary(column.type):
        flat = np.frombuffer(column.buffers()[1], np.float16, len(column) * DIM, column.offset * DIM * 2)
        return flat.reshape(-1, DIM)
    return column.flatten().to_numpy(zero_copy_only=False).reshape(-1, DIM)


def touched(rows_ND: np.ndarray) -> int:
    """Bytes of a matrix, after one value per page was read: a mapped file is not read before."""
    rows_ND.reshape(-1)[:: 4096 // 2].view(np.uint16).max()
    return rows_ND.nbytes


class Files:
    """Files in one folder, read by Arrow's own file systems."""

    def __init__(self, place: str):
        self.fs, self.root = pyarrow.fs.FileSystem.from_uri(place if "://" in place else f"file://{place}")
        self.remote, _ = fsspec.core.url_to_fs(place)

    def put(self, name: str, data: pa.Buffer | bytes) -> None:
        path = f"{self.root}/{name}"
        if not self.is_local:  # by fsspec: Arrow's client sends parts without their length, which some stores refuse
            self.remote.pipe_file(path, bytes(data))
            return
        os.makedirs(os.path.dirname(path), exist_ok=True)
        with self.fs.open_output_stream(path) as file:
            file.write(data)

    def get(self, name: str) -> pa.Buffer:
        with self.fs.open_input_file(f"{self.root}/{name}") as file:
            return file.read_buffer()

    def names(self) -> list[str]:
        found = self.fs.get_file_info(pyarrow.fs.FileSelector(self.root, recursive=True, allow_not_found=True))
        return sorted(os.path.relpath(info.path, self.root) for info in found if info.is_file)

    def size(self) -> int:
        found = self.fs.get_file_info(pyarrow.fs.FileSelector(self.root, recursive=True, allow_not_found=True))
        return sum(info.size for info in found if info.is_file)

    @property
    def is_local(self) -> bool:
        return isinstance(self.fs, pyarrow.fs.LocalFileSystem)

    def cool(self) -> None:
        """Drops the files' pages from this machine's cache."""
        if not self.is_local:
            return
        os.sync()
        for name in self.names():
            handle = os.open(f"{self.root}/{name}", os.O_RDONLY)
            os.posix_fadvise(handle, 0, 0, os.POSIX_FADV_DONTNEED)
            os.close(handle)

    def remove(self) -> None:
        if self.is_local:
            shutil.rmtree(self.root, ignore_errors=True)
        else:
            with ThreadPoolExecutor(READERS) as pool:
                list(pool.map(lambda name: self.fs.delete_file(f"{self.root}/{name}"), self.names()))


class Form:
    """One way to keep vectors; ``videos`` videos of an hour each."""

    def __init__(self, place: str, videos: int):
        self.files, self.videos, self.place = Files(place), videos, place

    def write(self) -> None:
        raise NotImplementedError

    def parts(self) -> list[str]:
        """What ``read`` takes, one after another or side by side."""
        return self.files.names()

    def read(self, part: str) -> int:
        """Reads one part; its bytes of vectors."""
        raise NotImplementedError

    def read_video(self, video: int) -> int:
        raise NotImplementedError

    def append(self, video: int) -> None:
        """Adds one minute to a video that is there, and leaves it as one part where the form has one part a video."""
        raise NotImplementedError


def parquet(table: pa.Table, binary: bool) -> pa.Buffer:
    if binary:
        column = table["vector"].combine_chunks()
        column = column.chunk(0) if isinstance(column, pa.ChunkedArray) else column
        flat = column.flatten()
        table = table.set_column(
            4, "vector", pa.FixedSizeBinaryArray.from_buffers(pa.binary(DIM * 2), len(table), [None, flat.buffers()[1]])
        )
    out = pa.BufferOutputStream()
    pq.write_table(table, out, compression="none", use_dictionary=["kind", "video_id"], write_statistics=False)
    return out.getvalue()


def arrow(tables: list[pa.Table]) -> pa.Buffer:
    out = pa.BufferOutputStream()
    with pa.ipc.new_file(out, tables[0].schema) as writer:
        for table in tables:
            writer.write_table(table.combine_chunks())
    return out.getvalue()


def hour_of(video: int) -> pa.Table:
    rng = np.random.default_rng(video)
    return (
        pa.concat_tables([minute_of(video, minute, rng) for minute in range(MINUTES)], promote_options="none")
        .unify_dictionaries()
        .combine_chunks()
    )


class SegmentParquet(Form):
    """One Parquet file per minute, as a mapping puts them down: with Parquet's default settings."""

    def write(self) -> None:
        def one(video: int) -> None:
            rng = np.random.default_rng(video)
            for minute in range(MINUTES):
                self._put(video, minute, minute_of(video, minute, rng))

        with ThreadPoolExecutor(READERS) as pool:
            list(pool.map(one, range(self.videos)))

    def _put(self, video: int, minute: int, table: pa.Table) -> None:
        data = io.BytesIO()
        pq.write_table(table, data)
        self.files.put(f"{video:016x}/{minute:04d}.parquet", data.getvalue())

    def read(self, part: str) -> int:
        return touched(matrix(pq.read_table(pa.BufferReader(self.files.get(part)), use_threads=False)))

    def read_video(self, video: int) -> int:
        return sum(self.read(f"{video:016x}/{minute:04d}.parquet") for minute in range(MINUTES))

    def append(self, video: int) -> None:
        self._put(video, MINUTES, minute_of(video, MINUTES, np.random.default_rng(0)))


class VideoParquet(SegmentParquet):
    """One Parquet file per video, plain and uncompressed, vectors as lists of half floats."""

    binary = False

    def write(self) -> None:
        with ThreadPoolExecutor(2) as pool:
            list(pool.map(lambda video: self._put_video(video, hour_of(video)), range(self.videos)))

    def _put_video(self, video: int, table: pa.Table) -> None:
        self.files.put(f"{video:016x}.parquet", parquet(table, self.binary))

    def read_video(self, video: int) -> int:
        return self.read(f"{video:016x}.parquet")

    def append(self, video: int) -> None:
        table = pq.read_table(pa.BufferReader(self.files.get(f"{video:016x}.parquet")))
        table = table_of(
            f"{video:016x}",
            table["kind"].to_pylist(),
            table["start_s"].to_numpy(),
            table["stop_s"].to_numpy(),
            np.ascontiguousarray(matrix(table)),
        )
        self._put_video(video, pa.concat_tables([table, minute_of(video, MINUTES, np.random.default_rng(0))]))


class VideoParquetBinary(VideoParquet):
    """The same, a vector as fixed-size binary."""

    binary = True


class VideoArrow(Form):
    """One Arrow IPC file per video, read into memory."""

    def write(self) -> None:
        with ThreadPoolExecutor(2) as pool:
            list(
                pool.map(
                    lambda video: self.files.put(f"{video:016x}.arrow", arrow([hour_of(video)])), range(self.videos)
                )
            )

    def read(self, part: str) -> int:
        return touched(matrix(pa.ipc.open_file(self.files.get(part)).read_all()))

    def read_video(self, video: int) -> int:
        return self.read(f"{video:016x}.arrow")

    def append(self, video: int) -> None:
        table = pa.ipc.open_file(self.files.get(f"{video:016x}.arrow")).read_all()
        added = pa.concat_tables([table, minute_of(video, MINUTES, np.random.default_rng(0))])
        self.files.put(f"{video:016x}.arrow", arrow([added.unify_dictionaries().combine_chunks()]))


class VideoArrowMapped(VideoArrow):
    """The same, mapped into memory (on a disk only)."""

    def read(self, part: str) -> int:
        return touched(matrix(pa.ipc.open_file(pa.memory_map(f"{self.files.root}/{part}")).read_all()))


class VideoArrowByFsspec(VideoArrow):
    """The same, read by fsspec's file system instead of Arrow's."""

    def read(self, part: str) -> int:
        data = self.files.remote.cat_file(f"{self.files.root}/{part}")
        return touched(matrix(pa.ipc.open_file(pa.py_buffer(data)).read_all()))


class PackArrow(Form):
    """Arrow IPC files of many videos, a record batch per video. Adding puts down a small file."""

    def write(self) -> None:
        for first in range(0, self.videos, VIDEOS_A_PACK):
            hours = [
                hour_of(video).cast(self._schema()) for video in range(first, min(first + VIDEOS_A_PACK, self.videos))
            ]
            self.files.put(f"{first // VIDEOS_A_PACK:06d}.arrow", arrow(hours))

    def _schema(self) -> pa.Schema:
        schema = hour_schema()
        return schema.set(0, pa.field("video_id", pa.string()))

    def read(self, part: str) -> int:
        reader = pa.ipc.open_file(self.files.get(part))
        return sum(
            touched(matrix(pa.Table.from_batches([reader.get_batch(number)])))
            for number in range(reader.num_record_batches)
        )

    def read_video(self, video: int) -> int:
        with self.files.fs.open_input_file(f"{self.files.root}/{video // VIDEOS_A_PACK:06d}.arrow") as file:
            batch = pa.ipc.open_file(file).get_batch(video % VIDEOS_A_PACK)
            return touched(matrix(pa.Table.from_batches([batch])))

    def append(self, video: int) -> None:
        self.files.put(f"{video:016x}-more.arrow", arrow([minute_of(video, MINUTES, np.random.default_rng(0))]))


def hour_schema() -> pa.Schema:
    return minute_of(0, 0, np.random.default_rng(0)).schema


class Lance(Form):
    """One Lance data set; a scalar index on the video's id."""

    def write(self) -> None:
        import lance

        schema = hour_schema().set(0, pa.field("video_id", pa.string()))
        batches = (hour_of(video).cast(schema).to_batches()[0] for video in range(self.videos))
        lance.write_dataset(pa.RecordBatchReader.from_batches(schema, batches), self.place, schema=schema)
        lance.dataset(self.place).create_scalar_index("video_id", "BTREE")

    def parts(self) -> list[str]:
        return ["all"]

    def read(self, part: str) -> int:
        import lance

        scanned = lance.dataset(self.place).to_batches(batch_size=PER_MINUTE * MINUTES, batch_readahead=READERS)
        return sum(touched(matrix(pa.Table.from_batches([batch]))) for batch in scanned)

    def read_video(self, video: int) -> int:
        import lance

        return touched(matrix(lance.dataset(self.place).to_table(filter=f"video_id = '{video:016x}'")))

    def append(self, video: int) -> None:
        import lance

        schema = hour_schema().set(0, pa.field("video_id", pa.string()))
        more = minute_of(video, MINUTES, np.random.default_rng(0)).cast(schema)
        lance.write_dataset(more, self.place, mode="append")


FORMS: dict[str, type[Form]] = {
    "segment-parquet": SegmentParquet,
    "video-parquet-list": VideoParquet,
    "video-parquet-binary": VideoParquetBinary,
    "video-arrow": VideoArrow,
    "video-arrow-mapped": VideoArrowMapped,
    "video-arrow-fsspec": VideoArrowByFsspec,
    "pack-arrow": PackArrow,
    "lance": Lance,
}


def seconds(run: Callable[[], object]) -> float:
    began_s = time.perf_counter()
    run()
    return time.perf_counter() - began_s


def measure(name: str, place: str, hours: int) -> dict[str, object]:
    """The figures of one form."""
    form = FORMS[name](f"{place.rstrip('/')}/{name}", hours)
    form.files.remove()
    try:
        write_s = seconds(form.write)
        names, size = form.files.names(), form.files.size()
        nbytes = hours * MINUTES * PER_MINUTE * DIM * 2

        def in_all(read: Callable[[str], int], parts: list[str], expected: int | None) -> float:
            def run() -> None:
                with ThreadPoolExecutor(READERS) as pool:
                    found = sum(pool.map(read, parts))
                assert expected is None or found == expected, (found, expected)

            return seconds(run)

        def raw(part: str) -> int:
            return len(form.files.get(part))

        def rates(read: Callable[[str], int], parts: list[str], is_cold: bool, expected: int | None) -> float:
            found = []
            for _ in range(ROUNDS):
                if is_cold:
                    form.files.cool()
                found.append((nbytes if expected else size) / in_all(read, parts, expected) / 1e9)
            return round(statistics.median(found), 2)

        cpu_s = time.process_time()
        warm = rates(form.read, form.parts(), False, nbytes)
        cpu_s = time.process_time() - cpu_s
        figures = {
            "form": name,
            "files": len(names),
            "MB": round(size / 1e6),
            "of vectors MB": round(nbytes / 1e6),
            "write ms per video-hour": round(1000 * write_s / hours, 1),
            "read GB/s warm": warm,
            "read CPU ms per video-hour": round(1000 * cpu_s / ROUNDS / hours, 2),
            "raw GB/s warm": rates(raw, names, False, None),
        }
        if form.files.is_local:
            figures["read GB/s cold"] = rates(form.read, form.parts(), True, nbytes)
            figures["raw GB/s cold"] = rates(raw, names, True, None)
        videos = np.random.default_rng(1).permutation(hours)[:20].tolist()
        form.files.cool()
        figures["one video ms"] = round(
            1000 * statistics.median(seconds(lambda v=v: form.read_video(v)) for v in videos), 1
        )
        figures["append ms"] = round(1000 * statistics.median(seconds(lambda v=v: form.append(v)) for v in videos), 1)
        figures["list ms"] = round(1000 * seconds(form.files.names), 1)
        return figures
    finally:
        form.files.remove()


def lines(words: list[str] | None = None) -> Iterator[str]:
    """One line of JSON per form that the command line asks for."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("place", help="an empty folder, or s3://bucket/folder")
    parser.add_argument("--hours", type=int, default=500, help="videos of one hour each (default 500)")
    parser.add_argument("--forms", default=",".join(name for name in FORMS if name != "lance"))
    options = parser.parse_args(words)
    for name in options.forms.split(","):
        yield json.dumps(measure(name, options.place, options.hours))


if __name__ == "__main__":
    for line in lines():
        print(line, flush=True)
