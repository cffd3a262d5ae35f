"""A copy of a site that another machine can start from: the database first, then the store.

Every video that the copied database names lay in the store when it was copied, so uploads may go on meanwhile; one
that is deleted meanwhile is named and missing, and says so when it is mapped. For PostgreSQL and S3 take their own
tools in the same order (``pg_dump``, then versioning or replication of the bucket); restore in the opposite one.
"""

from __future__ import annotations

import shutil
import sqlite3
from contextlib import closing
from pathlib import Path

from halsted_ray.errors import OutputError, UsageError
from halsted_ray.service import audit
from halsted_ray.service.database import Database, is_there
from halsted_ray.service.settings import Settings

DATABASE, STORE = "halsted.db", "store"


def backup(settings: Settings, to: Path) -> audit.AuditVerification:
    """Writes the copy and gives what its audit log says. Raises OutputError where ``to`` holds something."""
    source = _own_database(settings)
    if to.exists() and any(to.iterdir()):
        raise OutputError(f"{to} is not empty; name a new folder")
    to.mkdir(mode=0o700, parents=True, exist_ok=True)
    (to / DATABASE).touch(mode=0o600)
    with closing(sqlite3.connect(source)) as running, closing(sqlite3.connect(to / DATABASE)) as copy:
        running.backup(copy)
    if Path(settings.store).is_dir():
        shutil.copytree(settings.store, to / STORE, ignore=shutil.ignore_patterns("*.part"))
    return _checked(to / DATABASE)


def restore(settings: Settings, source: Path) -> audit.AuditVerification:
    """Puts a copy in the place of a site that holds nothing yet; gives what its audit log says."""
    target = _own_database(settings, must_exist=False)
    if not (source / DATABASE).is_file():
        raise UsageError(f"{source} is no backup: expected {DATABASE} in it")
    if target.exists() or (Path(settings.store).is_dir() and any(Path(settings.store).iterdir())):
        raise OutputError("a site is there already; stop the service and move its state away first")
    if (source / STORE).is_dir():
        shutil.copytree(source / STORE, settings.store, dirs_exist_ok=True)
    target.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    shutil.copy2(source / DATABASE, target)
    return _checked(target)


def _own_database(settings: Settings, must_exist: bool = True) -> Path:
    if not settings.database.startswith("sqlite:///") or "://" in settings.store:
        raise UsageError("this copies SQLite and a folder; take pg_dump and the bucket's own tools for others")
    path = Path(settings.database.removeprefix("sqlite:///"))
    if must_exist and not is_there(settings.database):
        raise UsageError(f"no database at {path}; name the state folder of a site (--state)")
    return path


def _checked(path: Path) -> audit.AuditVerification:
    database = Database(f"sqlite:///{path}")
    with database.writing() as session:
        verdict = audit.verify(session)
    database.close()
    return verdict
