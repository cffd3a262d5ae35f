"""How to wait for a store that is away, and how to tell an outage from a refusal."""

from __future__ import annotations

import errno
import time
from collections.abc import Callable
from typing import Literal, TypeVar

from halsted_ray.errors import StorageUnavailable, UnreadableVideo

Answer = TypeVar("Answer")

REFUSALS = ("NoCredentialsError", "PartialCredentialsError", "ParamValidationError", "ProfileNotFound")
"""Errors of botocore that no wait helps against; by name, since botocore need not be installed."""

PATIENCE_S = 60.0
"""How long a read is tried again before the video is put off. A store that restarts is back within this time."""

FIRST_PAUSE_S, LONGEST_PAUSE_S = 0.25, 5.0
"""The pause between two tries doubles from the first to the longest."""


def with_retries(
    ask: Callable[[], Answer], what: str, patience_s: float, to: Literal["read", "write to"] = "read"
) -> Answer:
    """Calls ``ask()``, again with growing pauses where it fails, until ``patience_s`` are over.

    ``what`` names the data in messages, and ``to`` says what is done with them. Raises StorageUnavailable when the time
    is over, and at once where the right to read or write is missing, or where there is no bucket to write to;
    UnreadableVideo where there is no such file to read.
    """
    started_s = time.monotonic()
    pause_s = FIRST_PAUSE_S
    while True:
        try:
            return ask()
        except (FileNotFoundError, IsADirectoryError) as error:
            if to == "write to":
                raise StorageUnavailable(
                    f"could not find {what}: {type(error).__name__}; make the bucket first, or name another place"
                ) from None
            raise UnreadableVideo(
                f"expected a file, got {type(error).__name__}: it was moved or deleted after the archive was listed, "
                "or is a link to a file that is not there; bring it back, or remove the link, and run again"
            ) from None  # the cause carries the file's name, which may be a patient's name
        except (TypeError, AttributeError, NameError, KeyError):
            raise  # a bug, in this package or in the file system's; no wait helps
        except Exception as error:
            if _names_no_file(error):
                raise UnreadableVideo("expected a file, got a name that no file can have; check the name") from None
            if _is_archived(error):
                raise StorageUnavailable(
                    f"was refused {what}: the store keeps it in an archive class such as Glacier, from which nothing "
                    "is read; restore it first, then run again"
                ) from None
            waited_s = time.monotonic() - started_s
            if isinstance(error, PermissionError) or type(error).__name__ in REFUSALS:
                raise StorageUnavailable(
                    f"was refused {what}: {type(error).__name__}; give this account the right to {to} it, or check "
                    "the credentials, then run again"
                ) from None
            if waited_s + pause_s > patience_s:
                raise StorageUnavailable(
                    f"could not {'fetch' if to == 'read' else 'reach'} {what} within {waited_s:.0f} s: "
                    f"{type(error).__name__}; check the store and the network, then run again"
                ) from None
            time.sleep(pause_s)
            pause_s = min(pause_s * 2, LONGEST_PAUSE_S)


def _names_no_file(error: Exception) -> bool:
    """Whether there can be no file of this name: it is too long, goes through a file or a circle of links, or holds a
    zero byte."""
    if isinstance(error, OSError):
        return error.errno in (errno.ENAMETOOLONG, errno.ENOTDIR, errno.ELOOP)
    return type(error) is ValueError and "null" in str(error)


def _is_archived(error: Exception) -> bool:
    """Whether S3 refused to read an object because it must be restored first. A listing does not tell that: an object
    in Glacier may be restored, and one in an archive tier of Intelligent-Tiering shows no other class."""
    answer = getattr(error.__cause__ or error, "response", None)
    return isinstance(answer, dict) and answer.get("Error", {}).get("Code") == "InvalidObjectState"
