"""One run at a time writes to a place; a run that was killed never locks it.

    <out>/lease/<run_id>.json        the claim of one run

Every run writes a claim of its own and then lists all claims. The run holds the place once it sees no other claim. Of
two runs that ask at once, the run with the smaller run_id goes on. While a run lives, it rewrites its claim with a
higher ``beat`` every ``HEARTBEAT_S``. A claim is dead when its process is gone from this machine, or when its beat has
not changed for ``DEAD_AFTER_S``.

This needs a store that lists what was written, and nothing else: no locks, no conditional requests, no clocks that
agree. So it works the same on a disk and on S3. An NFS client may list the state of some seconds ago, so the holder
checks once more before it publishes (``Lease.check``).
"""

from __future__ import annotations

import json
import os
import socket
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from zlib import crc32

from halsted_ray.errors import OutputError
from halsted_ray.storage.files import list_folder, read_file, write_atomically
from halsted_ray.storage.locations import filesystem

HEARTBEAT_S = 5.0
DEAD_AFTER_S = 30.0
"""How long a run on another machine waits after a crash. A healthy run misses six beats only while the store is away,
and then no other run can take its place either."""
POLL_S = 0.5
"""The pause between two looks at the claims."""


@dataclass(frozen=True)
class Claim:
    """The claim of one run, as its file holds it: the run wants the place, or holds it already (``holds``)."""

    run_id: str
    host: str
    machine: str
    """Names the start of the machine and the container, within which ``pid`` and ``started`` name one process; empty
    where that is not known."""
    pid: int
    started: int
    """When the process started, in clock ticks since the machine did."""
    since: str
    """When the run began, as an ISO date in UTC; for messages."""
    holds: bool = False
    beat: int = 0
    """How often the claim was written."""

    def is_alive(self) -> bool | None:
        """Whether the claim's process runs; None where that can't be seen from this machine."""
        if not self.machine or self.machine != _machine():
            return None
        return _started(self.pid) == self.started


class Lease:
    """``with Lease(out, run_id) as lease:`` holds the place ``out`` while the block runs.

    Entering raises OutputError where another run holds the place. ``say`` gets a message where the claim of a run on
    another machine has to be watched first, for up to ``DEAD_AFTER_S``.
    """

    def __init__(self, out: str, run_id: str, say: Callable[[str], None] = lambda message: None):
        self.out, self.say = out, say
        self.fs, root = filesystem(out)
        self.folder = f"{root.rstrip('/')}/lease"
        self.claim = Claim(
            run_id,
            socket.gethostname(),
            _machine(),
            os.getpid(),
            _started(os.getpid()) or 0,
            datetime.now(UTC).isoformat(timespec="seconds"),
        )
        self.seen: dict[str, tuple[int, float]] = {}
        """run_id → the beat at the first look at that claim, and the time of that look (monotonic clock)."""
        self.lost = False
        self._writing = threading.Lock()
        self._over = threading.Event()
        self._heart = threading.Thread(target=self._keep_alive, daemon=True)

    def __enter__(self) -> Lease:
        self._write()
        self._heart.start()
        try:
            while any([self._is_in_the_way(other) for other in self._others()]):
                time.sleep(POLL_S)
            self._write(holds=True)
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_exc: object) -> None:
        self._over.set()
        with self._writing:  # so that no heartbeat writes the claim again
            self._remove(self.claim)

    def check(self) -> None:
        """Raises OutputError where another run took the place in the meantime, because this run seemed dead."""
        first = min([self.claim.run_id, *(other.run_id for other in self._others() if other.holds)])
        if self.lost or self.claim.run_id not in self._claims() or first != self.claim.run_id:
            raise OutputError(
                f"another run took over {self.out!r}: this run could not reach the place for {DEAD_AFTER_S:.0f} s, or "
                "its claim was deleted or not seen; finished work is kept, give the same command again when the other "
                "run has ended"
            )

    def _is_in_the_way(self, other: Claim) -> bool:
        """Whether the claim of another run still has to be watched. A dead claim is removed, and is not in the way.

        Raises OutputError where the other run is alive and goes first.
        """
        alive = other.is_alive()
        if alive is None and other.run_id not in self.seen:
            self.say(
                f"run {other.run_id} on {other.host} has a claim on {self.out!r}; watching for up to "
                f"{DEAD_AFTER_S:.0f} s whether that run is alive"
            )
        beat, first_seen_s = self.seen.setdefault(other.run_id, (other.beat, time.monotonic()))
        if alive is None and beat != other.beat:
            alive = True
        if alive is None and time.monotonic() - first_seen_s > DEAD_AFTER_S:
            alive = False
        if alive is False:
            self._remove(other)
            return False
        if alive and (other.holds or other.run_id < self.claim.run_id):
            raise OutputError(
                f"another run is at work on {self.out!r}: run {other.run_id}, process {other.pid} on {other.host}, "
                f"since {other.since}; wait for its end or stop it, or name another place"
            )
        return True

    def _keep_alive(self) -> None:
        while not self._over.wait(HEARTBEAT_S):
            with suppress(Exception):  # an outage of the store: the run's own reads and writes wait, and report it
                if self.claim.run_id not in self._claims():
                    self.lost = True
                    return
                self._write()

    def _write(self, holds: bool = False) -> None:
        with self._writing:
            if self._over.is_set():
                return
            self.claim = replace(self.claim, beat=self.claim.beat + 1, holds=holds or self.claim.holds)
            write_atomically(
                self.fs, f"{self.folder}/{self.claim.run_id}.json", json.dumps(asdict(self.claim)).encode()
            )

    def _claims(self) -> set[str]:
        """The run_ids of all claims."""
        names = (path.rsplit("/", 1)[1] for path in list_folder(self.fs, self.folder))
        return {name.removesuffix(".json") for name in names if name.endswith(".json")}

    def _others(self) -> list[Claim]:
        found, started_s = [], time.monotonic()
        for run_id in sorted(self._claims() - {self.claim.run_id}):
            with suppress(FileNotFoundError):  # that run ended between the two requests
                found.append(_claim_in(read_file(self.fs, f"{self.folder}/{run_id}.json"), run_id))
        if time.monotonic() - started_s > HEARTBEAT_S:
            self.seen.clear()  # the store was away, and no run could write its heartbeat
        return found

    def _remove(self, claim: Claim) -> None:
        with suppress(Exception):  # a claim that stays has no heartbeat, and counts as dead soon
            self.fs.rm_file(f"{self.folder}/{claim.run_id}.json")


def _claim_in(data: bytes, run_id: str) -> Claim:
    """The claim that a file holds. Where it can't be read, it is watched as that of another machine: a machine that
    lost its power may leave an empty file, and a later version of this package may write other fields."""
    try:
        return Claim(**json.loads(data))
    except (ValueError, TypeError):
        return Claim(run_id, "an unknown machine", "", 0, 0, "an unknown time", holds=True, beat=crc32(data))


def _machine() -> str:
    """Names this machine's start and this container; empty where the system does not say."""
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
        return f"{boot} {os.readlink('/proc/self/ns/pid')}"
    except OSError:
        return ""


def _started(pid: int) -> int | None:
    """When a process started, in clock ticks since the machine did; None where the process is gone or a zombie."""
    try:
        text = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace")
        state, *fields = text.rpartition(")")[2].split()  # the program's name before it may hold anything
    except OSError:
        return None
    return None if state in "ZX" else int(fields[18])
