"""What a person sees while a model trains: a line that rewrites itself in a terminal, a line per minute elsewhere."""

from __future__ import annotations

import sys
import time
from typing import TextIO

from halsted_ray.training.epoch_record import EpochRecord

BAR = 20
"""Characters of the bar."""
QUIET_S = 60.0
"""Between two lines without a terminal."""


class EpochLine:
    """Call it with each epoch's record: it shows a bar, the loss, the accuracy of each task and the time left."""

    def __init__(self, epochs: int, stream: TextIO | None = None) -> None:
        self.epochs = epochs
        self.stream = stream or sys.stderr
        self.started_s = self.shown_s = time.monotonic()
        self.first_epoch: int | None = None
        self.accuracies = ""

    def __call__(self, record: EpochRecord) -> None:
        """Shows the epoch of ``record``."""
        done = record["epoch"] + 1
        if self.first_epoch is None:  # a resumed run starts in the middle
            self.first_epoch, self.started_s = record["epoch"], time.monotonic() - record["seconds"]
        if record["accuracy_of_task"]:
            shown = [f"{task} {value:.3f}" for task, value in record["accuracy_of_task"].items() if value is not None]
            self.accuracies = "  ".join(shown) + ("  saved" if record["saved"] else "")
        seconds_per_epoch = (time.monotonic() - self.started_s) / (done - self.first_epoch)
        left_s = int(seconds_per_epoch * (self.epochs - done))
        filled = round(BAR * done / self.epochs)
        self.show(
            f"epoch {done}/{self.epochs} [{'#' * filled}{'.' * (BAR - filled)}] loss {record['loss']:.3f}  "
            f"{self.accuracies}  {record['samples_per_s']:,.0f} samples/s  ETA {left_s // 60}:{left_s % 60:02d}",
            done == self.epochs,
        )

    def show(self, text: str, last: bool) -> None:
        """Rewrites the terminal's line; without a terminal writes a line where the last one is a minute old."""
        if self.stream.isatty():
            self.stream.write(f"\r\033[K{text}" + ("\n" if last else ""))
        elif last or time.monotonic() - self.shown_s >= QUIET_S:
            self.shown_s = time.monotonic()
            self.stream.write(text + "\n")
        self.stream.flush()
