"""Folds, intervals, tests. Golden values are worked out by hand or by SciPy's own distributions."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from halsted_ray.errors import AtlasError, UsageError
from halsted_ray.evaluation import intervals as i
from halsted_ray.evaluation.folds import draw_folds, limit_training_videos, strategy_for

ACCURACIES = (0.66, 0.70, 0.68, 0.72, 0.64)


def test_golden_intervals_over_folds():
    normal, t = i.over_folds(ACCURACIES), i.over_folds(ACCURACIES, "t")
    assert (normal.value, normal.low, normal.high) == pytest.approx((0.68, 0.65228, 0.70772), abs=5e-6)
    assert (t.value, t.low, t.high) == pytest.approx((0.68, 0.64074, 0.71926), abs=5e-6)
    assert i.over_folds([*ACCURACIES, math.nan]) == normal
    alone = i.over_folds([0.5])
    assert alone.value == 0.5 and math.isnan(alone.low) and math.isnan(i.over_folds([]).value)
    with pytest.raises(ValueError, match="normal"):
        i.over_folds(ACCURACIES, "bootstrap")


def test_bootstrap_draws_videos_not_windows():
    # ten videos of 100 windows, each all right or all wrong: as unsure as ten throws of a coin
    right = np.array([[100], [0]] * 5)
    found = i.bootstrap(right, np.full((10, 1), 100))
    assert found.value == 0.5 and found.low <= 0.2 and found.high >= 0.8
    assert found == i.bootstrap(right, np.full((10, 1), 100)), "the same seed, the same interval"
    alone = i.bootstrap(right[:1], np.array([[100]]))
    assert alone.value == 1 and math.isnan(alone.low)


def test_bootstrap_over_tags_is_the_mean_of_their_accuracies():
    right, asked = np.array([[8, 0], [6, 1]]), np.array([[10, 0], [10, 2]])
    assert i.bootstrap(right, asked).value == pytest.approx((0.7 + 0.5) / 2)
    assert math.isnan(i.bootstrap(np.zeros((2, 1)), np.zeros((2, 1))).value)


@given(st.lists(st.tuples(st.integers(0, 9), st.integers(0, 5)), min_size=2, max_size=8))
def test_bootstrap_holds_its_figure_and_stays_a_share(counts):
    right = np.array([[r] for r, _ in counts])
    asked = right + np.array([[w] for _, w in counts])
    found = i.bootstrap(right, asked, draws=100)
    if (asked > 0).sum() > 1:
        assert 0 <= found.low <= found.high <= 1 and 0 <= found.value <= 1
    else:
        assert math.isnan(found.low) and math.isnan(found.value) == (not asked.any())


def test_a_paired_difference_is_surer_than_two_intervals():
    rng = np.random.default_rng(0)
    first = rng.integers(20, 90, (12, 1))
    asked = np.full((12, 1), 100)
    better = i.paired_bootstrap(first, first + 5, asked)
    assert (better.value, better.low, better.high, better.p_worse) == pytest.approx((0.05, 0.05, 0.05, 0))
    worse = i.paired_bootstrap(first + 5, first, asked)
    assert worse.value == pytest.approx(-0.05) and worse.p_worse == 1
    assert i.bootstrap(first, asked).high - i.bootstrap(first, asked).low > 0.1
    assert math.isnan(i.paired_bootstrap(first[:1], first[:1], asked[:1]).low)


def test_golden_paired_tests():
    assert i.paired_test(ACCURACIES, [a + 0.01 * k for k, a in enumerate(ACCURACIES, 1)]) == pytest.approx(0.0625)
    assert i.paired_test([1, 2, 3], [1, 2, 3]) == 1
    assert math.isnan(i.paired_test([1], [2]))
    # differences 1, 2, 3: t = 2 / (1 / sqrt 3), two degrees of freedom
    assert i.paired_test([0, 0, 0, math.nan], [1, 2, 3, 4], "t") == pytest.approx(0.0741799, abs=1e-6)
    assert i.paired_test([0, 0], [1, 1], "t") == 0
    with pytest.raises(ValueError, match="pairs"):
        i.paired_test([1], [1, 2])


def procedures(**counts):
    return {f"{name}{k}": name for name, count in counts.items() for k in range(count)}


def test_folds_hold_out_two_videos_of_each_procedure():
    videos = procedures(a=6, b=2, c=1, d=9)
    drawn = draw_folds(videos, 5)
    for split in drawn:
        assert set(split) == set(videos)
        for name in "abd":
            parts = [split[video] for video, procedure in videos.items() if procedure == name]
            assert parts.count("validation") == parts.count("test") == 1
        assert split["c0"] == "train"
    # IMA harvest of the paper: two videos, never learned from
    assert all(split["b0"] != "train" and split["b1"] != "train" for split in drawn)
    assert len({tuple(v for v in split if split[v] == "test" and v[0] in "ad") for split in drawn}) == 5
    assert drawn == draw_folds(dict(reversed(videos.items())), 5)
    assert drawn != draw_folds(videos, 5, seed=1)


@given(st.integers(3, 9), st.integers(1, 12), st.integers(0, 99))
def test_global_folds_are_unique_pairs_and_test_videos_take_turns(count, folds, seed):
    drawn = draw_folds({f"v{k}": "p" for k in range(count)}, folds, "global", seed)
    pairs = [tuple(next(v for v in split if split[v] == part) for part in ("validation", "test")) for split in drawn]
    if folds <= count * (count - 1):
        assert len(set(pairs)) == folds
    tests = [test for _, test in pairs]
    assert max(map(tests.count, tests)) <= -(-folds // count)
    assert all(list(split.values()).count("train") == count - 2 for split in drawn)


def test_folds_that_can_not_be_drawn():
    with pytest.raises(AtlasError, match="4 videos of 2 procedures.*leaves 0 to learn from.*'global'"):
        draw_folds(procedures(a=2, b=2))
    with pytest.raises(AtlasError, match="leaves no test video"):
        draw_folds(procedures(a=1, b=1))
    with pytest.raises(AtlasError, match="annotate more"):
        draw_folds(procedures(a=2), strategy="global")
    with pytest.raises(UsageError, match="per_procedure, global"):
        draw_folds(procedures(a=9), strategy="random")
    with pytest.raises(UsageError, match="folds=0"):
        draw_folds(procedures(a=9), 0)
    assert strategy_for(procedures(a=5, b=6)) == "per_procedure"
    assert strategy_for(procedures(a=1, b=1, c=1)) == strategy_for(procedures(a=2, b=2)) == "global"


def test_fewer_training_videos_still_cover_the_procedures():
    split = {f"{p}{k}": part for p in "abc" for k, part in enumerate(("train", "train", "validation", "test"))}
    found = limit_training_videos(split, 3, {video: video[0] for video in split}, seed=0)
    learning = {video for video, part in found.items() if part == "train"}
    assert sorted(video[0] for video in learning) == ["a", "b", "c"]
    assert {v: p for v, p in found.items() if p != "train"} == {v: p for v, p in split.items() if p != "train"}
    assert limit_training_videos(split, 6, {}, seed=0) == split
    with pytest.raises(UsageError, match="1 to 6"):
        limit_training_videos(split, 7, {}, seed=0)
