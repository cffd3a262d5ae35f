"""No work that grows with the square of an archive or of a long video. Each took minutes at a hospital's size."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from halsted_ray import taxonomy
from halsted_ray.atlas.contents import check_contents
from halsted_ray.deidentify.spans import Box
from halsted_ray.deidentify.text import FoundText, Sample, masks_of
from halsted_ray.embedding.segments import wanted_windows
from halsted_ray.errors import AtlasError
from halsted_ray.evaluation.map_accuracy import span_figures
from halsted_ray.evaluation.metrics import Span, match_spans
from halsted_ray.maps.cases import _archive_of, publish_cases, read_cases
from halsted_ray.maps.publishing import publish_videos
from halsted_ray.maps.table_schemas import ArchiveFile
from halsted_ray.maps.timeline import Gap, Unasked, merge
from halsted_ray.records import Prediction, Segment, Video, WindowSpec
from halsted_ray.search import index_builder
from halsted_ray.search.index_build import refresh
from halsted_ray.search.index_builder import ByExample
from halsted_ray.search.map_spans import _both
from halsted_ray.storage.vectors import VectorStore
from halsted_ray.video.presence import overlapping, union, without
from halsted_ray.video.windows import frame_rows

SPANS = st.lists(st.tuples(st.integers(0, 40), st.integers(0, 6)).map(lambda pair: (pair[0], pair[0] + pair[1])))


def cpu_s(work: Callable[[], object]) -> float:
    began_s = time.process_time()
    work()
    return time.process_time() - began_s


@given(SPANS, st.integers(0, 40), st.integers(1, 10))
def test_the_spans_over_a_time_are_found_as_by_looking_at_all(spans, start_s, length_s):
    holes, span = union(spans), (start_s, start_s + length_s)
    assert list(overlapping(holes, span)) == [hole for hole in holes if hole[0] < span[1] and span[0] < hole[1]]
    assert without(span, overlapping(holes, span)) == without(span, holes)


def test_ten_hours_with_thousands_of_damaged_seconds_merge_in_seconds():
    """16 s of CPU, when each window was held against each gap."""
    windows, holes = 14_400, 3_600
    tags = [
        Prediction(2.5 * n, 2.5 * n + 2.5, "micro", tag, str(n % 3), 0.9) for n in range(windows) for tag in "abcde"
    ]
    gaps = [Gap(10.0 * n, 10.0 * n + 0.4, "corrupt", "") for n in range(holes)]
    unasked = [Unasked("micro", 10.0 * n, 10.0 * n + 2.5, "corrupt") for n in range(holes)]
    assert cpu_s(lambda: merge(tags, gaps, ("micro",), unasked)) < 5


def test_the_frames_of_a_spans_windows_are_looked_up_together():
    """Half a second of CPU for the 240 windows of a span of two minutes: half a minute for an hour of ``halsted embed
    --every 1``, in the process that feeds the GPU."""
    spec = WindowSpec(1.0, 1.0)
    grid = Segment("s", "v", "", 120.0, 240.0, 3600.0)
    span = replace(grid, windows=tuple(wanted_windows(grid, spec)))
    rows_NT = np.zeros(0)

    def look_up():
        nonlocal rows_NT
        rows_NT = frame_rows(span.windows, span, spec)

    assert cpu_s(look_up) < 0.2
    np.testing.assert_array_equal(rows_NT, frame_rows(span.windows, grid, spec))


def test_thousands_of_spans_of_a_video_are_matched_in_a_second():
    """23 s of CPU per tag, when each span of a map was held against each span of the truth."""
    predicted, truth = (
        [Span("abcd"[n % 4], 2.0 * n + late_s, 2.0 * n + late_s + 2) for n in range(3_000)] for late_s in (0.0, 0.3)
    )
    figures: dict[str, float] = {}
    assert cpu_s(lambda: figures.update(span_figures([(predicted, truth)]))) < 2
    assert figures["f1_50"] == figures["edit"] == 1 and figures["edges_found"] == 2_999
    assert figures["edge_error_s"] == pytest.approx(0.3)


@given(SPANS, SPANS)
def test_spans_are_matched_as_by_looking_at_all(predicted, truth):
    """MS-TCN's own loop over all pairs; labels by where a span begins."""
    sides = [
        [Span(start % 2, start, stop) for start, stop in sorted(side) if start < stop] for side in (predicted, truth)
    ]
    taken, hits = set(), 0
    for span in sides[0]:
        shares = [
            (min(span.stop, other.stop) - max(span.start, other.start))
            / (max(span.stop, other.stop) - min(span.start, other.start))
            * (span.label == other.label)
            for other in sides[1]
        ]
        best = int(np.argmax(shares)) if shares else -1
        if shares and shares[best] >= 0.25 and best not in taken:
            taken.add(best)
            hits += 1
    assert match_spans(*sides, 0.25).true_positives == hits


def test_marks_in_three_hours_of_pictures_are_followed_in_seconds():
    """A minute of CPU, when each mark was held against every mark before."""
    samples = [
        Sample(2.0 * n, [FoundText(Box(97 * n % 1800, 61 * (n + k) % 1000, 40, 20), 0.3, False) for k in range(3)])
        for n in range(5_400)
    ]
    assert cpu_s(lambda: masks_of(samples)) < 5


def test_a_search_with_two_conditions_costs_no_product_of_their_rows():
    """75 s, when each row of one was held against each of the other; the spans of the same length."""
    first = {"v": [(4.0 * n, 4.0 * n + 2) for n in range(10_000)]}
    second = {"v": [(4.0 * n + 1, 4.0 * n + 3) for n in reversed(range(10_000))]}
    found: dict[str, list[tuple[float, float]]] = {}
    assert cpu_s(lambda: found.update(_both(first, second))) < 3
    assert found["v"] == [(4.0 * n + 1, 4.0 * n + 2) for n in range(10_000)]


def test_a_video_that_is_twice_in_an_atlas_is_named_in_a_second():
    """Of 20,000 videos it took two minutes."""
    videos = [Video(f"{n:016x}", "", 1, 1.0, 1, 1, 1.0, "") for n in range(20_000)]
    began_s = time.process_time()
    with pytest.raises(AtlasError, match="same content: .'0000000000000007'.;"):
        check_contents([*videos, videos[7]], [], taxonomy.load(), {})
    assert time.process_time() - began_s < 3


def test_each_file_is_looked_for_in_the_archives_once(tmp_path, monkeypatch):
    asked: list[str] = []

    def counted(uri, archives):
        asked.append(uri)
        return _archive_of(uri, archives)

    monkeypatch.setattr("halsted_ray.maps.cases._archive_of", counted)
    out = str(tmp_path)
    uris = [f"/day{day}/op{n}/{part}.mp4" for day in range(3) for n in range(2) for part in "ab"]
    files = [Video(f"{n:016x}", uri, 1, 60.0, 1, 1, 1.0, "") for n, uri in enumerate(uris)]
    publish_videos(out, [ArchiveFile(video, "stamp") for video in files])
    for day in range(3):
        publish_cases(out, f"/day{day}", "folder")
    assert len({chapter.case_id for chapter in read_cases(out)}) == 6
    asked.clear()
    publish_cases(out, "/day2", "folder")
    assert len(asked) == len(uris)


def test_an_index_of_many_short_clips_counts_each_once(tmp_path, monkeypatch):
    """A chunk of 400,000 moments may hold 100,000 clips, and each clip counted those before it anew."""
    counted = []
    length = index_builder.MomentRows.__len__
    monkeypatch.setattr(index_builder.MomentRows, "__len__", lambda rows: counted.append(1) or length(rows))
    store = VectorStore(str(tmp_path), "ab", "reference")
    clips = 60
    for n in range(clips):
        store.put(f"{n:016x}", 0.0, 2.5, {("fine", 0.0, 2.5): np.arange(4, dtype=np.float32) + n})
    assert refresh(store, ByExample()).moments == clips
    assert len(counted) < 10 * clips
