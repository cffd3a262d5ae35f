"""The tables of a site's database: who may do what, which videos there are, what is being done, who did what.

Alembic (``migrations/``) brings an older database up to these. All times are seconds since 1970, UTC. No file name is
ever stored: it can be a patient's name.
"""

from __future__ import annotations

import secrets
import time
from collections.abc import Sequence
from typing import Any

from sqlalchemy import JSON, BigInteger, ForeignKey, Index, UniqueConstraint
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column


def new_case_id() -> str:
    """An id for a case that begins."""
    return secrets.token_hex(8)


class Base(DeclarativeBase):
    """The base class of all tables."""

    type_annotation_map = {dict[str, Any]: JSON, list[str]: JSON, list[Any]: JSON}


class Tenant(Base):
    """One hospital or department. No tenant can reach anything that belongs to another tenant."""

    __tablename__ = "tenants"
    tenant_id: Mapped[str] = mapped_column(primary_key=True)
    created_s: Mapped[float]
    quota_bytes: Mapped[int | None] = mapped_column(BigInteger)
    """How many bytes its videos may have together; None: what the site's settings say."""


class User(Base):
    """A person or program of one tenant, with one role (``users.PERMISSIONS``)."""

    __tablename__ = "users"
    __table_args__ = (UniqueConstraint("tenant_id", "name"),)
    user_id: Mapped[str] = mapped_column(primary_key=True)
    tenant_id: Mapped[str] = mapped_column(ForeignKey("tenants.tenant_id"))
    name: Mapped[str]
    role: Mapped[str]
    created_s: Mapped[float]
    display_name: Mapped[str | None]
    """The name that people read, as the site's identity provider gives it. No log and no audit entry holds it."""


class ApiKey(Base):
    """A key of one user. Only the digest of its secret half is kept."""

    __tablename__ = "keys"
    key_id: Mapped[str] = mapped_column(primary_key=True)
    user_id: Mapped[str] = mapped_column(ForeignKey("users.user_id"), index=True)
    secret_sha256: Mapped[str]
    created_s: Mapped[float]
    expires_s: Mapped[float]
    revoked_s: Mapped[float | None]


class BrowserSession(Base):
    """A sign-in on the page. Only the digest of its cookie is kept."""

    __tablename__ = "sessions"
    token_sha256: Mapped[str] = mapped_column(primary_key=True)
    user_id: Mapped[str] = mapped_column(ForeignKey("users.user_id"))
    key_id: Mapped[str]
    """The key that the user signed in with, or 'oidc' for a sign-in at the identity provider."""
    created_s: Mapped[float]
    expires_s: Mapped[float]


class StoredVideo(Base):
    """A video of one tenant. ``video_id`` is computed from its content, so sending the same file twice gives one
    video."""

    __tablename__ = "videos"
    __table_args__ = (Index("videos_by_case", "tenant_id", "case_id"),)
    tenant_id: Mapped[str] = mapped_column(ForeignKey("tenants.tenant_id"), primary_key=True)
    video_id: Mapped[str] = mapped_column(primary_key=True)
    place: Mapped[str]
    """The path of its bytes within the tenant's storage. While it is being cleaned nothing is there yet."""
    size_bytes: Mapped[int] = mapped_column(BigInteger)
    duration_s: Mapped[float]
    width: Mapped[int]
    height: Mapped[int]
    fps: Mapped[float]
    codec: Mapped[str]
    created_s: Mapped[float]
    deleted_s: Mapped[float | None]
    """When it was deleted. From then on nobody sees the video; its bytes are removed as soon as no job reads them."""
    owner_id: Mapped[str | None] = mapped_column(ForeignKey("users.user_id"), index=True)
    """Whose case it is; None where nobody knows."""
    consent: Mapped[str] = mapped_column(default="unknown")
    """The patient's consent: unknown, given or withdrawn."""
    keep_until_s: Mapped[float | None]
    """From then on the service deletes the case; None: never."""
    legal_hold: Mapped[bool] = mapped_column(default=False)
    """Whether nobody and nothing may delete the case."""
    state: Mapped[str] = mapped_column(default="ready", index=True)
    """cleaning, ready, review or failed, see ``cleaning.py``."""
    original: Mapped[str | None]
    """The path of the bytes as they came, which only the cleaning job reads; None once they are removed."""
    cleaning: Mapped[dict[str, Any] | None] = mapped_column(JSON(none_as_null=True))
    """What was done (``cleaning.summary_of``); None for a video that was not cleaned."""
    reason: Mapped[str | None]
    """Why the cleaning failed."""
    cause: Mapped[dict[str, Any] | None] = mapped_column(JSON(none_as_null=True))
    """The same as a code (``failure_causes.py``); None for a cleaning of before, which has its text alone."""
    playback: Mapped[str | None]
    """Whether browsers play it, or a copy of it (``playback.PLAYBACKS``); None where nobody has looked."""
    proxy_bytes: Mapped[int | None] = mapped_column(BigInteger)
    """The size of the copy that browsers play; None where there is none."""
    case_id: Mapped[str] = mapped_column(default=new_case_id)
    """The case that it is a file of: videos of one operation have the same."""
    position: Mapped[int] = mapped_column(default=1)
    """Where it stands among the files of its case, from 1 on."""
    poster: Mapped[dict[str, Any] | None] = mapped_column(JSON(none_as_null=True))
    """The frame that stands for it: ``{"at_s": …}``, or ``{"none": why}``; None where nobody has looked for one yet."""


class Operation(Base):
    """What people have written about a case (``case_descriptions.py``). A case of which nobody wrote anything has no
    row here."""

    __tablename__ = "operations"
    tenant_id: Mapped[str] = mapped_column(ForeignKey("tenants.tenant_id"), primary_key=True)
    case_id: Mapped[str] = mapped_column(primary_key=True)
    procedure_chosen: Mapped[str | None]
    """The procedure in a person's words, in place of what the map suggests."""
    operated_on: Mapped[str | None]
    """The day of the operation, as 2026-11-03."""
    words: Mapped[str] = mapped_column(default="")
    """The procedure in the form in which words are searched (``case_descriptions.folded``)."""


class CaseLabel(Base):
    """A label of a case. ``folded``: in the form in which words are searched."""

    __tablename__ = "case_labels"
    __table_args__ = (Index("labels_by_words", "tenant_id", "folded"),)
    tenant_id: Mapped[str] = mapped_column(ForeignKey("tenants.tenant_id"), primary_key=True)
    case_id: Mapped[str] = mapped_column(primary_key=True)
    folded: Mapped[str] = mapped_column(primary_key=True)
    label: Mapped[str]
    position: Mapped[int]


class VideoSummary(Base):
    """What the newest map of a video says in short, so that no list reads a map (``map_summary.py``). It is written
    when a job ends, and goes with the video."""

    __tablename__ = "video_summaries"
    __table_args__ = (Index("video_summaries_by_procedure", "tenant_id", "procedure"),)
    tenant_id: Mapped[str] = mapped_column(ForeignKey("tenants.tenant_id"), primary_key=True)
    video_id: Mapped[str] = mapped_column(primary_key=True)
    rule: Mapped[int] = mapped_column(default=0, index=True)
    """By which ``map_summary.RULE`` it was made; 0: only state and reason are known yet."""
    state: Mapped[str]
    """mapped, partial, or failed where there is no map."""
    reason: Mapped[str | None]
    cause: Mapped[dict[str, Any] | None] = mapped_column(JSON(none_as_null=True))
    """Why there is no map, as a code (``failure_causes.py``)."""
    model_version: Mapped[str | None]
    asked: Mapped[list[str]]
    """The tasks that the map answers; ``not_asked``: the other tasks of its model."""
    not_asked: Mapped[list[str]]
    procedure: Mapped[str | None]
    procedure_confidence: Mapped[float | None]
    words: Mapped[str] = mapped_column(default="")
    """The procedure and the steps in the form in which words are searched."""
    strip: Mapped[list[Any]]
    """[start_share, stop_share, index of ``strip_categories``] of each step, in order of time."""
    strip_categories: Mapped[list[str]]
    stitches: Mapped[int | None]
    """How many; None where the tasks were not asked that tell."""
    rated: Mapped[int] = mapped_column(default=0)
    """The stitches whose proficiency the map states; ``rated_high``: those of high proficiency."""
    rated_high: Mapped[int] = mapped_column(default=0)
    phase_times: Mapped[dict[str, Any]]
    """Phase of suturing → how long each stitch took for it (``map_summary.packed_times``)."""
    step_times: Mapped[dict[str, Any]] = mapped_column(server_default="{}")
    """Step → its seconds in the whole video."""
    least_sure: Mapped[float | None]
    """The least confidence of a row; ``longest_s``: of a row; ``unlike``: how far the length of a row is from the
    others of its kind. ``moments`` says which rows these are."""
    longest_s: Mapped[float | None]
    unlike: Mapped[float | None]
    moments: Mapped[dict[str, Any]]


class CohortMembers(Base):
    """Of which cases the figures of a procedure are made that others are compared with (``cohort.py``). ``procedure``:
    the digest of its name, since people's words can name a patient. ``history``: each state, the newest last: the
    digest of a case and of its figures → its owner."""

    __tablename__ = "cohorts"
    tenant_id: Mapped[str] = mapped_column(ForeignKey("tenants.tenant_id"), primary_key=True)
    procedure: Mapped[str] = mapped_column(primary_key=True)
    day: Mapped[str]
    """The day of the last change, as 2026-11-03."""
    history: Mapped[list[Any]]


class Certificate(Base):
    """What was removed from a video before it was stored, signed by the site (``deidentify.certificate``)."""

    __tablename__ = "certificates"
    tenant_id: Mapped[str] = mapped_column(ForeignKey("tenants.tenant_id"), primary_key=True)
    video_id: Mapped[str] = mapped_column(primary_key=True)
    content: Mapped[dict[str, Any]]


class VideoIdentity(Base):
    """Which patient, study and instance a video is of that came as DICOM: a row per instance (``case_identities.py``).
    Dates and times are DICOM's, '' where the header has none. It is removed with the case."""

    __tablename__ = "identities"
    tenant_id: Mapped[str] = mapped_column(ForeignKey("tenants.tenant_id"), primary_key=True)
    video_id: Mapped[str] = mapped_column(primary_key=True)
    instance_uid: Mapped[str] = mapped_column(primary_key=True)
    class_uid: Mapped[str]
    series_uid: Mapped[str]
    study_uid: Mapped[str]
    study_id: Mapped[str]
    study_date: Mapped[str]
    study_time: Mapped[str]
    accession_number: Mapped[str]
    patient_id: Mapped[str]
    patient_name: Mapped[str]
    birth_date: Mapped[str]
    sex: Mapped[str]
    received_s: Mapped[float]


class Share(Base):
    """A case that is shared with one user of the tenant, until it expires or is ended."""

    __tablename__ = "shares"
    __table_args__ = (Index("shares_by_video", "tenant_id", "video_id"),)
    share_id: Mapped[str] = mapped_column(primary_key=True)
    tenant_id: Mapped[str] = mapped_column(ForeignKey("tenants.tenant_id"))
    video_id: Mapped[str]
    user_id: Mapped[str] = mapped_column(ForeignKey("users.user_id"), index=True)
    relation: Mapped[str]
    """What the user is to the case (``rights.SHARED_AS``)."""
    granted_by: Mapped[str]
    """The id of the user who shared it."""
    created_s: Mapped[float]
    expires_s: Mapped[float | None]
    """None for the share of somebody who uploaded the same file: it ends with the case."""


class CaseLink(Base):
    """A link with which whoever has it looks at one case, and changes nothing (``links.py``). Only the digest of its
    secret is kept."""

    __tablename__ = "links"
    __table_args__ = (Index("links_by_video", "tenant_id", "video_id"),)
    link_id: Mapped[str] = mapped_column(primary_key=True)
    token_sha256: Mapped[str] = mapped_column(unique=True)
    tenant_id: Mapped[str] = mapped_column(ForeignKey("tenants.tenant_id"))
    video_id: Mapped[str]
    from_s: Mapped[float | None]
    to_s: Mapped[float | None]
    """The part [from_s, to_s) of the video that is shown, in seconds; None for the whole video."""
    shows: Mapped[list[str]]
    """What is shown (``links.SHOWS``)."""
    created_by: Mapped[str] = mapped_column(ForeignKey("users.user_id"))
    created_s: Mapped[float]
    expires_s: Mapped[float]
    revoked_s: Mapped[float | None]


class LinkSession(Base):
    """A browser that looks at a case through a link. Only the digest of its cookie is kept."""

    __tablename__ = "link_sessions"
    token_sha256: Mapped[str] = mapped_column(primary_key=True)
    link_id: Mapped[str] = mapped_column(ForeignKey("links.link_id"), index=True)
    created_s: Mapped[float]
    expires_s: Mapped[float]


class SetupLink(Base):
    """A link with which the first administrator of a site is made, once. Only the digest of its secret is kept."""

    __tablename__ = "setup_links"
    token_sha256: Mapped[str] = mapped_column(primary_key=True)
    expires_s: Mapped[float]


class Upload(Base):
    """A video on its way in. ``state``: open, complete, rejected or aborted."""

    __tablename__ = "uploads"
    upload_id: Mapped[str] = mapped_column(primary_key=True)
    tenant_id: Mapped[str] = mapped_column(ForeignKey("tenants.tenant_id"))
    user_id: Mapped[str] = mapped_column(ForeignKey("users.user_id"))
    state: Mapped[str] = mapped_column(index=True)
    place: Mapped[str]
    store_ref: Mapped[str]
    """The object store's own id of the upload; empty for a folder, which gives none."""
    size_bytes: Mapped[int | None] = mapped_column(BigInteger)
    """The size that the client announced; None where it announced none."""
    label: Mapped[str | None] = mapped_column(index=True)
    """The client's own id of the video, if it has one."""
    case_id: Mapped[str | None] = mapped_column(index=True)
    """The case that the video shall be a file of; ``position``: where among its files."""
    position: Mapped[int | None]
    video_id: Mapped[str | None]
    reason: Mapped[str | None]
    completing_s: Mapped[float | None]
    """When a request began to complete or end the upload; None while no request does."""
    created_s: Mapped[float]
    active_s: Mapped[float | None]
    """When its last part came, as far as this API knows; None before the first part."""


class UploadPart(Base):
    """One part of an upload, numbered from 1."""

    __tablename__ = "parts"
    upload_id: Mapped[str] = mapped_column(ForeignKey("uploads.upload_id"), primary_key=True)
    number: Mapped[int] = mapped_column(primary_key=True)
    size_bytes: Mapped[int]
    sha256: Mapped[str]
    etag: Mapped[str]


class Job(Base):
    """The request to clean one upload, to map one video for some tasks, or to copy it for browsers. ``state``: queued →
    running → done, failed or cancelled. ``queued_job`` makes a new one."""

    __tablename__ = "jobs"
    __table_args__ = (
        Index("jobs_by_state", "state", "created_s"),
        Index("jobs_by_video", "tenant_id", "video_id"),
        Index("jobs_by_tenant", "tenant_id", "state"),
    )
    job_id: Mapped[str] = mapped_column(primary_key=True)
    kind: Mapped[str] = mapped_column(default="map")
    """clean, map or proxy."""
    tenant_id: Mapped[str] = mapped_column(ForeignKey("tenants.tenant_id"))
    user_id: Mapped[str] = mapped_column(ForeignKey("users.user_id"))
    video_id: Mapped[str]
    tasks: Mapped[list[str]]
    state: Mapped[str]
    model: Mapped[str | None]
    """The location of the model that this job was begun with. A job that is taken up again keeps its model."""
    model_version: Mapped[str | None]
    done_s: Mapped[float] = mapped_column(default=0.0)
    total_s: Mapped[float] = mapped_column(default=0.0)
    rate: Mapped[float] = mapped_column(default=0.0)
    """Video-seconds mapped per second."""
    failed_segments: Mapped[int] = mapped_column(default=0)
    outcome: Mapped[str | None]
    """What came of a job that is done: mapped, or partial where the timeline has gaps."""
    reason: Mapped[str | None]
    cause: Mapped[dict[str, Any] | None] = mapped_column(JSON(none_as_null=True))
    """Why it failed, as a code (``failure_causes.py``); None for a job of before, which has its text alone."""
    phase: Mapped[str | None]
    """What its worker does (``compute.progress.PHASES``, cleaning or copying); None while no worker does it."""
    cancel: Mapped[bool] = mapped_column(default=False)
    """Whether somebody has asked to stop this job."""
    attempts: Mapped[int] = mapped_column(default=0)
    """How many workers have begun this job."""
    worker: Mapped[str | None]
    lease_until_s: Mapped[float | None]
    """Until when the job belongs to ``worker``, unless a heartbeat extends this."""
    created_s: Mapped[float]
    started_s: Mapped[float | None]
    finished_s: Mapped[float | None]


def queued_job(
    kind: str, video: StoredVideo, user_id: str, tasks: Sequence[str] = (), reason: str | None = None
) -> Job:
    """A new job that waits. ``kind``: clean, map or proxy; ``reason``: why it waits, where something is in its way."""
    return Job(
        job_id=secrets.token_hex(8),
        kind=kind,
        tenant_id=video.tenant_id,
        user_id=user_id,
        video_id=video.video_id,
        tasks=list(tasks),
        state="queued",
        reason=reason,
        total_s=video.duration_s,
        done_s=0.0,
        rate=0.0,
        failed_segments=0,
        cancel=False,
        attempts=0,
        created_s=time.time(),
    )


class AuditEntry(Base):
    """Who did what to what. Each entry holds the digest of the entry before it; see ``audit.py``."""

    __tablename__ = "audit"
    seq: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    at_s: Mapped[float]
    tenant_id: Mapped[str] = mapped_column(index=True)
    actor: Mapped[str]
    action: Mapped[str]
    subject: Mapped[str]
    detail: Mapped[dict[str, Any]]
    previous: Mapped[str]
    digest: Mapped[str]


class LockRow(Base):
    """A row that a transaction locks so that no other transaction does the same work at the same time.

    The row 'audit' also holds the number and the digest of the last audit entry, the row 'audit-export' those of the
    last entry whose digest was written to a place outside.
    """

    __tablename__ = "heads"
    name: Mapped[str] = mapped_column(primary_key=True)
    seq: Mapped[int]
    digest: Mapped[str]


class ReplicaMetrics(Base):
    """What one replica has counted since it started, as ``prometheus.py`` writes it."""

    __tablename__ = "figures"
    replica_id: Mapped[str] = mapped_column(primary_key=True)
    samples: Mapped[list[Any]]
    at_s: Mapped[float]


class SdkAnnouncement(Base):
    """A video that the published SDK announced and did not start yet. The SDK's next call does not name the video."""

    __tablename__ = "sdk_inputs"
    input_id: Mapped[int] = mapped_column(primary_key=True)
    key_id: Mapped[str] = mapped_column(index=True)
    endpoint: Mapped[str]
    payload: Mapped[dict[str, Any]]
    created_s: Mapped[float]


class Secret(Base):
    """A secret that is made once per site and shared by all replicas, such as the key that signs upload addresses."""

    __tablename__ = "secrets"
    name: Mapped[str] = mapped_column(primary_key=True)
    value: Mapped[str]
