"""/v1/home/trend and /v1/home/cohort: one's own cases over time, and what is usual for their procedure."""

from __future__ import annotations

from typing import Annotated, Literal

from fastapi import APIRouter, Depends, Query, Response

from halsted_ray.service.case_access import own_cases
from halsted_ray.service.case_descriptions import LONGEST_PROCEDURE
from halsted_ray.service.cohort import read_cohort
from halsted_ray.service.deps import Components, Reader
from halsted_ray.service.library_schemas import Day
from halsted_ray.service.own_trend import read_trend, write_trend_csv
from halsted_ray.service.trend_schemas import CohortShown, TrendShown, show_cohort, show_trend

router = APIRouter(prefix="/v1/home")
Procedure = Annotated[str, Query(min_length=1, max_length=LONGEST_PROCEDURE)]


@router.get(
    "/trend",
    dependencies=[Depends(own_cases)],
    response_model=TrendShown,
    responses={200: {"content": {"text/csv": {}}}},
)
def show_own_trend(
    caller: Reader,
    components: Components,
    procedure: Procedure | None = None,
    since: Day | None = None,
    until: Day | None = None,
    model_version: Annotated[str | None, Query(max_length=200)] = None,
    format: Literal["json", "csv"] = "json",
) -> TrendShown | Response:
    """The caller's own cases of one procedure by day: length, time per step and phase, stitches, share of high
    proficiency. Nobody sees those of somebody else here, whatever their role.

    ``procedure``: that of most of the caller's cases by default. ``since`` and ``until`` are days. Only maps of
    ``model_version`` are compared, by default that of the newest case; other cases have their length alone. Each map of
    which a figure is shown is an entry of the audit log."""
    trend = read_trend(components.database, caller, procedure, since, until, model_version)
    if format == "csv":
        headers = {"content-disposition": 'attachment; filename="own-cases.csv"'}
        return Response(write_trend_csv(trend), media_type="text/csv", headers=headers)
    return show_trend(trend)


@router.get("/cohort")
def show_own_cohort(caller: Reader, components: Components, procedure: Procedure) -> CohortShown:
    """What is usual for a procedure of which the caller has a case: median and quartiles over the cases of others in
    the tenant, from HALSTED_COHORT_CASES cases of five surgeons on, with consent alone. Nobody is named or ranked. What
    it is made of changes by several cases of several surgeons at once. An entry of the audit log."""
    return show_cohort(read_cohort(components.database, caller, procedure, components.settings.cohort_cases))
