"""The command ``halsted``. Each command parses its options, makes one library call, prints the result, returns an exit
code.

    parser.py            all commands, put together; imports nothing heavy, so that --help answers at once
    options.py           what all commands share: the parser, kinds of numbers, options that need others, exit codes
    map.py               `halsted map`, `status`
    plan.py              `halsted plan`
    deidentify.py        `halsted deidentify`
    embed.py             `halsted embed`
    view.py              `halsted show`, `export`, `report`
    stitches.py          `halsted stitches`
    explain.py           `halsted explain`
    economy.py           `halsted economy`
    forecast.py          `halsted forecast` and its actions
    search.py            `halsted search`, `search-index`
    train.py             `halsted phantom`, `train`
    encoder.py           `halsted encoder` and its actions
    embeddings.py        `halsted embeddings` and its actions
    atlas.py             `halsted atlas` and its actions, but for
    atlas_import.py      `halsted atlas import`
    atlas_release.py     `halsted atlas release`
    atlas_search.py      `halsted atlas search`
    synthesize.py        `halsted synthesize`
    evaluate.py          `halsted evaluate`
    benchmark.py         `halsted benchmark` and its actions
    selflabel.py         `halsted self-label`, `review`
    registry.py          `halsted registry` and its actions, `lineage`
    serve.py             `halsted serve` and its actions
    dicom.py             `halsted dicom` and its actions
    doctor.py            `halsted doctor`, `completion`
    text_tables.py       tables for a terminal of 80 columns, and the line of progress
    plan_table.py        prints a plan
    self_label_table.py  prints the comparison of two models

Exit codes: 0 done; 1 a bug (with its traceback); 2 wrong use, or a storage or registry that does not answer (one
message that says what to do); 3 some videos failed or are mapped with gaps (the output says which and why); 130
interrupted (Ctrl-C); 143 stopped by SIGTERM.
"""

from __future__ import annotations

import io
import logging
import os
import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager

from halsted_ray.cli.options import DONE, INTERRUPTED, TERMINATED, WRONG_USE
from halsted_ray.cli.parser import build_parser
from halsted_ray.compute.cluster import NO_CRASH_HANDLER
from halsted_ray.errors import StorageUnavailable, UsageError


class Terminated(KeyboardInterrupt):
    """SIGTERM has come. Everything is left as after Ctrl-C: claims are given back, and child processes are ended."""


def main(arguments: list[str] | None = None) -> int:
    """Runs one command and returns its exit code. ``arguments``: by default the process's own."""
    # No library may report usage to anybody, or fetch files from a model hub. And a signal must reach this process, not
    # Ray's core: see compute.cluster.
    for name, value in (
        ("RAY_USAGE_STATS_ENABLED", "0"),
        ("HF_HUB_OFFLINE", "1"),
        ("DO_NOT_TRACK", "1"),
        (NO_CRASH_HANDLER, "1"),
    ):
        os.environ.setdefault(name, value)
    for stream in (sys.stdout, sys.stderr):  # a terminal in ASCII or Latin-1 shows "–" and other names escaped
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")
    log = logging.getLogger("halsted_ray")
    if not log.handlers:
        log.addHandler(logging.StreamHandler())
        log.handlers[0].setFormatter(logging.Formatter("%(asctime)s %(message)s", "%H:%M:%S"))
        log.setLevel(logging.INFO)
    options = build_parser().parse_args(arguments)
    try:
        with _sigterm_raises():
            code: int = options.do(options)
            return code
    except (UsageError, StorageUnavailable) as error:  # storage that does not answer is no bug, so no traceback
        print(f"halsted {options.command}: {error}", file=sys.stderr)
        return WRONG_USE
    except PermissionError as error:  # whoever started the command can mend it, so no traceback
        print(
            f"halsted {options.command}: no permission for {error.filename!r}; ask for it, or name another place",
            file=sys.stderr,
        )
        return WRONG_USE
    except KeyboardInterrupt as stopped:
        how = "stopped by SIGTERM" if isinstance(stopped, Terminated) else "interrupted"
        print(
            f"halsted {options.command}: {how}; finished work is kept, and the same command continues from there",
            file=sys.stderr,
        )
        return TERMINATED if isinstance(stopped, Terminated) else INTERRUPTED
    except BrokenPipeError:
        # The reader (head, less) has read enough. Without this the interpreter would print an error at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return DONE


@contextmanager
def _sigterm_raises() -> Iterator[None]:
    """SIGTERM raises Terminated within the block. Where the signal comes while Ray's core waits, Ray raises a plain
    KeyboardInterrupt instead of what the handler raised; that becomes Terminated too."""
    has_come = False

    def stop(*_: object) -> None:
        nonlocal has_come
        has_come = True
        raise Terminated

    if threading.current_thread() is not threading.main_thread():  # only the main thread gets signals
        yield
        return
    before = signal.signal(signal.SIGTERM, stop)
    try:
        yield
    except KeyboardInterrupt as stopped:
        if has_come and not isinstance(stopped, Terminated):
            raise Terminated from stopped
        raise
    finally:
        signal.signal(signal.SIGTERM, before)
