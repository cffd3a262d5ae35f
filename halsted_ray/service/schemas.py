"""The bodies and answers of the API, and how a row of the database becomes an answer."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, Field

from halsted_ray.service.database import Job, StoredVideo, Upload, UploadPart
from halsted_ray.service.object_store import MAX_PARTS, PART_BYTES


class NewUpload(BaseModel):
    """An upload to begin."""

    size_bytes: int | None = Field(
        None, ge=1, le=MAX_PARTS * PART_BYTES, description="The size of the file, where it is known."
    )


class PartShown(BaseModel):
    """A part that has come."""

    number: int
    size_bytes: int
    sha256: str
    etag: str


class UploadShown(BaseModel):
    """An upload and the parts that have come so far."""

    upload_id: str
    state: Literal["open", "complete", "rejected", "aborted"]
    part_bytes: int = PART_BYTES
    size_bytes: int | None
    video_id: str | None
    reason: str | None
    parts: list[PartShown] = []


class NamedPart(BaseModel):
    """A part as the client sent it."""

    number: int = Field(ge=1, le=MAX_PARTS)
    etag: str = Field(max_length=128)


class Completion(BaseModel):
    """What the client sent, for comparison with what came."""

    parts: list[NamedPart] | None = Field(
        None, max_length=MAX_PARTS, description="The parts that were sent, for comparison with the parts that came."
    )


class Address(BaseModel):
    """Where a part can be sent without a key."""

    url: str
    method: str = "PUT"


class NewMap(BaseModel):
    """What to map a video for."""

    task: str | None = Field(
        None, max_length=200, description="The name of a task; without a task and an instruction: all tasks."
    )
    instruction: str | None = Field(None, max_length=500, description="An instruction in words in place of a task.")


class JobShown(BaseModel):
    """A mapping job and its progress in seconds of video."""

    job_id: str
    video_id: str
    tasks: list[str]
    state: Literal["queued", "running", "done", "failed", "cancelled"]
    outcome: str | None = Field(description="mapped, or partial where the timeline has gaps")
    reason: str | None
    model_version: str | None
    done_s: float
    total_s: float
    eta_s: float | None = Field(
        description="Seconds to go: 0 for a job that is done; null where nobody knows yet (the job waits or has just "
        "begun), and where the job never ends as done (it failed or was cancelled)."
    )
    failed_segments: int
    attempts: int


class VideoShown(BaseModel):
    """A video and its newest job."""

    video_id: str
    size_bytes: int
    duration_s: float
    width: int
    height: int
    fps: float
    codec: str
    created_s: float = Field(description="When the upload was completed, in seconds since 1970, UTC.")
    job: JobShown | None = Field(None, description="The newest job of the video.")


class NewKey(BaseModel):
    """A key to issue, and its user."""

    user: str = Field(min_length=1, max_length=64)
    role: Literal["surgeon", "reviewer", "annotator", "admin", "auditor"]
    days: float | None = Field(None, gt=0, le=3650)


class ClipRequest(BaseModel):
    """A clip in the caller's storage: a video by its id, or a file by its uri."""

    instruction: str = Field(max_length=500)
    video_id: str | None = Field(None, pattern=r"^[0-9a-f]{1,64}$")
    uri: str | None = Field(None, max_length=2000)
    start_s: float | None = Field(None, ge=0, le=1e6)
    stop_s: float | None = Field(None, gt=0, le=1e6)


def show_upload(upload: Upload, parts: dict[int, UploadPart]) -> UploadShown:
    """The answer that shows an upload with ``parts``."""
    return UploadShown.model_validate(
        {
            "upload_id": upload.upload_id,
            "state": upload.state,
            "size_bytes": upload.size_bytes,
            "video_id": upload.video_id,
            "reason": upload.reason,
            "parts": [show_part(part) for part in parts.values()],
        }
    )


def show_part(part: UploadPart) -> PartShown:
    """The answer that shows a part."""
    return PartShown(**{name: getattr(part, name) for name in PartShown.model_fields})


def show_video(video: StoredVideo, job: Job | None = None) -> VideoShown:
    """The answer that shows a video with its newest job."""
    return VideoShown(
        job=show_job(job) if job else None,
        **{name: getattr(video, name) for name in VideoShown.model_fields if name != "job"},
    )


def show_job(job: Job) -> JobShown:
    """The answer that shows a job. ``eta_s``: the seconds that are left, 0 once the job is done, None while the
    job waits or has no rate, and where it failed, was cancelled or is being cancelled."""
    left_s = job.total_s - job.done_s
    eta_s = None
    if job.state == "done":
        eta_s = 0.0
    elif job.state == "running" and not job.cancel and job.rate > 0:
        eta_s = round(left_s / job.rate, 1)
    return JobShown(eta_s=eta_s, **{name: getattr(job, name) for name in JobShown.model_fields if name != "eta_s"})
