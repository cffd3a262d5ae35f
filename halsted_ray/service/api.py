"""The API as one ASGI application over the service's components. It runs in a test as well as on Ray Serve.

Errors are answered as ``application/problem+json`` (RFC 9457).
"""

from __future__ import annotations

import asyncio
import logging
from typing import Any

from fastapi import FastAPI, HTTPException, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from pydantic import ValidationError
from sqlalchemy.exc import DBAPIError, InterfaceError, OperationalError
from sqlalchemy.exc import TimeoutError as NoConnection
from starlette.exceptions import HTTPException as StarletteHTTPException
from starlette.requests import ClientDisconnect

from halsted_ray import __version__
from halsted_ray.errors import ModelError, OutputError, RegistryError, TaxonomyError, UsageError, VideoError
from halsted_ray.service.addresses import HostMiddleware
from halsted_ray.service.annotation_schemas import show_spans
from halsted_ray.service.annotations import SpanChanged
from halsted_ray.service.clip_tagging import UnknownWords
from halsted_ray.service.comments import NotYours
from halsted_ray.service.components import Overloaded, ServiceComponents
from halsted_ray.service.errors import Forbidden, NotFound, StateConflict
from halsted_ray.service.job_following import JobFollowing
from halsted_ray.service.middleware import RequestMiddleware
from halsted_ray.service.moment_cache import MomentCache
from halsted_ray.service.object_store import StoreFull, UploadEnded
from halsted_ray.service.places import FairPlaces
from halsted_ray.service.prepared_timelines import PreparedTimelines
from halsted_ray.service.rate_limit import RateLimiter
from halsted_ray.service.refusals import name_of, problem
from halsted_ray.service.routes import include_routes
from halsted_ray.service.storage_room import QuotaExceeded

DESCRIPTION = """Temporal maps of surgical video. **Research software, not a medical device**: not for diagnosis and not
for judging a person. The model makes mistakes; every answer says how sure the model is and which version answered."""

log = logging.getLogger(__name__)
PARTS_AT_ONCE, RANGES_AT_ONCE = 8, 8
"""So many parts of uploads are written at once, so many ranges of videos are read at once by one replica. Parts and
players do not wait for each other."""
POSTERS_AT_ONCE, SAMPLES_AT_ONCE = 4, 1
"""So many posters are read, or made of a video, at once by one replica, and so many sample cases are drawn: one takes
3 s of a CPU."""
BODIES, BODIES_OF_TENANT, BODIES_WAITING = 32, 12, 64
"""Parts whose bodies come to one replica at once: at most 160 MiB of memory, at most 60 MiB of one tenant. So many more
of one tenant wait with their bodies unread."""
STUDIES, STUDIES_OF_TENANT = 8, 4
"""Requests with DICOM instances that come to one replica at once: each has up to 10 MiB in memory, and a file on the
disk. At the front they use the places of parts."""
STREAMS, STREAMS_OF_TENANT, STREAMS_OF_KEY = 100, 40, 10
"""Event streams that one replica keeps open."""
POLLS, POLLS_OF_TENANT = 40, 20
"""Polls of the SDK that one replica holds open; what finds no place is answered at once. The front lets 100 requests of
this kind through to one replica, those of the page among them."""
LAYERS, LAYERS_OF_PERSON, LAYERS_WAITING = 4, 1, 300
"""Requests of one replica that read or change what people say about a case at once, and of one person: one takes up to
a second of a CPU where people have said as much as a case may hold. A page asks for up to 100 files of a case."""
SEARCHES, SEARCHES_OF_TENANT, SEARCHES_WAITING = 2, 1, 8
"""Searches of moments of one replica at once: each compares all vectors of up to 200 cases."""
CLIPS, CLIPS_OF_TENANT, CLIPS_WAITING = 64, 48, 64
"""Clips of one replica that the tagger has at once, and clips of one tenant that wait for that."""
CUTS, CUTS_OF_TENANT, CUTS_WAITING = 2, 1, 4
"""So many clips are cut at a time by one replica, each by a process of its own that may take 1 GiB; of one tenant, and
so many requests of one tenant wait for that."""
CUTS_ASKED, CUTS_OF_PERSON, CUTS_OF_PERSON_WAITING = 1000, 1, 3
"""Requests for clips that stand in line at one replica; of one person or link, and so many more that wait for the end
of that one. So whoever asks for many clips takes one place of the tenant's, and colleagues find the others."""
STATUS = (
    (NotFound, 404),
    (Forbidden, 403),
    (NotYours, 403),
    (StateConflict, 409),
    (StoreFull, 507),
    (QuotaExceeded, 413),
    (UploadEnded, 409),
    (OutputError, 503),
    (ModelError, 503),
    (RegistryError, 503),
    (TaxonomyError, 422),
    (UsageError, 422),
    (VideoError, 503),
)
"""Error → HTTP status; the first class that fits."""
INVALID = "request-invalid"
"""The name of the refusal of a request that its schema does not fit."""


def create_api(components: ServiceComponents) -> FastAPI:
    """The application: its state, its middleware, its routes and its answers to errors."""
    # A path with one slash too many is not there: Starlette's redirect would name the host that the client sent.
    app = FastAPI(
        title="Halsted on Ray",
        version=__version__,
        description=DESCRIPTION,
        docs_url=None,
        redoc_url=None,
        redirect_slashes=False,
    )
    app.state.components = components
    app.state.rate_limiter = RateLimiter(components.settings.requests_per_minute, components.replicas)
    state = app.state
    state.part_slots, state.range_slots = asyncio.Semaphore(PARTS_AT_ONCE), asyncio.Semaphore(RANGES_AT_ONCE)
    state.poster_slots, state.sample_slots = asyncio.Semaphore(POSTERS_AT_ONCE), asyncio.Semaphore(SAMPLES_AT_ONCE)
    state.bodies = FairPlaces("parts of uploads", BODIES, BODIES_OF_TENANT, BODIES_WAITING)
    state.studies = FairPlaces("DICOM studies", STUDIES, STUDIES_OF_TENANT)
    state.streams_of_tenant = FairPlaces("event streams of the tenant", STREAMS, STREAMS_OF_TENANT)
    state.streams_of_key = FairPlaces("event streams of the key", STREAMS, STREAMS_OF_KEY)
    state.polls = FairPlaces("polls of the tenant", POLLS, POLLS_OF_TENANT)
    state.clips = FairPlaces("clips of the tenant", CLIPS, CLIPS_OF_TENANT, CLIPS_WAITING)
    state.cuts_of_person = FairPlaces("clips to cut", CUTS_ASKED, CUTS_OF_PERSON, CUTS_OF_PERSON_WAITING)
    state.cuts = FairPlaces("clips to cut", CUTS, CUTS_OF_TENANT, CUTS_WAITING)
    state.timelines = PreparedTimelines(components.videos, lambda: components.model_source().taxonomy)
    state.layers = FairPlaces("annotations", LAYERS, LAYERS_OF_PERSON, LAYERS_WAITING)
    state.searches = FairPlaces("searches of moments", SEARCHES, SEARCHES_OF_TENANT, SEARCHES_WAITING)
    state.moments = MomentCache()
    state.job_following = JobFollowing(components.jobs)
    app.add_middleware(HostMiddleware, settings=components.settings)
    app.add_middleware(RequestMiddleware, components=components)
    include_routes(app)
    _handle_errors(app)
    return app


def describe() -> dict[str, Any]:
    """The OpenAPI description of all routes, without a service: the types of the page are made from it."""
    app = FastAPI(title="Halsted on Ray", version=__version__)
    include_routes(app)
    return app.openapi()


def _handle_errors(app: FastAPI) -> None:
    @app.exception_handler(UnknownWords)
    def unknown_words(_request: Request, error: UnknownWords) -> JSONResponse:
        return problem(422, str(error), words=error.words, nearest=error.nearest)

    @app.exception_handler(SpanChanged)
    def span_changed(_request: Request, error: SpanChanged) -> JSONResponse:
        spans = [span.model_dump() for span in show_spans(error.spans, error.authors)]
        return problem(409, str(error), spans=spans, **name_of(error))

    @app.exception_handler(UsageError)
    @app.exception_handler(VideoError)
    def refused(_request: Request, error: Exception) -> JSONResponse:
        status = next(status for kind, status in STATUS if isinstance(error, kind))
        return problem(status, str(error), {"Retry-After": "5"} if status == 503 else None, **name_of(error))

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

    @app.exception_handler(NoConnection)
    def no_connection(_request: Request, _error: NoConnection) -> JSONResponse:
        log.error("no connection to the database came free; see HALSTED_DATABASE_CONNECTIONS")
        return problem(503, "the database is busy; send the same request again", {"Retry-After": "2"})

    @app.exception_handler(StarletteHTTPException)
    def http(_request: Request, error: HTTPException) -> JSONResponse:
        return problem(error.status_code, str(error.detail), error.headers, **name_of(error))

    @app.exception_handler(RequestValidationError)
    @app.exception_handler(ValidationError)
    def invalid(request: Request, error: RequestValidationError | ValidationError) -> JSONResponse:
        # The answer does not repeat what was sent: it can hold a name.
        wrong = [{"where": [str(part) for part in entry["loc"]], "what": entry["msg"]} for entry in error.errors()]
        if [one["where"] for one in wrong] == [["body"]] and not _says_json(request):
            return problem(422, "the body was not read: send JSON, with the header Content-Type: application/json")
        return problem(422, "the request is not as described in /docs", errors=wrong, code=INVALID, values={})


def _says_json(request: Request) -> bool:
    """Whether the request says that its body is JSON. ``curl -d`` says that it is a form."""
    media = request.headers.get("content-type", "").split(";")[0].strip().lower()
    return media == "application/json" or media.endswith("+json")
