"""The gate's verdict from figures made by hand: each check fails for its own reason and for no other."""

from dataclasses import replace

import numpy as np
import pytest

from halsted_ray.registry.examine import Examined
from halsted_ray.registry.gate import judge, read_thresholds

SHIPPED = read_thresholds()


def examined(step=80, action=70, **changes):
    """Four videos, 100 windows a tag in each, so many of them right; confident as it is right."""
    right = np.tile([step, action], (4, 1)).astype(float)
    share = (step + action) / 200
    answers = np.arange(400) < 400 * share
    figures = Examined(
        videos=tuple("abcd"), specialties=("Urology", "Urology", "Cardiac", "Cardiac"), tags=("step", "action"),
        tasks=("macro", "micro"), right_VT=right, asked_VT=np.full((4, 2), 100.0),
        confidence_N=np.full(400, share), right_N=answers, windows_per_s=100.0, learned_test_videos=(),
    )
    return replace(figures, **changes)


def failed(candidate, champion, thresholds=SHIPPED):
    return [check.name for check in judge(candidate, champion, thresholds).checks if not check.passed]


def test_the_same_again_passes_and_so_does_a_first_one():
    assert failed(examined(), examined()) == [] and failed(examined(), None) == []
    said = {check.name: check.said for check in judge(examined(), None, SHIPPED).checks}
    assert said["worst_task_fall"] == "there is no champion to compare with"
    assert all(check.reason for check in judge(examined(), examined(), SHIPPED).checks)


def test_the_worst_task_must_not_fall_though_the_mean_rises():
    assert failed(examined(step=95, action=69), examined()) == ["worst_task_fall"]
    # the worst task may be another one than the champion's
    assert failed(examined(step=69, action=95), examined()) == ["worst_task_fall"]
    assert failed(examined(step=71, action=95), examined()) == []


def test_a_mean_that_is_worse_on_every_video_is_worse():
    assert failed(examined(step=75, action=70), examined()) == ["mean_p_worse"]
    # worse on two videos, better on two: the draws do not agree
    mixed = examined().right_VT + np.array([[4, 0], [-4, 0], [4, 0], [-5, 0]])
    assert failed(examined(right_VT=mixed), examined()) == []


def test_one_video_has_no_spread_so_the_sign_decides():
    def one(**changes):
        figures = examined(**changes)
        return replace(figures, videos=("a",), specialties=("Urology",), right_VT=figures.right_VT[:1],
                       asked_VT=figures.asked_VT[:1])

    assert failed(one(), one()) == [] and failed(one(step=79), one()) == ["mean_p_worse"]


def test_no_specialty_below_its_floor():
    right = examined().right_VT.copy()
    right[2:] = 30
    champion = examined(right_VT=right)
    low = examined(right_VT=right)
    assert failed(low, champion) == ["specialty_accuracy/Cardiac"]
    own = SHIPPED | {"specialty_accuracy": replace(SHIPPED["specialty_accuracy"], of_specialty={"Cardiac": 0.2})}
    assert failed(low, champion, own) == []


def test_calibration_and_speed_keep_their_floors():
    sure = examined(confidence_N=np.full(400, 0.99))
    assert failed(sure, examined()) == ["calibration_error"]
    assert failed(examined(windows_per_s=49.0), examined()) == ["speed_of_champion"]


@pytest.mark.parametrize("learned, passes", [((), True), (("a",), False), (None, False)])
def test_test_videos_must_be_new_to_the_candidate(learned, passes):
    assert failed(examined(learned_test_videos=learned), examined()) == ([] if passes else ["learned_test_videos"])


def test_only_what_both_were_asked_is_compared():
    """A champion of an older taxonomy lacks a tag: its zeros must not count against it, nor for the candidate."""
    asked = examined().asked_VT * [1, 0]
    champion = examined(right_VT=examined().right_VT * [1, 0], asked_VT=asked)
    assert failed(examined(), champion) == []
    assert failed(examined(step=75), champion) == ["worst_task_fall", "mean_p_worse"]
