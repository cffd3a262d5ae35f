"""What is usual at the hospital for a procedure: quartiles over the cases of others, never a figure of one person.

A cohort is shown from enough cases of enough surgeons on (``cohort_members.py``), only of cases whose consent is given,
which are mapped without gaps by one model, each of one surgeon. The caller's own cases are none of it. Figures are
rounded to two digits. Below the least number the answer says at most how many cases are missing.
"""

from __future__ import annotations

import datetime
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal, TypeAlias

import numpy as np
from sqlalchemy import select
from sqlalchemy.orm import Session

from halsted_ray.records import digest
from halsted_ray.service import audit
from halsted_ray.service.case_figures import CaseFigures, read_figures
from halsted_ray.service.cohort_members import KEPT, LEAST_SURGEONS, is_enough, renewed
from halsted_ray.service.database import Database, lock_row, now_s
from halsted_ray.service.tables import CohortMembers, Secret, StoredVideo
from halsted_ray.service.users import Caller
from halsted_ray.taxonomy.names import fold

Measure = Literal["length", "step", "phase", "stitches", "high share"]
Name: TypeAlias = tuple[Measure, str | None]
"""A figure: what is measured, and the step or phase."""
LENGTH: Name = ("length", None)
"""The figure that every case has."""
DIGITS = 2
"""Of each figure. A quartile can be the figure of one case, and two digits name none."""
COUNTED_BY = 5
"""Numbers of cases are said in steps of so many."""


@dataclass(frozen=True)
class Quartiles:
    """Of one ``measure``, of the step or phase ``category``, over about ``cases`` cases. Seconds; a number for
    stitches; 0 to 1 for the share."""

    measure: Measure
    category: str | None
    low: float
    median: float
    high: float
    cases: int


@dataclass(frozen=True)
class Cohort:
    """``state``: off where the site has none, none of yours where the caller has no case of the procedure, too few, or
    shown. ``missing_at_most``: so many cases more and there is a cohort, if enough surgeons have them; None where none
    are missing or nothing is said. ``day``: since when it is made of these cases."""

    state: Literal["off", "none of yours", "too few", "shown"]
    least_cases: int
    least_surgeons: int = LEAST_SURGEONS
    missing_at_most: int | None = None
    cases: int | None = None
    day: str | None = None
    version: str | None = None
    quartiles: list[Quartiles] = field(default_factory=list)


def read_cohort(database: Database, caller: Caller, procedure: str, least_cases: int) -> Cohort:
    """What is usual for ``procedure`` (compared by ``fold``) at the caller's tenant. An entry of the audit log."""
    if not least_cases:
        return Cohort("off", 0)
    with database.writing() as session:
        audit.record_by(session, caller, "cohort.read", caller.user_id)
        own = read_figures(session, caller.tenant_id, StoredVideo.owner_id == caller.user_id, procedure)
        if not any(case.owner_id == caller.user_id for case in own):
            return Cohort("none of yours", least_cases)
        lock_row(session, audit.HEAD)  # requests for one cohort take turns
        secret = session.get_one(Secret, "cohorts").value
        usable = _usable(read_figures(session, caller.tenant_id, StoredVideo.consent == "given", procedure))
        by_key = {_key(secret, procedure, case): case for case in usable}
        members = _members(session, secret, caller.tenant_id, procedure, by_key)
    others = {
        name: [by_key[key] for key in made.cases if by_key[key].owner_id != caller.user_id]
        for name, made in members.items()
    }
    whole = others[LENGTH]
    if not is_enough(_owners(whole), least_cases):
        known = sum(case.owner_id != caller.user_id for case in usable)
        missing = max(1, least_cases - known)
        return Cohort("too few", least_cases, missing_at_most=-(-missing // COUNTED_BY) * COUNTED_BY)
    return Cohort(
        "shown",
        least_cases,
        cases=_about(len(whole)),
        day=members[LENGTH].day,
        version=whole[0].version,
        quartiles=[_quartiles(name, some) for name, some in others.items() if is_enough(_owners(some), least_cases)],
    )


@dataclass(frozen=True)
class _Members:
    """The keys of the cases that a figure is made of, and since when."""

    cases: Collection[str]
    day: str


def _members(
    session: Session, secret: str, tenant_id: str, procedure: str, by_key: Mapping[str, CaseFigures]
) -> dict[Name, _Members]:
    """Within a transaction: figure → the cases that it is made of, out of those that may be used. What is kept of it is
    brought up to date.

    Each figure has a history of its own. Cases that hide each other in the lengths do not in the times of a step that
    one of them alone has.
    """
    today = datetime.datetime.fromtimestamp(now_s(), datetime.UTC).date().isoformat()
    valid = {name: _owners_of(by_key, name) for name in (LENGTH, *_names(by_key.values()))}
    kept_as = {name: digest("cohort", secret, fold(procedure), *_spelled(name)) for name in valid}
    rows = {
        row.procedure: row
        for row in session.scalars(
            select(CohortMembers).where(
                CohortMembers.tenant_id == tenant_id, CohortMembers.procedure.in_(list(kept_as.values()))
            )
        )
    }
    found = {}
    for name, cases in valid.items():
        row = rows.get(kept_as[name])
        history = list(row.history) if row else []
        now = renewed(history, cases, may_grow=row is None or row.day < today)
        if row is None and now:
            row = CohortMembers(tenant_id=tenant_id, procedure=kept_as[name], day=today, history=[now])
            session.add(row)
        elif row is not None and now != history[-1]:
            row.day, row.history = today, [*history, now][-KEPT:]
        found[name] = _Members(now, row.day if row else today)
    return found


def _usable(cases: Sequence[CaseFigures]) -> list[CaseFigures]:
    """Those of ``cases`` of one owner, with consent, that are mapped without gaps by one model: the one with the most
    cases."""
    found = [case for case in cases if case.owner_id and case.has_consent and case.is_mapped and case.version]
    counts = Counter(case.version for case in found)
    version = max(counts, key=lambda one: (counts[one], one), default=None)
    return [case for case in found if case.version == version]


def _key(secret: str, procedure: str, case: CaseFigures) -> str:
    """The name of a case with these figures: where a figure changes, as by another map, it is another case."""
    figures = [case.duration_s, case.stitches, case.rated, case.high, case.steps_s, case.phase_medians_s]
    return digest("cohort", secret, fold(procedure), case.case_id, case.owner_id, case.version, figures)


def _owners(cases: Sequence[CaseFigures]) -> dict[str, str]:
    return {case.case_id: case.owner_id for case in cases if case.owner_id is not None}


def _owners_of(by_key: Mapping[str, CaseFigures], name: Name) -> dict[str, str]:
    """Key → the owner, of the cases that have the figure."""
    return {
        key: case.owner_id
        for key, case in by_key.items()
        if case.owner_id is not None and _value(case, name) is not None
    }


def _names(cases: Collection[CaseFigures]) -> list[Name]:
    """The figures that cases can have besides their length."""
    found: list[Name] = [("stitches", None), ("high share", None)]
    found += [("step", step) for step in dict.fromkeys(step for case in cases for step in case.steps_s)]
    found += [("phase", phase) for phase in dict.fromkeys(phase for case in cases for phase in case.phase_medians_s)]
    return found


def _value(case: CaseFigures, name: Name) -> float | None:
    measure, category = name
    if category is not None:
        return (case.steps_s if measure == "step" else case.phase_medians_s).get(category)
    return {"length": case.duration_s, "stitches": case.stitches, "high share": case.high_share}[measure]


def _spelled(name: Name) -> tuple[str, ...]:
    """What the digest of a figure's history is made of. That of the lengths has the name that all figures had."""
    return () if name == LENGTH else (name[0], name[1] or "")


def _quartiles(name: Name, cases: Sequence[CaseFigures]) -> Quartiles:
    low, middle, high = (
        _rounded(float(one)) for one in np.percentile([_value(case, name) for case in cases], (25, 50, 75))
    )
    return Quartiles(*name, low, middle, high, _about(len(cases)))


def _rounded(value: float) -> float:
    return float(f"{value:.{DIGITS}g}")


def _about(count: int) -> int:
    """A number of cases in steps, rounded down."""
    return count // COUNTED_BY * COUNTED_BY
