"""Cohen's kappa and boundary errors between two annotators, against scikit-learn and by hand."""

import math
import random

import pytest
from sklearn.metrics import cohen_kappa_score

from halsted_ray.evaluation.annotator_agreement import (
    _overlapping,
    agreement,
    boundary_errors_s,
    cohen_kappa,
    frames_of,
)


@pytest.mark.parametrize("seed", range(25))
def test_kappa_is_that_of_scikit_learn(seed):
    drawn = random.Random(seed)
    one = [drawn.choice("abcd") for _ in range(drawn.randrange(2, 300))]
    other = [label if drawn.random() < 0.6 else drawn.choice("abc") for label in one]
    assert cohen_kappa(one, other) == pytest.approx(cohen_kappa_score(one, other), abs=1e-12)


def test_kappa_of_cohens_table():
    """Agreement on 20 and 15 of 50 items, with margins 25/25 and 30/20: 0.4 (the worked example of Wikipedia)."""
    one = ["yes"] * 25 + ["no"] * 25
    other = ["yes"] * 20 + ["no"] * 5 + ["yes"] * 10 + ["no"] * 15
    assert cohen_kappa(one, other) == pytest.approx(0.4)


def test_kappa_is_not_defined_without_items_and_where_both_use_one_label():
    assert math.isnan(cohen_kappa([], [])) and math.isnan(cohen_kappa(["a"] * 5, ["a"] * 5))
    with pytest.raises(ValueError, match="1 labels beside 2"):
        cohen_kappa(["a"], ["a", "b"])


def test_a_frame_has_the_label_of_the_span_that_holds_its_middle():
    assert frames_of([("a", 0.0, 1.5), ("b", 1.5, 3.4)]) == {0: "a", 1: "b", 2: "b"}
    assert frames_of([("a", 0.6, 1.4)]) == {}, "no middle lies in it"
    assert frames_of([("a", 0.0, 4.0), ("b", 1.0, 2.0)]) == {0: "a", 1: "b", 2: "a", 3: "a"}


def test_only_time_that_both_annotated_counts():
    found = agreement([("a", 0.0, 10.0)], [("a", 5.0, 8.0), ("b", 8.0, 30.0)])
    assert found.frames == 5
    assert found.kappa == pytest.approx(cohen_kappa_score(["a"] * 5, ["a"] * 3 + ["b"] * 2))
    apart = agreement([("a", 0.0, 5.0)], [("a", 5.0, 9.0)])
    assert apart.frames == 0 and math.isnan(apart.kappa) and math.isnan(apart.boundary_error_s)


def test_boundary_error_is_the_median_over_both_ends_of_matched_spans():
    one = [("a", 0.0, 10.0), ("b", 10.0, 20.0)]
    other = [("a", 0.5, 11.0), ("b", 11.0, 24.0), ("c", 24.0, 30.0)]
    assert sorted(boundary_errors_s(one, other)) == [0.5, 1.0, 1.0, 4.0]
    assert agreement(one, other).boundary_error_s == 1.0


def test_a_span_is_matched_once_with_the_one_that_it_covers_best():
    assert boundary_errors_s([("a", 0.0, 10.0)], [("a", 0.0, 2.0), ("a", 2.5, 10.0)]) == [2.5, 0.0]
    assert boundary_errors_s([("a", 0.0, 10.0)], [("b", 0.0, 10.0), ("a", 10.0, 12.0)]) == []


@pytest.mark.parametrize("seed", range(25))
def test_the_spans_that_overlap_are_found_without_looking_at_every_pair(seed):
    drawn = random.Random(seed)

    def lane() -> list[tuple[str, float, float]]:
        starts_s = [drawn.choice([float(drawn.randrange(50)), drawn.random() * 50]) for _ in range(drawn.randrange(20))]
        return [(drawn.choice("ab"), start_s, start_s + drawn.choice([0.0, 1.0, 9.0])) for start_s in starts_s]

    one, other = lane(), lane()
    found = list(_overlapping(one, other))
    overlapping = {
        (number, index)
        for number, a in enumerate(one)
        for index, b in enumerate(other)
        if a[0] == b[0] and min(a[2], b[2]) > max(a[1], b[1])
    }
    assert len(found) == len(set(found)) and overlapping <= set(found)
