"""The summary of one's own cases: whose they are, which days, totals, phases, weeks, moments and jobs."""

from __future__ import annotations

import datetime

import numpy as np
import pytest
from library_site import add_summary, add_video, caller, describe, open_site, share
from serving import client_of, new_key

from halsted_ray.maps.stitch_totals import wilson
from halsted_ray.service.components import ServiceComponents
from halsted_ray.service.database import now_s
from halsted_ray.service.home import read_home
from halsted_ray.service.summaries import packed_times, unpacked_times
from halsted_ray.service.users import DAY_S

MOMENT = {"start_s": 3.0, "stop_s": 9.0, "tag": "phase", "category": "Driving", "value": 0.4}


@pytest.fixture(params=["sqlite", "postgresql"])
def service(request, tmp_path) -> ServiceComponents:
    postgres = request.getfixturevalue("postgres") if request.param == "postgresql" else None
    found = open_site(tmp_path, postgres)
    yield found
    found.database.close()


def add_mapped(service, owner, video_id, case_id=None, high=1, rated=2, times_s=(5.0,), moments=None, **columns):
    """A video of one hour with a map."""
    add_video(service, owner, video_id, case_id, **{"duration_s": 3600.0, **columns})
    moments = moments or {}
    values = {"least_sure": "least_sure", "longest": "longest_s", "unlike": "unlike"}
    add_summary(
        service,
        video_id,
        stitches=rated,
        rated=rated,
        rated_high=high,
        phase_times={"Driving": packed_times(times_s)},
        moments=moments,
        **{values[kind]: moment["value"] for kind, moment in moments.items()},
    )


def test_a_case_of_two_files_is_one_case_and_two_hours(service):
    ada = caller(service, "ada")
    add_mapped(service, ada, "a0", "ca5e", high=3, rated=4, times_s=(4.0, 6.0, 20.0))
    add_mapped(service, ada, "a1", "ca5e", high=1, rated=6, times_s=(5.0,))
    add_video(service, ada, "b0", duration_s=1800.0)
    home = read_home(service.database, ada, 30)
    assert (home.figures.cases, home.figures.hours, home.figures.stitches) == (2, 2.5, 10)
    assert home.figures.high_share == 0.4 and home.figures.high_interval == tuple(
        round(one, 4) for one in wilson(4, 10)
    )
    assert home.phases == [("Driving", 5.5, 4)] and home.model_versions == ["v1"]


def test_only_own_cases_of_the_last_days_count(service):
    ada, ben, root = caller(service, "ada"), caller(service, "ben"), caller(service, "root", "admin")
    add_mapped(service, ben, "b0")
    share(service, "b0", ada, "surgeon")
    add_mapped(service, None, "f0")
    add_mapped(service, ada, "a0", created_s=now_s() - 40 * DAY_S)
    add_mapped(service, ada, "a1", deleted_s=now_s())
    for who in (ada, root):
        home = read_home(service.database, who, 30)
        assert home.figures.cases == 0 and home.moments == home.phases == [] and home.figures.high_share is None
    assert read_home(service.database, ada, 50).figures.cases == 1
    describe(service, "a0", operated_on=datetime.datetime.now(datetime.UTC).date().isoformat())
    assert read_home(service.database, ada, 30).figures.cases == 1, "by the day of the operation"
    describe(service, "a0", operated_on="2020-01-01")
    assert read_home(service.database, ada, 50).figures.cases == 0


def test_the_trend_has_a_row_per_week_that_begins_on_a_monday(service):
    ada = caller(service, "ada")
    monday = datetime.date.fromisoformat("2026-11-02")
    for n, day in enumerate((0, 6, 7)):
        add_mapped(service, ada, f"a{n}", high=n, rated=2)
        describe(service, f"a{n}", operated_on=(monday + datetime.timedelta(days=day)).isoformat())
    trend = read_home(service.database, ada, 366).trend
    assert {week.isoformat(): (one.cases, one.high_share) for week, one in trend.items()} == {
        "2026-11-02": (2, 0.25),
        "2026-11-09": (1, 1.0),
    }


def test_three_moments_of_all_cases_and_each_row_once(service):
    ada = caller(service, "ada")
    longest = {**MOMENT, "start_s": 20.0, "stop_s": 90.0, "value": 70.0}
    add_mapped(service, ada, "a0", moments={"least_sure": MOMENT, "longest": {**longest, "value": 60.0}})
    add_mapped(service, ada, "a1", moments={"longest": longest, "unlike": {**MOMENT, "value": 9.0}})
    add_mapped(
        service, ada, "a2", moments={"least_sure": {**MOMENT, "value": 0.39}, "unlike": {**MOMENT, "value": 8.0}}
    )
    moments = read_home(service.database, ada, 30).moments
    assert [(one["why"], one["video_id"], one["start_s"]) for one in moments] == [
        ("least sure", "a2", 3.0),
        ("longest", "a1", 20.0),
        ("unlike the others", "a1", 3.0),
    ]
    add_mapped(
        service, ada, "a3", moments={"least_sure": {**longest, "value": 0.1}, "longest": {**longest, "value": 99.0}}
    )
    assert [one["why"] for one in read_home(service.database, ada, 30).moments] == ["least sure", "unlike the others"]


def test_a_withdrawn_consent_leaves_the_length_and_hides_the_map(service):
    ada = caller(service, "ada")
    add_mapped(service, ada, "a0", consent="withdrawn", moments={"least_sure": MOMENT})
    home = read_home(service.database, ada, 30)
    assert (home.figures.cases, home.figures.stitches, home.moments, home.phases) == (1, 0, [], [])


def test_jobs_under_way_are_those_of_own_cases(service):
    ada, ben = caller(service, "ada"), caller(service, "ben")
    add_video(service, ada, "a0")
    add_video(service, ben, "b0")
    job = service.jobs.submit(ada, "a0", ["macro"])
    service.jobs.submit(ben, "b0", ["macro"])
    assert [one.job_id for one in read_home(service.database, ada, 30).jobs] == [job.job_id]
    service.jobs.cancel(ada, job.job_id)
    assert read_home(service.database, ada, 30).jobs == []


def test_the_answer_is_as_described_and_the_looks_are_written_down(service):
    ada = caller(service, "ada")
    add_mapped(service, ada, "a0", moments={"least_sure": MOMENT})
    with client_of(service, new_key(service, user="ada")) as client:
        said = client.get("/v1/home").json()
        assert client.get("/v1/home?days=0").status_code == 422
        looks = client.get("/v1/videos/a0/looks").json()
    assert set(said) == {
        *("days", "cases", "hours", "stitches", "high_share", "high_low", "high_high", "high_n", "model_versions"),
        *("phases", "trend", "moments", "jobs"),
    }
    assert said["phases"] == [{"category": "Driving", "median_s": 5.0, "n": 1}] and said["days"] == 30
    assert said["moments"][0] == {
        **{name: MOMENT[name] for name in ("start_s", "stop_s", "tag", "category")},
        "video_id": "a0",
        "why": "least sure",
    }
    assert [look["action"] for look in looks] == ["summary.read"]


def test_packed_times_keep_a_tenth_of_a_second():
    times_s = [0.0, 0.04, 0.06, 12.34, 6553.5, 1e9]
    assert np.array_equal(unpacked_times([packed_times(times_s)]), [0.0, 0.0, 0.1, 12.3, 6553.5, 6553.5])
    assert np.array_equal(unpacked_times([packed_times([1.0, 2.0]), packed_times([]), packed_times([3.0])]), [1, 2, 3])
    assert len(unpacked_times([packed_times([])])) == 0
