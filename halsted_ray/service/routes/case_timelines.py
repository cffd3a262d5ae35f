"""/v1/cases/{case_id}/timeline, stitches and explanation: what happens when in an operation, over all of its files."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Header, Query, Request, Response

from halsted_ray.service import audit
from halsted_ray.service.case_timelines import readable
from halsted_ray.service.components import ServiceComponents
from halsted_ray.service.deps import Components, ReadOperation
from halsted_ray.service.explanation_schemas import CaseExplanationShown, show_case_explanation
from halsted_ray.service.explanations import explain_case, looked_at
from halsted_ray.service.library import LibraryCase
from halsted_ray.service.library_schemas import CaseTimelineShown, show_files
from halsted_ray.service.prepared_timelines import STITCHES, PreparedTimelines
from halsted_ray.service.routes.timelines import answer
from halsted_ray.service.stitch_schemas import CaseStitchesShown
from halsted_ray.service.videos import FORMATS

router = APIRouter(prefix="/v1/cases/{case_id}")


@router.get(
    "/timeline",
    response_class=Response,
    responses={
        200: {"model": CaseTimelineShown, "content": {media: {} for media in FORMATS.values()}},
        304: {"description": "the client has it"},
    },
)
def show_case_timeline(
    request: Request,
    case: ReadOperation,
    components: Components,
    format: Literal["json", "jsonl", "csv", "vtt", "srt"] = "json",
    kind: Literal["captions", "metadata", "chapters"] = "captions",
    if_none_match: Annotated[str, Header(max_length=2000)] = "",
    accept_encoding: Annotated[str, Header(max_length=2000)] = "",
) -> Response:
    """What happens when, over all files of the case that the caller may read, in seconds of the case.

    A file begins where the one before it ends, since nobody knows how much time lies between them. A row that goes on
    into the next file is one row, and what holds for the whole operation is said once. A file without a map, and one
    whose map the caller may not read, is a gap of its length, whose category is its state. Of files that the caller may
    not see nothing is told but where they are. Each file whose map is read is an entry of the audit log. Reports for
    other systems are per file, under ``/v1/videos``.
    """
    files = show_files(case)
    head = {
        "case_id": case.case_id,
        "duration_s": sum(file.duration_s for file in files),
        "files": [file.model_dump() for file in files],
        "ends_hidden": case.ends_hidden,
    }
    timelines: PreparedTimelines = request.app.state.timelines
    prepared = timelines.of_case(case, format, kind, head)
    _record(components, case, format=format)
    return answer(prepared, FORMATS[format], if_none_match, accept_encoding)


@router.get(
    "/stitches",
    response_class=Response,
    responses={
        200: {"model": CaseStitchesShown, "content": {"text/csv": {}}},
        304: {"description": "the client has it"},
    },
)
def show_case_stitches(
    request: Request,
    case: ReadOperation,
    components: Components,
    format: Literal["json", "csv"] = "json",
    if_none_match: Annotated[str, Header(max_length=2000)] = "",
    accept_encoding: Annotated[str, Header(max_length=2000)] = "",
) -> Response:
    """The stitches over all files of the case that the caller may read, with totals, in seconds of the case. A stitch
    may go on into the next file. None goes on over a file without a map, or over one that is hidden."""
    timelines: PreparedTimelines = request.app.state.timelines
    prepared = timelines.of_case(case, format, STITCHES, {})
    _record(components, case, format=format, part=STITCHES)
    return answer(prepared, FORMATS[format], if_none_match, accept_encoding)


@router.get("/explanation")
def explain_moment_of_case(
    case: ReadOperation,
    components: Components,
    at_s: Annotated[float, Query(ge=0, le=1e7, description="The moment, in seconds of the case.")],
) -> CaseExplanationShown:
    """What the maps of the case say of one moment, as ``/v1/videos/{video_id}/explanation``, over all files that the
    caller may read. What came before and what comes next may lie in another file."""
    found = explain_case(components.videos, case, at_s, lambda: components.model_source().taxonomy)
    _record(components, case, looked_at(found), part="explanation")
    return show_case_explanation(found)


def _record(
    components: ServiceComponents, case: LibraryCase, span: Sequence[float] | None = None, **detail: Any
) -> None:
    """Writes into the audit log that the caller reads the map of each of the files. ``span``: only of those that touch
    this [start_s, stop_s) of the case; where there are none, no map was shown, and the look is at the case."""
    files = readable(case)
    start_s, stop_s = span or (0.0, float("inf"))
    touched = [one for one in files if start_s < one.stop_s and one.offset_s < max(stop_s, start_s + 1e-9)]
    with components.database.writing() as session:
        if not touched:
            audit.record_by(session, case.files[0].caller, "timeline.read", case.case_id, **detail)
        for one in touched:
            own = one.file
            seconds = [max(0.0, start_s - one.offset_s), min(own.video.duration_s, stop_s - one.offset_s)]
            own.record_look(session, "timeline.read", "timeline", case=case.case_id, seconds=seconds, **detail)
