"""The centres of an index: how they are chosen from a sample of moments, stored, and found again."""

from __future__ import annotations

import numpy as np
import pyarrow as pa

from halsted_ray.errors import ModelError, UsageError
from halsted_ray.search.index_manifest import Manifest
from halsted_ray.storage.files import read_bytes

ROUNDS = 10
BLOCK = 16_384


def nearest_centres(unit_ND: np.ndarray, centres_LD: np.ndarray) -> np.ndarray:
    """int64 [N]: the centre that is nearest to each vector."""
    if len(centres_LD) == 1:
        return np.zeros(len(unit_ND), np.int64)
    found = [(unit_ND[begin : begin + BLOCK] @ centres_LD.T).argmax(1) for begin in range(0, len(unit_ND), BLOCK)]
    return np.concatenate(found) if found else np.zeros(0, np.int64)


def centres_of(place: str, manifest: Manifest) -> np.ndarray:
    """float32 [L, D], the centres of an index. Raises FileNotFoundError, and ModelError where the file is damaged."""
    data = read_bytes(f"{place}/{manifest.centres}")
    centres_LD = read_centres(data, manifest.dim)
    if len(centres_LD) != manifest.lists:
        raise ModelError(
            f"the search index has {len(centres_LD):,} centres, expected {manifest.lists:,}; delete the folder .search "
            "beside the vectors, and give halsted search-index again"
        )
    return centres_LD


def write_centres(path: str, centres_LD: np.ndarray) -> None:
    """Writes a local file of centres, float32 [L, D]."""
    dim = centres_LD.shape[1]
    column = pa.FixedSizeListArray.from_arrays(pa.array(centres_LD.astype(np.float32).ravel()), dim)
    with pa.OSFile(path, "wb") as sink, pa.ipc.new_file(sink, pa.schema([("centre", column.type)])) as writer:
        writer.write_batch(pa.record_batch([column], names=["centre"]))


def read_centres(data: bytes, dim: int) -> np.ndarray:
    """float32 [L, D]. Raises ModelError where the file is damaged."""
    try:
        table = pa.ipc.open_file(pa.py_buffer(data)).read_all()
        table.validate()
        centres_LD: np.ndarray = table["centre"].combine_chunks().flatten().to_numpy().reshape(-1, dim)
    except (pa.ArrowException, OSError, KeyError, ValueError) as error:
        raise ModelError(
            f"the centres of the search index can't be read ({error}); delete the folder .search beside the vectors, "
            "and give halsted search-index again"
        ) from error
    return centres_LD


def choose_centres(sample_ND: np.ndarray, lists: int) -> np.ndarray:
    """float32 [L, D]: centres of unit length, by spherical k-means; one alone is the origin."""
    if lists == 1:
        return np.zeros((1, sample_ND.shape[1]), np.float32)
    try:
        import faiss
    except ImportError:
        raise UsageError(
            "an index of so many moments needs the package that chooses centres; pip install 'halsted-ray[search]'"
        ) from None
    means = faiss.Kmeans(
        sample_ND.shape[1], lists, niter=ROUNDS, spherical=True, seed=0, min_points_per_centroid=1, gpu=False
    )
    means.train(np.ascontiguousarray(sample_ND))
    return np.asarray(means.centroids, np.float32)
