"""What no database of ours is given: texts with a zero byte, and texts with half of a character.

PostgreSQL keeps neither. Its driver refuses half of a character in the middle of a message, so that the next request
that gets this connection fails too. SQLite keeps the first and refuses the second. JSON holds both as escapes, and is
not looked at.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from halsted_ray.errors import UsageError


def check_texts(_connection: Any, _cursor: Any, statement: str, parameters: Any, _context: Any, is_many: bool) -> None:
    """A listener of SQLAlchemy's event ``before_cursor_execute``. Raises UsageError for such a text among the
    parameters. The message does not repeat the text."""
    for values in parameters if is_many else (parameters,):
        for value in _values(values):
            if isinstance(value, str) and not _is_kept(value):
                raise UsageError(
                    "expected text, got a zero byte or half of a character in it, which no database keeps; leave it out"
                ).named("text-unreadable")


def _values(parameters: Any) -> Iterable[Any]:
    return parameters.values() if isinstance(parameters, Mapping) else parameters or ()


def _is_kept(text: str) -> bool:
    if "\0" in text:
        return False
    if text.isascii():
        return True
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True
