"""One actor's decoding on whatever is free: a session of NVDEC, else its core.

An actor that holds a slot keeps it from segment to segment, so that the process on the GPU stays warm, and gives it
back when no segment comes: at the end of a run after a moment, before that after longer, since a new process takes
seconds and the actor may only wait for the encoders. So neither NVDEC nor cores idle while segments wait, and there are
never more processes on a GPU than it has slots.

At the end of a run a core may be much slower than NVDEC, and the run would wait for it. So a core takes a segment only
where it is done before NVDEC alone would be done with all that is left (``worth_waiting``).
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from halsted_ray.errors import DecoderKilled
from halsted_ray.storage.locations import Location
from halsted_ray.video.decode_process import DecodeProcess
from halsted_ray.video.decoder_tally import CPU, NVDEC, DecoderTally
from halsted_ray.video.frames import Frames, FrameSize
from halsted_ray.video.nvdec_slots import NvdecSlots, RunCount, Slot

IDLE_S = 1.0
"""A slot is given back when no segment came for so long, and none of the run waits."""

MOST_IDLE_S = 30.0
"""A slot is given back when no segment came for so long, though some of the run wait: the encoders are busy, or other
actors got them."""

KILLS = 2
"""After so many processes that hung or died on the GPU, an actor leaves NVDEC alone."""

LOOK_S = 0.05
"""How often an actor that waits for a slot looks for one."""

NEWEST = 0.3
"""The weight of the newest segment in a running rate."""


def worth_waiting(frames: int, waiting_frames: int, core_rate: float, nvdec_rate: float) -> bool:
    """Whether a core would be longer at ``frames`` than NVDEC at these and at all that waits. Rates are wanted frames a
    second, of this core and of all sessions together; 0 where unknown: then nobody waits."""
    if core_rate <= 0 or nvdec_rate <= 0:
        return False
    return frames / core_rate > (frames + waiting_frames) / nvdec_rate


class HybridProcess:
    """``read_frames`` as of ``DecodeProcess``, on NVDEC or on the core; raises what that raises.

    ``decoders`` counts who decoded, and why the CPU did where NVDEC was asked. ``is_patient``: a core takes only what
    NVDEC refuses. ``process``, ``clock`` and ``sleep`` are replaced in tests.
    """

    def __init__(
        self,
        memory_mb: int,
        slots: NvdecSlots,
        run: RunCount | None = None,
        is_patient: bool = False,
        process: Callable[..., DecodeProcess] = DecodeProcess,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], None] = time.sleep,
    ):
        self.decoders = DecoderTally()
        self._slots, self._run, self._is_patient = slots, run, is_patient
        self._memory_mb, self._process = memory_mb, process
        self._clock, self._sleep = clock, sleep
        self._core = process(memory_mb=memory_mb)
        self._slot: Slot | None = None
        self._on_gpu: DecodeProcess | None = None
        self._lock = threading.Lock()
        self._idle: threading.Timer | None = None
        self._idle_since_s = 0.0
        self._kills = 0
        self._core_rate = 0.0
        self._nvdec_rate = 0.0

    def read_frames(
        self,
        location: Location,
        times_s: NDArray[np.float64],
        size: FrameSize | None,
        fidelity: str,
        eye: str,
        *,
        deadline_s: float,
        packet_index: bytes = b"",
    ) -> Frames:
        """The frames at ``times_s``. Where NVDEC fails at them, the core is asked before that is a failure."""

        def read(process: DecodeProcess, reader: str) -> Frames:
            return process.read_frames(
                location, times_s, size, fidelity, reader, eye, deadline_s=deadline_s, packet_index=packet_index
            )

        if self._run:
            self._run.begin()
        with self._lock:
            if self._idle:
                self._idle.cancel()
            reason = ""
            slot = self._take(len(times_s))
            if slot is not None:
                try:
                    return self._by_nvdec(slot, read, len(times_s))
                except DecoderKilled as killed:
                    reason = f"the process on the GPU: {killed.code}"
                except RuntimeError:
                    reason = "the process on the GPU did not start"
                self._kills += 1
                self._give_back()
            began_s = self._clock()
            frames = read(self._core, "pyav")
            self._core_rate = _running(self._core_rate, len(times_s), self._clock() - began_s)
            self.decoders.add(CPU, reason)
            return frames

    def close(self) -> None:
        """Ends both processes and gives the slot back."""
        with self._lock:
            if self._idle:
                self._idle.cancel()
            self._give_back()
            self._core.close()

    def _by_nvdec(self, slot: Slot, read: Callable[[DecodeProcess, str], Frames], wanted: int) -> Frames:
        process = self._on_gpu = self._on_gpu or self._process(memory_mb=self._memory_mb, gpu=slot.gpu)
        starts, began_s = process.starts, self._clock()
        try:
            frames = read(process, "nvdec")
        finally:
            self._idle_since_s = self._clock()
            self._look_later()
        if process.fallback:
            self.decoders.add(CPU, process.fallback)
        else:
            self.decoders.add(NVDEC)
            if process.starts == starts:  # a start takes seconds, which no later segment takes
                self._nvdec_rate = _running(self._nvdec_rate, wanted, self._clock() - began_s)
                slot.note_rate(self._nvdec_rate)
        return frames

    def _take(self, wanted: int) -> Slot | None:
        """The slot that is held, or one that is free now or soon enough; None where the core shall decode."""
        if self._kills >= KILLS:
            return None
        began_s = self._clock()
        while self._slot is None:
            self._slot = self._slots.take()
            if self._slot is not None or not (self._is_patient or self._waits(wanted, self._clock() - began_s)):
                break
            self._sleep(LOOK_S)
        return self._slot

    def _waits(self, wanted: int, waited_s: float) -> bool:
        if self._run is None or not worth_waiting(
            wanted, wanted * self._run.waiting(), self._core_rate, self._slots.rate()
        ):
            return False
        return waited_s < wanted / self._core_rate  # by then the core would have been done

    def _look_later(self) -> None:
        self._idle = threading.Timer(IDLE_S, self._leave)
        self._idle.daemon = True
        self._idle.start()

    def _leave(self) -> None:
        """Gives the slot back, where no segment came meanwhile, and none is to be expected soon."""
        if self._lock.acquire(blocking=False):
            try:
                may_come = self._run is not None and self._run.waiting() > 0
                if self._slot is not None and may_come and self._clock() - self._idle_since_s < MOST_IDLE_S:
                    self._look_later()
                else:
                    self._give_back()
            finally:
                self._lock.release()

    def _give_back(self) -> None:
        if self._on_gpu is not None:
            self._on_gpu.close()
            self._on_gpu = None
        if self._slot is not None:
            self._slot.release()
            self._slot = None


def _running(rate: float, wanted: int, took_s: float) -> float:
    newest = wanted / max(took_s, 1e-6)
    return newest if rate == 0 else (1 - NEWEST) * rate + NEWEST * newest
