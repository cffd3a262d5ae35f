"""How a refusal is told to a client: a status, a text in English, and the stable name by which a page in another
language has a sentence of its own (``HalstedError.named``).

The sentences of the page stand in ``serve/web/src/words``; a test names the refusals that lack one.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from fastapi import HTTPException
from fastapi.responses import JSONResponse

from halsted_ray.errors import Named


class HttpRefusal(Named, HTTPException):
    """A refusal that belongs to a route or to the transport, with a stable name."""


def problem(status: int, detail: str, headers: Mapping[str, str] | None = None, **more: Any) -> JSONResponse:
    """The answer to an error: ``detail`` in words, and more JSON values by name."""
    return JSONResponse(
        {"status": status, "detail": detail, **more}, status, headers, media_type="application/problem+json"
    )


def name_of(error: Exception) -> dict[str, Any]:
    """``code``, the stable name of ``error``, and ``values``, what its sentence names; nothing where it has no name."""
    if not isinstance(error, Named) or not error.name:
        return {}
    return {"code": error.name, "values": dict(error.values)}
