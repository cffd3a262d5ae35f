"""What all measurements share: how a result looks, what they measure on, and what a run's processes take."""

from __future__ import annotations

import os
import subprocess
import tempfile
import threading
import time
from collections.abc import Callable
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import footage


@dataclass(frozen=True)
class Setting:
    """Where things lie and how long the footage is. ``quick``: minutes instead of hours, to try the code; the numbers
    of such a run are kept apart."""

    cache: Path = footage.CACHE
    quick: bool = False

    def video(self, minutes: float, width: int = 1920, height: int = 1080) -> Path:
        return footage.long(5 if self.quick else minutes, width, height, cache=self.cache)

    def place(self) -> tempfile.TemporaryDirectory:
        """An empty folder that goes away; beside the footage, which is linked and not copied."""
        self.cache.mkdir(parents=True, exist_ok=True)
        return tempfile.TemporaryDirectory(dir=self.cache)

    def archive(self, place: Path, minutes: float, width: int = 1920, height: int = 1080) -> Path:
        """A folder with one video in it."""
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
) -> dict:
    """One entry of ``results/latest.json``.

    ``bar``: the least (``at_most``: the most) that ``value`` may be, None where nothing is promised. ``also``: what
    else must be true for it to hold. ``rows``: how much was measured. ``why``: what explains the number.
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


def timed(run: Callable) -> tuple[float, object]:
    """(seconds of wall clock, what ``run`` gave)."""
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


class Peaks:
    """``mb``: kind of process → the most private memory (anonymous pages) that one of it held; five looks a second.

    Shared pages of the object store are left out: they belong to the node and its size is set when Ray starts.
    """

    def __init__(self):
        self.mb: dict[str, float] = {}

    def look(self) -> None:
        parents = parents_of_processes()
        for pid in parents:
            if is_below(pid, os.getpid(), parents):
                kind = "driver" if pid == os.getpid() else kind_of(pid)
                self.mb[kind] = max(self.mb.get(kind, 0.0), private_mb(pid))


@contextmanager
def watched():
    """``with watched() as peaks: …`` looks at this process and all below it."""
    peaks, over = Peaks(), threading.Event()

    def watch() -> None:
        while not over.wait(0.2):
            peaks.look()

    thread = threading.Thread(target=watch, daemon=True)
    thread.start()
    try:
        yield peaks
    finally:
        over.set()
        thread.join()


def kind_of(pid: int) -> str:
    try:
        title = Path(f"/proc/{pid}/cmdline").read_text(errors="replace").replace("\0", " ")
    except OSError:
        return "other processes of Ray"
    return next((kind for part, kind in KINDS.items() if part in title), "other processes of Ray")


def private_mb(pid: int) -> float:
    try:
        status = Path(f"/proc/{pid}/status").read_text()
    except OSError:  # it ended meanwhile
        return 0.0
    return int(status.split("RssAnon:")[1].split()[0]) / 1024 if "RssAnon:" in status else 0.0


def parents_of_processes() -> dict[int, int]:
    found = {}
    for path in Path("/proc").glob("[0-9]*/stat"):
        try:
            found[int(path.parent.name)] = int(path.read_text().rsplit(")", 1)[1].split()[1])
        except (OSError, IndexError):
            continue
    return found


def is_below(pid: int, top: int, parents: dict[int, int]) -> bool:
    while pid and pid != top:
        pid = parents.get(pid, 0)
    return pid == top


def cpu_s_of(pid: int) -> float:
    with open(f"/proc/{pid}/schedstat") as file:
        return int(file.read().split()[0]) / 1e9


def commit() -> str:
    """The code that was measured: its commit, and whether files were changed since."""

    def git(*words: str) -> str:
        return subprocess.run(["git", *words], cwd=Path(__file__).parent, capture_output=True, text=True).stdout.strip()

    changed = git("status", "--porcelain", "--untracked-files=no", "--", ":!results", ":!../README.md")
    return git("rev-parse", "--short=12", "HEAD") + (" and changes" if changed else "")
