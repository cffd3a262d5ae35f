"""/v1/videos/{video_id}/timeline: the map of a video, as a table or as captions."""

from __future__ import annotations

from typing import Annotated, Literal

from fastapi import APIRouter, Header, Query, Request, Response

from halsted_ray.errors import UsageError
from halsted_ray.service.case_access import refusals_recorded
from halsted_ray.service.case_reports import REPORTS, report_of
from halsted_ray.service.cases import Case
from halsted_ray.service.components import ServiceComponents
from halsted_ray.service.deps import ChecksIdentity, Components, ReadCaseOrLink
from halsted_ray.service.errors import Forbidden
from halsted_ray.service.prepared_timelines import PreparedTimeline, PreparedTimelines
from halsted_ray.service.videos import FORMATS

router = APIRouter(prefix="/v1/videos/{video_id}/timeline")


@router.head("", include_in_schema=False, dependencies=[ChecksIdentity])
@router.get(
    "",
    dependencies=[ChecksIdentity],
    response_class=Response,
    responses={
        200: {"content": {media: {} for media in (*FORMATS.values(), *dict.fromkeys(REPORTS.values()))}},
        304: {"description": "the client has it"},
    },
)
def show_timeline(
    request: Request,
    case: ReadCaseOrLink,
    components: Components,
    format: Literal["json", "jsonl", "csv", "vtt", "srt", "dicom", "fhir", "fhir-r4"] = "json",
    kind: Literal["captions", "metadata", "chapters"] = "captions",
    identities: Annotated[bool, Query(description="Reports name the patient, where the case came as DICOM.")] = False,
    if_none_match: Annotated[str, Header(max_length=2000)] = "",
    accept_encoding: Annotated[str, Header(max_length=2000)] = "",
) -> Response:
    """What happens when. ``kind`` is for WebVTT: captions for people, JSON cues for programs, chapters for players.

    ``dicom`` (a Structured Report), ``fhir`` (a bundle of R5) and ``fhir-r4`` are for other systems of the hospital.
    They name nobody: the id of the video stands for the patient. With ``identities=1`` they name patient and study;
    that takes the right ``identity``, and is an entry of the audit log of its own.

    The answer is compressed for a client that takes gzip. It has an ETag: who sends it as ``If-None-Match`` gets 304
    until another map is published. A link that shows a part of the video gives the rows of that part, cut at its ends;
    one whose maker did not include ``proficiency`` gives no row that says how well something was done.
    """
    if format in REPORTS:
        return _report(request, components, case, format, identities)
    if identities:
        raise UsageError(f"identities=1: expected a report ({', '.join(REPORTS)}), got {format}, which names nobody")
    timelines: PreparedTimelines = request.app.state.timelines
    prepared = timelines.get(case.video.tenant_id, case.video_id, format, kind, case.span, case.hides_proficiency)
    with components.database.writing() as session:
        span = list(case.span or (0.0, case.video.duration_s))
        case.record_look(session, "timeline.read", "timeline", format=format, seconds=span)
    return answer(prepared, FORMATS[format], if_none_match, accept_encoding)


def answer(prepared: PreparedTimeline, media_type: str, if_none_match: str, accept_encoding: str) -> Response:
    """``prepared`` under its ETag, compressed for a client that takes gzip; 304 for a client that has it."""
    headers = {"ETag": prepared.etag, "Vary": "Accept-Encoding"}
    if if_none_match and prepared.is_known(if_none_match):
        return Response(status_code=304, headers=headers)
    if _takes_gzip(accept_encoding):
        headers["Content-Encoding"] = "gzip"
        return Response(prepared.compressed, headers=headers, media_type=media_type)
    return Response(prepared.text, headers=headers, media_type=media_type)


def _report(request: Request, components: ServiceComponents, case: Case, format: str, identities: bool) -> Response:
    """The answer with a report. Raises Forbidden where the caller may not have it, which is noted."""
    if case.link:
        with refusals_recorded(request, case.caller, "timeline"):
            raise Forbidden("a link gives no reports for other systems; ask for json, csv, vtt or srt").named(
                "link-limits"
            )
    if identities:
        with refusals_recorded(request, case.caller, "identity"):
            components.cases.require(case.caller, case.video_id, "identity")
    with components.database.writing() as session:
        span = [0.0, case.video.duration_s]
        named = {"identities": True} if identities else {}
        case.record_look(session, "timeline.read", "timeline", format=format, seconds=span, **named)
    data, name = report_of(components.videos, case, format, identities)
    headers = {"content-disposition": f'attachment; filename="{name}"'}
    return Response(data, headers=headers, media_type=REPORTS[format])


def _takes_gzip(accept_encoding: str) -> bool:
    """Whether the header Accept-Encoding names gzip, and not with the weight 0, which refuses it."""
    for entry in accept_encoding.lower().split(","):
        name, _, weight = entry.replace(" ", "").partition(";q=")
        if name == "gzip":
            return not weight or bool(weight.strip("0."))
    return False
