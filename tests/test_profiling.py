"""Counters of where time goes."""

import time

import pytest

from halsted_ray.profiling import THREAD_PROFILE, ActorTimer, StageProfile


def test_an_actor_timer_counts_every_second_once():
    timer, total = ActorTimer(), StageProfile()
    started_s = time.perf_counter()
    for _ in range(3):
        time.sleep(0.02)
        with timer:
            with THREAD_PROFILE.stage("encode"):
                sum(range(300_000))
            time.sleep(0.01)
        total.merge(timer.spent)
    took_s = time.perf_counter() - started_s
    assert 0 < total.cpu_s["encode"] <= total.wall_s["encode"] + 0.02
    assert total.wall_s["wait"] >= 0.06 and total.wall_s["write"] >= 0.03
    assert sum(total.wall_s.values()) == pytest.approx(took_s, rel=0.05)
    assert total.wall_s["decode"] == 0.0


def test_a_profile_travels_as_json():
    profile = StageProfile({"decode": 1.5}, {"decode": 1.25})
    assert StageProfile(**profile.asdict()).asdict() == profile.asdict()
    profile.merge(profile.copy())
    assert profile.asdict()["wall_s"]["decode"] == 3.0


def test_a_profile_travels_as_rows():
    profile = StageProfile({"decode": 1.5, "wait": 0.25}, {"decode": 1.25})
    assert [row["stage"] for row in profile.rows()] == ["decode", "wait"]
    assert StageProfile.from_rows(profile.rows()).asdict() == profile.asdict()
    assert StageProfile.from_rows([]).asdict() == StageProfile().asdict()
