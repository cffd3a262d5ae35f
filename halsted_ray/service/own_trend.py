"""The caller's own cases one after another: length, time per step and phase, stitches, by case.

They are the caller's own alone. Nobody sees the trend of somebody else, whatever their role: a trend of a named person
is the beginning of a ranking.
"""

from __future__ import annotations

import csv
import datetime
import io
from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

from sqlalchemy import select
from sqlalchemy.orm import Session

from halsted_ray.maps.stitch_totals import wilson
from halsted_ray.service.case_figures import CaseFigures, read_figures
from halsted_ray.service.cases import record_looks, seen_cases
from halsted_ray.service.database import Database
from halsted_ray.service.tables import StoredVideo
from halsted_ray.service.users import Caller
from halsted_ray.taxonomy.names import fold

MOST_CASES = 500
"""Cases of one answer, the newest."""
SHARE_DECIMALS = 4


@dataclass(frozen=True)
class Trend:
    """``procedures``: of all own cases with how many, the most first. ``procedure``: which is shown; None where no own
    case has one, and those without are shown. ``unnamed``: cases without a procedure that are left out.
    ``cases``: those of it within the days, by day. ``version``: only what its maps say is compared.
    ``versions``: model → how many of ``cases`` have its maps; None for several models in one case. ``unmapped``: cases
    without a map. ``with_others``: cases of the days that are left out since somebody else has a file of them.
    ``earlier``: cases left out since there are more than ``MOST_CASES``."""

    procedures: list[tuple[str, int]]
    procedure: str | None
    cases: list[CaseFigures]
    version: str | None
    versions: list[tuple[str | None, int]]
    unmapped: int
    with_others: int
    earlier: int
    unnamed: int

    def is_compared(self, case: CaseFigures) -> bool:
        """Whether what the map of ``case`` says is part of the trend."""
        return case.version is not None and case.version == self.version

    @property
    def steps(self) -> list[str]:
        """The steps of the cases that are compared, the longest first."""
        total_s: dict[str, float] = defaultdict(float)
        for case in self.cases:
            if self.is_compared(case):
                for step, seconds in case.steps_s.items():
                    total_s[step] += seconds
        return sorted(total_s, key=lambda step: (-total_s[step], step))

    @property
    def phases(self) -> list[str]:
        """The phases of suturing of the cases that are compared, in the order in which they come."""
        compared = [case for case in self.cases if self.is_compared(case)]
        return list(dict.fromkeys(phase for case in compared for phase in case.phase_medians_s))


def read_trend(
    database: Database,
    caller: Caller,
    procedure: str | None = None,
    since: str | None = None,
    until: str | None = None,
    version: str | None = None,
) -> Trend:
    """The trend of the caller's own cases. ``since``, ``until``: days, both included. ``version``: of a model; that of
    the newest case by default. Each map of which a figure is shown is an entry of the audit log."""
    with database.reading() as session:
        trend = _trend(session, caller, procedure, since, until, version)
        shown = [video_id for case in trend.cases if trend.is_compared(case) for video_id, *_ in case.files]
        found = session.scalars(
            select(StoredVideo).where(StoredVideo.tenant_id == caller.tenant_id, StoredVideo.video_id.in_(shown))
        ).all()
        looks = seen_cases(session, caller, found)
    if looks:
        with database.writing() as session:
            record_looks(session, looks, "summary.read", "timeline")
    return trend


def _trend(
    session: Session, caller: Caller, procedure: str | None, since: str | None, until: str | None, version: str | None
) -> Trend:
    own = StoredVideo.owner_id == caller.user_id
    found = read_figures(session, caller.tenant_id, own, hide_withdrawn=caller.role != "admin")
    whole = [case for case in found if case.owner_id == caller.user_id]
    names: dict[str, str] = {}
    counts: Counter[str] = Counter()
    for case in whole:
        if case.procedure is not None:
            counts[fold(case.procedure)] += 1
            names.setdefault(fold(case.procedure), case.procedure)
    ordered = sorted(counts, key=lambda name: (-counts[name], name))
    key = fold(procedure) if procedure is not None else next(iter(ordered), None)

    def is_asked(case: CaseFigures) -> bool:
        day = case.day.isoformat()
        name = None if case.procedure is None else fold(case.procedure)
        return name == key and (since or "") <= day <= (until or "9")

    asked = [case for case in whole if is_asked(case)]
    cases = asked[-MOST_CASES:]
    newest = next((case.version for case in reversed(cases) if case.version is not None), None)
    versions = Counter(case.version for case in cases if case.versions)
    return Trend(
        [(names[name], counts[name]) for name in ordered],
        names.get(key, procedure) if key is not None else None,
        cases,
        version or newest,
        sorted(versions.items(), key=lambda one: (-one[1], one[0] or "")),
        sum(not case.versions for case in cases),
        sum(is_asked(case) for case in found if case.owner_id != caller.user_id),
        len(asked) - len(cases),
        0 if key is None else sum(case.procedure is None for case in whole),
    )


def interval_of(case: CaseFigures) -> tuple[float | None, float | None]:
    """The 95% interval of the share of high proficiency, which takes stitches for independent."""
    if not case.rated:
        return None, None
    low, high = wilson(case.high, case.rated)
    return round(low, SHARE_DECIMALS), round(high, SHARE_DECIMALS)


def write_trend_csv(trend: Trend) -> str:
    """CSV by RFC 4180, a row per case. What its map says is empty where the map is of another model."""
    steps, phases = trend.steps, trend.phases
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\r\n")
    writer.writerow(
        ["case_id", "day", "length_s", "model_version", "compared", "complete", "stitches"]
        + ["high_share", "high_low", "high_high", "high_n"]
        + [f"step {step} s" for step in steps]
        + [column for phase in phases for column in (f"phase {phase} median s", f"phase {phase} n")]
    )
    for case in trend.cases:
        writer.writerow([*_case_columns(case, trend.is_compared(case)), *_map_columns(trend, case, steps, phases)])
    return text.getvalue()


def _case_columns(case: CaseFigures, is_compared: bool) -> list[object]:
    day: datetime.date = case.day
    versions = " ".join(case.versions)
    return [case.case_id, day.isoformat(), round(case.duration_s, 1), versions, is_compared, case.is_mapped]


def _map_columns(trend: Trend, case: CaseFigures, steps: Sequence[str], phases: Sequence[str]) -> list[object]:
    if not trend.is_compared(case):
        return [""] * (5 + len(steps) + 2 * len(phases))
    share = case.high_share
    found: list[object] = [case.stitches, None if share is None else round(share, SHARE_DECIMALS), *interval_of(case)]
    found.append(case.rated)
    found += [case.steps_s.get(step) for step in steps]
    for phase in phases:
        found += [case.phase_medians_s.get(phase), len(case.phases_s.get(phase, ()))]
    return ["" if one is None else one for one in found]
