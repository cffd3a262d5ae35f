"""/v1/cases, /v1/home, /v1/sample-case and /v1/videos/{video_id}/poster: one's cases at a glance."""

from __future__ import annotations

from typing import Annotated, Literal

from fastapi import APIRouter, Depends, Query, Request, Response
from starlette.concurrency import run_in_threadpool

from halsted_ray.service.case_access import own_cases, refusals_recorded
from halsted_ray.service.case_descriptions import Description
from halsted_ray.service.case_search import LONGEST_QUERY, CaseQuery
from halsted_ray.service.cases import Case
from halsted_ray.service.components import ServiceComponents
from halsted_ray.service.deps import (
    ChecksDescribe,
    ChecksSee,
    Components,
    DeletedOperation,
    DescribedOperation,
    Reader,
    SeenOperation,
    WatchedCase,
    Writer,
)
from halsted_ray.service.home import read_home
from halsted_ray.service.library import LibraryCase
from halsted_ray.service.library_schemas import (
    CaseChanges,
    CaseShown,
    CasesShown,
    CaseState,
    Day,
    DescribedCase,
    HomeShown,
    LooksLike,
    Moment,
    NewCase,
    PhaseTime,
    SampleShown,
    Week,
    show_case,
)
from halsted_ray.service.name_like import WARNINGS, identity_kinds
from halsted_ray.service.poster import read_poster
from halsted_ray.service.sample_case import begin_sample
from halsted_ray.service.schemas import show_job

router = APIRouter(prefix="/v1/cases")
home_router = APIRouter(prefix="/v1")


@router.get("", dependencies=[ChecksSee])
def find_cases(
    caller: Reader,
    components: Components,
    q: Annotated[str, Query(max_length=LONGEST_QUERY, description="Words of procedure, label, step or state.")] = "",
    procedure: Annotated[str | None, Query(max_length=200)] = None,
    label: Annotated[str | None, Query(max_length=200)] = None,
    status: CaseState | None = None,
    since: Day | None = None,
    until: Day | None = None,
    order: Literal["newest", "oldest", "longest"] = "newest",
    limit: Annotated[int, Query(ge=1, le=200)] = 50,
    cursor: str | None = None,
) -> CasesShown:
    """The cases that the caller may see, found by words and filters. ``since`` and ``until`` are days of the operation,
    or of the upload where nobody wrote down the operation's. Each map of which a case shows something is an entry of
    the audit log."""
    query = CaseQuery(q, procedure, label, status, since, until, order, limit, cursor)
    found, page = components.library.find(caller, query)
    components.library.record_looks(found)
    return CasesShown(cases=[show_case(case) for case in found], total=page.total, next=page.following)


@router.post("", status_code=201, dependencies=[ChecksDescribe])
def group_files(request: Request, caller: Writer, components: Components, new: NewCase) -> CaseShown:
    """Makes one case of several files of one operation, in their order. Each keeps its own owner, shares and consent.
    What was written about the cases that end is kept. 404 and 403 where the caller may not describe one of them."""
    files = []
    for video_id in new.video_ids:
        with refusals_recorded(request, caller, "describe", video_id):
            files.append(components.cases.require(caller, video_id, "describe"))
    return _shown(components, components.library.group(caller, files))


@router.get("/{case_id}")
def show_one(case: SeenOperation, components: Components) -> CaseShown:
    """One case."""
    return _shown(components, case)


@router.patch("/{case_id}")
def describe_case(case: DescribedOperation, components: Components, changes: CaseChanges) -> DescribedCase:
    """Writes down the procedure, the day of the operation and the labels. What is left out stays as it is. The answer
    warns where a text looks as if it named a patient; it is kept all the same."""
    before, given = case.description, changes.model_fields_set
    description = Description(
        changes.procedure if "procedure" in given else before.procedure,
        changes.operated_on if "operated_on" in given else before.operated_on,
        tuple(changes.labels or ()) if "labels" in given else before.labels,
    )
    caller = case.files[0].caller
    shown = _shown(components, components.library.describe(caller, case, description))
    texts = dict.fromkeys([description.procedure or "", *description.labels])
    found = [LooksLike(text=text, kind=kind) for text in texts for kind in identity_kinds(text)]
    warnings = [f"{one.text}: {WARNINGS[one.kind]}" for one in found]
    return DescribedCase(**shown.model_dump(), warnings=warnings, looks_like=found)


@router.delete("/{case_id}", status_code=204)
def take_case_apart(case: DescribedOperation, components: Components) -> None:
    """Makes each file a case of its own, and deletes none. The first file keeps what was written about the case."""
    components.library.take_apart(case.files[0].caller, case)


@router.delete("/{case_id}/files", status_code=204)
def delete_case(case: DeletedOperation, components: Components) -> None:
    """Deletes all files of the case that the caller sees, or none: each goes as by ``DELETE /v1/videos/{video_id}``.
    409 where one of them is under a legal hold, 403 where one of them may not be deleted by the caller."""
    components.library.delete(case.files[0].caller, case)


@home_router.get("/home", dependencies=[Depends(own_cases)])
def show_home(caller: Reader, components: Components, days: Annotated[int, Query(ge=1, le=366)] = 30) -> HomeShown:
    """The caller's own cases of the last days: totals, the share of stitches of high proficiency, the time per phase of
    suturing, a row per week, up to three rows of maps that are worth a look, and the jobs under way."""
    home = read_home(components.database, caller, days)
    figures, (low, high) = home.figures, home.figures.high_interval
    return HomeShown(
        days=days,
        cases=figures.cases,
        hours=figures.hours,
        stitches=figures.stitches,
        high_share=figures.high_share,
        high_low=low,
        high_high=high,
        high_n=figures.high_n,
        model_versions=home.model_versions,
        phases=[PhaseTime(category=name, median_s=median_s, n=n) for name, median_s, n in home.phases],
        trend=[
            Week(
                week=week.isoformat(),
                cases=its.cases,
                hours=its.hours,
                stitches=its.stitches,
                high_share=its.high_share,
            )
            for week, its in home.trend.items()
        ],
        moments=[Moment(**moment) for moment in home.moments],
        jobs=[show_job(job) for job in home.jobs],
    )


@home_router.post("/sample-case", status_code=201)
async def begin_sample_case(request: Request, caller: Writer, components: Components) -> SampleShown:
    """A small phantom, an operation that never happened: it goes the way of every upload, and a map of it is asked for.
    Each user has one; while it is there, this answers the same one again."""
    async with request.app.state.sample_slots:
        return SampleShown(video_id=await run_in_threadpool(begin_sample, components, caller))


@home_router.get("/videos/{video_id}/poster", response_class=Response, responses={200: {"content": {"image/jpeg": {}}}})
async def show_poster(request: Request, case: WatchedCase, components: Components) -> Response:
    """A frame of the video that stands for it: a JPEG, 320 pixels wide. 404 where no frame shows anything, 409 while
    the video is being cleaned."""
    async with request.app.state.poster_slots:
        return await run_in_threadpool(_poster, components, case)


def _poster(components: ServiceComponents, case: Case) -> Response:
    data, at_s = read_poster(components.videos, case.video)
    with components.database.writing() as session:
        case.record_look(session, "poster.read", "watch", seconds=[at_s, at_s + 1 / (case.video.fps or 25)])
    return Response(data, media_type="image/jpeg")


def _shown(components: ServiceComponents, case: LibraryCase) -> CaseShown:
    components.library.record_looks([case])
    return show_case(case)
