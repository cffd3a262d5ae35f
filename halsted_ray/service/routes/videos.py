"""/v1/videos: the cases that the caller may see, and their pictures."""

from __future__ import annotations

import re
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Header, HTTPException, Query, Request, Response
from starlette.concurrency import run_in_threadpool

from halsted_ray.errors import UsageError
from halsted_ray.service import clip_cutting, playback, schemas
from halsted_ray.service.auth import caller_now
from halsted_ray.service.case_access import refusals_recorded
from halsted_ray.service.cases import Case
from halsted_ray.service.clip_cutting import MOST_CLIP_S
from halsted_ray.service.components import ServiceComponents
from halsted_ray.service.deps import (
    ChecksSee,
    ChecksTimeline,
    Components,
    DeletedCase,
    MappedCase,
    Reader,
    SeenCase,
    SeenCaseOrLink,
    WatchedCase,
    WatchedCaseOrLink,
)
from halsted_ray.service.errors import Forbidden, StateConflict
from halsted_ray.service.refusals import HttpRefusal
from halsted_ray.service.tables import StoredVideo
from halsted_ray.service.users import Caller

router = APIRouter(prefix="/v1/videos")
CONTENT_BYTES = 2 * 1024 * 1024
"""How much of a video one answer holds at most."""
CONTAINERS = ((4, b"ftyp", "video/mp4"), (0, b"\x1aE\xdf\xa3", "video/webm"), (0, b"RIFF", "video/x-msvideo"))
"""(offset, the bytes that a file has there, its media type), of the containers that browsers play."""
_RANGE = re.compile(r"bytes=(\d{0,15})-(\d{0,15})")


@router.get("", dependencies=[ChecksSee])
def list_videos(
    caller: Reader,
    components: Components,
    after: Annotated[str, Query(pattern="^[0-9a-f]{0,64}$")] = "",
    limit: Annotated[int, Query(ge=1, le=1000)] = 100,
) -> list[schemas.VideoShown]:
    """The cases that the caller may see, in the order of their ids, beginning behind the id ``after``."""
    cases = components.cases.list_cases(caller, after, limit)
    ids = [case.video_id for case in cases]
    jobs = components.jobs.newest(caller.tenant_id, ids)
    raw = [case.video_id for case in cases if case.video.state == "cleaning"]
    cleanings = components.jobs.newest(caller.tenant_id, raw, "clean") if raw else {}
    return [
        schemas.show_video(case.video, jobs.get(case.video_id), case, cleanings.get(case.video_id)) for case in cases
    ]


@router.get("/{video_id}")
def show_video(case: SeenCaseOrLink, components: Components) -> schemas.VideoShown:
    """One case and its newest jobs; through a link the case alone."""
    if case.link:
        return schemas.show_video(case.video, case=case)
    job, cleaning = (
        components.jobs.newest(case.video.tenant_id, [case.video_id], kind).get(case.video_id)
        for kind in ("map", "clean")
    )
    return schemas.show_video(case.video, job, case, cleaning)


@router.get("/{video_id}/certificate")
def show_certificate(case: SeenCase, components: Components) -> dict[str, Any]:
    """What was removed from the video and what became black in it, with digests before and after, signed by the site.
    ``black`` is the list to look through. 404 for a video that was not cleaned."""
    return components.videos.certificate(case.video)


@router.post("/{video_id}/certificate/accept")
def accept_hidden(case: MappedCase, components: Components) -> dict[str, Any]:
    """Notes that you have looked through what was hidden in the video: its state is ``ready`` then. The certificate,
    signed anew with your name."""
    return components.videos.accept_hidden(case.caller, case.video_id)


@router.get("/{video_id}/content", response_class=Response, responses={206: {"content": {"video/*": {}}}})
async def show_content(
    request: Request,
    case: WatchedCaseOrLink,
    components: Components,
    range: Annotated[str | None, Header(max_length=200)] = None,
    copy: Literal["original", "proxy"] = "original",
) -> Response:
    """The video's own bytes, for a player; with ``copy=proxy`` those of its copy for browsers, where it has one. An
    answer holds at most 2 MiB of the range that ``Range`` asks for (``bytes=FIRST-``, ``bytes=FIRST-LAST`` or
    ``bytes=-COUNT``), and the player asks for the rest. So no process holds a whole video while a slow network takes
    it. Every answer is an entry of the audit log. A link that shows a part of the video gives no bytes of the whole:
    ask for ``clip``.
    """
    async with request.app.state.range_slots:
        return await run_in_threadpool(_content, request, components, case, range, copy == "proxy")


@router.head("/{video_id}/content", include_in_schema=False)
def show_content_head(
    request: Request,
    case: WatchedCaseOrLink,
    components: Components,
    copy: Literal["original", "proxy"] = "original",
) -> Response:
    """The length and the media type of the video's bytes, without the bytes. A range means nothing here (RFC 9110)."""
    _check_whole(request, case)
    of_proxy = copy == "proxy"
    headers = {"accept-ranges": "bytes", "content-length": str(_size(components, case.video, of_proxy))}
    return Response(None, 200, headers, _media_type(components, case.video, of_proxy))


@router.get(
    "/{video_id}/clip",
    dependencies=[ChecksTimeline],
    response_class=Response,
    responses={200: {"content": {"video/mp4": {}}}, 413: {"description": "longer than 120 s"}},
)
async def cut_clip(
    request: Request,
    case: WatchedCaseOrLink,
    components: Components,
    start_s: Annotated[float, Query(ge=0, le=1e7)],
    stop_s: Annotated[float, Query(gt=0, le=1e7)],
    labels: Literal["none", "burnt"] = "none",
) -> Response:
    """A clip of at most 120 s as an MP4 that every browser plays, right to the frame: second t of it shows second
    ``start_s + t`` of the video. It holds pictures alone, no sound and no tags. ``labels=burnt`` draws step and action
    of the map into the picture, with their confidence and a line that says which model they come from; that takes the
    right to read the map. 413 for a longer clip, 429 and 503 while too many are being cut, with Retry-After."""
    is_burnt = labels == "burnt"
    if stop_s - start_s > MOST_CLIP_S:
        raise HttpRefusal(
            413, f"a clip has at most {MOST_CLIP_S:g} s, {stop_s - start_s:.1f} s were asked for; ask for a shorter one"
        ).named("clip-long", most=MOST_CLIP_S)
    # Whoever has a link must not take the places of the tenant's own people.
    owner = f"{case.video.tenant_id} links" if case.link else case.video.tenant_id
    await run_in_threadpool(_may_cut, request, components, case.caller, case.video_id, (start_s, stop_s), is_burnt)
    state = request.app.state
    async with state.cuts_of_person.place(case.caller.user_id), state.cuts.place(owner):
        data = await run_in_threadpool(_cut, request, components, case, (start_s, stop_s), is_burnt)
    name = f"clip-{start_s:.3f}-{stop_s:.3f}.mp4"
    return Response(data, media_type="video/mp4", headers={"content-disposition": f'inline; filename="{name}"'})


@router.post("/{video_id}/proxy", status_code=202)
def copy_for_browsers(case: WatchedCase, components: Components) -> schemas.JobShown:
    """The job that makes a copy which every browser plays, of a video whose ``playback`` is ``none``: H.264 in an MP4,
    each frame at its own time. 409 where browsers play the video, or a copy of it, already."""
    return schemas.show_job(components.jobs.submit_proxy(case.caller, case.video_id))


@router.delete("/{video_id}", status_code=204)
def delete_video(case: DeletedCase, components: Components) -> None:
    """Removes the video, its maps, vectors and pictures, and ends its jobs and shares. The audit log keeps its
    entries. 409 where the case is under a legal hold."""
    components.videos.delete(case.caller, case.video_id)


def _may_cut(
    request: Request,
    components: ServiceComponents,
    caller: Caller,
    video_id: str,
    span: tuple[float, float],
    is_burnt: bool,
) -> Case:
    """The case, where the caller may see ``span`` of it, and its map where that is to be drawn. Raises as
    ``clip_cutting.check_span`` and ``Cases.require``, and notes refusals."""
    with refusals_recorded(request, caller, "watch"):
        case = components.cases.require(caller, video_id, "watch")
        clip_cutting.check_span(case, *span)
    if is_burnt:
        with refusals_recorded(request, caller, "timeline"):
            components.cases.require(caller, video_id, "timeline")
    return case


def _cut(
    request: Request, components: ServiceComponents, case: Case, span: tuple[float, float], is_burnt: bool
) -> bytes:
    """The clip. Who asked may have lost the right while it was cut: then nobody gets it."""
    components.videos.location(case.video)  # 409 while it is being cleaned
    with components.database.writing() as session:
        case.record_look(session, "clip.read", "watch", seconds=list(span), labels="burnt" if is_burnt else "none")
    data = clip_cutting.cut(components.videos, case, *span, is_burnt)
    caller = caller_now(request)
    if caller is None:
        raise HttpRefusal(401, "the key, the session or the link has ended; sign in again").named("sign-in-needed")
    _may_cut(request, components, caller, case.video_id, span, is_burnt)
    return data


def _content(
    request: Request, components: ServiceComponents, case: Case, asked: str | None, of_proxy: bool
) -> Response:
    """The answer to ``Range: asked``; without a range the whole video, if it is small enough."""
    _check_whole(request, case)
    video = case.video
    size_bytes = _size(components, video, of_proxy)
    span = _span(asked, size_bytes)
    if span is None and size_bytes > CONTENT_BYTES:
        raise UsageError(f"the video has more than {CONTENT_BYTES} bytes; ask for a range, such as Range: bytes=0-")
    start, stop = span or (0, size_bytes)
    stop = min(stop, start + CONTENT_BYTES)
    if start >= stop:
        raise HTTPException(
            416,
            f"the range is empty or outside the {size_bytes} bytes of the video",
            {"Content-Range": f"bytes */{size_bytes}"},
        )
    copy = {"copy": "proxy"} if of_proxy else {}
    with components.database.writing() as session:  # before the first byte leaves, and for every range
        case.record_look(session, "video.read", "watch", bytes=[start, stop], of=size_bytes, **copy)
    data = components.videos.read(video, start, stop, of_proxy)
    headers = {"accept-ranges": "bytes"}
    if span is not None:
        headers["content-range"] = f"bytes {start}-{stop - 1}/{size_bytes}"
    return Response(data, 200 if span is None else 206, headers, _media_type(components, video, of_proxy))


def _size(components: ServiceComponents, video: StoredVideo, of_proxy: bool) -> int:
    """The size of the video or of its copy for browsers. Raises StateConflict where there is none (yet)."""
    components.videos.location(video)  # 409 while it is being cleaned
    if not of_proxy:
        return video.size_bytes
    if video.playback != "proxy" or video.proxy_bytes is None:
        said = playback.PLAYBACKS[playback.shown(video)]
        raise StateConflict(f"video {video.video_id!r} has no copy for browsers: {said}; ask with POST …/proxy")
    return video.proxy_bytes


def _check_whole(request: Request, case: Case) -> None:
    """Raises Forbidden where the caller may see a part of the video only, and notes the refusal."""
    if case.span:
        start_s, stop_s = case.span
        with refusals_recorded(request, case.caller, "watch"):
            raise Forbidden(
                f"this link shows {start_s:.3f} to {stop_s:.3f} s of the video; ask for a clip of them"
            ).named("link-moment")


def _span(asked: str | None, size_bytes: int) -> tuple[int, int] | None:
    """The bytes [start, stop) that a Range header asks for; None without one, and for one of another form, such as
    several ranges at once: RFC 9110 lets a server ignore these."""
    found = _RANGE.fullmatch(asked or "")
    if not found or found[1] == found[2] == "":
        return None
    if not found[1]:
        return max(0, size_bytes - int(found[2])), size_bytes
    last = int(found[2]) if found[2] else size_bytes - 1
    return int(found[1]), min(last + 1, size_bytes)


def _media_type(components: ServiceComponents, video: StoredVideo, of_proxy: bool) -> str:
    head = components.videos.read(video, 0, 16, of_proxy)
    return next((media for at, mark, media in CONTAINERS if head[at:].startswith(mark)), "application/octet-stream")
