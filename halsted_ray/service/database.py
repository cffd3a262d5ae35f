"""The state of a site: who may do what, which videos there are, what is being done, and who did what.

SQLAlchemy over SQLite (default) or PostgreSQL, by URL; Alembic brings an older database up to date. Times are
seconds since 1970, UTC. No file name is ever stored: it can be a patient's name.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from sqlalchemy import JSON, BigInteger, ForeignKey, Index, UniqueConstraint, create_engine, event
from sqlalchemy.engine import make_url
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column

SQLITE_WAIT_S = 30.0
"""How long a writer waits for the one before it."""
_migrating = threading.Lock()


class Base(DeclarativeBase):
    type_annotation_map = {dict: JSON, list: JSON}


class Tenant(Base):
    """One hospital or department. Nothing of it is in reach of another."""

    __tablename__ = "tenants"
    tenant_id: Mapped[str] = mapped_column(primary_key=True)
    created_s: Mapped[float]


class User(Base):
    __tablename__ = "users"
    __table_args__ = (UniqueConstraint("tenant_id", "name"),)
    user_id: Mapped[str] = mapped_column(primary_key=True)
    tenant_id: Mapped[str] = mapped_column(ForeignKey("tenants.tenant_id"))
    name: Mapped[str]
    role: Mapped[str]
    created_s: Mapped[float]


class Key(Base):
    """An API key; only the digest of its secret half is kept."""

    __tablename__ = "keys"
    key_id: Mapped[str] = mapped_column(primary_key=True)
    user_id: Mapped[str] = mapped_column(ForeignKey("users.user_id"), index=True)
    secret_sha256: Mapped[str]
    created_s: Mapped[float]
    expires_s: Mapped[float | None]
    revoked_s: Mapped[float | None]


class BrowserSession(Base):
    """Somebody who signed in on the page; only the digest of the cookie is kept."""

    __tablename__ = "sessions"
    token_sha256: Mapped[str] = mapped_column(primary_key=True)
    user_id: Mapped[str] = mapped_column(ForeignKey("users.user_id"))
    key_id: Mapped[str]
    """Of the key that they gave, or 'oidc'."""
    created_s: Mapped[float]
    expires_s: Mapped[float]


class StoredVideo(Base):
    """A video of one tenant. ``video_id`` is computed from its content, so the same file is one video."""

    __tablename__ = "videos"
    tenant_id: Mapped[str] = mapped_column(ForeignKey("tenants.tenant_id"), primary_key=True)
    video_id: Mapped[str] = mapped_column(primary_key=True)
    place: Mapped[str]
    """Where its bytes lie, within the tenant's root."""
    size_bytes: Mapped[int] = mapped_column(BigInteger)
    duration_s: Mapped[float]
    width: Mapped[int]
    height: Mapped[int]
    fps: Mapped[float]
    codec: Mapped[str]
    created_s: Mapped[float]
    deleted_s: Mapped[float | None]
    """Set: it is gone for everybody, and its bytes go as soon as no job reads them."""


class Upload(Base):
    """A video on its way in. ``state``: open, complete, rejected, aborted."""

    __tablename__ = "uploads"
    upload_id: Mapped[str] = mapped_column(primary_key=True)
    tenant_id: Mapped[str] = mapped_column(ForeignKey("tenants.tenant_id"))
    user_id: Mapped[str] = mapped_column(ForeignKey("users.user_id"))
    state: Mapped[str] = mapped_column(index=True)
    place: Mapped[str]
    store_ref: Mapped[str]
    """The object store's own id of the upload, where it has one."""
    size_bytes: Mapped[int | None] = mapped_column(BigInteger)
    """As announced, None where the client did not say."""
    label: Mapped[str | None] = mapped_column(index=True)
    """The client's own id of the video."""
    video_id: Mapped[str | None]
    reason: Mapped[str | None]
    completing_s: Mapped[float | None]
    created_s: Mapped[float]


class Part(Base):
    __tablename__ = "parts"
    upload_id: Mapped[str] = mapped_column(ForeignKey("uploads.upload_id"), primary_key=True)
    number: Mapped[int] = mapped_column(primary_key=True)
    size_bytes: Mapped[int]
    sha256: Mapped[str]
    etag: Mapped[str]


class Job(Base):
    """One video to be mapped for some tasks. ``state``: queued → running → done, failed or cancelled."""

    __tablename__ = "jobs"
    __table_args__ = (Index("jobs_by_state", "state", "created_s"), Index("jobs_by_video", "tenant_id", "video_id"))
    job_id: Mapped[str] = mapped_column(primary_key=True)
    tenant_id: Mapped[str] = mapped_column(ForeignKey("tenants.tenant_id"))
    user_id: Mapped[str] = mapped_column(ForeignKey("users.user_id"))
    video_id: Mapped[str]
    tasks: Mapped[list]
    state: Mapped[str]
    model: Mapped[str | None]
    """Where the model lies that this job was begun with: it ends with the same one."""
    model_version: Mapped[str | None]
    done_s: Mapped[float] = mapped_column(default=0.0)
    total_s: Mapped[float] = mapped_column(default=0.0)
    rate: Mapped[float] = mapped_column(default=0.0)
    """Video-seconds a second."""
    failed_segments: Mapped[int] = mapped_column(default=0)
    outcome: Mapped[str | None]
    """Of a job that is done: mapped, or partial where the timeline has gaps."""
    reason: Mapped[str | None]
    cancel: Mapped[bool] = mapped_column(default=False)
    attempts: Mapped[int] = mapped_column(default=0)
    worker: Mapped[str | None]
    lease_until_s: Mapped[float | None]
    created_s: Mapped[float]
    started_s: Mapped[float | None]
    finished_s: Mapped[float | None]


class AuditEntry(Base):
    """Who did what to what. Each entry holds the digest of the one before it; see ``audit.py``."""

    __tablename__ = "audit"
    seq: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    at_s: Mapped[float]
    tenant_id: Mapped[str] = mapped_column(index=True)
    actor: Mapped[str]
    action: Mapped[str]
    subject: Mapped[str]
    detail: Mapped[dict]
    previous: Mapped[str]
    digest: Mapped[str]


class Head(Base):
    """One row a thing that only one transaction at a time may advance; 'audit' holds the end of the chain."""

    __tablename__ = "heads"
    name: Mapped[str] = mapped_column(primary_key=True)
    seq: Mapped[int]
    digest: Mapped[str]


class Figures(Base):
    """What one replica has counted since it started, as ``metrics.py`` writes it."""

    __tablename__ = "figures"
    replica_id: Mapped[str] = mapped_column(primary_key=True)
    samples: Mapped[list]
    at_s: Mapped[float]


class SdkInput(Base):
    """What the published SDK announced and did not yet start: its next call does not say which video it means."""

    __tablename__ = "sdk_inputs"
    input_id: Mapped[int] = mapped_column(primary_key=True)
    key_id: Mapped[str] = mapped_column(index=True)
    endpoint: Mapped[str]
    payload: Mapped[dict]
    created_s: Mapped[float]


class Secret(Base):
    """Made once per site and shared by all replicas, such as what signs upload addresses."""

    __tablename__ = "secrets"
    name: Mapped[str] = mapped_column(primary_key=True)
    value: Mapped[str]


class Database:
    """``with database.reading() as session`` or ``writing()``, which commits at its end.

    Writers follow one another on SQLite; on PostgreSQL those that advance the same ``Head``.
    """

    def __init__(self, url: str):
        self.url = make_url(url)
        if self.url.drivername in ("postgresql", "postgres"):
            self.url = self.url.set(drivername="postgresql+pg8000")
        self.is_sqlite = self.url.get_backend_name() == "sqlite"
        if self.is_sqlite and self.url.database:
            path = Path(self.url.database)
            path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            path.touch(mode=0o600)  # it holds names and what signs addresses; SQLite's files beside it get its mode
        self.engine = create_engine(self.url, pool_pre_ping=not self.is_sqlite)
        self._writer = self.engine.execution_options(writes=True)
        if self.is_sqlite:
            event.listen(self.engine, "connect", _prepare_sqlite)
            event.listen(self.engine, "begin", _begin_sqlite)

    @contextmanager
    def reading(self) -> Iterator[Session]:
        with Session(self.engine, expire_on_commit=False) as session:
            yield session

    @contextmanager
    def writing(self) -> Iterator[Session]:
        with Session(self._writer, expire_on_commit=False) as session, session.begin():
            yield session

    def migrate(self) -> None:
        """Brings the database to the schema above, from nothing or from any earlier one."""
        from alembic import command
        from alembic.config import Config

        config = Config()
        config.set_main_option("script_location", str(Path(__file__).parent / "migrations"))
        with _migrating, self._writer.begin() as connection:
            config.attributes["connection"] = connection
            command.upgrade(config, "head")

    def close(self) -> None:
        self.engine.dispose()


def is_there(url: str) -> bool:
    """Whether a site has begun at this address; connecting makes an empty file. A server's is taken to be there."""
    made = make_url(url)
    if made.get_backend_name() != "sqlite" or not made.database:
        return True
    path = Path(made.database)
    return path.is_file() and path.stat().st_size > 0


def lock(session: Session, name: str) -> Head:
    """The row ``name``, held until the transaction ends."""
    return session.get_one(Head, name, with_for_update=True)


def now_s() -> float:
    return time.time()


def _prepare_sqlite(connection, _record) -> None:
    connection.isolation_level = None  # SQLAlchemy's own BEGIN below, not the driver's deferred one
    for pragma in (
        "journal_mode=WAL",
        "foreign_keys=ON",
        "synchronous=FULL",
        f"busy_timeout={int(SQLITE_WAIT_S * 1000)}",
    ):
        connection.execute(f"PRAGMA {pragma}")


def _begin_sqlite(connection) -> None:
    """A writer takes its lock at once: two that read first and write later would refuse each other."""
    writes = connection.get_execution_options().get("writes")
    connection.exec_driver_sql("BEGIN IMMEDIATE" if writes else "BEGIN")
