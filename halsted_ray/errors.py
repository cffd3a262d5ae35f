"""Every error that this package raises on purpose.

    HalstedError
    ├── UsageError(ValueError)        something that a person gave is wrong: exit code 2
    │   ├── TaxonomyError             an unknown task, tag, category or instruction; an ill-formed taxonomy file
    │   ├── ModelError                a model or encoder that can't be found or does not fit
    │   ├── ArchiveError              an archive without videos, or an archive that can't be listed
    │   ├── AtlasError                an atlas that can't be read or breaks its schema
    │   ├── OutputError               a place that can't be written, or that holds something else
    │   ├── RegistryError             a model registry that can't be reached, or that lacks the version asked for
    │   ├── ResourceError             the cluster is too small for the work asked of it
    │   └── TrainingError             a recipe whose loss is not finite
    └── VideoError                    one video is bad; the work on all other videos goes on
        ├── UnreadableVideo           no container, no video stream, no codec, nothing decodes (permanent)
        ├── BeyondLimits              longer than this site or this run takes (permanent)
        ├── CorruptSegment            one span does not decode (permanent)
        ├── DecoderKilled             the decoding process hung or died (permanent at the second time)
        └── StorageUnavailable        the bytes can't be fetched now (worth another try)

A message says what failed, for which video (by its id, never by its file name), what was found, what was expected, and
what to do.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Self


class Named:
    """An error that programs tell from all others by ``name``, such as ``comment-length``; '' where it has none.

    ``values`` are what a sentence about it names, in any language. Both stay when the message is reworded.
    """

    name: str = ""
    values: Mapping[str, str | float] = MappingProxyType({})

    def named(self, name: str, **values: str | float) -> Self:
        """This error, with its name: ``raise UsageError("...").named("comment-length", most=2000)``."""
        self.name, self.values = name, values
        return self


class HalstedError(Named, Exception):
    """Base of all errors raised on purpose."""


class UsageError(HalstedError, ValueError):
    """Something that a person gave can't be used; the message says what to give instead."""


class TaxonomyError(UsageError):
    """An unknown task, tag, category or instruction, or an ill-formed taxonomy file."""


class ModelError(UsageError):
    """A model or encoder that can't be found, can't be read, or can't be combined with the other parts."""


class ArchiveError(UsageError):
    """An archive that can't be listed or holds no video."""


class AtlasError(UsageError):
    """An atlas that can't be read or breaks its schema, or annotations that break their format.

    ``code`` is the reason as the counts of an import show it.
    """

    def __init__(self, message: str, code: str = "malformed"):
        super().__init__(message)
        self.code = code


class OutputError(UsageError):
    """A place that can't be written or already holds something else."""


class RegistryError(UsageError):
    """The model registry can't be reached, lacks the version, or was changed by somebody else in the meantime."""


class ResourceError(UsageError):
    """The cluster is too small for the work asked of it; waiting would not help."""


class TrainingError(UsageError):
    """A recipe that does not train: its loss is not finite."""


class VideoError(HalstedError):
    """One video, or a span of it, can't be used.

    ``code`` is the reason as tables and counts show it. ``permanent`` is false where another try may succeed.
    """

    code = "video-error"
    permanent = True


class UnreadableVideo(VideoError):
    """Not a video, no video stream, no decoder for its codec, or nothing in it decodes."""

    code = "unreadable"


class BeyondLimits(VideoError):
    """A video is longer, or has more frames, than is taken."""

    code = "too-long"


class CorruptSegment(VideoError):
    """One span of a video does not decode.

    ``start_s`` and ``stop_s`` say where the damage lies, in seconds from the first displayed frame; None where that
    edge of the damage is not known (for ``stop_s``: it may reach to the end). ``code`` is another one than ``corrupt``
    where the span has no picture for another reason.
    """

    code = "corrupt"

    def __init__(
        self, message: str, start_s: float | None = None, stop_s: float | None = None, *, code: str = "corrupt"
    ):
        super().__init__(message)
        self.start_s = start_s
        self.stop_s = stop_s
        self.code = code


class DecoderKilled(VideoError):
    """The decoding process ran past its deadline (code ``decoder-hung``) or died (code ``decoder-died``)."""

    code = "decoder-died"

    def __init__(self, message: str, *, hung: bool = False):
        super().__init__(message)
        self.code = "decoder-hung" if hung else "decoder-died"


class StorageUnavailable(VideoError):
    """The bytes can't be fetched now. The video is not at fault, so another try may succeed."""

    code = "storage"
    permanent = False


def first_line(error: BaseException) -> str:
    """The first line of what ``error`` says, or its type's name where it says nothing."""
    lines = str(error).splitlines()
    return lines[0] if lines else type(error).__name__
