"""The command ``halsted``: parse, one library call, what came out, exit code.

    parser.py      commands and their options; imports nothing heavy, so that --help answers at once
    options.py     what options share: the parser itself, and the kinds of numbers
    commands.py    one function a command
    atlas.py       `halsted atlas` and its actions
    registry.py    `halsted registry` and `halsted lineage`: options and functions
    evaluate.py    options and function of `halsted evaluate`, with comparison.py (two models in a terminal)
    selflabel.py   the same of `halsted self-label` and `halsted review`
    tables.py      the tables that commands print, and the line of progress
    codes.py       the exit codes

Exit codes: 0 done, 1 a bug (with its traceback), 2 wrong use (one message that says what to do), 3 some videos
failed or are mapped with gaps (it is said which and why), 130 interrupted (Ctrl-C), 143 stopped by SIGTERM.
"""

from __future__ import annotations

import logging
import os
import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager

from halsted_ray.cli.options import DONE, INTERRUPTED, TERMINATED, WRONG_USE
from halsted_ray.cli.parser import build_parser
from halsted_ray.errors import StorageUnavailable, UsageError


class Terminated(KeyboardInterrupt):
    """SIGTERM has come: everything is left as after Ctrl-C, so claims are given back and processes are ended."""


def main(arguments: list[str] | None = None) -> int:
    """Runs one command; returns the exit code."""
    # Nothing is reported to anybody and nothing is fetched from a hub, whoever starts the command.
    for name, value in (("RAY_USAGE_STATS_ENABLED", "0"), ("HF_HUB_OFFLINE", "1"), ("DO_NOT_TRACK", "1")):
        os.environ.setdefault(name, value)
    log = logging.getLogger("halsted_ray")
    if not log.handlers:
        log.addHandler(logging.StreamHandler())
        log.handlers[0].setFormatter(logging.Formatter("%(asctime)s %(message)s", "%H:%M:%S"))
        log.setLevel(logging.INFO)
    options = build_parser().parse_args(arguments)
    from halsted_ray.cli import commands

    try:
        with _sigterm_raises():
            return getattr(commands, options.command.replace("-", "_"))(options)
    except (UsageError, StorageUnavailable) as error:  # a store that stays away: no bug, so no traceback
        print(f"halsted {options.command}: {error}", file=sys.stderr)
        return WRONG_USE
    except KeyboardInterrupt as stopped:
        how = "stopped by SIGTERM" if isinstance(stopped, Terminated) else "interrupted"
        print(
            f"halsted {options.command}: {how}; what is finished stays, the same command goes on from there",
            file=sys.stderr,
        )
        return TERMINATED if isinstance(stopped, Terminated) else INTERRUPTED
    except BrokenPipeError:
        # The reader (head, less) has seen enough; without this the interpreter complains once more at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return DONE


@contextmanager
def _sigterm_raises() -> Iterator[None]:
    def stop(*_) -> None:
        raise Terminated

    if threading.current_thread() is not threading.main_thread():  # signals are not its business
        yield
        return
    before = signal.signal(signal.SIGTERM, stop)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
