"""A window is not lost for a frame: what damage costs, to the second, from the decoding stage to the timeline."""

from __future__ import annotations

import shutil
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
import small_video
from hypothesis import given, settings
from hypothesis import strategies as st
from numbered_video import Recipe, trim_by_edit_list, write
from test_video_missing import damaged as with_damage
from test_workflow import SURE, Scripted

from halsted_ray.embedding.decode_stage import DecodeOptions, DecodeStage
from halsted_ray.errors import UsageError
from halsted_ray.mapping.mapping_recipe import MappingRecipe
from halsted_ray.mapping.pipeline import map_archive
from halsted_ray.mapping.workflow import Workflow
from halsted_ray.maps.staging import SegmentResult
from halsted_ray.maps.timeline import Gap, Unasked, merge
from halsted_ray.records import Segment, Window, WindowSpec
from halsted_ray.video.decode_process import DecodeProcess
from halsted_ray.video.frames import Missing, collect
from halsted_ray.video.presence import LEAST_PRESENT, is_asked, missing_s, stand_ins, union, without
from halsted_ray.video.windows import frame_times_s, has_picture, windows

SPEC = WindowSpec()  # windows of 30 s and of 2.5 s, as shipped
FRAME_S = 1 / 32  # exact in binary, so that the tests can name exact times


class FakeReader:
    """A decoding process whose video has a frame every FRAME_S and lacks the frames of ``damaged``.

    It states spans as readers do: from the first lost frame to the next good one, at the frames' times.
    """

    def __init__(self, damaged, code="corrupt"):
        self.damaged, self.code = damaged, code

    def __call__(self, memory_mb):
        return self

    def read_frames(self, uri, times_s, size, fidelity, reader, eye, deadline_s, packet_index=b""):
        picture_HWC = np.zeros((*size, 3), np.uint8)
        rows = []
        for time_s in times_s.tolist():
            shown_s = time_s // FRAME_S * FRAME_S
            lost = next((span for span in self.damaged if span[0] <= shown_s < span[1]), None)
            seconds = np.full_like(picture_HWC, min(255, int(time_s)))
            rows.append(Missing(*lost, self.code, "why") if lost else (seconds, shown_s))
        return collect(rows, times_s, size)


def mapped(damaged, duration_s=30.0, suturing=lambda kind, second: SURE, tasks=None, segment_s=60.0, **options):
    """(rows of the timeline, results of the segments) of a video with damage, by the real stages and a scripted
    model."""
    desk = Scripted(suturing, taxonomy=options.pop("taxonomy", "halsted"))
    desk.config = SimpleNamespace(windows=SPEC)
    workflow = Workflow(desk, desk, tasks=tasks, **options)
    stage = DecodeStage(DecodeOptions("", "recipe", SPEC, (1, 1)), process=FakeReader(damaged))
    results = []
    for start_s in np.arange(0, duration_s, segment_s).tolist():
        segment = Segment("s", "v", "u", start_s, min(start_s + segment_s, duration_s), duration_s)
        images, gaps = stage.decode(segment)
        found = workflow(segment, images, None, [(gap.start_s, gap.stop_s) for gap in gaps])
        unasked = [Unasked(*span, "corrupt") for span in found.unasked]
        results.append(SegmentResult(segment, found.tags, gaps, "run", unasked=unasked))
    rows = merge(
        [tag for result in results for tag in result.tags],
        [gap for result in results for gap in result.gaps],
        [task.name for task in workflow.wanted],
        [span for result in results for span in result.unasked],
    )
    return rows, results


def gap_spans(rows, task):
    return [(row.start_s, row.stop_s) for row in rows if row.task == task and row.source == "gap"]


def spans(rows, tag):
    return [(row.start_s, row.stop_s) for row in rows if row.tag == tag]


def test_a_damaged_second_is_a_gap_of_this_second_and_its_window_is_mapped():
    rows, (result,) = mapped([(10.0, 11.0)])
    assert gap_spans(rows, "macro") == [(10.0, 11.0)]
    assert spans(rows, "procedure") == [(0.0, 10.0), (11.0, 30.0)], "no row claims time that nobody saw"
    assert result.state == "part"
    assert {(tag.start_s, tag.stop_s) for tag in result.tags if tag.tag == "procedure"} == {(0.0, 30.0)}


def test_the_gap_begins_and_ends_at_frames():
    """0.99 damaged seconds inside frames: the gap reaches to the frames' edges, outwards."""
    rows, _ = mapped([(10.0 + FRAME_S, 11.0 + FRAME_S)])
    assert gap_spans(rows, "macro") == [(10.03125, 11.03125)]


def test_ten_damaged_seconds_lose_the_window():
    rows, (result,) = mapped([(10.0, 20.0)], duration_s=60.0)
    assert gap_spans(rows, "macro") == [(0.0, 30.0)]
    assert spans(rows, "procedure") == [(30.0, 60.0)]
    assert gap_spans(rows, "proficiency") == [(0.0, 30.0)], "what depends on the answer is not asked either"
    assert result.state == "part"


@pytest.mark.parametrize("stop_s, asked", [(17.5, True), (17.5 + FRAME_S, False)])
def test_three_quarters_of_the_time_are_enough(stop_s, asked):
    """7.5 s of 30 s may be missing, and not a frame more."""
    rows, _ = mapped([(10.0, stop_s)])
    assert gap_spans(rows, "macro") == ([(10.0, 17.5)] if asked else [(0.0, 30.0)])
    assert bool(spans(rows, "procedure")) is asked


def test_damage_in_many_places_adds_up():
    places = [(1.0 + 3 * n, 2.0 + 3 * n) for n in range(8)]
    assert gap_spans(mapped(places[:7])[0], "macro") == places[:7]
    assert gap_spans(mapped(places)[0], "macro") == [(0.0, 30.0)]


def test_a_fine_window_that_lacks_a_second_is_a_gap_of_the_fine_tasks_and_the_coarse_answer_stands():
    """The second [11, 12) is 40% of the window [10, 12.5): it is not asked. Its step is the coarse window's."""
    rows, (result,) = mapped([(11.0, 12.0)])
    assert gap_spans(rows, "macro") == [(11.0, 12.0)]
    assert spans(rows, "step") == [(0.0, 11.0), (12.0, 30.0)]
    assert gap_spans(rows, "proficiency") == [(10.0, 12.5)]
    assert spans(rows, "phase") == [(0.0, 10.0), (12.5, 30.0)]
    steps = {(t.start_s, t.stop_s): t.confidence for t in result.tags if t.tag == "step"}
    assert (10.0, 12.5) in steps and len(steps) == 12
    assert [(span.start_s, span.stop_s) for span in result.unasked if span.task == "proficiency"] == [(10.0, 12.5)]


def test_a_fine_window_is_asked_with_a_quarter_missing():
    rows, _ = mapped([(10.0, 10.625)])
    assert gap_spans(rows, "proficiency") == [(10.0, 10.625)] == gap_spans(rows, "macro")
    assert spans(rows, "phase") == [(0.0, 10.0), (10.625, 30.0)]


def test_damage_where_a_fine_task_does_not_apply_costs_it_the_damage_alone():
    """The coarse window is sure that nobody sutures, so its fine windows are no loss for the task of suturing."""
    rows, _ = mapped([(11.0, 12.0)], suturing=lambda kind, second: 1 - SURE)
    assert gap_spans(rows, "proficiency") == [(11.0, 12.0)]
    assert gap_spans(rows, "micro") == [(10.0, 12.5)]


def test_a_task_that_waits_for_a_fine_answer_loses_what_that_task_lost():
    rows, _ = mapped([(11.0, 12.0)], tasks=["context"])
    assert gap_spans(rows, "context") == [(10.0, 12.5)]
    assert spans(rows, "direction") == [(0.0, 10.0), (12.5, 30.0)]


def test_fine_tasks_that_wait_for_nothing_are_asked_inside_a_lost_coarse_window():
    rows, _ = mapped([(10.0, 20.0)], taxonomy="sar_rarp50")
    (task,) = {row.task for row in rows}
    assert gap_spans(rows, task) == [(10.0, 20.0)]
    alone, _ = mapped([(10.0, 20.0)], tasks=["macro"], spec=SPEC, ask_every_window=True)
    assert gap_spans(alone, "macro") == [(10.0, 20.0)], "self-labelling asks fine windows alone"


def test_frames_of_missing_times_are_those_of_the_nearest_frame_of_the_window():
    assert stand_ins(np.array([1, 0, 0, 0, 1, 1, 0], bool)).tolist() == [0, 0, 0, 4, 4, 5, 5], "the earlier of two"
    assert stand_ins(np.array([0, 0, 1], bool)).tolist() == [2, 2, 2]
    assert stand_ins(np.ones(4, bool)).tolist() == [0, 1, 2, 3]
    seen = []
    desk = Scripted(lambda kind, second: 1 - SURE)
    desk.config = SimpleNamespace(windows=SPEC)
    desk.encode = lambda clips: seen.append(clips[:, :, 0, 0, 0]) or Scripted.encode(desk, clips)
    stage = DecodeStage(DecodeOptions("", "recipe", SPEC, (1, 1)), process=FakeReader([(10.0, 15.0)]))
    segment = Segment("s", "v", "u", 0.0, 30.0, 30.0)
    images, _ = stage.decode(segment)
    Workflow(desk, desk, tasks=["macro"])(segment, images, None, [(10.0, 15.0)])
    times_s = [int(n * 1.875) for n in range(16)]
    assert times_s[5:9] == [9, 11, 13, 15]
    assert seen[0][0].tolist() == [*times_s[:6], 9, 15, *times_s[8:]]


def test_the_start_of_a_cut_costs_its_own_time(duration_s=60.0):
    """As a cut without encoding leaves it: no picture before 0.033 s; the first 30 s are mapped."""
    rows, _ = mapped([(0.0, FRAME_S)], duration_s)
    assert gap_spans(rows, "macro") == [(0.0, FRAME_S)] and spans(rows, "procedure") == [(FRAME_S, 60.0)]


def test_a_file_with_damage_after_a_third_is_mapped_before_and_after_it():
    rows, results = mapped([(100.0, 104.0)], 300.0)
    assert gap_spans(rows, "macro") == [(100.0, 104.0)]
    assert spans(rows, "procedure") == [(0.0, 100.0), (104.0, 300.0)]
    assert [result.state for result in results] == ["done", "part", "done", "done", "done"]


def test_a_segment_without_any_picture_is_one_gap():
    rows, results = mapped([(60.0, 120.0)], 180.0)
    assert [result.state for result in results] == ["done", "fail", "done"]
    assert gap_spans(rows, "macro") == gap_spans(rows, "context") == [(60.0, 120.0)]


def test_a_segment_is_failed_only_where_all_of_it_is_lost():
    segment = Segment("s", "v", "u", 0.0, 30.0, 30.0)
    gap = Gap(10.0, 11.0, "corrupt", "why")
    assert SegmentResult(segment, [], [gap], "run").state == "part", "a fine task that applies nowhere"
    assert SegmentResult(segment, [], [gap], "run", unasked=[Unasked("t", 0.0, 30.0, "corrupt")]).state == "fail"


def test_gaps_do_not_depend_on_how_a_video_is_cut_into_segments():
    """Damage from just before a segment's end on is known there too, although its last frame lies before."""
    for places in ([(59.90625, 61.0)], [(59.0, 60.0)], [(60.0, 61.0)], [(20.0, 91.0)]):
        found = [gap_spans(mapped(places, 150.0, segment_s=segment_s)[0], "macro") for segment_s in (30.0, 60.0, 150.0)]
        assert found[0] == found[1] == found[2]
        assert found[0][0] == (places[0] if places[0] != (20.0, 91.0) else (0.0, 91.0))


LEAST = st.sampled_from([0.0, 0.5, 0.75, 0.9, 1.0])
EDGES = st.lists(st.integers(0, round(150 / FRAME_S)), min_size=2, max_size=12, unique=True).map(sorted)


@settings(max_examples=150, deadline=None)
@given(EDGES, LEAST, st.sampled_from([30.0, 61.0, 97.3, 149.99]), st.sampled_from([60.0, 90.0]), st.booleans())
def test_every_second_is_answered_or_a_gap(edges, least_present, duration_s, segment_s, by_fine):
    """Random damage: each moment of a video lies in an answered window or in a gap row, and never in both; all damage
    that a frame of the grid shows is a gap; and with less asked of a window, no more is lost."""
    damaged = [(a * FRAME_S, b * FRAME_S) for a, b in zip(edges[::2], edges[1::2], strict=False)]
    task, tag, taxonomy = ("action", "action", "sar_rarp50") if by_fine else ("macro", "step", "halsted")
    found = {}
    for least in (least_present, 1.0):
        rows, results = mapped(
            damaged, duration_s, segment_s=segment_s, least_present=least, tasks=[task], taxonomy=taxonomy
        )
        lost, answered = union(gap_spans(rows, task)), union(spans(rows, tag))
        assert union([*lost, *answered]) == [(0.0, duration_s)]
        for span in answered:
            assert without(span, lost) == [span]
        gaps = [(gap.start_s, gap.stop_s) for result in results for gap in result.gaps]
        for time_s in np.arange(0, duration_s, 2.5 / 16).tolist():
            is_damaged = any(a <= time_s // FRAME_S * FRAME_S < b for a, b in damaged)
            assert is_damaged == any(a <= time_s < b for a, b in gaps)
        found[least] = lost
    assert all(not without(span, found[1.0]) for span in found[least_present])


def test_the_share_of_a_window_is_measured_in_time():
    window = Window("coarse", 30.0, 60.0)
    gaps = [(0.0, 31.0), (40.0, 41.5), (41.0, 42.0), (59.0, 99.0), (60.0, 70.0)]
    assert missing_s(window, gaps) == 1.0 + 2.0 + 1.0
    assert missing_s(window, []) == 0.0
    some = np.arange(16) > 3
    assert is_asked(window, [(30.0, 37.5)], some, 0.75) and not is_asked(window, [(30.0, 37.6)], some, 0.75)
    assert is_asked(window, [(30.0, 59.0)], some, 0.0)
    assert not is_asked(window, [(30.0, 30.1)], np.zeros(16, bool), 0.0), "at least one frame must be there"
    assert without((0.0, 10.0), [(2.0, 3.0), (2.5, 4.0), (9.0, 12.0), (20.0, 30.0)]) == [(0.0, 2.0), (4.0, 9.0)]
    assert union([(3.0, 4.0), (0.0, 1.0), (1.0, 2.0), (5.0, 5.0)]) == [(0.0, 2.0), (3.0, 4.0)]
    assert len(windows(30.0, SPEC)[0]) == 1


def test_the_share_is_part_of_the_recipe():
    """Another share is another recipe, so that what it decides is decided anew."""
    fields = dict(
        model_digest="m", encoder_fingerprint="e", taxonomy_digest="t", spec=SPEC, tasks=("macro",), fidelity="exact"
    )
    default = MappingRecipe(**fields)
    assert default.digest == MappingRecipe(**fields, least_present=0.75).digest and LEAST_PRESENT == 0.75
    assert len({default.digest, *(MappingRecipe(**fields, least_present=share).digest for share in (0.5, 0.9))}) == 3


@pytest.mark.parametrize("least_present", [-0.1, 1.5, float("nan")])
def test_a_share_that_is_none_is_refused(tmp_path, least_present):
    with pytest.raises(UsageError, match="least_present: expected a share from 0 to 1"):
        map_archive(str(tmp_path / "archive"), str(tmp_path / "maps"), least_present=least_present)


@pytest.fixture(scope="module")
def process():
    """One decoding process for all files."""
    with DecodeProcess() as process:
        yield process


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """40 s without damage."""
    recipe = Recipe(frames=1200, mux_options={"movflags": "faststart"}, codec_options={"x264-params": "scenecut=0"})
    return write(tmp_path_factory.mktemp("whole") / "whole.mp4", recipe)


def decoded(process, path, duration_s, fidelity="reference", copies=()):
    """(frames, gaps) of a real file, by the real stage and its process."""
    options = DecodeOptions(
        "", "recipe", SPEC, (90, 160), fidelity, deadline_s=60.0, copies={"v": [str(copy) for copy in copies]}
    )
    stage = DecodeStage(options, process=lambda memory_mb: process)
    return stage.decode(Segment("s", "v", str(path), 0.0, duration_s, duration_s))


@pytest.mark.parametrize("fidelity", ["exact", "reference", "keyframes"])
def test_a_real_file_with_damage_after_a_third_loses_the_damage_alone(tmp_path, process, whole, fidelity):
    """40 s with noise over the packets of [13, 15) s: before and after it every frame is there."""
    path = with_damage(tmp_path / "Mustermann.mp4", whole, 13.0, 15.0)
    images, (gap,) = decoded(process, path, 40.0, fidelity)
    assert 13.0 - 1 / 30 <= gap.start_s <= 13.125 and gap.stop_s == pytest.approx(15.0, abs=0.04)
    assert gap.code == "corrupt" and "Mustermann" not in gap.reason
    undamaged, none = decoded(process, whole.path, 40.0, fidelity)
    present = has_picture(frame_times_s(Segment("s", "v", "", 0.0, 40.0, 40.0), SPEC), [(gap.start_s, gap.stop_s)])
    assert none == [] and images[present].any((1, 2, 3)).all() and not images[~present].any()
    if fidelity == "keyframes":  # after damage any frame may stand in for the keyframe before it
        present &= np.arange(len(present)) < present.argmin()
    assert np.array_equal(images[present], undamaged[present])


@pytest.mark.parametrize("fidelity", ["exact", "reference", "keyframes"])
def test_a_real_copy_fills_the_damage_and_another_recording_of_the_same_id_fills_nothing(
    tmp_path, process, whole, fidelity
):
    other = small_video.write(tmp_path / "other.mp4", 40.0, fps=10, look=1)
    path = with_damage(tmp_path / "damaged.mp4", whole, 13.0, 15.0)
    for copies, gaps in (([whole.path], 0), ([other], 1), ([other, whole.path], 0)):
        images, found = decoded(process, path, 40.0, fidelity, copies)
        assert len(found) == gaps and all("shows other pictures" in gap.reason for gap in found)
        assert images.any((1, 2, 3)).all() == (not gaps)


@pytest.fixture(scope="module")
def with_b_frames(tmp_path_factory):
    options = {"bf": "2", "b_strategy": "0", "x264-params": "scenecut=0"}
    recipe = Recipe(frames=1100, mux_options={"movflags": "faststart"}, codec_options=options)
    return write(tmp_path_factory.mktemp("long") / "long.mp4", recipe)


@pytest.mark.parametrize("fidelity", ["exact", "reference", "keyframes"])
def test_a_real_cut_that_begins_with_an_unreferenced_frame_is_mapped_whole(tmp_path, process, with_b_frames, fidelity):
    """As ``-ss 3.3 -c copy`` leaves it; at the default fidelity it lost its first 30 s."""
    for frames in (98, 99, 100):
        path = shutil.copy(with_b_frames.path, tmp_path / f"{frames}.mp4")  # the process knows files by their names
        cut = trim_by_edit_list(replace(with_b_frames, path=path), frames)
        images, gaps = decoded(process, cut.path, 33.0, fidelity)
        assert gaps == [] and images is not None
