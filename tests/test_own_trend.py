"""One surgeon's own cases over time: whose they are, which days, which model, and the figures of each case."""

from __future__ import annotations

import csv
import io

import pytest
from library_site import TENANT, add_summary, add_video, caller, describe, open_site, share
from serving import client_of, new_key

from halsted_ray.maps.stitch_totals import wilson
from halsted_ray.service import own_trend
from halsted_ray.service.components import ServiceComponents
from halsted_ray.service.database import now_s
from halsted_ray.service.own_trend import read_trend, write_trend_csv
from halsted_ray.service.summaries import packed_times
from halsted_ray.service.tables import Upload
from halsted_ray.service.trend_schemas import TrendShown, show_trend


@pytest.fixture(params=["sqlite", "postgresql"])
def service(request, tmp_path) -> ServiceComponents:
    postgres = request.getfixturevalue("postgres") if request.param == "postgresql" else None
    found = open_site(tmp_path, postgres)
    yield found
    found.database.close()


@pytest.fixture
def site(tmp_path) -> ServiceComponents:
    """On SQLite alone."""
    found = open_site(tmp_path)
    yield found
    found.database.close()


def add_case(service, owner, video_id, day=None, case_id=None, procedure="Prostatectomy", summary=None, **columns):
    """A mapped case of an hour: 20 minutes of suturing, 4 stitches of which 3 of 4 are of high proficiency."""
    add_video(service, owner, video_id, case_id, **{"duration_s": 3600.0, **columns})
    values = {
        "step_times": {"Suturing": 1200.0, "Dissection": 600.5},
        "phase_times": {"Driving": packed_times((2.0, 4.0, 9.0))},
        "stitches": 4,
        "rated": 4,
        "rated_high": 3,
    }
    add_summary(service, video_id, procedure, **values | (summary or {}))
    if day is not None:
        describe(service, case_id or video_id, operated_on=day)


def days(trend):
    return [case.day.isoformat() for case in trend.cases]


def test_each_case_has_its_length_times_and_stitches_with_the_interval(service):
    ada = caller(service, "ada")
    add_case(service, ada, "a0", "2025-01-10", case_id="ca5e")
    add_case(service, ada, "a1", case_id="ca5e", summary={"step_times": {"Suturing": 60.0}, "rated_high": 0})
    trend = read_trend(service.database, ada)
    shown = show_trend(trend).model_dump()
    (case,) = shown["cases"]
    assert (case["day"], case["duration_s"], case["complete"]) == ("2025-01-10", 7200.0, True)
    assert case["figures"]["steps_s"] == {"Suturing": 1260.0, "Dissection": 600.5} and shown["steps"][0] == "Suturing"
    assert case["figures"]["phases"] == {"Driving": {"median_s": 4.0, "n": 6}} and shown["phases"] == ["Driving"]
    figures = case["figures"]
    assert (figures["stitches"], figures["high_share"], figures["high_n"]) == (8, 0.375, 8)
    assert (figures["high_low"], figures["high_high"]) == tuple(round(one, 4) for one in wilson(3, 8))


def test_only_the_callers_own_cases_are_shown_to_anybody(service):
    ada, ben, root = caller(service, "ada"), caller(service, "ben"), caller(service, "root", "admin")
    add_case(service, ben, "b0")
    add_case(service, None, "f0")
    share(service, "b0", ada, "surgeon")
    for who in (ada, root):
        trend = read_trend(service.database, who)
        assert trend.cases == [] and trend.procedures == [] and trend.procedure is None
    add_case(service, ada, "a0", case_id="ca5e")
    add_case(service, ben, "b1", case_id="ca5e")
    trend = read_trend(service.database, ada, "Prostatectomy")
    assert trend.cases == [] and trend.with_others == 1, "a case with a file of somebody else is nobody's alone"


def test_days_and_procedures_choose_and_a_persons_word_stands_before_the_maps(service):
    ada = caller(service, "ada")
    for n, day in enumerate(("2024-03-01", "2025-03-01", "2026-03-01")):
        add_case(service, ada, f"a{n}", day)
    add_case(service, ada, "a3", procedure="Nephrectomy")
    describe(service, "a3", procedure="Bypass", operated_on="2025-06-01")
    assert read_trend(service.database, ada).procedures == [("Prostatectomy", 3), ("Bypass", 1)]
    assert days(read_trend(service.database, ada)) == ["2024-03-01", "2025-03-01", "2026-03-01"]
    assert days(read_trend(service.database, ada, "prostatectomy", "2025-03-01", "2026-02-28")) == ["2025-03-01"]
    assert days(read_trend(service.database, ada, "bypass")) == ["2025-06-01"]
    assert days(read_trend(service.database, ada, "Nephrectomy")) == []


def test_cases_without_a_procedure_are_shown_where_there_are_no_others_and_else_counted(site):
    ada = caller(site, "ada")
    add_case(site, ada, "a0", "2025-01-01", procedure=None)
    trend = read_trend(site.database, ada)
    assert (days(trend), trend.procedure, trend.unnamed) == (["2025-01-01"], None, 0)
    add_case(site, ada, "a1", "2025-02-01")
    trend = read_trend(site.database, ada)
    assert (days(trend), trend.procedure, trend.unnamed) == (["2025-02-01"], "Prostatectomy", 1)


def test_only_maps_of_one_model_are_compared_and_the_others_are_counted(service):
    ada = caller(service, "ada")
    for n, version in enumerate(("v1", "v1", "v2", None)):
        add_case(service, ada, f"a{n}", f"2025-0{n + 1}-01", summary={"model_version": version})
    add_case(service, ada, "a8", "2025-08-01", case_id="ca5e")
    add_case(service, ada, "a9", case_id="ca5e", summary={"model_version": "v2"})
    trend = read_trend(service.database, ada)
    assert trend.version == "v2" and trend.versions == [("v1", 2), (None, 1), ("v2", 1)] and trend.unmapped == 1
    assert [one.figures is not None for one in show_trend(trend).cases] == [False, False, True, False, False]
    assert all(one.duration_s for one in show_trend(trend).cases), "the length is no opinion of a model"
    other = show_trend(read_trend(service.database, ada, version="v1"))
    assert [one.figures is not None for one in other.cases] == [True, True, False, False, False]


def test_gaps_samples_and_a_withdrawn_consent(service):
    ada = caller(service, "ada")
    add_case(service, ada, "a0", "2025-01-01", summary={"state": "partial"})
    add_case(service, ada, "a1", "2025-01-02", consent="withdrawn")
    describe(service, "a1", procedure="Prostatectomy", operated_on="2025-01-02")
    add_case(service, ada, "a2", "2025-01-03")
    with service.database.writing() as session:
        session.add(
            Upload(
                upload_id="ab",
                tenant_id=TENANT,
                user_id=ada.user_id,
                state="complete",
                place="x",
                store_ref="",
                label="sample",
                video_id="a2",
                created_s=now_s(),
            )
        )
    first, second = show_trend(read_trend(service.database, ada)).cases
    assert not first.complete and first.figures is not None
    assert second.figures is None and second.model_versions == [] and second.duration_s == 3600.0


def test_a_table_has_a_row_per_case_and_nothing_of_other_models(site):
    ada = caller(site, "ada")
    add_case(site, ada, "a0", "2025-01-01", summary={"model_version": "v0"})
    add_case(site, ada, "a1", "2025-02-01")
    first, second = csv.DictReader(io.StringIO(write_trend_csv(read_trend(site.database, ada)), newline=""))
    assert second["day"] == "2025-02-01" and second["length_s"] == "3600.0" and second["model_version"] == "v1"
    assert (second["step Suturing s"], second["phase Driving median s"], second["phase Driving n"]) == (
        "1200.0",
        "4.0",
        "3",
    )
    assert (second["stitches"], second["high_share"], second["high_n"]) == ("4", "0.75", "4")
    assert first["length_s"] == "3600.0" and {first[name] for name in list(first)[6:]} == {""}


def test_too_many_cases_leave_the_earlier_ones_out_and_say_so(site, monkeypatch):
    monkeypatch.setattr(own_trend, "MOST_CASES", 2)
    ada = caller(site, "ada")
    for n in range(3):
        add_case(site, ada, f"a{n}", f"2025-01-0{n + 1}")
    trend = read_trend(site.database, ada)
    assert days(trend) == ["2025-01-02", "2025-01-03"] and trend.earlier == 1


def test_the_answer_is_as_described_and_each_look_is_written_down(site):
    ada = caller(site, "ada")
    add_case(site, ada, "a0", summary={"model_version": "v0"})
    add_case(site, ada, "a1", "2020-01-01")
    with client_of(site, new_key(site, user="ada")) as client:
        said = client.get("/v1/home/trend", params={"model_version": "v0"}).json()
        assert TrendShown.model_validate(said).model_dump() == said
        table = client.get("/v1/home/trend?format=csv")
        assert table.headers["content-type"].startswith("text/csv") and len(table.text.splitlines()) == 3
        assert client.get("/v1/home/trend?since=yesterday").status_code == 422
        looks = {one: [look["action"] for look in client.get(f"/v1/videos/{one}/looks").json()] for one in ("a0", "a1")}
    assert looks == {"a0": ["summary.read"] * 2, "a1": []}, "of a1 the length was shown alone"
