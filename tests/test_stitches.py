"""Stitches over the rows of a timeline: the rule, its properties, and its count against the script of phantoms."""

from __future__ import annotations

import time
from dataclasses import asdict, replace
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import binom, binomtest

from halsted_ray import taxonomy as taxonomies
from halsted_ray.maps.stitch_totals import median_time, totals_of, wilson
from halsted_ray.maps.stitches import Stitch, find_stitches
from halsted_ray.maps.timeline import Gap, Unasked, merge
from halsted_ray.phantom.script import make_script
from halsted_ray.records import UNKNOWN, Prediction

HALSTED = taxonomies.load()
HANDLING, DRIVING, WITHDRAWAL = "Needle Handling", "Driving", "Withdrawal"
LETTERS = {"H": HANDLING, "D": DRIVING, "W": WITHDRAWAL}
CONFIDENCES = (0.5, 0.75, 0.875, 1.0)


def row(start_s, stop_s, tag, category, confidence=0.875, source="ai", task=None):
    task = task or HALSTED.task_of_tag(tag).name
    names = ("start_s", "stop_s", "task", "tag", "category", "confidence", "source")
    return dict(zip(names, (start_s, stop_s, task, tag, category, confidence, source), strict=True))


def phases(text):
    """The rows of ``text``: phases by their first letters, each with its seconds; ``-`` is time without a row, ``g`` a
    gap, ``u`` an unknown span: ``H5 D10 -3 W5``."""
    rows, at_s = [], 0.0
    for word in text.split():
        stop_s = at_s + float(word[1:])
        if word[0] in LETTERS:
            rows.append(row(at_s, stop_s, "phase", LETTERS[word[0]]))
        elif word[0] in "gu":
            kind = {"g": "gap", "u": UNKNOWN}[word[0]]
            rows.append(row(at_s, stop_s, kind, kind, 0.0, kind, task="proficiency"))
        at_s = stop_s
    return rows


def spans(text):
    return [(stitch.start_s, stitch.stop_s) for stitch in find_stitches(phases(text), HALSTED)]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("H5 D10 W5", [(0, 20)]),
        ("H5 D10 W5 H5 D10 W5", [(0, 20), (20, 40)]),
        ("D10", [(0, 10)]),
        ("H5 D10", [(0, 15)]),
        ("D10 W5", [(0, 15)]),
        ("H5", []),
        ("W5", []),
        ("H5 W5", []),
        ("H5 W5 D10 W5", [(10, 25)]),
        ("D10 W5 D10 W5", [(0, 15), (15, 30)]),
        ("", []),
    ],
    ids=str,
)
def test_a_stitch_is_handling_driving_withdrawal_in_order_and_needs_driving(text, expected):
    assert spans(text) == expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("H5 D4 H3 D4 W5", [(0, 21)]),
        ("H5 D4 H5 D4 W5", [(0, 23)]),
        ("D4 H2 W5", [(0, 11)]),
        ("H5 D10 H6 D10 W5", [(0, 15), (15, 36)]),
        ("D4 H3 -1 H3 D4", [(0, 4), (4, 15)]),
        ("H5 D10 H3", [(0, 15)]),
    ],
    ids=str,
)
def test_a_needle_that_is_taken_anew_stays_one_stitch_and_long_handling_begins_the_next(text, expected):
    assert spans(text) == expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("H5 -5 D10 -5 W5", [(0, 30)]),
        ("H5 -5.5 D10 W5", [(10.5, 25.5)]),
        ("H5 D10 -5.5 W5", [(0, 15)]),
        ("H5 D5 -5.5 D5 W5", [(0, 10), (15.5, 25.5)]),
        ("D5 H2 -5.5 D5", [(0, 5), (12.5, 17.5)]),
    ],
    ids=str,
)
def test_a_stitch_bears_a_pause_of_five_seconds_and_no_longer_one(text, expected):
    assert spans(text) == expected


@pytest.mark.parametrize("kind", ["g", "u"])
def test_a_gap_and_an_unknown_span_break_a_stitch_however_short(kind):
    assert spans(f"H5 D5 {kind}1 D5 W5") == [(0, 10), (11, 21)]
    assert spans(f"H5 {kind}1 D5 W5") == [(6, 16)]


def test_a_gap_of_another_task_breaks_nothing():
    gap = row(10, 11, "gap", "corrupt", 0.0, "gap", task="macro")
    assert len(find_stitches([*phases("H5 D5 -1 D5 W5"), gap], HALSTED)) == 1


def test_the_phases_times_are_added_up():
    [stitch] = find_stitches(phases("H5 D4 H3 D4 -2 W6"), HALSTED)
    assert (stitch.handling_s, stitch.driving_s, stitch.withdrawal_s) == (8, 8, 6)
    assert (stitch.start_s, stitch.stop_s) == (0, 24)


def test_target_direction_and_extent_are_those_of_most_of_the_driving():
    rows = [
        *phases("H9 D10 W5"),
        row(0, 9, "anatomy", "Bladder", 1.0),  # while the needle is handled: says nothing of the driving
        row(9, 12, "anatomy", "Urethra"),
        row(12, 19, "anatomy", "Colon"),
        row(9, 19, "direction", "In"),
    ]
    [stitch] = find_stitches(rows, HALSTED)
    assert (stitch.target, stitch.direction, stitch.extent) == ("Colon", "In", None)


def test_proficiency_is_the_more_probable_category_over_the_whole_stitch():
    rows = [*phases("H4 D12 W4"), row(0, 12, "proficiency", "High", 0.6), row(12, 20, "proficiency", "Low", 0.9)]
    [stitch] = find_stitches(rows, HALSTED)
    assert (stitch.proficiency, stitch.is_high) == ("Low", False), "12 s of High at .6 against 8 s of Low at .9"
    assert stitch.proficiency_probability == pytest.approx((12 * 0.4 + 8 * 0.9) / 20)
    assert find_stitches(phases("H5 D10 W5"), HALSTED)[0].proficiency is None


def test_the_confidence_is_that_of_the_least_sure_phase():
    rows = phases("H5 D4 H2 D4 W5")
    for at, confidence in enumerate((1.0, 0.5, 1.0, 0.75, 0.7)):
        rows[at]["confidence"] = confidence
    assert find_stitches(rows, HALSTED)[0].confidence == 0.625


def test_of_rows_over_one_another_the_earlier_keeps_the_time():
    rows = [*phases("H5 D10 W5"), row(8, 18, "phase", DRIVING), row(6, 7, "phase", WITHDRAWAL)]
    [stitch] = find_stitches(rows, HALSTED)
    assert (stitch.handling_s, stitch.driving_s, stitch.withdrawal_s, stitch.stop_s) == (5, 13, 2, 20)


def test_a_taxonomy_without_phases_has_no_stitches():
    assert taxonomies.load("cholec80").stitch is None
    assert find_stitches(phases("H5 D10 W5"), replace(HALSTED, stitch=None)) == []


def test_the_phases_of_rarp50_make_stitches():
    names = ("Picking-up the needle", "Positioning the needle tip", "Pushing the needle through the tissue")
    names += ("Pulling the needle out of the tissue", "Tying a knot")
    rows = [row(5 * n, 5 * n + 5, "action", name, task="action") for n, name in enumerate(names)]
    [stitch] = find_stitches(rows, taxonomies.load("sar_rarp50"))
    assert (stitch.start_s, stitch.stop_s, stitch.handling_s, stitch.target) == (0, 20, 10, None)


@st.composite
def windows(draw):
    """The merged rows of 1 to 40 windows of 2.5 s: phases with their context, nothing, gaps and unknown spans."""
    kinds = draw(st.lists(st.sampled_from("HDWHDWHDW-gu"), min_size=1, max_size=40))
    predictions, gaps, unasked = [], [], []
    for place, kind in enumerate(kinds):
        span = (2.5 * place, 2.5 * place + 2.5)
        confidence = draw(st.sampled_from(CONFIDENCES))
        if kind in LETTERS:
            level = draw(st.sampled_from(["Low", "High"]))
            predictions += [
                Prediction(*span, "proficiency", "phase", LETTERS[kind], confidence),
                Prediction(*span, "proficiency", "proficiency", level, confidence),
            ]
        if kind == "D":
            way = draw(st.sampled_from(["In", "Out", "Both"]))
            predictions.append(Prediction(*span, "context", "direction", way, confidence))
        if kind == "g":
            gaps.append(Gap(*span, "corrupt", "no frame decodes"))
        if kind == "u":
            unasked.append(Unasked("proficiency", *span, UNKNOWN))
    rows = [asdict(interval) for interval in merge(predictions, gaps, ("proficiency", "context"), unasked)]
    return rows, 2.5 * len(kinds)


@given(windows())
def test_stitches_lie_inside_the_video_in_order_and_never_overlap(given_rows):
    rows, duration_s = given_rows
    found = find_stitches(rows, HALSTED)
    for stitch in found:
        assert 0 <= stitch.start_s < stitch.stop_s <= duration_s
        in_phases_s = stitch.handling_s + stitch.driving_s + stitch.withdrawal_s
        assert 0 < stitch.driving_s <= in_phases_s <= stitch.stop_s - stitch.start_s
        assert 0 <= stitch.confidence <= 1
        assert stitch.proficiency_probability is None or 0.5 <= stitch.proficiency_probability <= 1
    assert all(one.stop_s <= other.start_s for one, other in pairwise(found))


@given(windows())
def test_all_driving_is_in_a_stitch(given_rows):
    rows, _ = given_rows
    driven_s = sum(one["stop_s"] - one["start_s"] for one in rows if one["category"] == DRIVING)
    assert sum(stitch.driving_s for stitch in find_stitches(rows, HALSTED)) == driven_s


@given(windows(), st.randoms(use_true_random=False))
def test_the_order_of_the_rows_changes_nothing(given_rows, random):
    rows, _ = given_rows
    mixed = list(rows)
    random.shuffle(mixed)
    assert find_stitches(mixed, HALSTED) == find_stitches(rows, HALSTED)


def cut(rows, at_s):
    """(rows before, rows from ``at_s`` on); a row that lies over it is in both, in part."""
    before = [{**one, "stop_s": min(at_s, one["stop_s"])} for one in rows if one["start_s"] < at_s]
    return before, [{**one, "start_s": max(at_s, one["start_s"])} for one in rows if one["stop_s"] > at_s]


@settings(max_examples=300)
@given(windows(), st.integers(0, 200))
def test_a_map_that_is_cut_and_joined_has_the_same_stitches_and_its_halves_differ_at_the_cut_alone(given_rows, place):
    rows, _ = given_rows
    at_s = place / 2
    before, after = cut(rows, at_s)
    whole = find_stitches(rows, HALSTED)
    without_breaks = [one for one in rows if one["source"] == "ai" or not one["start_s"] < at_s < one["stop_s"]]
    if len(without_breaks) == len(rows):
        assert find_stitches(before + after, HALSTED) == whole
    first, second = find_stitches(before, HALSTED), find_stitches(after, HALSTED)
    assert [one for one in whole if one.stop_s <= at_s] == first[: sum(one.stop_s <= at_s for one in whole)]
    later = [one for one in whole if one.start_s >= at_s]
    assert later == second[len(second) - len(later) :]
    assert len(first) + len(second) <= len(whole) + 1


def test_the_time_grows_with_the_rows_and_not_with_their_square():
    """A map of two days in which every window changes must not hold a replica of the service."""
    kinds = (DRIVING, WITHDRAWAL, HANDLING)

    def least_cpu_s(windows: int) -> float:
        rows = [row(2.5 * n, 2.5 * n + 2.5, "phase", kinds[n % 3]) for n in range(windows)]
        rows += [row(2.5 * n, 2.5 * n + 2.5, "direction", ("In", "Out")[n % 2]) for n in range(windows)]
        times_s = []
        for _ in range(3):
            began_s = time.process_time()
            assert len(find_stitches(rows, HALSTED)) == windows // 3
            times_s.append(time.process_time() - began_s)
        return min(times_s)

    assert least_cpu_s(48_000) / least_cpu_s(3_000) < 48, "16 times the rows; 256 would be their square"


@pytest.mark.parametrize("seed", range(8))
def test_the_true_rows_of_a_phantom_give_the_stitches_of_its_script(seed):
    script = make_script(seed, 600)
    rows = [
        row(clip.start_s, clip.stop_s, tag, category, 1.0)
        for clip in script.clips("v")
        for tag, category in clip.tags.items()
    ]
    found = find_stitches(rows, HALSTED)
    driven = [event for event in script.events if event.name == DRIVING]
    assert len(found) == len(driven) > 5
    for stitch, event in zip(found, driven, strict=True):
        at = script.events.index(event)
        assert (stitch.start_s, stitch.stop_s) == (script.events[at - 1].start_s, script.events[at + 1].stop_s)
        told = {
            "anatomy": stitch.target,
            "direction": stitch.direction,
            "extent": stitch.extent,
            "proficiency": stitch.proficiency,
        }
        assert told == event.stitch


def stitch_of(high, driving_s=10.0):
    return Stitch(0.0, 20.0, 0.0, driving_s, 5.0, None, None, None, None, None, high, 1.0)


def test_totals_count_shares_over_the_stitches_that_are_rated_and_medians_over_those_that_show_the_phase():
    totals = totals_of([stitch_of(True), stitch_of(True), stitch_of(False, 12.0), stitch_of(None, 14.0)])
    assert (totals.count, totals.proficiency_n, totals.high_share) == (4, 3, 2 / 3)
    assert (totals.handling.n, totals.handling.median_s) == (0, None)
    assert (totals.driving.n, totals.driving.median_s, totals.driving.low_s) == (4, 11.0, None)
    nothing = totals_of([])
    assert (nothing.count, nothing.high_share, nothing.high_low, nothing.high_high) == (0, None, None, None)


@pytest.mark.parametrize(("hits", "n"), [(0, 1), (1, 1), (3, 7), (7, 7), (50, 90), (0, 500)])
def test_wilsons_interval_is_scipys(hits, n):
    expected = binomtest(hits, n).proportion_ci(0.95, "wilson")
    assert wilson(hits, n) == pytest.approx((expected.low, expected.high))


@pytest.mark.parametrize("n", [*range(1, 60), 100, 999, 1000, 5001])
def test_the_interval_of_a_median_is_the_narrowest_pair_of_order_statistics_that_is_sure_enough(n):
    found = median_time([float(value) for value in range(1, n + 1)])
    sure = [k for k in range(1, n // 2 + 1) if 1 - 2 * binom.cdf(k - 1, n, 0.5) >= 0.95]
    if not sure:
        assert n < 6 and found.low_s is None and found.high_s is None
    else:
        assert abs(found.low_s - sure[-1]) <= (n >= 1000)
        assert found.low_s + found.high_s == n + 1
