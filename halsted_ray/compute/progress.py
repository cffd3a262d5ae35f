"""How far a run is, counted in seconds of video because segments and files differ in length, and who observes it."""

from __future__ import annotations

import logging
import sys
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, TextIO

if TYPE_CHECKING:
    from rich.live import Live

LOG_EVERY_S = 60.0
"""Seconds between two log lines about progress, and between two log lines that say that a run waits."""
PHASES = ("planning", "starting", "mapping", "publishing")
"""What a run does: lists and probes files; starts actors, which load models; maps segments; writes the tables."""
logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Progress:
    """``done_s`` of ``total_s`` video-seconds are finished; ``begun_s`` of them were finished before this run."""

    done_s: float
    total_s: float
    begun_s: float
    failed_segments: int
    elapsed_s: float

    @property
    def rate(self) -> float:
        """Video-seconds that this run finishes per second."""
        return (self.done_s - self.begun_s) / self.elapsed_s if self.elapsed_s > 0 else 0.0

    @property
    def eta_s(self) -> float | None:
        """Seconds until the end at this rate, None while there is no rate."""
        return (self.total_s - self.done_s) / self.rate if self.rate > 0 else None

    def __str__(self) -> str:
        eta = "–" if self.eta_s is None else clock(self.eta_s)
        failed = f", {self.failed_segments} segments failed" if self.failed_segments else ""
        digits = 2 if self.total_s < 100 * 3600 else 0  # so that the line fits in 80 columns
        return (
            f"{amount(self.done_s / 3600, digits)} of {amount(self.total_s / 3600, digits)} video-hours, "
            f"{self.rate:,.1f} per hour, {eta} to go{failed}"
        )


class RunObserver:
    """Follows a run. This base class ignores everything; a subclass overrides the methods that it needs.

    An exception that leaves one of these methods ends the run.
    """

    def on_progress(self, progress: Progress) -> None:
        """Called after every segment."""

    def on_phase(self, phase: str) -> None:
        """Called when the run begins a phase: one of ``PHASES``, in their order; a phase may be left out."""

    def on_message(self, message: str) -> None:
        """Called with a sentence about what the run found or chose."""

    def on_wait(self, message: str) -> None:
        """Called once or twice per second with the reason while nothing moves.

        The cluster has no room for the run, or the machines that were asked for have not come yet, or a run of
        priority high makes this run pause. In the last case the method is called in another thread, and its exception
        ends the run when the pause is over.
        """


QUIET = RunObserver()


class ProgressLine(RunObserver):
    """Shows the progress of a run: a line that is rewritten on a terminal, and a log line per minute elsewhere.

    ``with ProgressLine() as line: map_archive(..., observer=line)``
    """

    def __init__(self, stream: TextIO | None = None):
        self.stream = stream or sys.stderr
        self.next_log_s = time.monotonic() + LOG_EVERY_S
        self.next_wait_s = 0.0
        self.live: Live | None = None
        if self.stream.isatty():
            from rich.console import Console  # here, since a run without a terminal needs neither
            from rich.live import Live

            self.live = Live("", console=Console(file=self.stream), refresh_per_second=4, transient=True)

    def __enter__(self) -> ProgressLine:
        if self.live:
            self.live.start()
        return self

    def __exit__(self, *_exc: object) -> None:
        if self.live:
            self.live.stop()

    def on_progress(self, progress: Progress) -> None:
        """Rewrites the line, or logs it where a minute has passed since the last one."""
        if self.live:
            self.live.update(str(progress))
        elif time.monotonic() >= self.next_log_s:
            self.next_log_s = time.monotonic() + LOG_EVERY_S
            logger.info("%s", progress)

    def on_message(self, message: str) -> None:
        """Prints a line that stays."""
        if self.live:
            self.live.console.print(message, highlight=False, markup=False)
        else:
            logger.info("%s", message)

    def on_wait(self, message: str) -> None:
        """Prints the reason for waiting, once per minute."""
        if time.monotonic() >= self.next_wait_s:
            self.next_wait_s = time.monotonic() + LOG_EVERY_S
            self.on_message(f"waiting: {message}")


def amount(value: float, digits: int = 2) -> str:
    """``value`` with so many decimals, as ``1,234.50``.

    Where all these digits would be 0 and ``value`` is not 0, its first two digits instead, as ``0.0017``: nobody must
    read a small amount as nothing.
    """
    shown = f"{value:,.{digits}f}"
    return shown if value == 0 or float(shown.replace(",", "")) else f"{value:.2g}"


def clock(seconds: float) -> str:
    """A duration as ``1:02:03``."""
    whole = round(seconds)
    return f"{whole // 3600}:{whole // 60 % 60:02d}:{whole % 60:02d}"
