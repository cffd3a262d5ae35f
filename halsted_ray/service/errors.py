"""The refusals that most parts of the service share. ``api.py`` gives each its HTTP status."""

from __future__ import annotations

from halsted_ray.errors import UsageError


class NotFound(UsageError):
    """This tenant has no such upload, video or job, or the caller may not know of it."""


class Forbidden(UsageError):
    """The caller knows that the case is there, and may not do this with it."""


class StateConflict(UsageError):
    """The state of what is asked about does not allow the request."""


class Rejected(UsageError):
    """What was sent is not what was announced, or it is no video."""
