"""What a map says in short: the strip, the procedure, the phases of stitches, the moments that are worth a look."""

from __future__ import annotations

import random

import pytest

from halsted_ray import taxonomy as taxonomies
from halsted_ray.maps.stitches import find_stitches
from halsted_ray.maps.summary import STRIP_BINS, Moments, find_moments, summarise
from halsted_ray.records import UNKNOWN

HALSTED = taxonomies.load()


def row(start_s, stop_s, tag, category, confidence=0.9, source="ai", task=None):
    return {
        "start_s": float(start_s),
        "stop_s": float(stop_s),
        "task": task or HALSTED.task_of_tag(tag).name,
        "tag": tag,
        "category": category,
        "confidence": confidence,
        "source": source,
    }


def phases(*lengths_s: float, category="Driving"):
    """Phases one after another, with a second between them."""
    rows, at_s = [], 0.0
    for length_s in lengths_s:
        rows.append(row(at_s, at_s + length_s, "phase", category))
        at_s += length_s + 1
    return rows


def test_a_strip_shows_the_step_that_fills_most_of_each_part():
    rows = [row(0, 50, "step", "Suturing"), row(50, 60, "step", "Dissection"), row(80, 200, "step", "Suturing")]
    found = summarise(rows, 200.0, ["macro"], HALSTED, None)
    assert found.strip == ((0.0, 0.25, 0), (0.25, 0.3, 1), (0.4, 1.0, 0))
    assert found.strip_categories == ("Suturing", "Dissection")
    assert found.asked == ("macro",) and found.not_asked == ("micro", "proficiency", "context")
    assert (found.stitches, found.rated, found.procedure) == (None, 0, None)


def test_a_strip_is_short_however_many_rows_a_map_has():
    rows = [row(n / 10, (n + 1) / 10, "step", ("Suturing", "Dissection")[n % 2]) for n in range(10_000)]
    found = summarise(rows, 1000.0, ["macro"], HALSTED, None)
    assert len(found.strip) <= STRIP_BINS
    assert all(0 <= start < stop <= 1 for start, stop, _ in found.strip)
    assert all(one[1] <= other[0] for one, other in zip(found.strip, found.strip[1:], strict=False))


@pytest.mark.parametrize("duration_s", [0.0, 1e-3, 0.4, 7.0])
def test_a_short_or_empty_video_has_a_strip_too(duration_s):
    rows = [row(0, duration_s, "step", "Suturing")] if duration_s else []
    found = summarise(rows, duration_s, ["macro"], HALSTED, None)
    assert found.strip == (((0.0, 1.0, 0),) if duration_s else ())


def test_the_procedure_is_that_of_most_of_the_time():
    rows = [row(0, 60, "procedure", "Prostatectomy", 0.8), row(60, 80, "procedure", "Hysterectomy", 0.99)]
    rows += [row(80, 100, "procedure", "Prostatectomy", 0.4), row(0, 100, "specialty", "Urology", 1.0)]
    found = summarise(rows, 100.0, ["macro"], HALSTED, None)
    assert (found.procedure, found.procedure_confidence) == ("Prostatectomy", 0.7)


def test_gaps_and_unknown_spans_are_no_steps_and_no_moments():
    rows = [row(0, 60, kind, kind, 0.0, kind, task="macro") for kind in ("gap", UNKNOWN)]
    found = summarise(rows, 60.0, ["macro"], HALSTED, None)
    assert found.strip == () and found.moments == Moments()


def test_phases_are_timed_per_stitch():
    rows = [row(0, 5, "phase", "Needle Handling"), row(5, 9, "phase", "Driving"), row(9, 12, "phase", "Withdrawal")]
    rows += [row(12, 14, "phase", "Driving"), row(0, 12, "proficiency", "High"), row(12, 14, "proficiency", "Low")]
    found = summarise(rows, 14.0, ["proficiency"], HALSTED, find_stitches(rows, HALSTED))
    assert found.phase_times_s == {"Needle Handling": [5.0], "Driving": [4.0, 2.0], "Withdrawal": [3.0]}
    assert (found.stitches, found.rated, found.rated_high) == (2, 2, 1)


def test_the_least_sure_the_longest_and_the_row_unlike_the_others_are_moments():
    rows = [*phases(5, 5.5, 5, 4.5, 5, 5, 30, 5, 0.9, 5), row(0, 600, "step", "Suturing", 0.1)]
    rows[4]["confidence"] = 0.3
    found = find_moments(rows, HALSTED)
    assert found.least_sure.value == 0.3 and found.least_sure.start_s == rows[4]["start_s"], "of fine rows"
    assert found.longest.value == 30.0
    assert found.unlike.stop_s - found.unlike.start_s == pytest.approx(0.9), "the longest is another moment already"


def test_no_row_is_unlike_a_few_others():
    assert find_moments(phases(5, 5, 5, 5, 5, 90), HALSTED).unlike is None
    rows = [*phases(5, 5, 5, 5, 5), *phases(5, 5, 5, 5, 80, category="Withdrawal")]
    assert find_moments(rows, HALSTED).unlike is None, "each kind by itself"


def test_coarse_rows_are_moments_where_no_fine_task_was_asked():
    found = find_moments([row(0, 60, "step", "Suturing"), row(60, 70, "step", "Dissection", 0.2)], HALSTED)
    assert (found.least_sure.category, found.longest.category) == ("Dissection", "Suturing")


def test_the_order_of_equal_rows_changes_nothing_but_which_of_them_it_is():
    rows = phases(*[5.0] * 30, 40)
    expected = find_moments(rows, HALSTED).longest
    random.Random(0).shuffle(rows)
    assert find_moments(rows, HALSTED).longest == expected


def test_the_time_of_a_step_is_exact_and_leaves_gaps_out():
    rows = [
        row(0, 50.25, "step", "Suturing"),
        row(60, 61, "step", "Suturing"),
        row(61, 70, "step", UNKNOWN, source=UNKNOWN),
        row(70, 200, "step", "no frame decodes", source="gap"),
        row(0, 9, "phase", "Driving"),
    ]
    assert summarise(rows, 200.0, ["macro"], HALSTED, None).step_times_s == {"Suturing": 51.25}
