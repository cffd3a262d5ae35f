"""A wave that is published: its rows, and the vectors of its videos in one file each, also after a kill in between."""

from __future__ import annotations

from pathlib import Path

import maps
import numpy as np
import pytest

from halsted_ray.mapping import wave_publisher
from halsted_ray.mapping.wave_publisher import WavePublisher
from halsted_ray.mapping.work_list import Cutter, PendingVideo, WorkList
from halsted_ray.maps.reading import read_timeline
from halsted_ray.maps.staging import MappingRun, SegmentResult, Staging
from halsted_ray.maps.table_schemas import Provenance
from halsted_ray.records import WindowSpec
from halsted_ray.storage.vectors import VectorStore

ORIGIN = Provenance("run", "recipe", ("macro",), "m", "1", "", "t", "0")


@pytest.fixture
def finished(tmp_path):
    """Two videos of two segments each, whose results are staged and whose vectors are stored."""
    out = str(tmp_path)
    staging, store = Staging(out, "recipe"), VectorStore(f"{out}/embeddings", "encoder", "exact")
    staging.begin(MappingRun("run", "recipe", ("macro",), 60.0, 1))
    work = WorkList(Cutter(WindowSpec(), 60.0, "recipe"))
    work.pending += [PendingVideo(maps.video(video_id), (0, 1)) for video_id in (maps.WHOLE, maps.PARTIAL)]
    (wave,) = work.waves(100)
    for video_id, segments in wave.planned.items():
        for segment in segments:
            start_s = segment.start_s
            store.put(video_id, start_s, start_s + 60, {("coarse", start_s, start_s + 30): np.ones(4)})
            staging.write(SegmentResult(segment, maps.tags_of(segment)[:2], [], "run"))
    store.put("ff" * 8, 0.0, 60.0, {("coarse", 0.0, 30.0): np.ones(4)})
    return out, staging, store, wave


def publish(out, staging, store, wave) -> None:
    with WavePublisher(out, staging, ORIGIN, store) as publisher:
        publisher.start(wave)
        publisher.wait()
        assert publisher.version == 0


def files(store: VectorStore) -> list[tuple[str, bool]]:
    return sorted((file.video_id, file.is_packed) for file in store.files())


def test_the_vectors_of_published_videos_lie_in_one_file_each(finished):
    out, staging, store, wave = finished
    publish(*finished)
    assert files(store) == [(maps.WHOLE, True), (maps.PARTIAL, True), ("ff" * 8, False)], "and no other video's"
    assert set(read_timeline(out)["video_id"].to_pylist()) == {maps.WHOLE, maps.PARTIAL}
    assert all(len(store.get(video_id, 0.0, 120.0)) == 2 for video_id in wave.planned)


@pytest.mark.parametrize("where", ["before", "after"])
def test_a_run_that_is_killed_around_packing_packs_and_publishes_when_it_goes_on(finished, monkeypatch, where):
    out, staging, store, wave = finished

    def killed(*_args, **_kwargs):
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        if where == "before":
            patched.setattr(store, "pack", killed)
        else:
            patched.setattr(wave_publisher, "publish", killed)
        with pytest.raises(KeyboardInterrupt):
            publish(*finished)
    assert staging.states().keys() == wave.planned.keys(), "the next run finds the same videos"
    publish(*finished)
    assert [is_packed for _, is_packed in files(store)] == [True, True, False]
    assert not Path(staging.root, maps.WHOLE).exists()
