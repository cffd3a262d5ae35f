"""The parts that all measurements share: the form of a result, the footage, and the memory and CPU of processes."""

from __future__ import annotations

import os
import subprocess
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import footage

Answer = TypeVar("Answer")
Entry = dict[str, Any]
"""One entry of ``results/latest.json``, as ``ratio`` makes it."""


@dataclass(frozen=True)
class Setting:
    """Where the footage lies, and how long it is.

    ``quick`` takes minutes of footage instead of hours, to try the code; the figures of such a run are not recorded.
    """

    cache: Path = footage.CACHE
    quick: bool = False

    def video(self, minutes: float, width: int = 1920, height: int = 1080) -> Path:
        """The path of a video of so many minutes; 5 minutes for a quick run."""
        return footage.long(5 if self.quick else minutes, width, height, cache=self.cache)

    def place(self) -> tempfile.TemporaryDirectory[str]:
        """An empty folder that is deleted at the end of its ``with`` block. It lies beside the footage, so that videos
        are linked and not copied."""
        self.cache.mkdir(parents=True, exist_ok=True)
        return tempfile.TemporaryDirectory(dir=self.cache)

    def archive(self, place: Path, minutes: float, width: int = 1920, height: int = 1080) -> Path:
        """Makes the folder ``place`` with one video of so many minutes in it."""
        place.mkdir(parents=True)
        os.link(self.video(minutes, width, height), place / "video.mp4")
        return place


def ratio(
    name: str,
    value: float,
    bar: float | None,
    *,
    unit: str = "x",
    at_most: bool = False,
    also: bool = True,
    rows: str = "",
    why: str = "",
) -> Entry:
    """One entry of ``results/latest.json``.

    ``bar`` is the least that ``value`` may be (the most, with ``at_most``), None where nothing is promised. ``also`` is
    a further condition for the bar to hold. ``rows`` says how much was measured, ``why`` explains the figure.
    """
    holds = None if bar is None else bool(also and (value <= bar if at_most else value >= bar))
    return {
        "name": name,
        "value": float(f"{value:.4g}"),
        "unit": unit,
        "bar": bar,
        "at_most": at_most,
        "holds": holds,
        "rows": rows,
        "why": why,
    }


def timed(run: Callable[[], Answer]) -> tuple[float, Answer]:
    """(seconds of wall clock that ``run`` took, its answer)."""
    started_s = time.perf_counter()
    found = run()
    return time.perf_counter() - started_s, found


KINDS = {
    "DecodeStage)": "decoding actor",
    "TagStage)": "tagging actor",
    "halsted_ray.video.decode_worker": "decoding process",
    "raylet/raylet": "raylet",
    "gcs_server": "GCS server",
}
"""A part of a process's command line → the kind of process."""


class Peaks:
    """``mb``: kind of process → the most private memory (anonymous pages, in MB) that one process of this kind held.
    ``cpu_s``: the CPU seconds of all of them since the first look.

    Shared pages of the object store are left out, because they belong to the node, and its size is set when Ray starts.
    """

    def __init__(self) -> None:
        self.mb: dict[str, float] = {}
        self._cpu_s: dict[int, float] = {}
        self._cpu_before_s: dict[int, float] | None = None

    @property
    def cpu_s(self) -> float:
        """What a process spends after the last look before its end is not counted."""
        before_s = self._cpu_before_s or {}
        return sum(spent_s - before_s.get(pid, 0.0) for pid, spent_s in self._cpu_s.items())

    def look(self) -> None:
        """Takes account of the memory that this process, and all processes that it started, hold now."""
        parents = parents_of_processes()
        for pid in parents:
            if is_below(pid, os.getpid(), parents):
                kind = "driver" if pid == os.getpid() else kind_of(pid)
                self.mb[kind] = max(self.mb.get(kind, 0.0), private_mb(pid))
                self._cpu_s[pid] = max(self._cpu_s.get(pid, 0.0), cpu_s_of_threads(pid))
        if self._cpu_before_s is None:
            self._cpu_before_s = dict(self._cpu_s)


@contextmanager
def watched() -> Iterator[Peaks]:
    """``with watched() as peaks: …`` looks at this process, and at all that it started, five times per second."""
    peaks, over = Peaks(), threading.Event()

    def watch() -> None:
        while not over.wait(0.2):
            peaks.look()
        peaks.look()

    peaks.look()
    thread = threading.Thread(target=watch, daemon=True)
    thread.start()
    try:
        yield peaks
    finally:
        over.set()
        thread.join()


def kind_of(pid: int) -> str:
    """The kind of a process, told from its command line."""
    try:
        title = Path(f"/proc/{pid}/cmdline").read_text(errors="replace").replace("\0", " ")
    except OSError:
        return "other processes of Ray"
    return next((kind for part, kind in KINDS.items() if part in title), "other processes of Ray")


def private_mb(pid: int) -> float:
    """The private memory (anonymous pages) of a process in MB, 0 where it is gone."""
    try:
        status = Path(f"/proc/{pid}/status").read_text()
    except OSError:  # the process ended in the meantime
        return 0.0
    return int(status.split("RssAnon:")[1].split()[0]) / 1024 if "RssAnon:" in status else 0.0


def parents_of_processes() -> dict[int, int]:
    """Process id → its parent's process id, of all processes on this machine."""
    found = {}
    for path in Path("/proc").glob("[0-9]*/stat"):
        try:
            found[int(path.parent.name)] = int(path.read_text().rsplit(")", 1)[1].split()[1])
        except (OSError, IndexError):
            continue
    return found


def is_below(pid: int, top: int, parents: dict[int, int]) -> bool:
    """Whether ``pid`` is the process ``top``, or was started by it or by a process below it."""
    while pid and pid != top:
        pid = parents.get(pid, 0)
    return pid == top


def cpu_s_of(pid: int) -> float:
    """The CPU seconds of a process's main thread so far."""
    with open(f"/proc/{pid}/schedstat") as file:
        return int(file.read().split()[0]) / 1e9


def cpu_s_of_threads(pid: int) -> float:
    """The CPU seconds of all threads of a process so far, 0 where it is gone."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    except OSError:
        return 0.0
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def commit() -> str:
    """The commit of the code that was measured, and whether files were changed since."""

    def git(*words: str) -> str:
        return subprocess.run(["git", *words], cwd=Path(__file__).parent, capture_output=True, text=True).stdout.strip()

    changed = git("status", "--porcelain", "--untracked-files=no", "--", ":!results", ":!../README.md")
    return git("rev-parse", "--short=12", "HEAD") + (" and changes" if changed else "")
