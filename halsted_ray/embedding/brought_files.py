"""Files of vectors as others keep them, one per video: ``.npy``, ``.h5``, Parquet. They are read and checked here.

Shapes: N rows in order of time, D width.
"""

from __future__ import annotations

import io
import math
import posixpath
from pathlib import PurePosixPath
from typing import Any

import numpy as np
import pyarrow as pa

from halsted_ray.errors import ModelError, first_line
from halsted_ray.model.brought import LARGEST, Rows
from halsted_ray.storage.files import read_file
from halsted_ray.storage.locations import filesystem
from halsted_ray.storage.parquet import read_parquet

SUFFIXES = (".npy", ".h5", ".hdf5", ".parquet")
TIMES_SUFFIX = ".times.npy"
"""Of a file beside ``NAME.npy`` with the times of its rows, where no rate is given."""
TIME_NAMES, VECTOR_NAMES = ("time_s", "times_s", "time"), ("vector", "vectors", "features", "embedding", "embeddings")
"""Columns of Parquet files and data sets of HDF5 files."""
STEPS_WITHOUT = 2.0
"""So many usual steps may pass without a row; more is a gap."""
SHARE_WITHOUT = 0.01
"""Or this share of the video at its end, since frame rates are rounded."""
SMALLEST_SHARE = 1 / 1032
"""Of what it unpacks to, compressed data of HDF5 is at least this: no deflate stream is denser."""


def list_files(folder: str) -> list[str]:
    """The files of vectors in ``folder`` and below, in order. Raises ModelError where there is none."""
    fs, root = filesystem(folder)
    try:
        found = sorted(path for path in fs.find(root) if path.endswith(SUFFIXES) and not path.endswith(TIMES_SUFFIX))
    except OSError as error:
        raise ModelError(f"{folder!r} can't be listed: {error}") from error
    if not found:
        raise ModelError(f"{folder!r} holds no file ending in {', '.join(SUFFIXES)}; expected one for each video")
    return [str(fs.unstrip_protocol(path)) for path in found]


def stem_of(path: str) -> str:
    """The name of a file without its folder and suffix: the name of its video."""
    return PurePosixPath(posixpath.basename(path)).stem


def read_vectors_file(path: str, duration_s: float, rate: float | None) -> Rows:
    """The rows of one video that lasts ``duration_s``. ``rate``: rows per second, where the file has no times.

    Raises ModelError, without the file's name: shape, values that are not finite or too large, times that do not
    increase, gaps.
    """
    try:
        values, times = _content(path)
    except OSError as error:  # without the file's name, which its own words have
        raise ModelError(f"can't be read ({error.strerror or 'damaged'})") from error
    except EOFError as error:
        raise ModelError("is empty") from error
    except (ValueError, KeyError, pa.ArrowException) as error:
        raise ModelError(f"can't be read ({first_line(error)})") from error
    if values.ndim != 2 or not values.size or not np.issubdtype(values.dtype, np.floating):
        raise ModelError(
            f"holds {values.dtype} of shape {values.shape}, expected floating-point numbers of shape [rows, width]"
        )
    values, times_s = _in_time(values, times, duration_s, rate)
    if not np.isfinite(values).all():
        rows = np.flatnonzero(~np.isfinite(values).all(1))
        raise ModelError(f"{len(rows):,} rows hold a value that is not finite, first row {rows[0]}; expected numbers")
    if (largest := float(np.abs(values).max())) > LARGEST:
        raise ModelError(f"holds the value {largest:g}, expected at most {LARGEST:g}; divide all vectors by a constant")
    _require_whole(times_s, duration_s)
    return Rows(times_s, values)


def _in_time(
    values: np.ndarray, times: np.ndarray | None, duration_s: float, rate: float | None
) -> tuple[np.ndarray, np.ndarray]:
    """(values [N, D], times [N]). A file [D, N], as for MS-TCN, is turned where its rows alone fit the video."""
    if times is not None:
        if times.shape != (len(values),):
            raise ModelError(f"has {times.shape} times for {len(values):,} rows, expected one for each")
        if times.dtype.kind not in "iuf":
            raise ModelError(f"its times are of type {times.dtype}; expected seconds, as numbers")
        times_s = times.astype(np.float64)
        if not np.isfinite(times_s).all() or (np.diff(times_s) <= 0).any() or times_s[0] < 0:
            raise ModelError("its times do not increase from 0 s on; expected seconds from the video's start")
        return values, times_s
    if rate is None:
        raise ModelError(
            f"has no times; expected --rate, or the times in seconds in a file NAME{TIMES_SUFFIX} beside it"
        )
    expected = duration_s * rate
    fits = [abs(count - expected) <= max(STEPS_WITHOUT, SHARE_WITHOUT * expected) for count in values.shape]
    if not any(fits):
        raise ModelError(
            f"has the shape {values.shape}, expected about {expected:.0f} rows for {duration_s:.1f} s at {rate:g} per "
            "second; check --rate"
        )
    if all(fits) and values.shape[0] != values.shape[1]:
        fits = [True, False]
    values = values if fits[0] else values.T
    return values, np.arange(len(values)) / rate


def _require_whole(times_s: np.ndarray, duration_s: float) -> None:
    """Raises ModelError where some time of the video has no row, or rows lie behind its end."""
    step_s = float(np.median(np.diff(times_s))) if len(times_s) > 1 else duration_s
    edges_s = np.concatenate([[0.0], times_s, [max(duration_s, times_s[-1])]])
    allowed_s = np.full(len(edges_s) - 1, STEPS_WITHOUT * step_s + 1e-6)
    allowed_s[-1] = max(allowed_s[-1], step_s + SHARE_WITHOUT * duration_s)
    gaps = np.flatnonzero(np.diff(edges_s) > allowed_s)
    if len(gaps):
        start_s, stop_s = edges_s[gaps[0]], edges_s[gaps[0] + 1]
        raise ModelError(
            f"has no row in [{start_s:.2f}, {stop_s:.2f}) s and rows every {step_s:.3g} s ({len(gaps):,} gaps); "
            f"expected rows over all of the video's {duration_s:.1f} s"
        )
    if times_s[-1] > duration_s + max(STEPS_WITHOUT * step_s, SHARE_WITHOUT * duration_s):
        raise ModelError(
            f"has rows up to {times_s[-1]:.1f} s, the video ends at {duration_s:.1f} s; expected seconds, and the "
            "vectors of this video"
        )


def _content(path: str) -> tuple[np.ndarray, np.ndarray | None]:
    """(values, times or None) of a file."""
    fs, place = filesystem(path)
    data = read_file(fs, place)
    if path.endswith(".npy"):
        times_place = place.removesuffix(".npy") + TIMES_SUFFIX
        times = _array(read_file(fs, times_place)) if fs.exists(times_place) else None
        return _array(data), times
    if path.endswith(".parquet"):
        return _from_table(read_parquet(data))
    return _from_hdf5(data)


def _array(data: bytes) -> np.ndarray:
    _require_stated(data)
    found = np.load(io.BytesIO(data), allow_pickle=False)
    if not isinstance(found, np.ndarray):
        raise ValueError("several arrays in one file; expected one, as numpy.save writes it")
    return found


def _require_stated(data: bytes) -> None:
    """Raises ValueError where the header of a ``.npy`` file states more than it holds: NumPy would allocate it."""
    file = io.BytesIO(data)
    if not data.startswith(np.lib.format.MAGIC_PREFIX):
        return  # NumPy says what it is
    version = np.lib.format.read_magic(file)
    if version not in ((1, 0), (2, 0)):
        raise ValueError(f"version {version} of the format; expected 1.0 or 2.0, as numpy.save writes numbers")
    read = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
    shape, _, dtype = read(file)
    held = len(data) - file.tell()
    if math.prod(shape) * dtype.itemsize > held:
        raise ValueError(f"it states {shape} of {dtype}, and holds {held:,} bytes; expected a whole file")


def _from_table(table: pa.Table) -> tuple[np.ndarray, np.ndarray | None]:
    vectors = _named(VECTOR_NAMES, table.column_names)
    column = table[vectors].combine_chunks()
    if column.null_count:
        raise ValueError(f"{column.null_count:,} rows without a vector")
    times = next((name for name in TIME_NAMES if name in table.column_names), None)
    values = np.stack(column.to_numpy(zero_copy_only=False))
    return values, None if times is None else table[times].to_numpy()


def _from_hdf5(data: bytes) -> tuple[np.ndarray, np.ndarray | None]:
    try:
        import h5py
    except ImportError as error:
        raise ModelError("is an HDF5 file, which needs h5py: pip install halsted-ray[hdf5]") from error
    with h5py.File(io.BytesIO(data), "r") as file:
        # A link, or a data set that is stored elsewhere, would read another file of this machine.
        own = [name for name in file if isinstance(file.get(name, getlink=True), h5py.HardLink)]
        sets: dict[str, Any] = {name: file[name] for name in own if isinstance(file[name], h5py.Dataset)}
        if elsewhere := sorted({*file} - {*own} | {name for name, of in sets.items() if of.external or of.is_virtual}):
            raise ValueError(f"{', '.join(elsewhere)} refers to another file; expected all data in this file")
        matrices = [name for name, item in sets.items() if item.ndim == 2]
        vectors = matrices[0] if len(matrices) == 1 else _named(VECTOR_NAMES, list(sets))
        times = next((name for name in TIME_NAMES if name in sets), None)
        for name in filter(None, (vectors, times)):
            if sets[name].nbytes * SMALLEST_SHARE > len(data):
                raise ValueError(
                    f"{name} states the shape {sets[name].shape}, and the file has {len(data):,} bytes; expected a "
                    "whole file"
                )
        return np.asarray(sets[vectors]), None if times is None else np.asarray(sets[times])


def _named(names: tuple[str, ...], found: list[str]) -> str:
    for name in names:
        if name in found:
            return name
    raise ValueError(f"has {', '.join(found) or 'nothing'}, expected vectors under one of {', '.join(names)}")
