"""The caller's own cases of the last days in figures, from summaries in the database: no map is read.

A case is of the day of its operation where somebody wrote that down, else of the day of its upload.
"""

from __future__ import annotations

import datetime
from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from sqlalchemy import ColumnElement, Row, Select, and_, or_, select
from sqlalchemy.orm import Session

from halsted_ray.maps.stitch_totals import wilson
from halsted_ray.service.cases import Case, record_looks, seen_cases
from halsted_ray.service.database import Database, now_s
from halsted_ray.service.rights import WITHDRAWN_FOR
from halsted_ray.service.summaries import WHY, unpacked_times
from halsted_ray.service.tables import Job, Operation, StoredVideo, VideoSummary
from halsted_ray.service.users import DAY_S, Caller

SHARE_DECIMALS = 4
MOST_JOBS = 20


@dataclass(frozen=True)
class Figures:
    """The figures of some cases. ``hours``: of video. ``high_n``: the stitches whose proficiency a map states;
    ``high``: those of high proficiency."""

    cases: int
    hours: float
    stitches: int
    high: int
    high_n: int

    @property
    def high_share(self) -> float | None:
        """The share of stitches of high proficiency."""
        return round(self.high / self.high_n, SHARE_DECIMALS) if self.high_n else None

    @property
    def high_interval(self) -> tuple[float | None, float | None]:
        """The 95% interval of that share, which takes stitches for independent."""
        if not self.high_n:
            return None, None
        low, high = wilson(self.high, self.high_n)
        return round(low, SHARE_DECIMALS), round(high, SHARE_DECIMALS)


@dataclass(frozen=True)
class Home:
    """``phases``: (phase, median seconds of its stitches, how many). ``trend``: week by its first day → figures.
    ``moments``: the rows that are worth a look, at most one of each kind of ``summaries.WHY``."""

    figures: Figures
    model_versions: list[str]
    phases: list[tuple[str, float, int]]
    trend: dict[datetime.date, Figures]
    moments: list[dict[str, Any]]
    jobs: list[Job]


def read_home(database: Database, caller: Caller, days: int) -> Home:
    """The figures of the caller's own cases of the last ``days`` days. Each map of which a moment is shown is an entry
    of the audit log."""
    with database.reading() as session:
        files = session.execute(_files(caller, days)).all()
        moments = _moments(session, caller, days)
        jobs = _jobs(session, caller)
        ids = [moment["video_id"] for moment in moments]
        found = session.scalars(
            select(StoredVideo).where(StoredVideo.tenant_id == caller.tenant_id, StoredVideo.video_id.in_(ids))
        ).all()
        shown: list[Case] = seen_cases(session, caller, found)
    if shown:
        with database.writing() as session:
            record_looks(session, shown, "summary.read", "timeline")
    weeks: dict[datetime.date, list[Row[Any]]] = defaultdict(list)
    for file in files:
        day = _day(file)
        weeks[day - datetime.timedelta(days=day.weekday())].append(file)
    return Home(
        _figures(files),
        sorted({file.model_version for file in files if file.model_version}),
        _phases(file.phase_times for file in files if file.phase_times),
        {week: _figures(weeks[week]) for week in sorted(weeks)},
        moments,
        jobs,
    )


def _is_own(caller: Caller, days: int) -> ColumnElement[bool]:
    """The caller's own videos of the last days. The summaries of those whose consent is withdrawn are not read."""
    since = datetime.datetime.fromtimestamp(now_s() - days * DAY_S, datetime.UTC).date().isoformat()
    uploaded = StoredVideo.created_s >= now_s() - days * DAY_S
    return and_(
        StoredVideo.tenant_id == caller.tenant_id,
        StoredVideo.owner_id == caller.user_id,
        StoredVideo.deleted_s.is_(None),
        or_(Operation.operated_on >= since, and_(Operation.operated_on.is_(None), uploaded)),
    )


def _files(caller: Caller, days: int) -> Select[Any]:
    return _of_files(
        select(
            StoredVideo.video_id,
            StoredVideo.case_id,
            StoredVideo.created_s,
            StoredVideo.duration_s,
            Operation.operated_on,
            VideoSummary.model_version,
            VideoSummary.stitches,
            VideoSummary.rated,
            VideoSummary.rated_high,
            VideoSummary.phase_times,
        ),
        caller,
        days,
    )


def _of_files(columns: Select[Any], caller: Caller, days: int) -> Select[Any]:
    """``columns`` of the caller's own files of the last days, with the summaries that the caller may read."""
    return (
        columns.select_from(StoredVideo)
        .outerjoin(Operation, _is_of_case())
        .outerjoin(VideoSummary, _is_readable(caller))
        .where(_is_own(caller, days))
    )


def _is_of_case() -> ColumnElement[bool]:
    return and_(Operation.tenant_id == StoredVideo.tenant_id, Operation.case_id == StoredVideo.case_id)


def _is_readable(caller: Caller) -> ColumnElement[bool]:
    """Joins a video with its summary where the caller may read its map."""
    own = and_(VideoSummary.tenant_id == StoredVideo.tenant_id, VideoSummary.video_id == StoredVideo.video_id)
    if caller.role == "admin" or "timeline" not in WITHDRAWN_FOR:
        return own
    return and_(own, StoredVideo.consent != "withdrawn")


def _moments(session: Session, caller: Caller, days: int) -> list[dict[str, Any]]:
    """One moment of each kind over all files, without a row twice."""
    orders = {
        "least_sure": VideoSummary.least_sure.asc(),
        "longest": VideoSummary.longest_s.desc(),
        "unlike": VideoSummary.unlike.desc(),
    }
    found: dict[tuple[Any, ...], dict[str, Any]] = {}
    for kind, order in orders.items():
        best = session.execute(
            _of_files(select(VideoSummary.video_id, VideoSummary.moments), caller, days)
            .where(order.element.is_not(None))
            .order_by(order, VideoSummary.video_id)
            .limit(1)
        ).first()
        if best is not None:
            moment = {name: best.moments[kind][name] for name in ("start_s", "stop_s", "tag", "category")}
            found.setdefault((best.video_id, *moment.values()), {"video_id": best.video_id, **moment, "why": WHY[kind]})
    return list(found.values())


def _jobs(session: Session, caller: Caller) -> list[Job]:
    """What works or waits on the caller's own cases, the oldest first."""
    own = select(StoredVideo.video_id).where(
        StoredVideo.tenant_id == caller.tenant_id,
        StoredVideo.owner_id == caller.user_id,
        StoredVideo.deleted_s.is_(None),
    )
    return list(
        session.scalars(
            select(Job)
            .where(Job.state.in_(("queued", "running")), Job.tenant_id == caller.tenant_id, Job.video_id.in_(own))
            .order_by(Job.created_s)
            .limit(MOST_JOBS)
        )
    )


def _figures(files: Iterable[Row[Any]]) -> Figures:
    cases, duration_s = set(), 0.0
    stitches = high = high_n = 0
    for file in files:
        cases.add(file.case_id)
        duration_s += file.duration_s
        if file.stitches is not None:
            stitches += file.stitches
            high += file.rated_high
            high_n += file.rated
    return Figures(len(cases), round(duration_s / 3600, 2), stitches, high, high_n)


def _phases(times: Iterable[Mapping[str, str]]) -> list[tuple[str, float, int]]:
    """(phase, median seconds over all stitches, how many), in the order in which phases come."""
    packed: dict[str, list[str]] = defaultdict(list)
    for of_video in times:
        for phase, text in of_video.items():
            packed[phase].append(text)
    phases = []
    for phase, texts in packed.items():
        times_N = unpacked_times(texts)
        phases.append((phase, round(float(np.median(times_N)), 1), len(times_N)))
    return phases


def _day(file: Row[Any]) -> datetime.date:
    if file.operated_on:
        return datetime.date.fromisoformat(file.operated_on)
    return datetime.datetime.fromtimestamp(file.created_s, datetime.UTC).date()
