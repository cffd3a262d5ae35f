"""One way to wait for a store that is away, and to tell an outage from a refusal."""

from __future__ import annotations

import time
from collections.abc import Callable

from halsted_ray.errors import StorageUnavailable, UnreadableVideo

REFUSALS = ("NoCredentialsError", "PartialCredentialsError", "ParamValidationError", "ProfileNotFound")
"""Of botocore, by name since it need not be installed: no wait helps."""


PATIENCE_S = 60.0
"""How long a read is tried again before the video is put off: a store that restarts is back within it."""


def with_retries(read: Callable, what: str, patience_s: float):
    """``read()``, tried again with growing pauses until ``patience_s`` are over. Raises StorageUnavailable then, and
    at once where the right to read is missing; UnreadableVideo where there is no such file."""
    started_s = time.monotonic()
    pause_s = 0.25
    while True:
        try:
            return read()
        except (FileNotFoundError, IsADirectoryError) as error:
            raise UnreadableVideo(
                f"expected a file, got {type(error).__name__}: it was moved or deleted after the archive was listed, "
                "or is a link to a file that is not there; bring it back, or remove the link, and run again"
            ) from None  # the cause carries the file's name, which may be a patient's
        except (TypeError, AttributeError, NameError, KeyError):
            raise  # a bug, here or in the file system's package; it would not pass by waiting
        except Exception as error:
            waited_s = time.monotonic() - started_s
            if isinstance(error, PermissionError) or type(error).__name__ in REFUSALS:
                raise StorageUnavailable(
                    f"was refused {what}: {type(error).__name__}; give this account the right to read it, or check "
                    "the credentials, then run again"
                ) from None
            if waited_s + pause_s > patience_s:
                raise StorageUnavailable(
                    f"could not fetch {what} within {waited_s:.0f} s: {type(error).__name__}; check the store and the "
                    "network, then run again"
                ) from None
            time.sleep(pause_s)
            pause_s = min(pause_s * 2, 5.0)
