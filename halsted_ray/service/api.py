"""The API as one ASGI application over the service's components. It runs in a test as well as on Ray Serve.

Errors are answered as ``application/problem+json`` (RFC 9457).
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Mapping
from typing import Any

from fastapi import FastAPI, HTTPException, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from pydantic import ValidationError
from sqlalchemy.exc import DBAPIError, InterfaceError, OperationalError
from starlette.exceptions import HTTPException as StarletteHTTPException
from starlette.requests import ClientDisconnect

from halsted_ray import __version__
from halsted_ray.errors import ModelError, OutputError, RegistryError, TaxonomyError, UsageError, VideoError
from halsted_ray.service.clip_tagging import UnknownWords
from halsted_ray.service.components import Overloaded, ServiceComponents
from halsted_ray.service.middleware import RequestMiddleware
from halsted_ray.service.object_store import StoreFull, UploadEnded
from halsted_ray.service.rate_limit import RateLimiter
from halsted_ray.service.routes import include_routes
from halsted_ray.service.uploads import NotFound, StateConflict

DESCRIPTION = """Temporal maps of surgical video. **Research software, not a medical device**: not for diagnosis and not
for judging a person. The model makes mistakes; every answer says how sure the model is and which version answered."""

log = logging.getLogger(__name__)
BODIES_AT_ONCE = 8
"""So many parts and ranges of videos are in the memory of one replica at once: 40 MiB. Other requests wait."""
STATUS = (
    (NotFound, 404),
    (StateConflict, 409),
    (StoreFull, 507),
    (UploadEnded, 409),
    (OutputError, 503),
    (ModelError, 503),
    (RegistryError, 503),
    (TaxonomyError, 422),
    (UsageError, 422),
    (VideoError, 503),
)
"""Error → HTTP status; the first class that fits."""


def create_api(components: ServiceComponents) -> FastAPI:
    """The application: its state, its middleware, its routes and its answers to errors."""
    app = FastAPI(title="Halsted on Ray", version=__version__, description=DESCRIPTION, docs_url=None, redoc_url=None)
    app.state.components = components
    app.state.rate_limiter = RateLimiter(components.settings.requests_per_minute, components.replicas)
    app.state.body_slots = asyncio.Semaphore(BODIES_AT_ONCE)
    app.add_middleware(RequestMiddleware, components=components)
    include_routes(app)
    _handle_errors(app)
    return app


def problem(status: int, detail: str, headers: Mapping[str, str] | None = None, **more: Any) -> JSONResponse:
    """The answer to an error: ``detail`` in words, and more JSON values by name."""
    return JSONResponse(
        {"status": status, "detail": detail, **more}, status, headers, media_type="application/problem+json"
    )


def _handle_errors(app: FastAPI) -> None:
    @app.exception_handler(UnknownWords)
    def unknown_words(_request: Request, error: UnknownWords) -> JSONResponse:
        return problem(422, str(error), words=error.words, nearest=error.nearest)

    @app.exception_handler(UsageError)
    @app.exception_handler(VideoError)
    def refused(_request: Request, error: Exception) -> JSONResponse:
        status = next(status for kind, status in STATUS if isinstance(error, kind))
        return problem(status, str(error), {"Retry-After": "5"} if status == 503 else None)

    @app.exception_handler(Overloaded)
    def overloaded(_request: Request, _error: Overloaded) -> JSONResponse:
        return problem(503, "the queue is full; send the same request again", {"Retry-After": "1"})

    @app.exception_handler(ClientDisconnect)
    def disconnected(_request: Request, _error: ClientDisconnect) -> JSONResponse:
        return problem(400, "the client ended the connection before the whole request had come")

    @app.exception_handler(OperationalError)
    @app.exception_handler(InterfaceError)
    def no_database(_request: Request, error: DBAPIError) -> JSONResponse:
        log.error("the database does not answer: %s", type(error.orig).__name__)
        return problem(503, "the database does not answer; send the same request again", {"Retry-After": "5"})

    @app.exception_handler(StarletteHTTPException)
    def http(_request: Request, error: HTTPException) -> JSONResponse:
        return problem(error.status_code, str(error.detail), error.headers)

    @app.exception_handler(RequestValidationError)
    @app.exception_handler(ValidationError)
    def invalid(_request: Request, error: RequestValidationError | ValidationError) -> JSONResponse:
        # The answer does not repeat what was sent: it can hold a name.
        wrong = [{"where": [str(part) for part in entry["loc"]], "what": entry["msg"]} for entry in error.errors()]
        return problem(422, "the request is not as described in /docs", errors=wrong)
