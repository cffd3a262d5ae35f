"""Spans of videos that are cut while they are read: each window once, without what is stored, in the same places."""

from __future__ import annotations

import pickle
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from halsted_ray.embedding import embed_run
from halsted_ray.embedding.embed_run import look_for_missing
from halsted_ray.embedding.segments import SPAN_S, WINDOW_KINDS, GridSpans, UnstoredSegments, window_key
from halsted_ray.records import Video, WindowSpec
from halsted_ray.storage.vectors import VectorStore
from halsted_ray.video.windows import windows as windows_of_video

ALL = GridSpans(WindowSpec(), WINDOW_KINDS["all"])


def video(number: int, duration_s: float) -> Video:
    return Video(f"{number:016x}", f"{number}.mp4", 1, duration_s, 96, 64, 25.0, "h264")


def segments_of(videos, place, grid=ALL) -> UnstoredSegments:
    return UnstoredSegments(videos, grid, VectorStore(str(place), "encoder", "sampling"))


def store_vectors(place, spans) -> None:
    """Stores a vector for every window of ``spans``."""
    for span in spans:
        vectors = {window_key(window): np.zeros(4, np.float16) for window in span.windows}
        VectorStore(str(place), "encoder", "sampling").put(span.video_id, span.start_s, span.stop_s, vectors)


@given(
    duration_s=st.floats(0.1, 5000),
    spec=st.sampled_from(
        [WindowSpec(), WindowSpec(5, 2.5), WindowSpec(50, 2.5), WindowSpec(15, 15), WindowSpec(300, 300)]
    ),
    kinds=st.sampled_from(list(WINDOW_KINDS.values())),
)
def test_every_window_of_the_grid_lies_in_exactly_one_span(duration_s, spec, kinds):
    grid, one = GridSpans(spec, kinds), video(1, duration_s)
    spans = grid.cut(one)
    wanted = [window for of_kind in windows_of_video(duration_s, spec) for window in of_kind if window.kind in kinds]
    found = [window for span in spans for window in span.windows]
    assert sorted(map(window_key, found)) == sorted(map(window_key, wanted))
    assert len(spans) == grid.count(one) and len(found) == grid.windows(one)
    assert all(span.start_s <= w.start_s and w.stop_s <= span.stop_s for span in spans for w in span.windows)
    assert all(a.stop_s == b.start_s for a, b in zip(spans, spans[1:], strict=False))
    assert grid.span_s <= max(SPAN_S, spec.coarse_s)


def test_a_read_that_is_done_again_gives_the_same_segments_in_the_same_places(tmp_path):
    """Ray names what a task gives by its place: where a span left the list, others would be taken for done."""
    segments = segments_of([video(1, 500.0), video(2, 100.0)], tmp_path)
    before = list(segments)
    assert len(before) == len(segments) == 6
    store_vectors(tmp_path, [before[0], before[2]])
    after = list(segments)
    assert [span.segment_id for span in after] == [span.segment_id for span in before]
    assert [span.windows == () for span in after] == [True, False, True, False, False, False]
    assert [span for span in after if span.windows] == [span for n, span in enumerate(before) if n not in (0, 2)]


def test_of_a_span_only_the_windows_that_lack_are_left(tmp_path):
    (span,) = segments_of([video(1, 60.0)], tmp_path)
    store_vectors(tmp_path, [replace(span, windows=span.windows[:2])])
    (left,) = segments_of([video(1, 60.0)], tmp_path)
    assert left.windows == span.windows[2:] and (left.start_s, left.stop_s) == (0.0, 60.0)


@pytest.mark.parametrize("size", [1, 3, 100])
def test_the_parts_for_the_readers_hold_the_same_segments_and_travel(tmp_path, size):
    segments = segments_of([video(number, 130.0 * number) for number in range(1, 6)], tmp_path)
    parts = pickle.loads(pickle.dumps(segments.parts(size)))
    assert [span for part in parts for span in part] == list(segments)
    assert all(len(part) >= size for part in parts[:-1])


def test_a_read_task_of_many_hours_is_small(tmp_path):
    """3 million windows in 960 hours: what the driver sends away is the videos, not their windows."""
    segments = segments_of([video(number, 3600.0) for number in range(960)], tmp_path)
    assert sum(ALL.windows(one) for one in segments.videos) == 960 * 1560
    assert len(pickle.dumps(segments.parts(10_000))) < 200_000


def test_the_first_look_finds_the_little_that_lacks(tmp_path):
    videos = [video(number, 240.0) for number in range(20)]
    segments = segments_of(videos, tmp_path)
    spans = list(segments)
    store_vectors(tmp_path, spans[:-3])
    left, stored_s = look_for_missing(segments)
    assert list(left) == spans[-3:] and stored_s == 20 * 240.0 - 360.0
    store_vectors(tmp_path, spans[-3:])
    left, stored_s = look_for_missing(segments)
    assert len(left) == 0 and stored_s == 20 * 240.0


def test_the_first_look_stops_where_more_lacks_than_this_process_would_embed(tmp_path, monkeypatch):
    videos = [video(number, 240.0) for number in range(200)]
    segments = segments_of(videos, tmp_path)
    store_vectors(tmp_path, [span for one in videos[:10] for span in ALL.cut(one)])
    looked_at = []
    cut = GridSpans.cut
    monkeypatch.setattr(GridSpans, "cut", lambda grid, one: looked_at.append(one) or cut(grid, one))
    left, stored_s = look_for_missing(segments)
    assert left.videos == videos[10:] and stored_s == 10 * 240.0
    assert len(looked_at) < 40, "the driver looks at the first videos alone"


def test_the_first_look_ends_in_time(tmp_path, monkeypatch):
    monkeypatch.setattr(embed_run, "LOOKS_FOR_S", -1.0)
    videos = [video(number, 240.0) for number in range(40)]
    store_vectors(tmp_path, [span for one in videos for span in ALL.cut(one)])
    left, stored_s = look_for_missing(segments_of(videos, tmp_path))
    assert left.videos == videos[1:] and stored_s == 240.0
