"""The state of a site in a database: who may do what, which videos there are, what is being done, who did what.

SQLAlchemy over SQLite (the default) or PostgreSQL, chosen by URL. Alembic (``migrations/``) brings an older database
up to date. All times are seconds since 1970, UTC. No file name is ever stored: it can be a patient's name.
"""

from __future__ import annotations

import sqlite3
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from sqlalchemy import JSON, BigInteger, Connection, ForeignKey, Index, UniqueConstraint, create_engine, event
from sqlalchemy.engine import make_url
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column

SQLITE_WAIT_S = 30.0
"""How long a writer waits for the writer before it."""
_migrating = threading.Lock()


class Base(DeclarativeBase):
    """The base class of all tables."""

    type_annotation_map = {dict[str, Any]: JSON, list[str]: JSON, list[Any]: JSON}


class Tenant(Base):
    """One hospital or department. No tenant can reach anything that belongs to another tenant."""

    __tablename__ = "tenants"
    tenant_id: Mapped[str] = mapped_column(primary_key=True)
    created_s: Mapped[float]


class User(Base):
    """A person or program of one tenant, with one role (``users.PERMISSIONS``)."""

    __tablename__ = "users"
    __table_args__ = (UniqueConstraint("tenant_id", "name"),)
    user_id: Mapped[str] = mapped_column(primary_key=True)
    tenant_id: Mapped[str] = mapped_column(ForeignKey("tenants.tenant_id"))
    name: Mapped[str]
    role: Mapped[str]
    created_s: Mapped[float]


class ApiKey(Base):
    """A key of one user. Only the digest of its secret half is kept."""

    __tablename__ = "keys"
    key_id: Mapped[str] = mapped_column(primary_key=True)
    user_id: Mapped[str] = mapped_column(ForeignKey("users.user_id"), index=True)
    secret_sha256: Mapped[str]
    created_s: Mapped[float]
    expires_s: Mapped[float | None]
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
    tenant_id: Mapped[str] = mapped_column(ForeignKey("tenants.tenant_id"), primary_key=True)
    video_id: Mapped[str] = mapped_column(primary_key=True)
    place: Mapped[str]
    """The path of its bytes within the tenant's storage."""
    size_bytes: Mapped[int] = mapped_column(BigInteger)
    duration_s: Mapped[float]
    width: Mapped[int]
    height: Mapped[int]
    fps: Mapped[float]
    codec: Mapped[str]
    created_s: Mapped[float]
    deleted_s: Mapped[float | None]
    """When it was deleted. From then on nobody sees the video; its bytes are removed as soon as no job reads them."""


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
    video_id: Mapped[str | None]
    reason: Mapped[str | None]
    completing_s: Mapped[float | None]
    """When a request began to complete or end the upload; None while no request does."""
    created_s: Mapped[float]


class UploadPart(Base):
    """One part of an upload, numbered from 1."""

    __tablename__ = "parts"
    upload_id: Mapped[str] = mapped_column(ForeignKey("uploads.upload_id"), primary_key=True)
    number: Mapped[int] = mapped_column(primary_key=True)
    size_bytes: Mapped[int]
    sha256: Mapped[str]
    etag: Mapped[str]


class Job(Base):
    """The request to map one video for some tasks. ``state``: queued → running → done, failed or cancelled."""

    __tablename__ = "jobs"
    __table_args__ = (Index("jobs_by_state", "state", "created_s"), Index("jobs_by_video", "tenant_id", "video_id"))
    job_id: Mapped[str] = mapped_column(primary_key=True)
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

    The row 'audit' also holds the number and the digest of the last audit entry.
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


class Database:
    """The site's database: ``with database.reading() as session``, or ``writing()``, which commits at its end.

    On SQLite only one transaction writes at a time. On PostgreSQL transactions wait for each other only where they
    lock the same ``LockRow``.
    """

    def __init__(self, url: str) -> None:
        self.url = make_url(url)
        if self.url.drivername in ("postgresql", "postgres"):
            self.url = self.url.set(drivername="postgresql+pg8000")
        self.is_sqlite = self.url.get_backend_name() == "sqlite"
        if self.is_sqlite and self.url.database:
            path = Path(self.url.database)
            path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            # The file holds names and the signing key of upload addresses. SQLite's files beside it get its mode.
            path.touch(mode=0o600)
        self.engine = create_engine(self.url, pool_pre_ping=not self.is_sqlite)
        self._writer = self.engine.execution_options(writes=True)
        if self.is_sqlite:
            event.listen(self.engine, "connect", _prepare_sqlite)
            event.listen(self.engine, "begin", _begin_sqlite)

    @contextmanager
    def reading(self) -> Iterator[Session]:
        """A session that only reads."""
        with Session(self.engine, expire_on_commit=False) as session:
            yield session

    @contextmanager
    def writing(self) -> Iterator[Session]:
        """A session in one transaction: committed at the end of the block, rolled back after an exception."""
        with Session(self._writer, expire_on_commit=False) as session, session.begin():
            yield session

    def migrate(self) -> None:
        """Brings the database to the tables above, from an empty database or from any earlier version."""
        from alembic import command
        from alembic.config import Config

        config = Config()
        config.set_main_option("script_location", str(Path(__file__).parent / "migrations"))
        with _migrating, self._writer.begin() as connection:
            config.attributes["connection"] = connection
            command.upgrade(config, "head")

    def close(self) -> None:
        """Closes all connections."""
        self.engine.dispose()


def database_exists(url: str) -> bool:
    """Whether a site has begun at this URL. A database on a server is taken to exist.

    Connecting to SQLite makes an empty file, so an empty file is no database.
    """
    parsed = make_url(url)
    if parsed.get_backend_name() != "sqlite" or not parsed.database:
        return True
    path = Path(parsed.database)
    return path.is_file() and path.stat().st_size > 0


def lock_row(session: Session, name: str) -> LockRow:
    """The row ``name``, which this transaction holds until it ends."""
    return session.get_one(LockRow, name, with_for_update=True)


def now_s() -> float:
    """The time now, in seconds since 1970, UTC."""
    return time.time()


def _prepare_sqlite(connection: sqlite3.Connection, _record: object) -> None:
    connection.isolation_level = None  # SQLAlchemy's own BEGIN below, not the driver's deferred BEGIN
    for pragma in (
        "journal_mode=WAL",
        "foreign_keys=ON",
        "synchronous=FULL",
        f"busy_timeout={int(SQLITE_WAIT_S * 1000)}",
    ):
        connection.execute(f"PRAGMA {pragma}")


def _begin_sqlite(connection: Connection) -> None:
    """A writer takes its lock at once: two transactions that read first and write later would refuse each other."""
    writes = connection.get_execution_options().get("writes")
    connection.exec_driver_sql("BEGIN IMMEDIATE" if writes else "BEGIN")
