"""The API as one ASGI application over a ``Service``; where it runs is not its concern."""

from __future__ import annotations

import asyncio
import logging

from fastapi import FastAPI, HTTPException, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.responses import HTMLResponse, JSONResponse
from pydantic import ValidationError
from sqlalchemy import func, select, text
from sqlalchemy.exc import DBAPIError, InterfaceError, OperationalError
from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException as StarletteHTTPException
from starlette.requests import ClientDisconnect

from halsted_ray import __version__
from halsted_ray.errors import ModelError, OutputError, RegistryError, TaxonomyError, UsageError, VideoError
from halsted_ray.service import api_docs, page, routes, sdk
from halsted_ray.service.clip_tagging import UnknownWords
from halsted_ray.service.components import Busy, ServiceComponents
from halsted_ray.service.database import Job
from halsted_ray.service.middleware import RateLimiter, RequestMiddleware, base_of
from halsted_ray.service.object_store import StoreFull, UploadEnded
from halsted_ray.service.uploads import NotThere, WrongState

DESCRIPTION = """Temporal maps of surgical video. **Research software, not a medical device**: not for diagnosis, not
for judging a person; the model errs, and every answer says how sure it is and which version it came from."""

log = logging.getLogger(__name__)
READY_S = 5.0
STATUS = (
    (NotThere, 404),
    (WrongState, 409),
    (StoreFull, 507),
    (UploadEnded, 409),
    (OutputError, 503),
    (ModelError, 503),
    (RegistryError, 503),
    (TaxonomyError, 422),
    (UsageError, 422),
    (VideoError, 503),
)
"""Error → HTTP status; the first that fits."""


def create_api(service: ServiceComponents) -> FastAPI:
    """Errors are ``application/problem+json`` (RFC 9457)."""
    app = FastAPI(title="Halsted on Ray", version=__version__, description=DESCRIPTION, docs_url=None, redoc_url=None)
    app.state.service = service
    app.state.buckets = RateLimiter(service.settings.requests_a_minute, service.replicas)
    app.state.parts = asyncio.Semaphore(routes.PARTS_AT_ONCE)
    app.add_middleware(RequestMiddleware, service=service)
    app.include_router(routes.router)
    app.include_router(sdk.router)
    app.include_router(page.router)
    page.add_files(app)

    @app.get("/docs", include_in_schema=False)
    def documentation(request: Request) -> HTMLResponse:
        return HTMLResponse(
            api_docs.page(app.openapi(), base_of(request)), headers={"content-security-policy": api_docs.POLICY}
        )

    @app.get("/healthz", tags=["site"])
    def healthz() -> dict:
        """The process answers."""
        return {"status": "ok"}

    @app.get("/readyz", tags=["site"])
    async def readyz() -> dict:
        """Database, store and a model that answers are at hand; 503 with the first that is not."""
        await run_in_threadpool(_check, service)
        if service.serving is None:
            raise OutputError("no model answers clips here")
        try:
            return {"status": "ready", "model": await asyncio.wait_for(service.serving(), READY_S)}
        except TimeoutError:
            raise OutputError(f"no model answered within {READY_S:g} s") from None

    @app.get("/metrics", tags=["site"], response_class=Response)
    def metrics() -> Response:
        """For Prometheus."""
        with service.database.reading() as session:
            mapped_s = session.scalar(select(func.coalesce(func.sum(Job.done_s), 0.0)))
        return Response(service.metrics.text(service.jobs.counts(), float(mapped_s)), media_type="text/plain")

    _handle_errors(app)
    return app


def _check(service: ServiceComponents) -> None:
    try:
        with service.database.reading() as session:
            session.execute(text("SELECT 1"))
    except DBAPIError:
        raise OutputError("the database does not answer") from None
    service.store.check()


def problem(status: int, detail: str, headers: dict | None = None, **more) -> JSONResponse:
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

    @app.exception_handler(Busy)
    def busy(_request: Request, _error: Busy) -> JSONResponse:
        return problem(503, "the queue is full; send the same request again", {"Retry-After": "1"})

    @app.exception_handler(ClientDisconnect)
    def gone(_request: Request, _error: ClientDisconnect) -> JSONResponse:
        return problem(400, "the client went away before its request was whole")

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
        # What was sent is not repeated: it can hold a name.
        wrong = [{"where": [str(part) for part in entry["loc"]], "what": entry["msg"]} for entry in error.errors()]
        return problem(422, "the request is not as described in /docs", errors=wrong)
