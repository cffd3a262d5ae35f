"""The database of a site: SQLAlchemy over SQLite (the default) or PostgreSQL, chosen by URL.

What it holds is in ``tables``. Alembic (``migrations/``) brings an older database up to date.
"""

from __future__ import annotations

import logging
import sqlite3
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from sqlalchemy import Connection, create_engine, event
from sqlalchemy.engine import make_url
from sqlalchemy.orm import Session

from halsted_ray.service.ballast import Ballast
from halsted_ray.service.database_texts import check_texts
from halsted_ray.service.tables import LockRow
from halsted_ray.storage.files import make_local_folder

log = logging.getLogger(__name__)
SQLITE_WAIT_S = 30.0
"""How long a writer waits for the writer before it."""
LOG_WAIT_S = 1.0
"""How long emptying the log waits for those who read."""
CONNECTIONS = 48
"""The most connections of one process. A replica answers in 40 threads, which is what Starlette takes by default, and
each needs one connection at a time; the others are for threads of its own. What is idle is closed but for a few."""
IDLE_CONNECTIONS = 5
CONNECTION_WAIT_S = 10.0
"""How long a request waits for a connection; then it is answered 503."""
_migrating = threading.Lock()


class Database:
    """The site's database: ``with database.reading() as session``, or ``writing()``, which commits at its end.

    On SQLite only one transaction writes at a time. On PostgreSQL transactions wait for each other only where they
    lock the same ``LockRow``.
    """

    def __init__(self, url: str, connections: int = CONNECTIONS) -> None:
        """``connections``: the most that this process opens."""
        self.url = make_url(url)
        if self.url.drivername in ("postgresql", "postgres"):
            self.url = self.url.set(drivername="postgresql+pg8000")
        self.is_sqlite = self.url.get_backend_name() == "sqlite"
        if self.is_sqlite and self.url.database:
            path = Path(self.url.database)
            make_local_folder(path.parent, 0o700)
            # The file holds names and the signing key of upload addresses. SQLite's files beside it get its mode.
            path.touch(mode=0o600)
        idle = min(IDLE_CONNECTIONS, connections)
        self.engine = create_engine(
            self.url,
            pool_pre_ping=not self.is_sqlite,
            pool_size=idle,
            max_overflow=connections - idle,
            pool_timeout=CONNECTION_WAIT_S,
            hide_parameters=True,  # an error of the database must not print a patient's name
        )
        event.listen(self.engine, "before_cursor_execute", check_texts)
        self._writer = self.engine.execution_options(writes=True)
        self.ballast = Ballast(self.folder / f"{Path(self.url.database or '').name}.reserve") if self.folder else None
        """Room on the disk that only this database may have; None for a database on a server."""
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
        if self.ballast is not None:
            self.ballast.drop_where_full()
        with Session(self._writer, expire_on_commit=False) as session, session.begin():
            yield session

    def empty_log(self) -> None:
        """Empties SQLite's write-ahead log, which still holds what was deleted. Where others read in this moment it is
        left for the next time."""
        if not self.is_sqlite:
            return
        connection = self.engine.raw_connection()
        try:
            connection.cursor().execute(f"PRAGMA busy_timeout={int(LOG_WAIT_S * 1000)}")
            connection.cursor().execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()
        except sqlite3.OperationalError as error:
            log.warning("the log of the database was not emptied: %s", type(error).__name__)
        finally:
            connection.cursor().execute(f"PRAGMA busy_timeout={int(SQLITE_WAIT_S * 1000)}")
            connection.close()

    @property
    def folder(self) -> Path | None:
        """The folder of an SQLite file; None for a database on a server."""
        return Path(self.url.database).parent if self.is_sqlite and self.url.database else None

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
        "secure_delete=ON",  # what is deleted can name a patient
        f"busy_timeout={int(SQLITE_WAIT_S * 1000)}",
    ):
        connection.execute(f"PRAGMA {pragma}")


def _begin_sqlite(connection: Connection) -> None:
    """A writer takes its lock at once: two transactions that read first and write later would refuse each other."""
    writes = connection.get_execution_options().get("writes")
    connection.exec_driver_sql("BEGIN IMMEDIATE" if writes else "BEGIN")
