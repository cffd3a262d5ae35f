"""How busy a machine is while something runs: its cores, its GPU, and the GPU's video decoders.

Cores are read from /proc/stat. The GPU is asked by ``nvidia-smi dmon``, which comes with the driver; where there is
none, the figures of the GPU are None.
"""

from __future__ import annotations

import shutil
import subprocess
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

TICKS_PER_S = 100
"""Of /proc/stat, on Linux always."""
EVERY_S = 0.5


@dataclass
class Watch:
    """Samples of the machine, each with its time (``time.time()``)."""

    cpu: list[tuple[float, float]] = field(default_factory=list)
    """(time, core-seconds that all processes have used since the machine started)"""
    gpu: list[tuple[float, float, float]] = field(default_factory=list)
    """(time, share of the time in which a kernel ran, share in which NVDEC worked), of the last second"""

    def cores_busy(self, start: float, stop: float) -> float | None:
        """The mean number of busy cores from ``start`` to ``stop``; None where too little was seen."""
        seen = [sample for sample in self.cpu if start <= sample[0] <= stop]
        if len(seen) < 2:
            return None
        return (seen[-1][1] - seen[0][1]) / (seen[-1][0] - seen[0][0])

    def gpu_busy(self, start: float, stop: float) -> tuple[float, float] | tuple[None, None]:
        """The mean shares of GPU and NVDEC from ``start`` to ``stop``; None where no GPU was seen."""
        seen = [sample for sample in self.gpu if start <= sample[0] <= stop]
        if not seen:
            return None, None
        return sum(sample[1] for sample in seen) / len(seen), sum(sample[2] for sample in seen) / len(seen)


@contextmanager
def watching() -> Iterator[Watch]:
    """``with watching() as watch: …`` samples this machine until the end of the block."""
    watch, over = Watch(), threading.Event()
    threads = [threading.Thread(target=_watch_cores, args=(watch, over), daemon=True)]
    monitor = None
    if shutil.which("nvidia-smi"):
        monitor = subprocess.Popen(
            ["nvidia-smi", "dmon", "-s", "u", "-d", "1"], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
        )
        assert monitor.stdout is not None
        threads.append(threading.Thread(target=_watch_gpu, args=(watch, monitor.stdout), daemon=True))
    for thread in threads:
        thread.start()
    try:
        yield watch
    finally:
        over.set()
        if monitor is not None:
            monitor.terminate()
            monitor.wait()
        for thread in threads:
            thread.join()


def _watch_cores(watch: Watch, over: threading.Event) -> None:
    while not over.wait(EVERY_S):
        watch.cpu.append((time.time(), busy_core_s(Path("/proc/stat").read_text())))


def busy_core_s(text: str) -> float:
    """Core-seconds in use by /proc/stat: everything but idle and waiting for a disk. Guests are part of user time."""
    user, nice, system, _idle, _iowait, irq, softirq, *_ = (int(word) for word in text.split("\n", 1)[0].split()[1:])
    return (user + nice + system + irq + softirq) / TICKS_PER_S


def _watch_gpu(watch: Watch, lines: Iterator[str]) -> None:
    """Reads what ``nvidia-smi dmon`` prints. Several GPUs count as their mean."""
    names: list[str] = []
    for line in lines:
        if (found := gpu_sample(line, names)) is not None:
            watch.gpu.append((time.time(), *found))


def gpu_sample(line: str, names: list[str]) -> tuple[float, float] | None:
    """(share of kernels, share of NVDEC) of one line of ``nvidia-smi dmon -s u``, None for a heading. ``names`` are the
    columns, which the first heading gives; drivers differ in how many there are."""
    words = line.replace("#", " ").split()
    if line.startswith("#"):
        if "sm" in words:
            names[:] = words
        return None
    if len(words) != len(names):
        return None
    row = dict(zip(names, words, strict=True))
    return tuple(0.0 if row[name] == "-" else float(row[name]) / 100 for name in ("sm", "dec"))  # type: ignore[return-value]
