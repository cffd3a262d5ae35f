"""Files of less than 4 kB that declare terabytes: each ends with a clear error and little memory."""

from __future__ import annotations

import base64
import multiprocessing
import re
import resource
import sqlite3
import struct
import time
import zipfile
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from contextlib import closing
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from halsted_ray.atlas.formats import FORMATS, ImportSettings
from halsted_ray.embedding.brought_files import read_vectors_file
from halsted_ray.errors import AtlasError, ModelError, TaxonomyError, UnreadableVideo, UsageError
from halsted_ray.hospital.fhir import read_bundle
from halsted_ray.hospital.intake import read_header
from halsted_ray.hospital.structured_report import read_report
from halsted_ray.maps.exports import read_jsonl, read_metadata_vtt
from halsted_ray.storage.vector_files import VideoVectors, packed_file, read_vectors, stored_file
from halsted_ray.taxonomy import load

MOST_MB, MOST_CPU_S = 300, 5.0
ROOM_BYTES = 4 << 30
"""What the reading process may allocate in all beyond what it began with: a reader that believes the file fails here,
and does not take the machine's memory."""
STAMP = {b"encoder": b"e", b"sampling": b"s"}
HUNDRED_MILLION_FLOATS = base64.b64decode(
    "UEFSMRUEFQgVGkwVAhUAEgAAKLUv/SAEIQAAAACAPxUAFTQVRiwVgISvXxUQFQYVBhwAAAAotS/9IBrRAAAHAAAAA/7wg69fAQUA"
    "AACAhK9fAwGAhK9fABUEGUw1ABgGc2NoZW1hFQIANQIYB3ZlY3RvcnMVAhUGTDwAAAA1BBgEbGlzdBUCABUIJQIYB2VsZW1lbnQA"
    "FgIZHBkcJgAcFQgZNQAGEBk4B3ZlY3RvcnMEbGlzdAdlbGVtZW50FQwWgISvXxaEARaoASY+JggpLBUEFQAVAgAVABUQFQIAPCkm"
    "sF/QpK5fGUYAAACAhK9fAAAAFoQBFgImCBaoAQAoIHBhcnF1ZXQtY3BwLWFycm93IHZlcnNpb24gMjUuMC4xGRwcAAAAzgAAAFBB"
    "UjE="
)
"""A Parquet file of one list of 100,000,000 equal floats, in a column ``vectors``."""
LAUGHS = "".join(f"v{n}: &v{n} [{', '.join([f'*v{n - 1}' if n else 'ha'] * 9)}]\n" for n in range(20))
"""YAML whose last line stands for 9**20 values."""


def npy(shape: tuple[int, ...]) -> bytes:
    """The header of a ``.npy`` file of this shape, and 64 bytes of data."""
    head = str({"descr": "<f4", "fortran_order": False, "shape": shape}).encode().ljust(117) + b"\n"
    return b"\x93NUMPY\x01\x00" + struct.pack("<H", len(head)) + head + bytes(64)


def vectors_npy(folder: Path) -> Path:
    (folder / "a.npy").write_bytes(npy((10**10, 768)))
    return folder / "a.npy"


def times_npy(folder: Path) -> Path:
    np.save(folder / "a.npy", np.zeros((2, 3), np.float32))
    (folder / "a.times.npy").write_bytes(npy((10**13,)))
    return folder / "a.npy"


def vectors_hdf5(folder: Path) -> Path:
    with h5py.File(folder / "a.h5", "w") as file:
        file.create_dataset("vectors", shape=(10**7, 768), dtype="f4", chunks=(100, 768), compression="gzip")
    return folder / "a.h5"


def vectors_parquet(folder: Path) -> Path:
    (folder / "a.parquet").write_bytes(HUNDRED_MILLION_FLOATS)
    return folder / "a.parquet"


def repeated_text(folder: Path, text: str, rows: int) -> Path:
    """A table for the importer of HSA-27k with one text in all of its rows; ``mapping.yaml`` beside it."""
    column = pa.DictionaryArray.from_arrays(pa.array(np.zeros(rows, np.int8)), pa.array([text]))
    pq.write_table(
        pa.table({"video_id": column, "annotator": column}),
        folder / "clips.parquet",
        store_schema=False,
        compression="zstd",
        write_statistics=False,
    )
    (folder / "mapping.yaml").write_text("table: '*.parquet'\nvideo: '{video_id}'\ntags: {action: video_id}\n")
    return folder


def many_rows(folder: Path) -> Path:
    return repeated_text(folder, "x" * 1000, 200_000)


def long_text(folder: Path) -> Path:
    return repeated_text(folder, "x" * 10_000_000, 1000)


def database(path: Path, captions: str) -> Path:
    """SurgLaVi's database, whose captions are what the SQL ``captions`` makes."""
    with closing(sqlite3.connect(path)) as base:
        base.executescript(
            "pragma page_size = 512; create table levels(level_id, name); insert into levels values (1, 'phase');"
            "create table videos(video_id, name, procedure_type, specialty);"
            "insert into videos values (1, 'a', '', '');" + captions
        )
    return path


FIELDS = (
    "caption_id, video_id, level_id, start_time, end_time, duration, is_surgical_content, is_descriptive, "
    "video_name, raw_narration"
)


def endless_view(folder: Path) -> Path:
    rows = "with recursive n(i) as (select 1 union all select i + 1 from n limit 1000000000000)"
    return database(
        folder / "a.db",
        f"create view captions({FIELDS}, caption) as {rows} select i, 1, 1, i, i + 1, 1, 1, 1, 'a', '', 'x' from n",
    )


def computed_text(folder: Path) -> Path:
    """Its column of texts is computed when it is read."""
    return database(
        folder / "a.db",
        f"create table captions({FIELDS}, caption as (printf('%.*c', 900000000, 'x')));"
        "insert into captions values (1, 1, 1, 0, 5, 5, 1, 1, 'a', '')",
    )


def packed_xml(folder: Path) -> Path:
    with zipfile.ZipFile(folder / "a.zip", "w", zipfile.ZIP_BZIP2) as packed:
        packed.writestr("annotations.xml", b" " * 40_000_000)
    return folder / "a.zip"


def laughing_mapping(folder: Path) -> Path:
    (folder / "mapping.yaml").write_text(LAUGHS)
    return folder


def laughing_taxonomy(folder: Path) -> Path:
    (folder / "a.yaml").write_text(LAUGHS)
    return folder / "a.yaml"


def packed_vectors(folder: Path) -> Path:
    vectors = VideoVectors(
        "v", ["coarse"] * 37, np.arange(37.0), np.arange(37.0) + 1, np.zeros((37, 8), np.float16), [(0.0, 37.0)]
    )
    name, data = packed_file(STAMP, vectors, 1)
    (folder / name).write_bytes(data.replace(struct.pack("<q", 37), struct.pack("<q", 10**12)))
    return folder / name


def dicom(folder: Path) -> Path:
    """A DICOM file whose group of meta information declares a value of 4 GB."""
    (folder / "a.dcm").write_bytes(
        bytes(128)
        + b"DICM"
        + struct.pack("<HH2sHI", 2, 0, b"UL", 4, 60)
        + struct.pack("<HH2sHI", 2, 1, b"OB", 0, 2**32 - 16)
    )
    return folder / "a.dcm"


def deep_json(folder: Path) -> Path:
    (folder / "a.json").write_text("[" * 2000)
    return folder / "a.json"


def read_brought(path: Path) -> Any:
    return read_vectors_file(str(path), 10.0, None if (path.parent / "a.times.npy").exists() else 1.0)


def read_surglavi(path: Path) -> Any:
    return FORMATS["surglavi"].read(str(path), ImportSettings(load("surglavi"), strict=True))


def read_table(folder: Path) -> Any:
    settings = ImportSettings(load(), mapping=str(folder / "mapping.yaml"), strict=True)
    return FORMATS["hsa-27k"].read(str(folder), settings)


def read_cvat(path: Path) -> Any:
    return FORMATS["cvat"].read(str(path), ImportSettings(load(), fps=25.0, strict=True))


def read_taxonomy(path: Path) -> Any:
    return load(str(path))


def read_packed(path: Path) -> Any:
    stored = stored_file(f"v/{path.name}")
    assert stored is not None
    return read_vectors(stored, path.read_bytes(), STAMP, "the store")


def read_fhir(path: Path) -> Any:
    return read_bundle(path.read_text())


def read_rows(path: Path) -> Any:
    return read_jsonl(path.read_text())


def read_cues(path: Path) -> Any:
    return read_metadata_vtt(f"WEBVTT\n\n00:00.000 --> 00:01.000\n{path.read_text()}\n")


def read_sr(path: Path) -> Any:
    return read_report(path.read_bytes())


ATTACKS: dict[str, tuple[Callable[[Path], Path], Callable[[Path], Any], type[Exception], str]] = {
    "vectors of .npy": (vectors_npy, read_brought, ModelError, "it states .* and holds 64 bytes"),
    "times of .npy": (times_npy, read_brought, ModelError, "it states .* and holds 64 bytes"),
    "vectors of HDF5": (vectors_hdf5, read_brought, ModelError, "vectors states the shape"),
    "vectors of Parquet": (vectors_parquet, read_brought, ModelError, "declares 100,000,000 values"),
    "rows of Parquet": (many_rows, read_table, AtlasError, "declares 200,000 values"),
    "a text of Parquet": (long_text, read_table, AtlasError, "a text of 10,000,000 bytes"),
    "a view of SQLite": (endless_view, read_surglavi, AtlasError, "got 'view'; expected a table"),
    "a computed text of SQLite": (computed_text, read_surglavi, AtlasError, "expected the columns caption too"),
    "XML in a ZIP file": (packed_xml, read_cvat, AtlasError, "not well-formed XML"),
    "aliases of a mapping": (laughing_mapping, read_table, AtlasError, "expected the keys table, video and tags"),
    "aliases of a taxonomy": (laughing_taxonomy, read_taxonomy, TaxonomyError, "more than 20,000 values"),
    "packed vectors": (packed_vectors, read_packed, ModelError, "holds no vectors that can be read"),
    "a header of DICOM": (dicom, read_header, UnreadableVideo, "expected a DICOM header"),
    "a report of DICOM": (dicom, read_sr, UsageError, "expected .*dicom-sr"),
    "a bundle of FHIR": (deep_json, read_fhir, UsageError, "expected a FHIR bundle"),
    "rows of a map": (deep_json, read_rows, UsageError, "no row of a map"),
    "cues of a map": (deep_json, read_cues, UsageError, "no row of a map"),
}
"""What declares → (writes the file, reads it, the error, what its message says)."""


def status_mb(name: str) -> float:
    text = Path("/proc/self/status").read_text()
    return int(text.split(f"{name}:")[1].split()[0]) / 1024


def bounded() -> None:
    """Bounds the memory of this process, and its time: a reader without end would keep the tests waiting."""
    resource.setrlimit(resource.RLIMIT_CPU, (40, 40))
    held = round(status_mb("VmSize") * 2**20)
    resource.setrlimit(resource.RLIMIT_AS, (held + ROOM_BYTES, held + ROOM_BYTES))


def outcome(read: Callable[[Path], Any], path: Path) -> tuple[str, str, float, float]:
    """(type of the error, its text, MB of memory at the peak beyond those before, CPU seconds) of reading ``path``."""
    Path("/proc/self/clear_refs").write_text("5")  # the peak is counted from here
    before_mb, began_s = status_mb("VmRSS"), time.process_time()
    try:
        read(path)
        kind, text = "nothing", ""
    except Exception as error:
        kind, text = type(error).__name__, str(error)
    return kind, text, status_mb("VmHWM") - before_mb, time.process_time() - began_s


@pytest.fixture(scope="module")
def reader():
    """A process that reads, with bounded memory."""
    with ProcessPoolExecutor(1, multiprocessing.get_context("spawn"), bounded) as pool:
        yield pool


@pytest.mark.parametrize("what", ATTACKS)
def test_what_a_file_declares_is_never_allocated(reader, tmp_path, what):
    write, read, error, says = ATTACKS[what]
    path = write(tmp_path)
    assert all(file.stat().st_size < 4096 for file in tmp_path.iterdir())
    kind, text, grown_mb, spent_s = reader.submit(outcome, read, path).result(120)
    assert kind == error.__name__, text
    assert grown_mb < MOST_MB and spent_s < MOST_CPU_S, (grown_mb, spent_s)
    assert len(text) < 2000, "the message is no bomb either"
    assert re.search(says, text), text
