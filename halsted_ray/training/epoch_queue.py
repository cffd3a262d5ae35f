"""How the records of epochs get from the training workers to the driver: a Ray actor that holds a queue.

What workers print would come too late and twice. This module imports nothing heavy, since the actor runs in a process
of its own.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import ray
from ray.actor import ActorHandle

from halsted_ray.training.epoch_record import EpochRecord

POLL_S = 0.3
"""Between two looks of the driver at the queue."""
OnEpoch = Callable[[EpochRecord], None]


class EpochQueue:
    """Holds the records that rank 0 put in and the driver has not taken out yet."""

    def __init__(self) -> None:
        self.records: list[tuple[EpochRecord, bool]] = []
        self.is_closed = False

    def put(self, record: EpochRecord) -> None:
        """Adds the record of an epoch that has just been trained."""
        self.records.append((record, False))

    def put_restored(self, curve: list[EpochRecord]) -> None:
        """Adds the records that a checkpoint brought back: the driver may have died before it saw some of them."""
        self.records += [(record, True) for record in curve]

    def take_all(self) -> tuple[list[tuple[EpochRecord, bool]], bool]:
        """The records since the last call, each with whether a checkpoint brought it back; and whether no more come."""
        records, self.records = self.records, []
        return records, self.is_closed

    def close(self) -> None:
        """Says that no more records come."""
        self.is_closed = True


@contextmanager
def watched_queue(on_epoch: OnEpoch | None, on_restored: OnEpoch | None = None) -> Iterator[ActorHandle]:
    """A queue whose records reach the callbacks, in a thread of the driver, until the block is left.

    ``on_epoch`` gets each epoch that is trained, ``on_restored`` each epoch that a checkpoint brought back.
    """
    queue = ray.remote(EpochQueue).options(num_cpus=0).remote()

    def watch() -> None:
        is_closed = False
        while not is_closed:
            time.sleep(POLL_S)
            records, is_closed = ray.get(queue.take_all.remote())
            for record, is_restored in records:
                if tell := on_restored if is_restored else on_epoch:
                    tell(record)

    watcher = threading.Thread(target=watch, daemon=True)
    watcher.start()
    try:
        yield queue
    finally:
        ray.get(queue.close.remote())
        watcher.join(timeout=10)
