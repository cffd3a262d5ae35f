"""The index of moments lies beside the vectors on S3 too, and a search reads few of its lists from there."""

from __future__ import annotations

import uuid

import numpy as np
import pytest
from test_search_index import put_video

from halsted_ray.search import index_builder
from halsted_ray.search.archive_search import search_by_example
from halsted_ray.search.index_build import check, refresh
from halsted_ray.search.index_builder import ByExample
from halsted_ray.search.index_search import MomentIndex
from halsted_ray.storage.files import list_folder
from halsted_ray.storage.vectors import VectorStore


def test_an_index_on_s3_is_made_searched_and_follows_the_store(s3_server, monkeypatch):
    pytest.importorskip("faiss")
    monkeypatch.setattr(index_builder, "ROWS_A_LIST", 20)
    out = f"{s3_server.bucket}/{uuid.uuid4().hex}"
    store = VectorStore(f"{out}/embeddings", "0123456789abcdef", "reference")
    for number in range(4):
        put_video(store, f"{number:02}" * 8, number, windows=100)
    done = refresh(store, ByExample())
    assert (done.videos, done.moments, done.made_anew) == (4, 200, True)
    assert check(store, "like") == 2
    with MomentIndex.opened(store, "like") as index:
        assert index.manifest.lists == 10 and not index.parts[0].is_local
        read: list[int] = []
        whole = index.parts[0].read
        index.parts[0].read = lambda number: read.append(number) or whole(number)
        assert len(index.nearest(np.ones(24, np.float32), 5, probes=3)) == 5
        assert len(read) == 3
    (first, *_) = search_by_example(out, "0101", 20.0, 5).results
    assert first.video_id in {"0000000000000000", "0202020202020202", "0303030303030303", "0101010101010101"}
    store.remove(["02" * 8])
    assert "02" * 8 not in {one.video_id for one in search_by_example(out, "0101", 20.0, 50).results}
    assert refresh(store, ByExample()).removed == 1
    folder = f"{store.root}/.search/like"
    files = [path for path in list_folder(store.fs, folder) if path.endswith(".arrow")]
    assert len(files) == 2, "the file that held the deleted video is gone"
