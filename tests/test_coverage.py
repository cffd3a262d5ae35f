"""Accuracy over coverage, and the calibration error by tag with its interval, on numbers worked out by hand."""

from __future__ import annotations

import math

import numpy as np
import pytest

from halsted_ray.evaluation.coverage import area_under_risk, coverage, risk_coverage
from halsted_ray.evaluation.metrics import calibration_error
from halsted_ray.reporting.evaluation_page import coverage_section


def test_the_least_sure_predictions_are_left_out_first():
    covered, risk = risk_coverage(np.array([0.6, 0.9, 0.8, 0.7]), np.array([0, 1, 1, 0]))
    assert covered.tolist() == [0.25, 0.5, 0.75, 1.0]
    assert risk.tolist() == pytest.approx([0, 0, 1 / 3, 1 / 2])
    assert area_under_risk(np.array([0.6, 0.9, 0.8, 0.7]), np.array([0, 1, 1, 0])) == pytest.approx((1 / 3 + 1 / 2) / 4)


def test_equal_confidences_are_one_point_whatever_their_order():
    for right in ([1, 0, 0], [0, 0, 1]):
        covered, risk = risk_coverage(np.array([0.5, 0.5, 0.5]), np.array(right))
        assert covered.tolist() == [1.0] and risk.tolist() == pytest.approx([2 / 3])


def test_calibrated_confidences_have_a_small_error_and_proud_ones_a_large_one():
    rng = np.random.default_rng(0)
    confidence = rng.uniform(0.3, 1.0, 20_000)
    right = (rng.uniform(size=20_000) < confidence).astype(float)
    assert calibration_error(confidence, right) < 0.01
    assert calibration_error(np.minimum(1.0, confidence + 0.2), right) > 0.1


def test_a_bin_holds_fifty_predictions():
    confidence, right = np.linspace(0.5, 0.6, 60), np.tile([1.0, 0.0], 30)
    assert calibration_error(confidence, right) == pytest.approx(abs(0.5 - 0.55)), "one bin of all"


def test_the_interval_is_over_videos():
    rng = np.random.default_rng(0)
    confidence = np.full(400, 0.7)
    right = (rng.uniform(size=400) < 0.7).astype(float)
    wide = coverage(confidence, np.repeat([1.0, 1.0, 0.0, 1.0], 100), np.repeat(np.arange(4), 100))
    narrow = coverage(confidence, right, np.repeat(np.arange(4), 100))
    assert wide["high"] - wide["low"] > 2 * (narrow["high"] - narrow["low"])
    assert math.isnan(coverage(confidence, right, np.zeros(400))["low"]), "one video says nothing about others"


def test_the_page_draws_a_curve_per_tag_and_opens_figures_of_earlier_versions():
    curve = coverage(np.array([0.6, 0.9]), np.array([0, 1]), np.array(["a", "b"]))
    page = coverage_section({"coverage": {"action": curve}})
    assert "0.5, 1</title>" in page and "1, 0.5</title>" in page and "AURC 0.25" in page
    assert coverage_section({}) == ""
