"""Windows and segments: every instant of a video lies in exactly one cell, however it is cut."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from halsted_ray.errors import UsageError
from halsted_ray.records import Video, WindowSpec
from halsted_ray.video.windows import frame_rows, frame_times_s, segments, windows, windows_of

specs = st.builds(
    lambda fine_32nds, fine_per_coarse: WindowSpec(fine_32nds / 32 * fine_per_coarse, fine_32nds / 32),
    st.integers(16, 160),
    st.integers(1, 12),
)
durations_s = st.one_of(st.floats(0.01, 900.0), st.integers(1, 900).map(float))


def video(duration_s: float) -> Video:
    return Video("0123456789abcdef", "case.mp4", 1, duration_s, 640, 360, 25.0, "h264")


def assert_tiles(cells, start_s, stop_s):
    assert cells[0].start_s == start_s and cells[-1].stop_s == stop_s
    assert all(a.stop_s == b.start_s for a, b in zip(cells, cells[1:], strict=False))
    assert all(cell.start_s < cell.stop_s for cell in cells)


@given(durations_s, specs)
def test_windows_tile_the_video(duration_s, spec):
    coarse, fine = windows(duration_s, spec)
    assert_tiles(coarse, 0.0, duration_s)
    assert_tiles(fine, 0.0, duration_s)
    assert all(window.start_s % spec.coarse_s == 0 for window in coarse)
    assert all(window.start_s % spec.fine_s == 0 for window in fine)


@settings(deadline=None)
@given(durations_s, specs, st.integers(1, 10))
def test_segments_hold_the_windows_of_the_video(duration_s, spec, windows_a_segment):
    """Segment-length invariance: whatever the cut, the same windows come out, each once."""
    cut = segments(video(duration_s), spec, windows_a_segment * spec.coarse_s, "recipe")
    assert_tiles(cut, 0.0, duration_s)
    coarse, fine = windows(duration_s, spec)
    parts = [windows_of(segment, spec) for segment in cut]
    assert [window for part, _ in parts for window in part] == coarse
    assert [window for _, part in parts for number in sorted(part) for window in part[number]] == fine
    for part, inside in parts:
        for number, window in enumerate(part):
            assert_tiles(inside[number], window.start_s, window.stop_s)


@settings(deadline=None, max_examples=30)
@given(durations_s, specs, st.integers(1, 4), st.integers(1, 4))
def test_segment_length_invariance_of_frame_times(duration_s, spec, one, other):
    def times_of_windows(windows_a_segment):
        found = {}
        for segment in segments(video(duration_s), spec, windows_a_segment * spec.coarse_s, "recipe"):
            times_s = frame_times_s(segment, spec)
            coarse, inside = windows_of(segment, spec)
            for window in [*coarse, *(w for part in inside.values() for w in part)]:
                found[window] = tuple(times_s[frame_rows([window], segment, spec)[0]])
        return found

    assert times_of_windows(one) == times_of_windows(other)


@given(durations_s, specs)
def test_frames_stand_where_the_window_says(duration_s, spec):
    segment = segments(video(duration_s), spec, spec.coarse_s, "recipe")[-1]
    times_s = frame_times_s(segment, spec)
    assert times_s[0] == segment.start_s and times_s[-1] < duration_s
    coarse, inside = windows_of(segment, spec)
    for window, length_s in [(coarse[0], spec.coarse_s), *((w, spec.fine_s) for w in inside[0])]:
        wanted_s = window.start_s + np.arange(spec.frames) * (length_s / spec.frames)
        got_s = times_s[frame_rows([window], segment, spec)[0]]
        assert np.array_equal(got_s[wanted_s < duration_s], wanted_s[wanted_s < duration_s])
        assert np.all(got_s[wanted_s >= duration_s] < duration_s)


def test_segment_ids_name_what_decides_the_result():
    spec = WindowSpec()
    ids = {
        segment.segment_id
        for recipe in ("a", "b")
        for d in (100.0, 200.0)
        for segment in segments(video(d), spec, 60.0, recipe)
    }
    assert len(ids) == 2 * (2 + 4)
    assert segments(video(100.0), spec, 60.0, "a") == segments(video(100.0), spec, 60.0, "a")


def test_segment_length_off_the_grid_is_refused():
    with pytest.raises(UsageError, match=r"expected a whole number of coarse windows of 30 s, got 50 s.*60"):
        segments(video(100.0), WindowSpec(), 50.0, "recipe")
