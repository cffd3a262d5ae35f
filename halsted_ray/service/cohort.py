"""What is usual at the hospital for a procedure: quartiles over the cases of others, never a figure of one person.

A cohort is shown from enough cases of enough surgeons on (``cohort_members.py``), only of cases whose consent is given,
which are mapped without gaps by one model, each of one surgeon. The caller's own cases are none of it. Figures are
rounded to two digits. Below the least number the answer says at most how many cases are missing.
"""

from __future__ import annotations

import datetime
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

import numpy as np
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
        cases, day, there = _members(session, caller.tenant_id, procedure)
    others = {key: case for key, case in cases.items() if case.owner_id != caller.user_id}
    if not is_enough(_owners(others), least_cases):
        known = sum(owner_id != caller.user_id for owner_id in there.values())
        missing = max(1, least_cases - known)
        return Cohort("too few", least_cases, missing_at_most=-(-missing // COUNTED_BY) * COUNTED_BY)
    found = list(others.values())
    return Cohort(
        "shown",
        least_cases,
        cases=_about(len(found)),
        day=day,
        version=found[0].version,
        quartiles=_quartiles(found, least_cases),
    )


def _members(session: Session, tenant_id: str, procedure: str) -> tuple[dict[str, CaseFigures], str, dict[str, str]]:
    """Within a transaction: the cases of the cohort by their keys, since when these, and all that may be used (key →
    owner). What is kept of it is brought up to date."""
    lock_row(session, audit.HEAD)  # requests for one cohort take turns
    secret = session.get_one(Secret, "cohorts").value
    usable = _usable(read_figures(session, tenant_id, StoredVideo.consent == "given", procedure))
    by_key = {_key(secret, procedure, case): case for case in usable}
    valid = _owners(by_key)
    today = datetime.datetime.fromtimestamp(now_s(), datetime.UTC).date().isoformat()
    name = digest("cohort", secret, fold(procedure))
    row = session.get(CohortMembers, (tenant_id, name))
    history = list(row.history) if row else []
    now = renewed(history, valid, may_grow=row is None or row.day < today)
    if row is None and now:
        row = CohortMembers(tenant_id=tenant_id, procedure=name, day=today, history=[now])
        session.add(row)
    elif row is not None and now != history[-1]:
        row.day, row.history = today, [*history, now][-KEPT:]
    return {key: by_key[key] for key in now}, row.day if row else today, valid


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


def _owners(cases: Mapping[str, CaseFigures]) -> dict[str, str]:
    return {key: case.owner_id for key, case in cases.items() if case.owner_id is not None}


def _quartiles(cases: Sequence[CaseFigures], least_cases: int) -> list[Quartiles]:
    """Of each measure that enough cases of enough surgeons have."""
    values: dict[tuple[Measure, str | None], Callable[[CaseFigures], float | None]] = {
        ("length", None): lambda case: case.duration_s,
        ("stitches", None): lambda case: case.stitches,
        ("high share", None): lambda case: case.high_share,
    }
    for step in dict.fromkeys(step for case in cases for step in case.steps_s):
        values["step", step] = lambda case, step=step: case.steps_s.get(step)  # type: ignore[misc]
    for phase in dict.fromkeys(phase for case in cases for phase in case.phase_medians_s):
        values["phase", phase] = lambda case, phase=phase: case.phase_medians_s.get(phase)  # type: ignore[misc]
    found = []
    for (measure, category), value_of in values.items():
        known = {str(n): (case, value) for n, case in enumerate(cases) if (value := value_of(case)) is not None}
        if is_enough(_owners({name: case for name, (case, _) in known.items()}), least_cases):
            values_N = [value for _, value in known.values()]
            low, middle, high = (_rounded(float(one)) for one in np.percentile(values_N, (25, 50, 75)))
            found.append(Quartiles(measure, category, low, middle, high, _about(len(known))))
    return found


def _rounded(value: float) -> float:
    return float(f"{value:.{DIGITS}g}")


def _about(count: int) -> int:
    """A number of cases in steps, rounded down."""
    return count // COUNTED_BY * COUNTED_BY
