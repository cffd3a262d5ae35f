"""A site whose cases are rows of a database, for tests of the library: no videos, no maps."""

from __future__ import annotations

import time
from functools import cache
from pathlib import Path
from typing import Any

from serving import put_empty_database
from sqlalchemy import select, text

from halsted_ray.service import users
from halsted_ray.service.case_descriptions import Description, write_description
from halsted_ray.service.components import ServiceComponents
from halsted_ray.service.database import Database, now_s
from halsted_ray.service.settings import Settings
from halsted_ray.service.summaries import NOTHING_KNOWN, RULE
from halsted_ray.service.tables import Share, StoredVideo, User, VideoSummary
from halsted_ray.service.users import Caller
from halsted_ray.taxonomy.names import fold

TENANT = "north"


def open_site(folder: Path, postgres: Any = None) -> ServiceComponents:
    """An empty site on SQLite, or on a new database of ``postgres``."""
    url = f"sqlite:///{folder}/halsted.db"
    if postgres is None:
        put_empty_database(folder)
    else:
        name = f"t{time.monotonic_ns()}"
        run_alone(postgres, f"CREATE DATABASE {name} TEMPLATE {empty_on(postgres)}")
        url = postgres.url(name)
    return ServiceComponents.open(Settings(url, str(folder / "store"), "phantom"))


@cache
def empty_on(postgres: Any) -> str:
    """The name of a database of ``postgres`` with all tables and nothing in them, made once per server."""
    run_alone(postgres, "CREATE DATABASE empty")
    database = Database(postgres.url("empty"))
    database.migrate()
    database.close()
    return "empty"


def run_alone(postgres: Any, words: str) -> None:
    """Runs a statement that no transaction may hold."""
    making = Database(postgres.url("postgres"))
    with making.engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        connection.execute(text(words))
    making.close()


def caller(service: ServiceComponents, name: str, role: str = "surgeon", tenant_id: str = TENANT) -> Caller:
    """A user, who is added if new."""
    key = users.issue_operator_key(service.database, tenant_id, name, role)
    with service.database.reading() as session:
        found = users.authenticate(session, key)
    assert found is not None
    return found


def add_video(
    service: ServiceComponents,
    owner: Caller | None,
    video_id: str,
    case_id: str | None = None,
    tenant_id: str = TENANT,
    **columns: Any,
) -> str:
    """A clean video of 100 s; the id of its case. ``case_id``: default: that of the video."""
    with service.database.writing() as session:
        users.add_tenant(session, tenant_id)
        session.add(video_row(owner, video_id, case_id, tenant_id, **columns))
    return case_id or video_id


def video_row(
    owner: Caller | None, video_id: str, case_id: str | None = None, tenant_id: str = TENANT, **columns: Any
) -> StoredVideo:
    """The row of such a video."""
    values: dict[str, Any] = {
        "place": f"videos/{video_id}/clean.mp4",
        "size_bytes": 1,
        "duration_s": 100.0,
        "width": 640,
        "height": 360,
        "fps": 25.0,
        "codec": "h264",
        "created_s": now_s(),
        "owner_id": owner.user_id if owner else None,
        "state": "ready",
    }
    return StoredVideo(tenant_id=tenant_id, video_id=video_id, case_id=case_id or video_id, **values | columns)


def add_summary(
    service: ServiceComponents, video_id: str, procedure: str | None = "Prostatectomy", **columns: Any
) -> None:
    """What a map says in short: suturing, then dissection."""
    with service.database.writing() as session:
        session.add(summary_row(video_id, procedure, **columns))


def summary_row(video_id: str, procedure: str | None = "Prostatectomy", **columns: Any) -> VideoSummary:
    """The row of such a summary."""
    values: dict[str, Any] = {
        "rule": RULE,
        "state": "mapped",
        "model_version": "v1",
        "asked": ["macro"],
        "not_asked": ["micro"],
        "procedure": procedure,
        "procedure_confidence": 0.9,
        "words": fold(f"{procedure or ''} Suturing Dissection"),
        "strip": [[0.0, 0.5, 0], [0.5, 1.0, 1]],
        "strip_categories": ["Suturing", "Dissection"],
    }
    return VideoSummary(tenant_id=TENANT, video_id=video_id, **NOTHING_KNOWN | values | columns)


def describe(service: ServiceComponents, case_id: str, *labels: str, **columns: Any) -> None:
    """What somebody wrote about a case."""
    with service.database.writing() as session:
        write_description(session, TENANT, case_id, Description(labels=labels, **columns))


def share(service: ServiceComponents, video_id: str, user: Caller, relation: str, seconds: float | None = 3600) -> None:
    """A share of a video."""
    with service.database.writing() as session:
        session.add(
            Share(
                share_id=f"{video_id}{user.user_id[:8]}{relation[0]}",
                tenant_id=TENANT,
                video_id=video_id,
                user_id=user.user_id,
                relation=relation,
                granted_by=user.user_id,
                created_s=now_s(),
                expires_s=None if seconds is None else now_s() + seconds,
            )
        )


def user_id(service: ServiceComponents, name: str) -> str:
    """The id of a user."""
    with service.database.reading() as session:
        found = session.scalar(select(User.user_id).where(User.name == name))
    assert found is not None
    return found
