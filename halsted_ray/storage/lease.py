"""One run at a time writes to a place, and one that was killed never locks it: claims that have to be kept alive.

    <out>/lease/<run_id>.json

Every run writes a claim of its own and then lists them all. It holds the place once it has seen no other claim; of
two that ask at once the smaller run_id goes on. That needs a store that lists what was written and nothing else (no
locks, no conditional requests, no clocks that agree), so it is the same on a disk and on S3. A claim is dead when its
process is gone from this machine, or when its beat has stood still for ``SILENCE_S``. An NFS client may list what was
there some seconds ago, so the holder looks once more before it publishes.
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

from halsted_ray.errors import OutputError
from halsted_ray.storage.files import list_folder, read_file, write_atomically
from halsted_ray.storage.locations import filesystem

BEAT_S = 5.0
SILENCE_S = 30.0
"""What a run on another machine waits after a crash. A run in good health misses six beats in no case but an outage
of the store, in which nobody can take its place either."""
LOOK_S = 0.5


@dataclass(frozen=True)
class Claim:
    """A run's word that it wants the place (``holds`` is false) or has it."""

    run_id: str
    host: str
    machine: str
    """The machine's start and the container: where ``pid`` and ``started`` name a process. '' where unknown."""
    pid: int
    started: int
    since: str
    holds: bool = False
    beat: int = 0

    def is_alive(self) -> bool | None:
        """Whether its process runs, None where that can't be seen from here."""
        if not self.machine or self.machine != _machine():
            return None
        return _started(self.pid) == self.started


class Lease:
    """``with Lease(out, run_id) as lease:`` Raises OutputError where another run holds the place.

    ``say`` is told when the claim of a run on another machine has to be watched first.
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
        self.seen: dict[str, tuple[int, float]] = {}  # run_id → (beat, when it was first seen, monotonic)
        self.lost = False
        self._writing = threading.Lock()
        self._over = threading.Event()
        self._heart = threading.Thread(target=self._keep_alive, daemon=True)

    def __enter__(self) -> Lease:
        self._write()
        self._heart.start()
        try:
            while any([self._is_in_the_way(other) for other in self._others()]):
                time.sleep(LOOK_S)
            self._write(holds=True)
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_exc) -> None:
        self._over.set()
        with self._writing:  # so that no beat brings the claim back
            self._remove(self.claim)

    def check(self) -> None:
        """Raises OutputError where another run took the place meanwhile, since this one seemed dead."""
        first = min([self.claim.run_id, *(other.run_id for other in self._others() if other.holds)])
        if self.lost or self.claim.run_id not in self._claims() or first != self.claim.run_id:
            raise OutputError(
                f"another run took over {self.out!r}: this one could not reach it for {SILENCE_S:.0f} s, or its claim "
                "was deleted or not seen; what is finished is kept, give the same command again when it has ended"
            )

    def _is_in_the_way(self, other: Claim) -> bool:
        """False for a dead claim (it is removed), true while it has to be watched; raises OutputError for one that
        is alive and comes first."""
        alive = other.is_alive()
        if alive is None and other.run_id not in self.seen:
            self.say(
                f"run {other.run_id} on {other.host} has a claim on {self.out!r}; watching for up to "
                f"{SILENCE_S:.0f} s whether it is alive"
            )
        beat, first_seen_s = self.seen.setdefault(other.run_id, (other.beat, time.monotonic()))
        if alive is None and beat != other.beat:
            alive = True
        if alive is None and time.monotonic() - first_seen_s > SILENCE_S:
            alive = False
        if alive is False:
            self._remove(other)
            return False
        if alive and (other.holds or other.run_id < self.claim.run_id):
            raise OutputError(
                f"another run is mapping to {self.out!r}: run {other.run_id}, process {other.pid} on {other.host}, "
                f"since {other.since}; wait for its end or stop it, or give a place of its own to this one (--out)"
            )
        return True

    def _keep_alive(self) -> None:
        while not self._over.wait(BEAT_S):
            with suppress(Exception):  # an outage of the store: the work itself waits for it, and tells of it
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
        names = (path.rsplit("/", 1)[1] for path in list_folder(self.fs, self.folder))
        return {name.removesuffix(".json") for name in names if name.endswith(".json")}

    def _others(self) -> list[Claim]:
        found, started_s = [], time.monotonic()
        for run_id in sorted(self._claims() - {self.claim.run_id}):
            with suppress(FileNotFoundError):  # it ended between the two requests
                found.append(Claim(**json.loads(read_file(self.fs, f"{self.folder}/{run_id}.json"))))
        if time.monotonic() - started_s > BEAT_S:
            self.seen.clear()  # the store was away, and nobody could beat
        return found

    def _remove(self, claim: Claim) -> None:
        with suppress(Exception):  # what stays is silent, and counts as dead soon
            self.fs.rm_file(f"{self.folder}/{claim.run_id}.json")


def _machine() -> str:
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
        return f"{boot} {os.readlink('/proc/self/ns/pid')}"
    except OSError:
        return ""


def _started(pid: int) -> int | None:
    """When a process started, in clock ticks since the machine did; None where it is gone or a zombie."""
    try:
        text = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace")
        state, *fields = text.rpartition(")")[2].split()  # the name before it may hold anything
    except OSError:
        return None
    return None if state in "ZX" else int(fields[18])
