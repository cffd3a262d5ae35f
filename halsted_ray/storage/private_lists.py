"""Lists that say which file a failure is about: for a person of the site, in a file that nobody else may read.

A file's name can be a patient's, so messages and logs call a file by an id or a number, and such a list says which file
that is.
"""

from __future__ import annotations

import csv
import os
import tempfile
from collections.abc import Iterable, Sequence
from pathlib import Path

from halsted_ray.errors import OutputError
from halsted_ray.storage.files import why_not_written


def write_private_list(path: Path, header: Sequence[str], rows: Iterable[Sequence[object]]) -> Path | None:
    """Writes ``rows`` as CSV to ``path`` with mode 0600, in the place of an earlier list; where there are no rows, the
    earlier list goes. Returns ``path``, None where there is no list. Raises OutputError."""
    listed = list(rows)
    try:
        if not listed:
            path.unlink(missing_ok=True)
            return None
        handle, written = tempfile.mkstemp(prefix=".part-", dir=path.parent)  # made with mode 0600
        try:
            # A name may hold bytes that are no text.
            with os.fdopen(handle, "w", encoding="utf-8", errors="surrogateescape", newline="") as file:
                csv.writer(file).writerows([header, *listed])
            os.replace(written, path)
        except BaseException:
            os.unlink(written)
            raise
    except OSError as error:
        raise OutputError(
            f"can't write {os.fspath(path)!r}: {why_not_written(os.fspath(path), error)}; make room, or name a place "
            "that can be written, and give the same command again"
        ) from error
    return path
