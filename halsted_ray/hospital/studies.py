"""The list of the studies that were received: what is still to be mapped, and what was refused.

It lies in the file of the site's own table of identities, since it names studies by their UIDs. Each change is on the
disk before the sender gets its answer, so that the list survives the end of the process at any moment.

    received ──(no new video for some seconds)──► mapping ──► mapped
                                                     └──────► failed

A video that comes later takes its study back to ``received``. A process that ended while it mapped leaves ``mapping``;
``take_back`` returns that to ``received``, and the mapping itself goes on where it was.
"""

from __future__ import annotations

import secrets
import time
from dataclasses import dataclass

from halsted_ray.hospital.identities import Identities

MAX_REFUSALS = 10_000
"""The refusals that are kept, the newest ones: whoever may send must not be able to fill the disk with them."""
MAX_ATTEMPTS = 5
"""How often a study is tried whose mapping did not come to its end."""
RETRY_S = 10.0
"""How long to wait after the first failure; each further failure doubles it."""
LONGEST_RETRY_S = RETRY_S * 2**MAX_ATTEMPTS


@dataclass(frozen=True)
class Study:
    """A study that was received. ``key``: its own id, which says nothing of the patient, and the name of its folder in
    the archive. ``reason``: why it failed, '' where it did not."""

    key: str
    state: str
    videos: int
    attempts: int
    reason: str


@dataclass(frozen=True)
class Refusal:
    """An instance that was refused and did not come since. ``number``: what the log calls it. ``status``: what the
    sender was answered (PS3.4, B.2.3). ``instance_uid`` is for a private list alone."""

    number: int
    instance_uid: str
    at_s: float
    status: int
    reason: str


class Studies:
    """The list in the file of ``identities``. Every method raises sqlite3.Error where the file can't be written."""

    def __init__(self, identities: Identities) -> None:
        self._identities = identities
        with identities.database() as database:
            database.execute(
                "CREATE TABLE IF NOT EXISTS studies (key TEXT PRIMARY KEY, study_uid TEXT NOT NULL UNIQUE, "
                "state TEXT NOT NULL, newest_s REAL NOT NULL, again_s REAL NOT NULL DEFAULT 0, "
                "attempts INTEGER NOT NULL DEFAULT 0, reason TEXT NOT NULL DEFAULT '')"
            )
            database.execute(
                "CREATE TABLE IF NOT EXISTS study_videos (key TEXT, video_id TEXT, PRIMARY KEY (key, video_id))"
            )
            database.execute(
                "CREATE TABLE IF NOT EXISTS refusals (instance_uid TEXT PRIMARY KEY, at_s REAL NOT NULL, "
                "status INTEGER NOT NULL, reason TEXT NOT NULL)"
            )
            database.execute(
                "CREATE TABLE IF NOT EXISTS refused_callers (one INTEGER PRIMARY KEY, number INTEGER NOT NULL, "
                "newest_s REAL NOT NULL)"
            )

    def key_of(self, study_uid: str) -> str:
        """The id of a study, made where the study is new."""
        with self._identities.database() as database:
            database.execute(
                "INSERT INTO studies (key, study_uid, state, newest_s) VALUES (?, ?, 'received', ?) "
                "ON CONFLICT (study_uid) DO NOTHING",
                (secrets.token_hex(8), study_uid, time.time()),
            )
            key: str
            (key,) = database.execute("SELECT key FROM studies WHERE study_uid = ?", (study_uid,)).fetchone()
        return key

    def add_video(self, key: str, video_id: str, instance_uid: str) -> None:
        """Notes that a video of the study is in the archive. One that the study did not have makes it ``received``."""
        with self._identities.database() as database:
            database.execute("DELETE FROM refusals WHERE instance_uid = ?", (instance_uid,))
            added = database.execute("INSERT OR IGNORE INTO study_videos VALUES (?, ?)", (key, video_id))
            if added.rowcount:
                database.execute(
                    "UPDATE studies SET state = 'received', newest_s = ?, again_s = 0, attempts = 0, reason = '' "
                    "WHERE key = ?",
                    (time.time(), key),
                )

    def refuse(self, instance_uid: str, status: int, reason: str) -> int:
        """Notes a refusal; another refusal of the same instance replaces it. Returns its number."""
        with self._identities.database() as database:
            number = database.execute(
                "INSERT OR REPLACE INTO refusals VALUES (?, ?, ?, ?)", (instance_uid, time.time(), status, reason)
            ).lastrowid
            database.execute(
                "DELETE FROM refusals WHERE instance_uid IN "
                "(SELECT instance_uid FROM refusals ORDER BY at_s DESC LIMIT -1 OFFSET ?)",
                (MAX_REFUSALS,),
            )
        return number or 0

    def refuse_callers(self, count: int) -> None:
        """Notes that so many more associations were refused."""
        with self._identities.database() as database:
            database.execute(
                "INSERT INTO refused_callers VALUES (1, ?, ?) "
                "ON CONFLICT (one) DO UPDATE SET number = number + excluded.number, newest_s = excluded.newest_s",
                (count, time.time()),
            )

    def refused_callers(self) -> tuple[int, float]:
        """(how many associations were refused, when the last of them were told of, as ``time.time``)."""
        with self._identities.database() as database:
            found = database.execute("SELECT number, newest_s FROM refused_callers").fetchone()
        return found or (0, 0.0)

    def take_back(self) -> None:
        """Returns what a process left in ``mapping`` that has ended."""
        with self._identities.database() as database:
            database.execute("UPDATE studies SET state = 'received' WHERE state = 'mapping'")

    def claim(self, quiet_s: float) -> str | None:
        """The study that waits longest and had no new video for ``quiet_s`` seconds, now in ``mapping``; None where
        there is none. A time in the future does not count: the machine's clock was wrong when it was noted."""
        now_s = time.time()
        with self._identities.database() as database:
            database.execute("BEGIN IMMEDIATE")
            found = database.execute(
                "SELECT key FROM studies WHERE state = 'received' AND (newest_s <= ? OR newest_s > ?) "
                "AND (again_s <= ? OR again_s > ?) AND key IN (SELECT key FROM study_videos) ORDER BY newest_s LIMIT 1",
                (now_s - quiet_s, now_s, now_s, now_s + LONGEST_RETRY_S),
            ).fetchone()
            if found is None:
                return None
            database.execute("UPDATE studies SET state = 'mapping' WHERE key = ?", found)
            key: str = found[0]
        return key

    def finish(self, key: str, reason: str = "", is_final: bool = True) -> None:
        """Ends a claim: the study is mapped, or failed where there is a ``reason``. A failure that is not final is
        tried again, later each time. A study that got a video meanwhile stays ``received``."""
        with self._identities.database() as database:
            (attempts,) = database.execute("SELECT attempts + 1 FROM studies WHERE key = ?", (key,)).fetchone()
            again = reason and not is_final and attempts < MAX_ATTEMPTS
            database.execute(
                "UPDATE studies SET state = ?, attempts = ?, again_s = ?, reason = ? WHERE key = ? "
                "AND state = 'mapping'",
                (
                    "received" if again else "failed" if reason else "mapped",
                    attempts,
                    time.time() + RETRY_S * 2 ** (attempts - 1) if again else 0.0,
                    reason,
                    key,
                ),
            )

    def retry_failed(self) -> int:
        """Makes failed studies ``received`` again; returns how many."""
        with self._identities.database() as database:
            return database.execute(
                "UPDATE studies SET state = 'received', attempts = 0, again_s = 0, reason = '' WHERE state = 'failed'"
            ).rowcount

    def forget_refusals(self) -> int:
        """Removes all refusals; returns how many instances there were."""
        with self._identities.database() as database:
            database.execute("DELETE FROM refused_callers")
            return database.execute("DELETE FROM refusals").rowcount

    def all(self) -> list[Study]:
        """Every study, in the order of the newest video."""
        with self._identities.database() as database:
            rows = database.execute(
                "SELECT key, state, (SELECT count(*) FROM study_videos WHERE study_videos.key = studies.key), "
                "attempts, reason FROM studies ORDER BY newest_s, key"
            ).fetchall()
        return [Study(*row) for row in rows]

    def refusals(self) -> list[Refusal]:
        """What was refused and did not come since, the oldest first."""
        with self._identities.database() as database:
            rows = database.execute(
                "SELECT rowid, instance_uid, at_s, status, reason FROM refusals ORDER BY at_s"
            ).fetchall()
        return [Refusal(*row) for row in rows]
