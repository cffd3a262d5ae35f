"""/v1/videos: the videos of the caller's tenant."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Header, HTTPException, Query, Request, Response
from starlette.concurrency import run_in_threadpool

from halsted_ray.errors import UsageError
from halsted_ray.service import audit, schemas
from halsted_ray.service.components import ServiceComponents
from halsted_ray.service.deps import Components, Id, Reader, Writer
from halsted_ray.service.users import Caller

router = APIRouter(prefix="/v1/videos")
CONTENT_BYTES = 2 * 1024 * 1024
"""How much of a video one answer holds at most."""
CONTAINERS = ((4, b"ftyp", "video/mp4"), (0, b"\x1aE\xdf\xa3", "video/webm"), (0, b"RIFF", "video/x-msvideo"))
"""(offset, the bytes that a file has there, its media type), of the containers that browsers play."""


@router.get("")
def list_videos(
    caller: Reader,
    components: Components,
    after: Annotated[str, Query(pattern="^[0-9a-f]{0,64}$")] = "",
    limit: Annotated[int, Query(ge=1, le=1000)] = 100,
) -> list[schemas.VideoShown]:
    """The caller's videos in the order of their ids, beginning behind the id ``after``."""
    videos = components.videos.list_videos(caller.tenant_id, after, limit)
    jobs = components.jobs.newest(caller.tenant_id, [video.video_id for video in videos])
    return [schemas.show_video(video, jobs.get(video.video_id)) for video in videos]


@router.get("/{video_id}")
def show_video(caller: Reader, components: Components, video_id: Id) -> schemas.VideoShown:
    """One video and its newest job."""
    jobs = components.jobs.newest(caller.tenant_id, [video_id])
    return schemas.show_video(components.videos.get(caller.tenant_id, video_id), jobs.get(video_id))


@router.get("/{video_id}/content", response_class=Response, responses={206: {"content": {"video/*": {}}}})
async def show_content(
    request: Request,
    caller: Reader,
    components: Components,
    video_id: Id,
    range: Annotated[str | None, Header(pattern=r"^bytes=\d{1,15}-\d{0,15}$")] = None,
) -> Response:
    """The video's own bytes, for a player. An answer holds at most 2 MiB of the range that ``Range`` asks for, and
    the player asks for the rest. So no process holds a whole video while a slow network takes it."""
    async with request.app.state.body_slots:
        return await run_in_threadpool(_content, components, caller, video_id, range)


@router.delete("/{video_id}", status_code=204)
def delete_video(caller: Writer, components: Components, video_id: Id) -> None:
    """Removes the video, its maps, vectors and pictures, and ends its jobs. The audit log keeps its entries."""
    components.videos.delete(caller, video_id)


def _content(components: ServiceComponents, caller: Caller, video_id: str, asked: str | None) -> Response:
    """The answer to ``Range: asked``; without a range the whole video, if it is small enough."""
    video = components.videos.get(caller.tenant_id, video_id)
    first, _, last = (asked or "bytes=0-").removeprefix("bytes=").partition("-")
    start, stop = int(first), min(int(last or video.size_bytes) + 1, int(first) + CONTENT_BYTES, video.size_bytes)
    if asked is None and video.size_bytes > CONTENT_BYTES:
        raise UsageError(f"the video has more than {CONTENT_BYTES} bytes; ask for a range, such as Range: bytes=0-")
    if start >= stop:
        raise HTTPException(
            416,
            f"the range is empty or outside the {video.size_bytes} bytes of the video",
            {"Content-Range": f"bytes */{video.size_bytes}"},
        )
    if start == 0:  # one entry per viewing, not one per range
        with components.database.writing() as session:
            audit.record(session, caller.tenant_id, caller.actor, "video.read", video_id)
    data, head = (components.videos.read(video, *span) for span in ((start, stop), (0, 16)))
    media = next((media for at, mark, media in CONTAINERS if head[at:].startswith(mark)), "application/octet-stream")
    headers = {"accept-ranges": "bytes"}
    if asked:
        headers["content-range"] = f"bytes {start}-{stop - 1}/{video.size_bytes}"
    return Response(data, 206 if asked else 200, headers, media)
