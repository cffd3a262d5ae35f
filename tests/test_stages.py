"""Counters of where time goes."""

import time

import pytest

from halsted_ray.profiling import PROCESS_PROFILE, ActorTimer, StageProfile


def test_a_shift_counts_every_second_once():
    shift, total = ActorTimer(), StageProfile()
    started_s = time.perf_counter()
    for _ in range(3):
        time.sleep(0.02)
        with shift:
            with PROCESS_PROFILE.stage("encode"):
                sum(range(300_000))
            time.sleep(0.01)
        total.merge(shift.spent)
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
