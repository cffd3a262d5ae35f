"""A command in this process, which has imported what the command needs: another process would do so for seconds."""

from __future__ import annotations

import logging
import os
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stderr, redirect_stdout

from halsted_ray.cli import main


def halsted(*words: object) -> tuple[int, str, str]:
    """(exit code, stdout, stderr) of ``halsted WORDS``, with what libraries print past Python."""
    log = logging.getLogger("halsted_ray")
    handlers, log.handlers = log.handlers, []  # the command makes one for its own stderr
    try:
        with (
            tempfile.TemporaryFile("w+", encoding="utf-8", buffering=1) as shown,
            tempfile.TemporaryFile("w+", encoding="utf-8", buffering=1) as complaint,
        ):
            with (
                redirect_stdout(shown),
                redirect_stderr(complaint),
                descriptor_into(1, shown.fileno()),
                descriptor_into(2, complaint.fileno()),
            ):
                code = main(list(map(str, words)))
            for file in (shown, complaint):
                file.seek(0)
            return code, shown.read(), complaint.read()
    finally:
        log.handlers = handlers


@contextmanager
def descriptor_into(number: int, target: int) -> Iterator[None]:
    """A file descriptor of this process, and of what it starts, stands for ``target`` during the block."""
    for stream in (sys.__stdout__, sys.__stderr__):
        if stream is not None:
            stream.flush()
    before = os.dup(number)
    os.dup2(target, number)
    try:
        yield
    finally:
        os.dup2(before, number)
        os.close(before)
