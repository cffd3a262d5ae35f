"""Why a job failed, beside the text in English: a stable code and what a sentence about it names, so that a page in
another language has a sentence of its own.

The sentences of the page stand in ``serve/web/src/words``; a test names the causes that lack one. Jobs that failed
before the service kept causes have their text alone.
"""

from __future__ import annotations

from typing import Any, TypeAlias

from halsted_ray.errors import HalstedError, ModelError, OutputError, StorageUnavailable, VideoError

Cause: TypeAlias = dict[str, Any]
"""``{"code": one of CAUSES, "values": {name: text or number}}``, as a column of the database keeps it."""
CAUSES: dict[str, tuple[str, ...]] = {
    "unreadable": (),
    "too-long": (),
    "corrupt": (),
    "decoder-hung": (),
    "decoder-died": (),
    "file-unusable": (),
    "job-memory": ("most_mb",),
    "quota": ("left_bytes",),
    "worker-lost": ("attempts",),
    "cleaning-stopped": (),
    "video-not-cleaned": (),
    "store-failed": (),
    "model-unusable": (),
    "service-error": (),
}
"""Code → the values that come with it. The first five are those of ``errors.VideoError``; ``file-unusable`` stands for
all its others."""


def cause(code: str, **values: str | float) -> Cause:
    """The cause ``code`` with its values."""
    assert set(values) == set(CAUSES[code]), (code, values)
    return {"code": code, "values": values}


def cause_of(error: HalstedError) -> Cause:
    """The cause that ``error`` is. What a user can't change is ``service-error``: the log of the service has it."""
    if error.name in CAUSES and set(error.values) == set(CAUSES[error.name]):
        return cause(error.name, **error.values)
    if isinstance(error, (OutputError, StorageUnavailable)):
        return cause("store-failed")
    if isinstance(error, VideoError):
        return cause_of_code(error.code)
    return cause("model-unusable" if isinstance(error, ModelError) else "service-error")


def cause_of_code(code: str) -> Cause:
    """The cause that a video can't be used for a ``code`` of ``errors.VideoError``, or of a gap of a map."""
    return cause(code if code in CAUSES and not CAUSES[code] else "file-unusable")
