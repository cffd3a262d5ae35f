"""What is usual at a hospital: who may see it, from how many cases on, and that no two answers tell one case."""

from __future__ import annotations

import random
from collections import Counter

import pytest
from library_site import caller, describe, open_site, summary_row, video_row
from serving import client_of, new_key
from sqlalchemy import delete, select

from halsted_ray.errors import UsageError
from halsted_ray.service import cohort
from halsted_ray.service.cohort import read_cohort
from halsted_ray.service.cohort_members import (
    CHANGED_CASES,
    CHANGED_SURGEONS,
    LEAST_CASES,
    is_enough,
    is_hidden_among_others,
    renewed,
)
from halsted_ray.service.components import ServiceComponents
from halsted_ray.service.database import now_s
from halsted_ray.service.settings import Settings
from halsted_ray.service.tables import AuditEntry, CohortMembers, Operation, StoredVideo, VideoSummary
from halsted_ray.service.trend_schemas import CohortShown
from halsted_ray.service.users import DAY_S, Caller

PROCEDURE = "Prostatectomy"
KNOWN: dict[tuple[str, str], Caller] = {}


@pytest.fixture(scope="module", params=["sqlite", "postgresql"])
def shared(request, tmp_path_factory) -> ServiceComponents:
    postgres = request.getfixturevalue("postgres") if request.param == "postgresql" else None
    found = open_site(tmp_path_factory.mktemp("site"), postgres)
    yield found
    found.database.close()


@pytest.fixture(scope="module")
def on_sqlite(tmp_path_factory) -> ServiceComponents:
    found = open_site(tmp_path_factory.mktemp("site"))
    yield found
    found.database.close()


def emptied(service: ServiceComponents) -> ServiceComponents:
    """The site without cases; its users stay, since making a key takes long."""
    with service.database.writing() as session:
        for table in (CohortMembers, VideoSummary, Operation, StoredVideo):
            session.execute(delete(table))
    return service


@pytest.fixture
def service(shared) -> ServiceComponents:
    return emptied(shared)


@pytest.fixture
def site(on_sqlite) -> ServiceComponents:
    """On SQLite alone."""
    return emptied(on_sqlite)


def known(service: ServiceComponents, name: str) -> Caller:
    where = (str(service.database.url), name)
    if where not in KNOWN:
        KNOWN[where] = caller(service, name)
    return KNOWN[where]


@pytest.fixture
def day(monkeypatch):
    """Lets a day pass with each call."""
    passed = [0]

    def later() -> None:
        passed[0] += 1

    monkeypatch.setattr(cohort, "now_s", lambda: now_s() + passed[0] * DAY_S)
    return later


def case_of(owner, video_id, length_s=3600.0, consent="given", procedure=PROCEDURE, **summary):
    """The rows of a mapped case."""
    values = {"step_times": {"Suturing": length_s / 3}, "stitches": 10, "rated": 10, "rated_high": 5}
    return (
        video_row(owner, video_id, duration_s=length_s, consent=consent),
        summary_row(video_id, procedure, **values | summary),
    )


def add_cases(service, *cases):
    with service.database.writing() as session:
        session.add_all(row for case in cases for row in case)


def fill(service, surgeons=5, each=4, **columns):
    """So many cases of so many other surgeons, of lengths from 3,611 s on, and one of ada's own; ada."""
    cases = [
        case_of(known(service, f"surgeon{n}"), f"c{n}{k}", 3611.0 + 97 * (n * each + k), **columns)
        for n in range(surgeons)
        for k in range(each)
    ]
    ada = known(service, "ada")
    add_cases(service, *cases, case_of(ada, "a0", 100.0))
    return ada


def ask(service, who, procedure=PROCEDURE):
    return read_cohort(service.database, who, procedure, LEAST_CASES)


def test_quartiles_are_those_of_the_others_cases_in_two_digits(service):
    found = ask(service, fill(service))
    assert (found.state, found.cases, found.version) == ("shown", 20, "v1")
    by_measure = {(one.measure, one.category): one for one in found.quartiles}
    length = by_measure["length", None]
    assert (length.low, length.median, length.high) == (4100.0, 4500.0, 5000.0), "100 s of one's own are none of it"
    assert by_measure["step", "Suturing"].median == 1500.0 and by_measure["high share", None].median == 0.5
    assert by_measure["stitches", None].median == 10.0


def test_below_the_least_number_nothing_is_told_but_how_many_are_missing_at_most(service):
    ada = fill(service, surgeons=5, each=3)
    found = ask(service, ada)
    assert (found.state, found.missing_at_most) == ("too few", 5)
    assert (found.quartiles, found.cases, found.day, found.version) == ([], None, None, None)


@pytest.mark.parametrize(
    ("columns", "why"),
    [
        ({"consent": "unknown"}, "nobody has given the consent"),
        ({"consent": "withdrawn"}, "the consent is withdrawn"),
        ({"state": "partial"}, "maps with gaps"),
        ({"procedure": "Nephrectomy"}, "another procedure"),
    ],
)
def test_only_whole_maps_with_consent_of_the_same_procedure_count(site, columns, why):
    assert ask(site, fill(site, **columns)).missing_at_most == LEAST_CASES, why


def test_few_surgeons_or_one_with_most_cases_make_no_cohort():
    of = lambda *counts: {f"{n} {k}": str(n) for n, count in enumerate(counts) for k in range(count)}  # noqa: E731
    assert is_enough(of(4, 4, 4, 4, 4), 20) and not is_enough(of(4, 4, 4, 4, 3), 20)
    assert not is_enough(of(10, 10, 10, 10), 20), "four surgeons"
    assert not is_enough(of(16, 1, 1, 1, 1), 20) and is_enough(of(10, 3, 3, 2, 2), 20)


def test_who_has_no_case_of_the_procedure_and_a_site_that_sets_0_see_none(site):
    ada, eve = fill(site), known(site, "eve")
    assert ask(site, eve).state == "none of yours" and ask(site, ada).state == "shown"
    assert read_cohort(site.database, ada, PROCEDURE, 0).state == "off"
    assert Settings.read({}).cohort_cases == 20 and Settings.read({"HALSTED_COHORT_CASES": "0"}).cohort_cases == 0
    for wrong in ("9", "-1", "many", "1.5"):
        with pytest.raises(UsageError, match="HALSTED_COHORT_CASES"):
            Settings.read({"HALSTED_COHORT_CASES": wrong})


def test_an_attacker_who_adds_cases_of_their_own_sees_no_other_figure(site, day):
    ada = fill(site)
    before = ask(site, ada)
    add_cases(site, *(case_of(ada, f"e{n}", 10.0 + n) for n in range(30)))
    day()
    assert ask(site, ada) == before


def test_an_attacker_with_a_friend_does_not_read_the_one_case_that_came_meanwhile(site, day):
    """A friend adds known cases until the cohort takes some in, hoping to take one unknown case in with them."""
    ada, friend, victim = fill(site), known(site, "friend"), known(site, "surgeon0")
    before = ask(site, ada)
    add_cases(site, case_of(victim, "f0", 999_999.0))
    for n in range(10):
        add_cases(site, case_of(friend, f"e{n}"))
        day()
        assert ask(site, ada) == before


def test_a_step_does_not_tell_the_one_new_case_that_has_it(site, day):
    """Six new cases hide each other in the lengths. One of them alone has the step, so its times wait for others."""
    ada = fill(site)
    before = next(one for one in ask(site, ada).quartiles if one.category == "Suturing")
    new = [known(site, f"surgeon{n}") for n in range(4)]
    others = [case_of(new[n % 4], f"d{n}", 9999.0, step_times={}, stitches=None, rated=0) for n in range(9)]
    add_cases(site, *others, case_of(new[0], "f0", 9999.0, step_times={"Suturing": 3.0}, stitches=99))
    day()
    after = {(one.measure, one.category): one for one in ask(site, ada).quartiles}
    assert after["length", None].cases == 30, "the lengths have all of them"
    assert after["step", "Suturing"] == before and after["stitches", None].high == 10.0
    assert after["high share", None].cases == 20
    more = [case_of(new[n % 4], f"g{n}", 9999.0, step_times={"Suturing": 3.0}) for n in range(8)]
    add_cases(site, *more)
    day()
    grown = next(one for one in ask(site, ada).quartiles if one.category == "Suturing")
    assert grown.cases == 25 and grown != before, "with the others it comes in"


def test_several_cases_of_several_surgeons_come_in_together_and_once_a_day(site, day):
    ada = fill(site)
    before = ask(site, ada)
    add_cases(site, *(case_of(known(site, f"surgeon{n}"), f"d{n}{k}", 9999.0) for n in range(4) for k in range(2)))
    assert ask(site, ada) == before, "not on the same day"
    day()
    after = ask(site, ada)
    assert after != before and after.cases == 25, "28 cases are said as 25"


@pytest.mark.parametrize("how", ["consent", "deleted", "remapped", "renamed"])
def test_a_case_that_goes_is_used_no_more_at_once_and_others_hide_which_it_was(site, how, monkeypatch):
    ada = fill(site, surgeons=7, each=6)
    used = []
    kept = cohort._quartiles

    def quartiles(name, cases):
        if name == cohort.LENGTH:
            used.append(cases)
        return kept(name, cases)

    monkeypatch.setattr(cohort, "_quartiles", quartiles)
    assert ask(site, ada).state == "shown"
    with site.database.writing() as session:
        video = session.get_one(StoredVideo, ("north", "c00"))
        if how == "consent":
            video.consent = "withdrawn"
        elif how == "deleted":
            video.deleted_s = now_s()
        elif how == "remapped":
            session.get_one(VideoSummary, ("north", "c00")).stitches = 11
    if how == "renamed":
        describe(site, "c00", procedure="Bypass")
    assert ask(site, ada).state == "shown"
    before, after = ({case.case_id: case.owner_id for case in cases} for cases in used)
    left = {case_id: owner for case_id, owner in before.items() if case_id not in after}
    assert "c00" in left and set(after) < set(before)
    assert len(left) >= CHANGED_CASES and len({*left.values()}) >= CHANGED_SURGEONS, "without the caller's own"
    with site.database.reading() as session:
        histories = [row.history for row in session.scalars(select(CohortMembers))]
    assert len(histories) == 4, "of length, stitches, share and a step"
    for first, last in histories:
        assert is_hidden_among_others({key: owner for key, owner in first.items() if key not in last})


@pytest.mark.parametrize("seed", range(5))
def test_whatever_comes_and_goes_no_two_answers_differ_by_few_cases(seed):
    """What one surgeon did may be known to an attacker: without any one surgeon's cases, the cases that made two
    answers differ by none, or by five of three surgeons."""
    chance = random.Random(seed)
    valid = {f"{chance.random()}": str(n % 7) for n in range(40)}
    answers = [renewed([], valid, True)]
    assert answers == [valid]
    for n in range(60):
        for _ in range(chance.choice((1, 1, 1, 2, 5))):
            if valid and chance.random() < 0.45:
                valid.pop(chance.choice(sorted(valid)))
            else:
                valid[f"{chance.random()}"] = str(int(chance.triangular(0, 9, 0)))
        now = renewed(answers, valid, may_grow=n % 3 == 0)
        assert now.items() <= valid.items()
        for before in answers if now else ():
            changed = dict(before.items() ^ now.items()) if before else {}
            for known_surgeon in {*changed.values()}:
                left = Counter(surgeon for surgeon in changed.values() if surgeon != known_surgeon)
                assert left.total() >= CHANGED_CASES and len(left) >= CHANGED_SURGEONS, n
        answers.append(now)
    assert len({frozenset(one) for one in answers}) > 3, "it goes on"


def test_cases_that_left_with_another_do_not_come_back_alone():
    """Else the first answer and the third one would differ by the one case that went."""
    valid = {f"{n}": str(n % 7) for n in range(42)}
    first = renewed([], valid, True)
    del valid["20"]
    second = renewed([first], valid, False)
    valid |= {f"new {n}": str(n) for n in range(3)}  # with these, those that left are enough to hide each other
    third = renewed([first, second], valid, True)
    assert third == second and "20" not in third and len(second) < len(first) - 1


def test_no_figure_is_exactly_that_of_one_case(site):
    ada = fill(site)
    lengths = {3611.0 + 97 * n for n in range(20)}
    length = next(one for one in ask(site, ada).quartiles if one.measure == "length")
    assert not {length.low, length.median, length.high} & lengths


def test_a_step_that_few_surgeons_have_is_left_out(site):
    ada = fill(site)
    with site.database.writing() as session:
        for summary in session.scalars(select(VideoSummary).where(VideoSummary.video_id.startswith("c0"))):
            summary.step_times = {**summary.step_times, "Rare": 12.0}
    assert {one.category for one in ask(site, ada).quartiles if one.measure == "step"} == {"Suturing"}


def test_maps_of_the_model_with_most_cases_are_compared_alone(site):
    ada = fill(site)
    ben = known(site, "ben")
    add_cases(site, *(case_of(ben, f"b{n}", 99_999.0, model_version="v0") for n in range(5)))
    found = ask(site, ada)
    assert found.version == "v1" and found.cases == 20


def test_the_answer_is_as_described_names_nobody_and_is_written_down(site):
    fill(site)

    def reads():
        with site.database.reading() as session:
            return session.scalars(select(AuditEntry).where(AuditEntry.action == "cohort.read")).all()

    before = len(reads())
    with client_of(site, new_key(site, user="ada")) as client:
        answer = client.get("/v1/home/cohort", params={"procedure": "prostatectomy"})
    assert CohortShown.model_validate(answer.json()).model_dump() == answer.json()
    assert answer.json()["state"] == "shown" and "surgeon0" not in answer.text and "c00" not in answer.text
    (entry,) = reads()[before:]
    assert PROCEDURE.lower() not in str(entry.detail).lower(), "people's words stand in no log"
