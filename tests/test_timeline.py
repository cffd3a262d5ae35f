"""Windows merge into a timeline that does not show how the video was cut."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from halsted_ray.maps.timeline import Gap, Interval, merge, unknown_spans
from halsted_ray.records import Prediction


def tag(start_s, stop_s, category, confidence=0.5, name="action", task="micro"):
    return Prediction(start_s, stop_s, task, name, category, confidence)


def test_neighbours_of_one_category_merge():
    rows = merge([tag(0, 2.5, "Cautery", 0.9), tag(2.5, 5, "Cautery", 0.7), tag(5, 7.5, "Spread", 0.6)])
    assert rows == [
        Interval(0, 5, "micro", "action", "Cautery", 0.8, "ai"),
        Interval(5, 7.5, "micro", "action", "Spread", 0.6, "ai"),
    ]


def test_confidence_is_weighted_by_length():
    (row,) = merge([tag(0, 3, "Cautery", 0.9), tag(3, 4, "Cautery", 0.5)])
    assert row.confidence == 0.8


def test_windows_that_do_not_touch_stay_apart():
    assert len(merge([tag(0, 2.5, "Cautery"), tag(5, 7.5, "Cautery")])) == 2


def test_a_category_that_comes_back_is_a_new_row():
    assert len(merge([tag(0, 1, "A"), tag(1, 2, "B"), tag(2, 3, "A")])) == 3


def test_lanes_do_not_mix():
    rows = merge([tag(0, 1, "Both", name="arm"), tag(1, 2, "Both", name="direction", task="context")])
    assert [row.tag for row in rows] == ["arm", "direction"]


def test_a_gap_is_a_row_of_every_task_and_neighbouring_gaps_merge():
    gaps = [Gap(30, 60, "corrupt", "x"), Gap(0, 30, "corrupt", "y"), Gap(60, 90, "storage", "z")]
    rows = merge([tag(90, 92.5, "Cautery")], gaps, ["macro", "micro"])
    assert [(r.start_s, r.stop_s, r.task, r.tag, r.category, r.source) for r in rows] == [
        (0, 60, "macro", "gap", "corrupt", "gap"),
        (0, 60, "micro", "gap", "corrupt", "gap"),
        (60, 90, "macro", "gap", "storage", "gap"),
        (60, 90, "micro", "gap", "storage", "gap"),
        (90, 92.5, "micro", "action", "Cautery", "ai"),
    ]


@given(st.lists(st.sampled_from("ABC"), min_size=1, max_size=30), st.randoms())
def test_a_timeline_covers_its_windows_once_in_any_order(categories, random):
    tags = [tag(n * 2.5, n * 2.5 + 2.5, category) for n, category in enumerate(categories)]
    shuffled = random.sample(tags, len(tags))
    rows = merge(shuffled)
    assert rows == merge(tags)
    assert [row.start_s for row in rows[1:]] == [row.stop_s for row in rows[:-1]]
    assert (rows[0].start_s, rows[-1].stop_s) == (0, 2.5 * len(tags))
    assert all(left.category != right.category for left, right in zip(rows, rows[1:], strict=False))


def test_unknown_time_is_a_row_of_each_task_and_no_other_row_of_the_task_lies_over_it():
    tags = [Prediction(0, 60, "macro", "step", "Suturing", 0.9)]
    rows = merge(tags, (), ("macro", "micro"), unknown_spans([("macro", 30, 60), ("micro", 30, 45), ("micro", 45, 60)]))
    assert [(row.start_s, row.stop_s, row.task, row.tag, row.category, row.source) for row in rows] == [
        (0, 30, "macro", "step", "Suturing", "ai"),
        (30, 60, "macro", "unknown", "unknown", "unknown"),
        (30, 60, "micro", "unknown", "unknown", "unknown"),
    ]
