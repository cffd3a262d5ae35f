"""The bodies and answers of the API, and how a row of the database becomes an answer."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, Field

from halsted_ray.service import playback
from halsted_ray.service.cases import MAX_SHARE_DAYS, Case
from halsted_ray.service.links import MAX_LINK_DAYS
from halsted_ray.service.object_store import MAX_PARTS, PART_BYTES
from halsted_ray.service.tables import Job, StoredVideo, Upload, UploadPart
from halsted_ray.service.users import MAX_KEY_DAYS


class NewUpload(BaseModel):
    """An upload to begin."""

    size_bytes: int | None = Field(
        None, ge=1, le=MAX_PARTS * PART_BYTES, description="The size of the file, where it is known."
    )
    case_id: str | None = Field(
        None,
        pattern=r"^[0-9a-f]{1,64}$",
        description="The case that this is another file of: one that you may describe, or the `case_id` that an "
        "earlier upload of yours answered. Left out: a new case.",
    )
    position: int | None = Field(
        None, ge=1, le=1000, description="Among the files of its case, from 1 on; left out: behind all others."
    )


class IdentityShown(BaseModel):
    """Which patient, study and instance a video is of. Dates and times are DICOM's; '' where the header has none."""

    patient_id: str
    patient_name: str
    birth_date: str
    sex: str
    accession_number: str
    study_id: str
    study_date: str
    study_time: str
    study_uid: str
    series_uid: str
    instance_uid: str
    class_uid: str


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
    case_id: str | None = Field(None, description="The case that it becomes a file of.")
    position: int | None = Field(None, description="Among the files of its case.")
    video_id: str | None
    reason: str | None
    parts: list[PartShown] = []


class StorageShown(BaseModel):
    """What the caller's tenant keeps, and what it may keep."""

    quota_bytes: int | None = Field(description="What the tenant may keep; null for no bound.")
    video_bytes: int = Field(description="Of its videos, and of their copies for browsers.")
    upload_bytes: int = Field(description="Of its open uploads, with the sizes that they announced.")
    open_uploads: int
    most_open_uploads: int
    left_bytes: int | None = Field(description="What the quota leaves; null for no bound.")
    disk_bytes: int | None = Field(description="What the disk has left for uploads; null where the store has no bound.")
    longest_video_s: float
    part_bytes: int = PART_BYTES


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


class CauseShown(BaseModel):
    """Why something failed, for a program: ``failure_causes.CAUSES``. The text beside it says the same in English."""

    code: str
    values: dict[str, str | float] = Field(description="What a sentence about it names.")


class JobShown(BaseModel):
    """A mapping job and its progress in seconds of video."""

    job_id: str
    kind: Literal["clean", "map", "proxy"] = Field(
        "map", description="clean: an upload is cleaned; map: a video is mapped; proxy: a copy for browsers is made."
    )
    video_id: str
    tasks: list[str]
    state: Literal["queued", "running", "done", "failed", "cancelled"]
    outcome: str | None = Field(description="mapped, or partial where the timeline has gaps")
    reason: str | None
    cause: CauseShown | None = Field(None, description="Why it failed, for a program; null for an older job.")
    phase: Literal["cleaning", "copying", "planning", "starting", "mapping", "publishing"] | None = Field(
        description="What the job does while it runs: reads the video's index, loads models, maps, writes the timeline."
    )
    model_version: str | None
    done_s: float
    total_s: float
    eta_s: float | None = Field(
        description="Seconds to go: 0 for a job that is done; null where nobody knows yet (the job waits or has just "
        "begun), and where the job never ends as done (it failed or was cancelled)."
    )
    failed_segments: int
    attempts: int


class CleaningShown(BaseModel):
    """What was removed from a video before it was stored. The certificate says it at length."""

    level: Literal["full", "metadata"] = Field(description="full: text and spans out of the body were looked for, too")
    looked_for: list[str] = Field(description="What was looked for in the picture.")
    spans: int = Field(description="How many spans are black.")
    boxes: int = Field(description="How many boxes are black for some time.")
    removed: list[str] = Field(description="Kinds of what the file carried beside its picture.")
    sha256: str = Field(description="Of the clean copy.")


class VideoShown(BaseModel):
    """A video and its newest job."""

    video_id: str
    case_id: str = Field("", description="The case that it is a file of.")
    position: int = Field(1, description="Among the files of its case, from 1 on.")
    size_bytes: int
    duration_s: float
    width: int
    height: int
    fps: float
    codec: str
    created_s: float = Field(description="When the upload was completed, in seconds since 1970, UTC.")
    state: Literal["cleaning", "ready", "review", "failed"] = Field(
        "ready",
        description="cleaning: nobody can play it yet, and a map waits. review: ready, and somebody should look "
        "through what was hidden. failed: it could not be cleaned, and its bytes are deleted.",
    )
    reason: str | None = Field(None, description="Why it could not be cleaned.")
    cause: CauseShown | None = Field(None, description="The same for a program; null for an older cleaning.")
    cleaning: CleaningShown | None = Field(None, description="null for a video that was not cleaned, or not yet.")
    playback: Literal["direct", "proxy", "making", "none"] = Field(
        "none",
        description="direct: browsers play the video itself. proxy: they play a copy of it (`content?copy=proxy`). "
        "making: a copy is being made. none: they do not play it, and there is no copy; ask for one.",
    )
    cleaning_job: JobShown | None = Field(None, description="While the video is being cleaned: the job that does it.")
    job: JobShown | None = Field(None, description="The newest job that maps the video.")
    relations: list[str] = Field([], description="What the caller is to the case, see the reference of rights.")
    rights: list[str] = Field([], description="What the caller may do with the case.")
    consent: Literal["unknown", "given", "withdrawn"] = Field("unknown", description="The patient's consent.")
    keep_until_s: float | None = Field(None, description="From then on the service deletes the case; null: never.")
    legal_hold: bool = Field(False, description="Whether nobody and nothing may delete the case.")


class NewShare(BaseModel):
    """With whom to share a case, as what, and for how long."""

    user: str = Field(min_length=1, max_length=64)
    relation: Literal["surgeon", "trainee", "reviewer", "annotator"]
    days: float = Field(30.0, gt=0, le=MAX_SHARE_DAYS, description="After so many days the share expires.")


class ShareShown(BaseModel):
    """A share that has not expired."""

    share_id: str
    user: str = Field(description="The name by which the service knows the user.")
    name: str = Field(description="The user's name for people: as the site's identity provider gives it.")
    relation: str
    granted_by: str
    granted_by_name: str
    created_s: float
    expires_s: float | None = Field(description="null: it ends with the case (the user uploaded the same file)")


class NewLink(BaseModel):
    """A read-only link to make: for how long, and what it shows of the case."""

    days: float = Field(7.0, gt=0, le=MAX_LINK_DAYS, description="After so many days the link expires.")
    from_s: float | None = Field(None, ge=0, le=1e6, description="The part that is shown; left out: the whole video.")
    to_s: float | None = Field(None, gt=0, le=1e6)
    shows: list[Literal["video", "timeline", "proficiency"]] = Field(
        ["video", "timeline"],
        min_length=1,
        max_length=3,
        description="The map is shown without proficiency unless that is named too.",
    )


class LinkShown(BaseModel):
    """A link that has not ended. Its secret was shown once."""

    link_id: str
    created_by: str = Field(description="The name by which the service knows the user who made it.")
    created_by_name: str
    created_s: float
    expires_s: float
    from_s: float | None = Field(description="The part of the video that it shows, in seconds; null: the whole video.")
    to_s: float | None
    shows: list[Literal["video", "timeline", "proficiency"]]


class LinkMade(LinkShown):
    """A new link."""

    url: str = Field(description="The link, shown only this once. Whoever has it can look until it ends.")


class PeopleShown(BaseModel):
    """Whose case it is, null where nobody knows, with whom it is shared, and which links show it to others."""

    owner: str | None
    owner_name: str | None
    shares: list[ShareShown]
    links: list[LinkShown] = []


class UserShown(BaseModel):
    """A user with whom a case can be shared."""

    user: str = Field(description="What a share names.")
    name: str = Field(description="The name that people read.")
    role: str


class NewOwner(BaseModel):
    """Who the owner of a case shall be."""

    user: str = Field(min_length=1, max_length=64)


class Keeping(BaseModel):
    """What changes: the patient's consent, until when the case is kept."""

    consent: Literal["unknown", "given", "withdrawn"] | None = None
    keep_until_s: float | None = Field(None, gt=0, le=1e11, description="Seconds since 1970, UTC.")


class Hold(BaseModel):
    """Whether the case is under a legal hold."""

    legal_hold: bool


class KeepingShown(BaseModel):
    """The consent, until when the case is kept, and whether it is under a legal hold."""

    consent: str
    keep_until_s: float | None
    legal_hold: bool


class NewKey(BaseModel):
    """A key to issue, and its user."""

    user: str = Field(min_length=1, max_length=64)
    role: Literal["surgeon", "trainee", "reviewer", "annotator", "admin", "auditor", "monitor"]
    days: float | None = Field(
        None, gt=0, le=MAX_KEY_DAYS, description="After so many days the key expires; left out: what the site says."
    )


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
            "case_id": upload.case_id,
            "position": upload.position,
            "video_id": upload.video_id,
            "reason": upload.reason,
            "parts": [show_part(part) for part in parts.values()],
        }
    )


def show_part(part: UploadPart) -> PartShown:
    """The answer that shows a part."""
    return PartShown(**{name: getattr(part, name) for name in PartShown.model_fields})


HIDDEN_FROM_LINKS = frozenset({"reason", "cause", "cleaning", "consent", "keep_until_s", "legal_hold"})
"""What whoever looks through a link does not learn of a video: these have their defaults then."""


def show_video(
    video: StoredVideo, job: Job | None = None, case: Case | None = None, cleaning_job: Job | None = None
) -> VideoShown:
    """The answer that shows a video with its newest jobs, and what the caller is to it."""
    given = {"job", "cleaning_job", "relations", "rights", "playback"}
    if case and case.link:
        given |= HIDDEN_FROM_LINKS
    return VideoShown(
        job=show_job(job) if job else None,
        cleaning_job=show_job(cleaning_job) if cleaning_job and video.state == "cleaning" else None,
        relations=list(case.relations) if case else [],
        rights=sorted(case.rights) if case else [],
        playback=playback.shown(video),
        **{name: getattr(video, name) for name in VideoShown.model_fields if name not in given},
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
