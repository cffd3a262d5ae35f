"""What a person sees while a model trains: one line that rewrites itself, or one line a minute without a terminal.

This module imports nothing heavy, since the board runs in a process of its own.
"""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TextIO

import ray
from ray.actor import ActorHandle

BAR = 20
QUIET_S = 60.0


class EpochLine:
    """Call it with each epoch's record (see ``loop``): a bar, the loss, accuracy per task and the time left."""

    def __init__(self, epochs: int, stream: TextIO | None = None):
        self.epochs = epochs
        self.stream = stream or sys.stderr
        self.started_s = self.shown_s = time.monotonic()
        self.first: int | None = None
        self.measured = ""

    def __call__(self, record: dict) -> None:
        done = record["epoch"] + 1
        if self.first is None:  # a run that goes on starts in the middle
            self.first, self.started_s = record["epoch"], time.monotonic() - record["seconds"]
        if record["accuracy_of_task"]:
            shown = [f"{task} {value:.3f}" for task, value in record["accuracy_of_task"].items() if value is not None]
            self.measured = "  ".join(shown) + ("  saved" if record["saved"] else "")
        pace_s = (time.monotonic() - self.started_s) / (done - self.first)
        left_s = int(pace_s * (self.epochs - done))
        filled = round(BAR * done / self.epochs)
        self.show(
            f"epoch {done}/{self.epochs} [{'#' * filled}{'.' * (BAR - filled)}] loss {record['loss']:.3f}  "
            f"{self.measured}  {record['samples_per_s']:,.0f} samples/s  ETA {left_s // 60}:{left_s % 60:02d}",
            done == self.epochs,
        )

    def show(self, text: str, last: bool) -> None:
        if self.stream.isatty():
            self.stream.write(f"\r\033[K{text}" + ("\n" if last else ""))
        elif last or time.monotonic() - self.shown_s >= QUIET_S:
            self.shown_s = time.monotonic()
            self.stream.write(text + "\n")
        self.stream.flush()


@ray.remote(num_cpus=0)
class Board:
    """Where rank 0 pins up each epoch's record and the driver reads it: workers' prints come too late, and doubled."""

    def __init__(self) -> None:
        self.records: list[tuple[dict, bool]] = []
        self.closed = False

    def pin(self, record: dict) -> None:
        """Adds the record of an epoch that has just been trained."""
        self.records.append((record, False))

    def restore(self, curve: list[dict]) -> None:
        """Adds the records that a checkpoint brought back: the driver may have died before it saw some of them."""
        self.records += [(record, True) for record in curve]

    def take(self) -> tuple[list[tuple[dict, bool]], bool]:
        """The records since the last call, each with whether a checkpoint brought it back, and whether no more come."""
        records, self.records = self.records, []
        return records, self.closed

    def close(self) -> None:
        self.closed = True


@contextmanager
def watched_board(
    on_epoch: Callable[[dict], None] | None, on_restored: Callable[[dict], None] | None = None
) -> Iterator[ActorHandle]:
    """A board whose records reach the callbacks, in a thread of the driver, until the block is left.

    ``on_epoch`` gets each epoch that is trained, ``on_restored`` each epoch that a checkpoint brought back.
    """
    board = Board.remote()

    def watch() -> None:
        closed = False
        while not closed:
            time.sleep(0.3)
            records, closed = ray.get(board.take.remote())
            for record, is_restored in records:
                if tell := on_restored if is_restored else on_epoch:
                    tell(record)

    watcher = threading.Thread(target=watch, daemon=True)
    watcher.start()
    try:
        yield board
    finally:
        ray.get(board.close.remote())
        watcher.join(timeout=10)
