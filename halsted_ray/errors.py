"""Every error this package raises on purpose.

    HalstedError
    ├── UsageError(ValueError)        what a person gave is wrong: exit code 2
    │   ├── TaxonomyError             an unknown task, tag, category or instruction; an ill-formed taxonomy file
    │   ├── ModelError                a model or encoder that can't be found or does not fit
    │   ├── ArchiveError              an archive without videos, or one that can't be listed
    │   ├── AtlasError                an atlas that can't be read or breaks its schema
    │   ├── OutputError               a place that can't be written, or holds something else
    │   ├── RegistryError             a model registry that can't be reached, or has no such version
    │   ├── ResourceError             the cluster is too small for the work asked of it
    │   └── TrainingError             a recipe whose loss is not finite
    └── VideoError                    one video is bad; the others go on
        ├── UnreadableVideo           no container, no video stream, no codec, nothing decodes (permanent)
        ├── CorruptSegment            one span does not decode (permanent)
        ├── DecoderKilled             the decoding process hung or died (permanent at the second time)
        └── StorageUnavailable        the bytes can't be fetched now (worth another try)

A message says what, which one, what was got, what was expected, and what to do.
"""


class HalstedError(Exception):
    """Base of all errors raised on purpose."""


class UsageError(HalstedError, ValueError):
    """What a person gave can't be used; the message says what to give instead."""


class TaxonomyError(UsageError):
    """An unknown task, tag, category or instruction, or an ill-formed taxonomy file."""


class ModelError(UsageError):
    """A model or encoder that can't be found, read, or combined with the rest."""


class ArchiveError(UsageError):
    """An archive that can't be listed or holds no video."""


class AtlasError(UsageError):
    """An atlas that can't be read or breaks its schema."""


class OutputError(UsageError):
    """A place that can't be written or already holds something else."""


class RegistryError(UsageError):
    """The model registry can't be reached, has no such version, or was changed by somebody else meanwhile."""


class ResourceError(UsageError):
    """The cluster is too small for what is asked; waiting would not help."""


class TrainingError(UsageError):
    """A recipe that does not train: its loss is not finite."""


class VideoError(HalstedError):
    """One video, or a span of it, can't be used. ``code`` is what tables and counts show."""

    code = "video-error"
    permanent = True


class UnreadableVideo(VideoError):
    """Not a video, no video stream, no decoder for its codec, or nothing in it decodes."""

    code = "unreadable"


class CorruptSegment(VideoError):
    """One span of a video does not decode."""

    code = "corrupt"


class DecoderKilled(VideoError):
    """The decoding process ran past its deadline or died; ``code`` says which."""

    code = "decoder-died"

    def __init__(self, message: str, *, hung: bool = False):
        super().__init__(message)
        self.code = "decoder-hung" if hung else "decoder-died"


class StorageUnavailable(VideoError):
    """The bytes can't be fetched now. Not the video's fault, so worth another try."""

    code = "storage"
    permanent = False
