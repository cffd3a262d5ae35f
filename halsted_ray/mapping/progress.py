"""How far a run is, counted in seconds of video, since segments and files differ in length, and who follows it."""

from __future__ import annotations

import logging
import sys
import time
from dataclasses import dataclass

LOG_EVERY_S = 60.0
"""Also between two lines that say that a run waits."""
logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Progress:
    """``done_s`` of ``total_s`` video-seconds are finished, ``begun_s`` of them before this run."""

    done_s: float
    total_s: float
    begun_s: float
    failed_segments: int
    elapsed_s: float

    @property
    def rate(self) -> float:
        """Video-seconds per second of this run."""
        return (self.done_s - self.begun_s) / self.elapsed_s if self.elapsed_s > 0 else 0.0

    @property
    def eta_s(self) -> float | None:
        """Seconds to go at this rate, None while there is no rate."""
        return (self.total_s - self.done_s) / self.rate if self.rate > 0 else None

    def __str__(self) -> str:
        eta = "–" if self.eta_s is None else clock(self.eta_s)
        failed = f", {self.failed_segments} segments failed" if self.failed_segments else ""
        digits = 2 if self.total_s < 100 * 3600 else 0  # 80 columns hold it all
        return (
            f"{amount(self.done_s / 3600, digits)} of {amount(self.total_s / 3600, digits)} video-hours, "
            f"{self.rate:,.1f} an hour, {eta} to go{failed}"
        )


class Watch:
    """Follows a run; this one keeps quiet. An exception out of any of these ends the run."""

    def progress(self, progress: Progress) -> None:
        """After every segment."""

    def say(self, message: str) -> None:
        """What the run found and chose."""

    def wait(self, message: str) -> None:
        """Why nothing moves, once or twice a second while nothing does: the cluster has no room for the run, workers
        that were asked for have not come, or a run of priority high holds this one up. In the last case it is called in
        another thread, and an exception ends the run when the pause does."""


QUIET = Watch()


class ProgressLine(Watch):
    """Shows a run's progress: one line that is rewritten on a terminal, a log line a minute elsewhere."""

    def __init__(self, stream=None):
        self.stream = stream or sys.stderr
        self.live = self.stream.isatty()
        self.next_s = time.monotonic() + LOG_EVERY_S
        self.next_wait_s = 0.0
        self.console = None
        if self.live:
            from rich.console import Console
            from rich.live import Live

            self.console = Live("", console=Console(file=self.stream), refresh_per_second=4, transient=True)

    def __enter__(self) -> ProgressLine:
        if self.console:
            self.console.start()
        return self

    def __exit__(self, *_exc) -> None:
        if self.console:
            self.console.stop()

    def progress(self, progress: Progress) -> None:
        if self.console:
            self.console.update(str(progress))
        elif time.monotonic() >= self.next_s:
            self.next_s = time.monotonic() + LOG_EVERY_S
            logger.info("%s", progress)

    def say(self, message: str) -> None:
        """A line that stays."""
        if self.console:
            self.console.console.print(message, highlight=False, markup=False)
        else:
            logger.info("%s", message)

    def wait(self, message: str) -> None:
        if time.monotonic() >= self.next_wait_s:
            self.next_wait_s = time.monotonic() + LOG_EVERY_S
            self.say(f"waiting: {message}")


def amount(value: float, digits: int = 2) -> str:
    """``value`` with so many decimals; where these are all 0 and ``value`` is not, with its first two digits: what is
    little must not be read as nothing."""
    shown = f"{value:,.{digits}f}"
    return shown if value == 0 or float(shown.replace(",", "")) else f"{value:.2g}"


def clock(seconds: float) -> str:
    """``1:02:03``"""
    whole = round(seconds)
    return f"{whole // 3600}:{whole // 60 % 60:02d}:{whole % 60:02d}"
