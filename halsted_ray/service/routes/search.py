"""/v1/search: moments of one's cases by example or in words."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from fastapi import APIRouter, Request
from starlette.concurrency import run_in_threadpool

from halsted_ray.search.moments import MOMENT_S
from halsted_ray.service.case_access import refusals_recorded
from halsted_ray.service.cases import Case
from halsted_ray.service.components import ServiceComponents
from halsted_ray.service.deps import ChecksWatch, Components, Reader
from halsted_ray.service.errors import NotFound, StateConflict
from halsted_ray.service.prepared_timelines import PreparedTimelines
from halsted_ray.service.search_schemas import MomentsFound, NewSearch, show_found
from halsted_ray.service.similar_moments import Moment, SimilarMoments
from halsted_ray.service.users import Caller

router = APIRouter(prefix="/v1")


@router.post("/search", dependencies=[ChecksWatch])
async def search_moments(request: Request, caller: Reader, components: Components, asked: NewSearch) -> MomentsFound:
    """The moments of the caller's newest cases that are most like a second of one of them, or that a text describes,
    with the model's shortest row there. Each case that is shown is an entry of the audit log; the text is kept nowhere.

    409 for a text where the site has no model for words, and where nothing is stored of the second. 404 for a case that
    the caller may not know of."""
    where = {tag: category for tag in ("procedure", "step") if (category := getattr(asked, tag)) is not None}
    search = moment_search(request, caller.tenant_id, where, asked.tag)
    case = None
    if asked.video_id is not None:
        with refusals_recorded(request, caller, "watch", asked.video_id):
            case = await run_in_threadpool(components.cases.require, caller, asked.video_id, "watch")
    async with request.app.state.searches.place(caller.tenant_id):
        return await run_in_threadpool(_find, components, search, caller, case, asked)


def _find(
    components: ServiceComponents, search: SimilarMoments, caller: Caller, case: Case | None, asked: NewSearch
) -> MomentsFound:
    if case is not None:
        assert asked.at_s is not None, "the schema asks for it"
        stop_s = min(asked.at_s + MOMENT_S / 2, case.video.duration_s)
        moments = search.find(case, max(0.0, asked.at_s - MOMENT_S / 2), stop_s, asked.limit)
        record_found(components, moments, similar_to=case.video_id)
    else:
        words = components.words()
        if words is None:
            raise StateConflict(
                "this site has no model for questions in words; its operator names one by HALSTED_SEARCH_MODEL"
            ).named("no-search-model")
        moments = search.find_words(caller, words, asked.text or "", asked.limit)
        record_found(components, moments, by="words")
    return show_found(moments)


def moment_search(
    request: Request, tenant_id: str, where: Mapping[str, str] | None = None, tag: str | None = None
) -> SimilarMoments:
    """A search of the tenant's cases, with the maps that this replica holds ready."""
    components: ServiceComponents = request.app.state.components
    timelines: PreparedTimelines = request.app.state.timelines

    def rows_of(video_id: str) -> Sequence[dict[str, Any]]:
        try:
            prepared = timelines.get(tenant_id, video_id, "json", "captions")
        except NotFound:  # not mapped, or deleted meanwhile
            return ()
        rows: list[dict[str, Any]] = json.loads(prepared.text)["rows"]
        return rows

    cache = request.app.state.moments
    return SimilarMoments(components.cases, components.videos, cache, rows_of, where or {}, tag)


def record_found(components: ServiceComponents, moments: Sequence[Moment], **detail: Any) -> None:
    """Notes in the audit log each case whose map is shown."""
    with components.database.writing() as session:
        for seen in {moment.case.video_id: moment.case for moment in moments}.values():
            spans = [(one.start_s, one.stop_s) for one in moments if one.case.video_id == seen.video_id]
            seconds = [min(start for start, _ in spans), max(stop for _, stop in spans)]
            seen.record_look(session, "timeline.read", "watch", seconds=seconds, **detail)
