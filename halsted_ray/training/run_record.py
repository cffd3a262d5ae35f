"""The record that a finished training leaves in its folder, ``training.json``. The same call then trains nothing."""

from __future__ import annotations

import json
import logging
import secrets
from typing import Any, TypeVar

from halsted_ray.errors import OutputError
from halsted_ray.storage.files import read_file, write_atomically
from halsted_ray.storage.lease import Lease
from halsted_ray.storage.locations import absolute_location, filesystem

RECORD = "training.json"
Summary = TypeVar("Summary")
log = logging.getLogger(__name__)


def sole_run(out: str) -> Lease:
    """``with sole_run(out) as lease:`` keeps every other training out of the folder ``out``: two would write their
    checkpoints and their models over each other. Raises OutputError where another one is at work there."""
    return Lease(absolute_location(out), secrets.token_hex(6), log.warning)


def write_run(out: str, run_id: str, **written: Any) -> None:
    """Writes the record of the run ``run_id`` into the folder ``out``, whole or not at all: ``written`` has what JSON
    can hold, ``summary`` among it."""
    fs, path = filesystem(f"{absolute_location(out)}/{RECORD}")
    write_atomically(fs, path, json.dumps({"run_id": run_id, **written}, indent=1).encode())


def run_in(out: str) -> dict[str, Any] | None:
    """The record in ``out``; None where no run has finished there."""
    fs, path = filesystem(f"{absolute_location(out)}/{RECORD}")
    if not fs.exists(path):
        return None
    found: dict[str, Any] = json.loads(read_file(fs, path))
    return found


def finished_run(out: str, run_id: str, summary: type[Summary]) -> Summary | None:
    """The summary of the run ``run_id``, which has finished in ``out``; None where none has.

    Raises OutputError for another run.
    """
    written = run_in(out)
    if written is None:
        return None
    if written["run_id"] != run_id:
        raise OutputError(
            f"{out!r} holds a model of another recipe, atlas or encoder (run {written['run_id']}, this is {run_id}); "
            "name another folder, or delete that one"
        )
    return summary(**written["summary"])
