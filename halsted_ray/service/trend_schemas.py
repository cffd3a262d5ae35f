"""The answers that show one's own cases one after another, and what is usual at the hospital."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, Field

from halsted_ray.service.case_figures import CaseFigures
from halsted_ray.service.cohort import Cohort
from halsted_ray.service.own_trend import SHARE_DECIMALS, Trend, interval_of


class ProcedureCount(BaseModel):
    """A procedure and how many of one's own cases are of it."""

    procedure: str
    cases: int


class VersionCount(BaseModel):
    """A model and how many cases have its maps; null: cases with maps of several models."""

    model_version: str | None
    cases: int


class CasePhase(BaseModel):
    """How long a phase of suturing takes in one case: the median over its ``n`` stitches."""

    median_s: float
    n: int


class CaseMapFigures(BaseModel):
    """What the maps of one case say. Seconds; shares are 0 to 1, with a 95% interval that takes stitches for
    independent."""

    steps_s: dict[str, float]
    phases: dict[str, CasePhase]
    stitches: int | None = Field(description="null where the tasks were not asked that tell.")
    high_share: float | None
    high_low: float | None
    high_high: float | None
    high_n: int = Field(description="The stitches whose proficiency the map states.")


class TrendCase(BaseModel):
    """One of one's own cases."""

    case_id: str
    video_id: str = Field(description="Its first file.")
    day: str = Field(description="Of the operation, or of the upload where nobody wrote down the operation's.")
    duration_s: float
    model_versions: list[str]
    complete: bool = Field(description="false: a part has no map, and times of steps are too short by it.")
    figures: CaseMapFigures | None = Field(description="null where its map is not of the model that is compared.")


class TrendShown(BaseModel):
    """One's own cases of one procedure, by day. Only maps of ``model_version`` are compared."""

    procedure: str | None = Field(description="null where no own case has one: then those without are shown.")
    procedures: list[ProcedureCount]
    model_version: str | None
    model_versions: list[VersionCount]
    steps: list[str]
    phases: list[str]
    cases: list[TrendCase]
    unmapped: int = Field(description="Cases without a map.")
    with_others: int = Field(description="Cases that are left out, since somebody else has a file of them.")
    earlier: int = Field(description="Older cases that are left out, since there are too many.")
    unnamed: int = Field(description="Cases without a procedure that are left out.")


class QuartilesShown(BaseModel):
    """Quartiles of one measure over the cases of others. Seconds; a number for stitches; 0 to 1 for the share. Rounded
    to two digits."""

    measure: Literal["length", "step", "phase", "stitches", "high share"]
    category: str | None = Field(description="The step or the phase.")
    low: float
    median: float
    high: float
    cases: int = Field(description="About how many cases have it, rounded down.")


class CohortShown(BaseModel):
    """What is usual for a procedure, over the cases of others. off: the site has no comparison. none of yours: the
    caller has no case of the procedure."""

    state: Literal["off", "none of yours", "too few", "shown"]
    least_cases: int
    least_surgeons: int
    missing_at_most: int | None = Field(description="So many cases more suffice, if enough surgeons have them.")
    cases: int | None = Field(description="About how many, rounded down.")
    day: str | None = Field(description="Since when it is made of these cases.")
    model_version: str | None
    quartiles: list[QuartilesShown]


def show_trend(trend: Trend) -> TrendShown:
    """The answer that shows a trend."""
    return TrendShown(
        procedure=trend.procedure,
        procedures=[ProcedureCount(procedure=name, cases=count) for name, count in trend.procedures],
        model_version=trend.version,
        model_versions=[VersionCount(model_version=version, cases=count) for version, count in trend.versions],
        steps=trend.steps,
        phases=trend.phases,
        cases=[
            TrendCase(
                case_id=case.case_id,
                video_id=case.files[0][0],
                day=case.day.isoformat(),
                duration_s=round(case.duration_s, 1),
                model_versions=list(case.versions),
                complete=case.is_mapped,
                figures=_map_figures(case) if trend.is_compared(case) else None,
            )
            for case in trend.cases
        ],
        unmapped=trend.unmapped,
        with_others=trend.with_others,
        earlier=trend.earlier,
        unnamed=trend.unnamed,
    )


def show_cohort(cohort: Cohort) -> CohortShown:
    """The answer that shows a cohort."""
    return CohortShown(
        state=cohort.state,
        least_cases=cohort.least_cases,
        least_surgeons=cohort.least_surgeons,
        missing_at_most=cohort.missing_at_most,
        cases=cohort.cases,
        day=cohort.day,
        model_version=cohort.version,
        quartiles=[QuartilesShown.model_validate(one, from_attributes=True) for one in cohort.quartiles],
    )


def _map_figures(case: CaseFigures) -> CaseMapFigures:
    low, high = interval_of(case)
    share = case.high_share
    return CaseMapFigures(
        steps_s=case.steps_s,
        phases={
            phase: CasePhase(median_s=median_s, n=len(case.phases_s[phase]))
            for phase, median_s in case.phase_medians_s.items()
        },
        stitches=case.stitches,
        high_share=None if share is None else round(share, SHARE_DECIMALS),
        high_low=low,
        high_high=high,
        high_n=case.rated,
    )
