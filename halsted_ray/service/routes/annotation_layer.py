"""/v1/videos/{video_id}/annotations: what people say about the map of a case; and the moments that are like one."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Query, Request, Response
from pydantic import BaseModel
from starlette.concurrency import run_in_threadpool

from halsted_ray.service import annotation_schemas as schemas
from halsted_ray.service.annotation_schemas import show_change, show_layer, show_moment, show_pair
from halsted_ray.service.annotation_timeline import Layers, rows_of_layer
from halsted_ray.service.cases import Case
from halsted_ray.service.components import ServiceComponents
from halsted_ray.service.deps import AnnotatedCase, Components, ReadCase, WatchedCase
from halsted_ray.service.routes.search import moment_search, record_found
from halsted_ray.service.similar_moments import SimilarMoments
from halsted_ray.service.videos import FORMATS, NotMapped, render_timeline

router = APIRouter(prefix="/v1/videos/{video_id}")


@router.get("/annotations", response_model=schemas.AnnotationsShown)
async def show_annotations(request: Request, case: ReadCase, components: Components) -> Response:
    """What people say about the map now, who said it, and where two people contradict each other."""

    def shown() -> schemas.AnnotationsShown:
        layer = components.annotations.read(case)
        _record(components, case, "annotations")
        return show_layer(layer)

    return await _in_turn(request, case, shown)


@router.post("/annotations", response_model=schemas.AnnotationsShown)
async def change_annotations(
    request: Request, case: AnnotatedCase, components: Components, new: schemas.NewChanges
) -> Response:
    """Makes all changes or none. Each change is one revision.

    409 where somebody else has changed one of the spans since ``revision``; ``spans`` shows them as they are now. The
    inverse of a change undoes it: ``remove`` of what was added, ``add`` with the id of what was removed."""
    wanted = [change.wanted() for change in new.changes]

    def said() -> set[tuple[str, str]]:
        try:
            rows = components.videos.timeline_rows(case.video.tenant_id, case.video_id)
        except NotMapped:
            return set()
        return {(row["tag"], row["category"]) for row in rows}

    def changed() -> schemas.AnnotationsShown:
        taxonomy = components.model_source().taxonomy
        return show_layer(components.annotations.change(case, new.revision, wanted, taxonomy, said))

    return await _in_turn(request, case, changed)


@router.get("/annotations/history", response_model=list[schemas.ChangeShown])
async def show_history(
    request: Request,
    case: ReadCase,
    components: Components,
    after: Annotated[int, Query(ge=0, le=2**31 - 1)] = 0,
    limit: Annotated[int, Query(ge=1, le=10_000)] = 1000,
) -> Response:
    """The changes behind the revision ``after``, the oldest first."""

    def shown() -> schemas.History:
        layer = components.annotations.read(case)
        _record(components, case, "history")
        return schemas.History([show_change(change, layer.authors) for change in layer.changes[after : after + limit]])

    return await _in_turn(request, case, shown)


@router.get("/annotations/agreement", response_model=schemas.AgreementShown)
async def show_agreement(request: Request, case: ReadCase, components: Components) -> Response:
    """How far every two people agree, tag by tag: Cohen's kappa over frames of 1 s that both annotated, and the median
    distance of their ends. People who correct the same map agree more than those who begin from nothing."""

    def shown() -> schemas.AgreementShown:
        pairs = [show_pair(*found) for found in components.annotations.agreement(case)]
        _record(components, case, "agreement")
        return schemas.AgreementShown(pairs=pairs)

    return await _in_turn(request, case, shown)


@router.get(
    "/annotations/timeline",
    response_class=Response,
    responses={200: {"content": {media: {} for media in FORMATS.values()}}},
)
async def show_annotated_timeline(
    request: Request,
    case: ReadCase,
    components: Components,
    layer: Layers = "corrected",
    format: Literal["json", "jsonl", "csv", "vtt", "srt"] = "json",
) -> Response:
    """What people say as rows of a timeline, with the source ``manual``. ``corrected``: with the model's rows, where
    nobody says otherwise; ``people``: what people say alone."""

    def shown() -> Response:
        of_model = layer == "corrected"
        model_rows = components.videos.timeline_rows(case.video.tenant_id, case.video_id) if of_model else []
        spans = components.annotations.read(case).spans
        rows = rows_of_layer(case.video_id, spans, model_rows, components.model_source().taxonomy)
        _record(components, case, "annotations", format=format)
        if format == "json":
            return Response(json.dumps({"video_id": case.video_id, "rows": rows}), media_type=FORMATS[format])
        return Response(render_timeline(rows, format), media_type=FORMATS[format])

    return await _in_turn(request, case, shown)


@router.post("/annotations/commit")
def commit_annotations(case: AnnotatedCase, components: Components) -> schemas.CommitShown:
    """Puts what people agree on into the site's atlas, as manual samples, in the place of what was committed of this
    case before. The same again commits nothing. 409 where the site has no atlas."""
    done = components.atlas_entries.commit(case, components.model_source().taxonomy)
    return schemas.CommitShown(
        version=done.version, release=None, samples=done.samples, disputed=done.disputed, revision=done.revision
    )


@router.get("/similar")
async def show_similar(
    request: Request,
    case: WatchedCase,
    components: Components,
    start_s: Annotated[float, Query(ge=0, le=schemas.LONGEST_S)],
    stop_s: Annotated[float, Query(gt=0, le=schemas.LONGEST_S)],
    limit: Annotated[int, Query(ge=1, le=50)] = 10,
    tag: Annotated[str | None, Query(max_length=200)] = None,
) -> list[schemas.MomentShown]:
    """The moments that look most like [start_s, stop_s), in the caller's cases, with the model's row there (of ``tag``;
    by default the shortest). They are shown only: whoever takes one adds it as an annotation of its case."""
    search = moment_search(request, case.caller.tenant_id, tag=tag)
    async with request.app.state.searches.place(case.caller.tenant_id):
        return await run_in_threadpool(_similar, components, search, case, start_s, stop_s, limit)


def _similar(
    components: ServiceComponents, search: SimilarMoments, case: Case, start_s: float, stop_s: float, limit: int
) -> list[schemas.MomentShown]:
    moments = search.find(case, start_s, stop_s, limit)
    record_found(components, moments, similar_to=case.video_id)
    return [show_moment(moment) for moment in moments]


def _record(components: ServiceComponents, case: Case, what: str, **detail: Any) -> None:
    """Notes in the audit log that the caller has read what people say about the map."""
    with components.database.writing() as session:
        span = [0.0, case.video.duration_s]
        case.record_look(session, "timeline.read", "timeline", what=what, seconds=span, **detail)


async def _in_turn(request: Request, case: Case, work: Callable[[], BaseModel | Response]) -> Response:
    """The answer that ``work`` makes, in a thread, once the caller has a place. Whoever asks a thousand times takes one
    place, and colleagues find the others."""

    def answer() -> Response:
        found = work()
        # Written here, as JSON of 10 MB in the event loop would stop all other answers.
        return found if isinstance(found, Response) else Response(found.model_dump_json(), media_type=FORMATS["json"])

    async with request.app.state.layers.place(case.caller.user_id):
        return await run_in_threadpool(answer)
