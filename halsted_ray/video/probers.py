"""Many files looked at side by side: threads that wait for storage, and a decoding process per core that probes."""

from __future__ import annotations

import os
import queue
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

from halsted_ray.errors import DecoderKilled
from halsted_ray.storage.files import REQUESTS_AT_ONCE
from halsted_ray.storage.locations import Location
from halsted_ray.video.decode_process import DecodeProcess
from halsted_ray.video.probe import Probe

Found = TypeVar("Found")


class Probers:
    """``with Probers(len(uris)) as probers: for found in probers.each(look, uris): …``, where ``look`` may ask for
    ``probe_and_index``. A block that is left early waits for the files under way alone."""

    def __init__(self, files: int):
        self._threads = ThreadPoolExecutor(REQUESTS_AT_ONCE)
        self._processes = [DecodeProcess() for _ in range(max(1, min(os.cpu_count() or 1, files, REQUESTS_AT_ONCE)))]
        self._idle: queue.SimpleQueue[DecodeProcess] = queue.SimpleQueue()
        for process in self._processes:
            self._idle.put(process)

    def __enter__(self) -> Probers:
        return self

    def __exit__(self, *_exc: object) -> None:
        self._threads.shutdown(cancel_futures=True)
        for process in self._processes:
            process.close()

    def each(self, look: Callable[[str], Found], uris: Sequence[str]) -> Iterator[Found]:
        """``look(uri)`` of each file, in the order of ``uris``."""
        return self._threads.map(look, uris)

    def probe_and_index(self, location: Location) -> tuple[Probe, bytes]:
        """As ``DecodeProcess.probe_and_index``, by the next process that is idle. A second time where it was killed:
        the machine may have been short of memory or time, and the second time it is the file's fault."""
        process = self._idle.get()
        try:
            try:
                return process.probe_and_index(location)
            except DecoderKilled:
                return process.probe_and_index(location)
        finally:
            self._idle.put(process)
