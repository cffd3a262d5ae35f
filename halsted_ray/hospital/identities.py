"""The site's own table of identities: of which patient, study and instance a video is. Nothing else keeps a header.

One SQLite file that only its owner may read (mode 0600). It is made before anything is written to it, so that no moment
leaves it open to others; SQLite's files beside it get its mode.
"""

from __future__ import annotations

import json
import os
import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path

from halsted_ray.errors import OutputError, UsageError
from halsted_ray.hospital.subject import Subject
from halsted_ray.records import JsonObject
from halsted_ray.storage.files import make_local_folder

SQLITE_HEAD = b"SQLite format 3\0"
"""How every SQLite file begins that is not empty."""
WAIT_S = 30.0
"""How long a writer waits for the writer before it."""


@dataclass(frozen=True)
class Identity:
    """What a DICOM file says of one video. ``header``: all of its elements but the pixels, as DICOM JSON."""

    video_id: str
    subject: Subject
    header: JsonObject


class Identities:
    """The table in the file ``path``, made where it is not there (``must_exist``: UsageError). Raises OutputError
    where it can't be opened. A file that is something else stays as it is."""

    def __init__(self, path: str | Path, must_exist: bool = False) -> None:
        self.path = Path(path)
        if must_exist and not self.path.is_file():
            raise UsageError(f"expected a table of identities at {os.fspath(path)!r}, got no file; check the path")
        make_local_folder(self.path.parent, 0o700)
        _check_is_database(self.path)
        try:
            os.close(os.open(self.path, os.O_CREAT | os.O_RDWR, 0o600))
            self.path.chmod(0o600)
            with self.database() as database:
                database.execute(
                    "CREATE TABLE IF NOT EXISTS identities (video_id TEXT, instance_uid TEXT, subject TEXT NOT NULL, "
                    "header TEXT NOT NULL, PRIMARY KEY (video_id, instance_uid))"
                )
        except (OSError, sqlite3.Error) as error:
            raise OutputError(
                f"can't open the table of identities {os.fspath(path)!r}: {type(error).__name__}; name a file on a "
                "local disk that this account may write"
            ) from None

    def add(self, identity: Identity) -> None:
        """Keeps one identity; the same instance again replaces it. Raises OutputError."""
        row = (
            identity.video_id,
            identity.subject.instance_uid,
            json.dumps(asdict(identity.subject)),
            json.dumps(identity.header),
        )
        try:
            with self.database() as database:
                database.execute("INSERT OR REPLACE INTO identities VALUES (?, ?, ?, ?)", row)
        except sqlite3.Error as error:
            raise OutputError(f"can't write the table of identities: {type(error).__name__}; make room") from None

    def of(self, video_id: str) -> list[Identity]:
        """What is known of a video: an identity per DICOM instance that held it, in the order of their UIDs."""
        with self.database() as database:
            rows = database.execute(
                "SELECT subject, header FROM identities WHERE video_id = ? ORDER BY instance_uid", (video_id,)
            ).fetchall()
        return [Identity(video_id, Subject(**json.loads(subject)), json.loads(header)) for subject, header in rows]

    def subjects(self) -> dict[str, Subject]:
        """Video id → whom it is about. Raises UsageError where one video is of two patients, since a report about the
        wrong one must not be written."""
        found: dict[str, Subject] = {}
        with self.database() as database:
            rows = database.execute("SELECT video_id, subject FROM identities ORDER BY video_id, instance_uid")
            for video_id, text in rows:
                subject = Subject(**json.loads(text))
                known = found.setdefault(video_id, subject)
                if known.patient_id != subject.patient_id:
                    raise UsageError(
                        f"the video {video_id} is of two patients in the table of identities; remove the wrong one"
                    )
        return found

    @contextmanager
    def database(self) -> Iterator[sqlite3.Connection]:
        """One transaction on the file of the table."""
        with closing(sqlite3.connect(self.path, timeout=WAIT_S)) as database, database:
            yield database


def _check_is_database(path: Path) -> None:
    """Raises OutputError where another kind of file is at ``path``: it must keep its content and its mode."""
    try:
        with open(path, "rb") as file:
            head = file.read(len(SQLITE_HEAD))
    except FileNotFoundError:
        return
    except OSError as error:
        raise OutputError(
            f"can't open the table of identities {os.fspath(path)!r}: {error.strerror}; name a file that this account "
            "may read and write"
        ) from None
    if head not in (b"", SQLITE_HEAD):
        raise OutputError(
            f"expected a table of identities (a SQLite file) at {os.fspath(path)!r}, got another file; name a new file "
            "or the table of an earlier run"
        )
