"""The gate's verdict on hand-made predictions: each check fails for its own reason and for no other."""

from dataclasses import replace
from importlib import resources

import numpy as np
import pytest
import yaml

from halsted_ray import taxonomy as taxonomies
from halsted_ray.errors import TaxonomyError
from halsted_ray.evaluation.predictions import TagPredictions, TagTargets
from halsted_ray.registry.gate import apply_gate, read_thresholds
from halsted_ray.registry.held_out import HeldOutResult

SHIPPED = read_thresholds()
HALSTED = taxonomies.load()
OPERATIONS = {
    video: {"specialty": specialty}
    for video, specialty in zip("abcd", ("Urology", "Urology", "Cardiac", "Cardiac"), strict=True)
}
WINDOWS = 100


def examined(step=80, action=70, right_of_video=None, confidence=None, windows_per_s=100.0, learned=()):
    """Four videos of 100 windows a tag, ``step`` and ``action`` of them right; as sure as it is right.

    ``right_of_video``: video → (step, action) where videos differ; an action of None: that tag is not known.
    """
    rights = right_of_video or dict.fromkeys("abcd", (step, action))
    answers = []
    for t, tag in enumerate(("step", "action")):
        if next(iter(rights.values()))[t] is None:
            continue
        video_N = np.repeat(list(rights), WINDOWS)
        right_N = np.concatenate([np.arange(WINDOWS) < own[t] for own in rights.values()]).astype(float)
        count = len(video_N)
        start_s_N = 2.5 * np.tile(np.arange(WINDOWS), len(rights))
        asked = TagTargets(
            0,
            HALSTED.task_of_tag(tag).name,
            tag,
            np.arange(count),
            video_N,
            np.full(count, "fine"),
            start_s_N,
            start_s_N + 2.5,
            np.full(count, "manual"),
            np.zeros(count, int),
            np.ones(count, bool),
        )
        sure_N = np.full(count, right_N.mean() if confidence is None else confidence)
        chosen_N = 1 - right_N.astype(int)
        answers.append(TagPredictions("halsted", asked, chosen_N, sure_N, right_N, np.eye(2)[chosen_N]))
    return HeldOutResult(answers, windows_per_s, learned)


def verdict(candidate, champion, thresholds=SHIPPED):
    return apply_gate(candidate, champion, HALSTED, OPERATIONS, thresholds)


def failed(candidate, champion, thresholds=SHIPPED):
    return [check.name for check in verdict(candidate, champion, thresholds).checks if not check.passed]


def test_the_same_model_again_passes_and_so_does_a_first_model():
    assert failed(examined(), examined()) == [] and failed(examined(), None) == []
    said = {check.name: check.said for check in verdict(examined(), None).checks}
    assert said["worst_task_fall"] == "there is no champion to compare with"
    assert said["calibration_error"] == "over 800 predictions"
    assert all(check.reason for check in verdict(examined(), examined()).checks)


def test_the_worst_task_must_not_fall_though_the_mean_rises():
    assert failed(examined(step=95, action=69), examined()) == ["worst_task_fall"]
    # the worst task may be another one than the champion's
    assert failed(examined(step=69, action=95), examined()) == ["worst_task_fall"]
    assert failed(examined(step=71, action=95), examined()) == []


def test_a_mean_that_falls_on_every_video_is_refused():
    assert failed(examined(step=75, action=70), examined()) == ["mean_p_worse"]
    # worse on two videos, better on two: the draws do not agree
    mixed = {"a": (84, 70), "b": (76, 70), "c": (84, 70), "d": (75, 70)}
    assert failed(examined(right_of_video=mixed), examined()) == []


def test_one_video_has_no_spread_so_the_sign_decides():
    def one(step=80):
        return examined(right_of_video={"a": (step, 70)})

    assert failed(one(), one()) == [] and failed(one(79), one()) == ["mean_p_worse"]
    assert "on one video" in {check.name: check.said for check in verdict(one(), one()).checks}["mean_p_worse"]


def test_no_specialty_may_fall_below_its_bound():
    low = examined(right_of_video={"a": (80, 70), "b": (80, 70), "c": (30, 30), "d": (30, 30)})
    assert failed(low, low) == ["specialty_accuracy/Cardiac"]
    own = SHIPPED | {"specialty_accuracy": replace(SHIPPED["specialty_accuracy"], of_specialty={"Cardiac": 0.2})}
    assert failed(low, low, own) == []
    unnamed = apply_gate(low, low, HALSTED, {"a": {"specialty": "Urology"}, "b": {"specialty": "Urology"}}, SHIPPED)
    assert [check.name for check in unnamed.checks if not check.passed] == ["specialty_accuracy/unnamed"]


def test_calibration_and_speed_have_bounds():
    assert failed(examined(confidence=0.99), None) == ["calibration_error"]
    assert failed(examined(confidence=0.99), examined()) == ["tag_calibration_rise", "calibration_error"]
    assert failed(examined(windows_per_s=49.0), examined()) == ["speed_of_champion"]


@pytest.mark.parametrize("learned, passes", [((), True), (("a",), False), (None, False)])
def test_test_videos_must_be_new_to_the_candidate(learned, passes):
    assert failed(examined(learned=learned), examined()) == ([] if passes else ["learned_test_videos"])


@pytest.mark.parametrize("learned, passes", [((), True), (("a",), False), (None, True)])
def test_a_champion_that_knows_test_videos_by_heart_is_nobody_to_be_compared_with(learned, passes):
    champion = examined(learned=learned)
    assert failed(examined(), champion) == ([] if passes else ["learned_test_videos/champion"])
    said = {check.name: check.said for check in verdict(examined(), champion).checks}["learned_test_videos/champion"]
    assert {(): "none of them", ("a",): "learned from a and looks too good", None: "is not known"}[learned] in said


def test_only_tags_that_both_models_know_are_compared():
    """A champion of an older taxonomy lacks a tag. This counts neither against it nor for the candidate."""
    champion = examined(right_of_video=dict.fromkeys("abcd", (80, None)))
    assert failed(examined(), champion) == []
    assert failed(examined(step=75), champion) == ["worst_task_fall", "mean_p_worse"]
    alone = examined()
    alone.predictions[:] = alone.predictions[1:]
    with pytest.raises(TaxonomyError, match="no tag in common"):
        verdict(alone, champion)


def test_a_tag_whose_confidence_means_less_than_the_champions_is_refused():
    """All tags together may be fine: the tag that gets worst counts."""
    sure, unsure = examined(), examined(confidence=0.64)  # step is right in 80 of 100, action in 70
    assert failed(unsure, sure) == ["tag_calibration_rise"]
    (check,) = [check for check in verdict(unsure, sure).checks if check.name == "tag_calibration_rise"]
    assert check.measured == pytest.approx(0.16)
    assert check.said == "calibration error of step: 0.160, the champion's 0.000"
    assert "tag_calibration_rise" not in failed(sure, unsure), "a better one passes"
    assert "tag_calibration_rise" not in failed(unsure, unsure)


def test_a_gates_file_from_before_the_check_takes_its_default(tmp_path):
    shipped = yaml.safe_load(resources.files("halsted_ray.registry").joinpath("gate.yaml").read_text("utf-8"))
    del shipped["tag_calibration_rise"]
    (tmp_path / "gate.yaml").write_text(yaml.safe_dump(shipped))
    assert read_thresholds(str(tmp_path / "gate.yaml")) == SHIPPED
