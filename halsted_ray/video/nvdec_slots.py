"""Who may decode on a GPU of this machine: one slot is one session of NVDEC, held by a lock on a file.

The processes of a machine share the slots through a folder of their own. A lock belongs to the process that holds it,
so a process that is killed frees its slot. Nothing here touches a device.
"""

from __future__ import annotations

import fcntl
import os
import re
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

DRIVER = Path("/proc/driver/nvidia/gpus")
"""The driver tells here of each GPU its name and its id, also where ``CUDA_VISIBLE_DEVICES`` hides it."""

ENGINES = {
    "H100": 7,
    "H200": 7,
    "A100": 5,
    "A30": 4,
    "L4": 4,
    "L40": 3,
    "L40S": 3,
    "RTX 6000 Ada": 3,
    "A10": 2,
    "A40": 2,
    "T4": 2,
    "RTX A5000": 2,
    "RTX A6000": 2,
}
"""How many engines NVDEC has, by chip, as NVIDIA's support matrix lists them; any other chip counts as having one. A
session uses one engine, so there are as many slots. Whether more sessions than engines decode faster is unmeasured."""

ALLOWED = "HALSTED_NVDEC_GPUS"
"""The variable that names the GPUs whose NVDEC may be used: ids or numbers, separated by commas; empty for none."""

DAY_S = 24 * 3600.0


@dataclass(frozen=True)
class Gpu:
    """``name``: what CUDA_VISIBLE_DEVICES takes, the id or the number. ``sessions``: how many slots it has."""

    name: str
    sessions: int


def gpus_here(driver: Path = DRIVER) -> list[Gpu]:
    """The GPUs whose NVDEC may be used; none where the machine has none."""
    found = []
    for number, place in enumerate(sorted(driver.glob("*/information"))):
        text = place.read_text(errors="replace")
        model = re.search(r"^Model:\s*(.*?)\s*$", text, re.M)
        uuid = re.search(r"^GPU UUID:\s*(GPU-[0-9a-f-]+)\s*$", text, re.M)
        found.append((str(number), uuid[1] if uuid else str(number), engines_of(model[1] if model else "")))
    allowed = os.environ.get(ALLOWED)
    names = None if allowed is None else {name.strip() for name in allowed.split(",")}
    return [Gpu(name, engines) for number, name, engines in found if names is None or {number, name} & names]


def engines_of(model: str) -> int:
    """How many engines NVDEC has on a chip. The longest name of the table that is a word of ``model`` decides: an L40S
    is no L40."""
    fitting = [name for name in ENGINES if re.search(rf"(?<![\w]){re.escape(name)}(?![\w])", model)]
    return ENGINES[max(fitting, key=len)] if fitting else 1


class Slot:
    """A session that this process may hold, until ``release``."""

    def __init__(self, gpu: str, descriptor: int):
        self.gpu = gpu
        self._descriptor = descriptor

    def note_rate(self, frames_per_s: float) -> None:
        """Tells the machine how many wanted frames a second this session gives."""
        os.pwrite(self._descriptor, f"{frames_per_s:15.6g}\n".encode(), 0)

    def release(self) -> None:
        """Gives the session back."""
        os.close(self._descriptor)


class NvdecSlots:
    """The slots of this machine.

    ``folder``: where the locks lie, by default one of this user in the machine's folder for temporary files.
    """

    def __init__(self, gpus: Sequence[Gpu], folder: str | Path | None = None):
        self.folder = Path(folder or os.path.join(tempfile.gettempdir(), f"halsted-nvdec-{os.getuid()}"))
        self._places = [
            (gpu.name, self.folder / f"{gpu.name}.{number}")
            # The first slot of each GPU, then the second of each: the load spreads.
            for number in range(max((gpu.sessions for gpu in gpus), default=0))
            for gpu in gpus
            if number < gpu.sessions
        ]
        if self._places:
            self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)

    def __len__(self) -> int:
        return len(self._places)

    def take(self) -> Slot | None:
        """A free slot, None where all are held."""
        for gpu, place in self._places:
            descriptor = os.open(place, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                os.close(descriptor)
                continue
            return Slot(gpu, descriptor)
        return None

    def rate(self) -> float:
        """Wanted frames a second of all slots together, by the last rate of each; a slot that none is known of counts
        as the mean of the others. 0 where none is known."""
        rates = [rate for _, place in self._places if (rate := _number_in(place)) > 0]
        return sum(rates) / len(rates) * len(self._places) if rates else 0.0


class RunCount:
    """How many segments of a run this machine has begun: ``begin`` of each actor counts in one file."""

    def __init__(self, folder: Path, run: str, segments: int):
        self._place = folder / f"run-{run}"
        self._segments = segments
        for old in folder.glob("run-*"):
            if time.time() - old.stat().st_mtime > DAY_S:
                old.unlink(missing_ok=True)

    def begin(self) -> None:
        """Counts one more segment."""
        descriptor = os.open(self._place, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX)
            begun = int(os.pread(descriptor, 32, 0) or b"0") + 1
            os.pwrite(descriptor, str(begun).encode(), 0)
        finally:
            os.close(descriptor)

    def waiting(self) -> int:
        """The segments of the run that nobody has begun, as far as this machine knows."""
        return max(0, self._segments - int(_number_in(self._place)))


def _number_in(place: Path) -> float:
    try:
        return float(place.read_text() or 0)
    except (OSError, ValueError):
        return 0.0
