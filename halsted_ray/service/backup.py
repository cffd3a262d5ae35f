"""A copy of a site that another machine can start from: first the database, then the store.

Every video that the copied database names lay in the store when the database was copied, so uploads may go on during
the copy. A video that is deleted during the copy is named in the database and missing in the store; mapping it says
so. PostgreSQL and S3 have tools of their own (``pg_dump``; versioning or replication of the bucket): use them in the
same order, and restore in the opposite order.
"""

from __future__ import annotations

import shutil
import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

from sqlalchemy import select

from halsted_ray.errors import OutputError, UsageError
from halsted_ray.service import audit, audit_export, audit_places
from halsted_ray.service.database import Database, database_exists
from halsted_ray.service.settings import Settings
from halsted_ray.service.tables import AuditEntry
from halsted_ray.storage.files import make_local_folder

DATABASE, STORE = "halsted.db", "store"
"""The names of the file and the folder in a copy."""


def backup(settings: Settings, to: Path) -> audit.AuditVerification:
    """Copies the site to the folder ``to``, also while the site runs, and returns what the copy's audit log says.

    Raises OutputError where ``to`` is not empty, UsageError where there is no site or it is not SQLite and a folder.
    """
    source = _database_file(settings)
    if any(make_local_folder(to, 0o700).iterdir()):
        raise OutputError(f"{to} is not empty; name a new folder")
    (to / DATABASE).touch(mode=0o600)
    with closing(sqlite3.connect(source)) as running, closing(sqlite3.connect(to / DATABASE)) as copy:
        running.backup(copy)
    if Path(settings.store).is_dir():
        shutil.copytree(settings.store, to / STORE, ignore=shutil.ignore_patterns("*.part", "*.lock"))
    return _verify(f"sqlite:///{to / DATABASE}")


def restore(settings: Settings, source: Path) -> audit.AuditVerification:
    """Puts the copy in the folder ``source`` in the place of a new site, and returns what its audit log says.

    Raises UsageError where ``source`` holds no copy, OutputError where the site is not new.
    """
    target = _database_file(settings, must_exist=False)
    if not (source / DATABASE).is_file():
        raise UsageError(f"{source} is no backup: expected {DATABASE} in it")
    if target.exists() or (Path(settings.store).is_dir() and any(Path(settings.store).iterdir())):
        raise OutputError("a site is there already; stop the service and move its state away first")
    if (source / STORE).is_dir():
        shutil.copytree(source / STORE, settings.store, dirs_exist_ok=True)
    target.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    shutil.copy2(source / DATABASE, target)
    return _verify(f"sqlite:///{target}")


def verify_site(settings: Settings, against: str | None = None) -> audit.AuditVerification:
    """Verifies the audit log of a site, and compares it with the digests that were exported to ``against``. Raises
    UsageError where there is no site or nothing was exported there, OutputError where that place can't be read."""
    _require_site(settings)
    return _verify(settings.database, audit_places.read(against) if against else [])


def last_entries(settings: Settings, count: int) -> list[dict[str, Any]]:
    """The last ``count`` entries of the audit log, of all tenants and of none, the oldest first. Raises UsageError
    where there is no site."""
    _require_site(settings)
    database = Database(settings.database)
    try:
        with database.reading() as session:
            found = session.scalars(select(AuditEntry).order_by(AuditEntry.seq.desc()).limit(count)).all()
    finally:
        database.close()
    names = ("seq", "at_s", "tenant_id", "actor", "action", "subject", "detail", "digest")
    return [{name: getattr(entry, name) for name in names} for entry in reversed(found)]


def _require_site(settings: Settings) -> None:
    if not database_exists(settings.database):
        raise UsageError(f"no database at {settings.database}; name the state folder of a site (--state)")


def _database_file(settings: Settings, must_exist: bool = True) -> Path:
    if not settings.database.startswith("sqlite:///") or "://" in settings.store:
        raise UsageError(
            "this command copies SQLite and a folder; for PostgreSQL use pg_dump, for a bucket the tools of its store"
        )
    path = Path(settings.database.removeprefix("sqlite:///"))
    if must_exist and not database_exists(settings.database):
        raise UsageError(f"no database at {path}; name the state folder of a site (--state)")
    return path


def _verify(url: str, exported: list[audit_places.ExportedDigest] | None = None) -> audit.AuditVerification:
    database = Database(url)
    try:
        with database.writing() as session:
            return audit_export.compare(session, audit.verify(session), exported or [])
    finally:
        database.close()
