"""ASGI middleware around the whole application: bounds and least rate of bodies, the client's address, headers of
answers, one log line per request."""

from __future__ import annotations

import asyncio
import hmac
import json
import logging
import re
import time
import traceback
import uuid
from pathlib import Path

from fastapi import HTTPException
from fastapi.responses import JSONResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from halsted_ray.service.components import ServiceComponents
from halsted_ray.service.front import SECRET_HEADER
from halsted_ray.service.object_store import PART_BYTES
from halsted_ray.service.refusals import HttpRefusal
from halsted_ray.service.users import Caller

log = logging.getLogger("halsted_ray.service.requests")

HEADERS = {
    "x-content-type-options": "nosniff",
    "x-frame-options": "DENY",
    "referrer-policy": "no-referrer",
    "cache-control": "no-store",
    "cross-origin-resource-policy": "same-origin",
    "content-security-policy": "default-src 'none'; frame-ancestors 'none'",
}
"""The headers of every answer that does not set them itself."""
METHODS = {"GET", "HEAD", "POST", "PUT", "DELETE", "OPTIONS", "PATCH"}
GRACE_S, LEAST_RATE, SILENCE_S = 10.0, 4096, 30.0
"""After ``GRACE_S`` seconds of waiting for a body it must have come with ``LEAST_RATE`` bytes per second, and never be
silent for ``SILENCE_S``. A part of 5 MiB may take 21 minutes. The front holds small bodies back until they are whole:
this is for large bodies, and for a site without a front."""
FORWARDED = {b"x-forwarded-for", b"x-forwarded-proto", SECRET_HEADER.encode()}
_ID = re.compile(r"[0-9a-f]{1,64}")
FRAMES_SHOWN = 8
"""Of the places in the code where a fault arose, the innermost first."""


class RequestMiddleware:
    """Refuses bodies that are too large, sets headers, writes one log line and counts one request each."""

    def __init__(self, app: ASGIApp, components: ServiceComponents) -> None:
        self.app, self.components = app, components

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handles one connection as ASGI describes it."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        self._learn_client(scope)
        request_id, started_s, status = uuid.uuid4().hex[:16], time.perf_counter(), 0
        limit = self._body_limit(scope["path"])
        received, waited_s, is_whole = 0, 0.0, False

        async def receive_bounded() -> Message:
            nonlocal received, waited_s, is_whole
            if is_whole:  # what follows is the end of the connection, which may be far
                return await receive()
            began_s = time.perf_counter()
            try:
                async with asyncio.timeout(SILENCE_S):
                    message = await receive()
            except TimeoutError:
                raise too_slow() from None
            waited_s += time.perf_counter() - began_s
            is_whole = not message.get("more_body", False)
            received += len(message.get("body", b""))
            if not is_whole and waited_s > GRACE_S and received < LEAST_RATE * waited_s:
                raise too_slow()
            if received > limit:
                raise HttpRefusal(413, f"the body of this request may have at most {limit} bytes").named(
                    "body-large", most=limit
                )
            return message

        async def send_with_headers(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                present = {name for name, _ in message["headers"]}
                extra = {**HEADERS, "x-halsted-request": request_id}  # Serve sets an x-request-id of its own
                if (self.components.settings.public_url or "").startswith("https:"):
                    extra["strict-transport-security"] = "max-age=31536000"
                message["headers"] = [
                    *message["headers"],
                    *((name.encode(), value.encode()) for name, value in extra.items() if name.encode() not in present),
                ]
                self._count(scope, status, time.perf_counter() - started_s)
            await send(message)

        try:
            await self.app(scope, receive_bounded, send_with_headers)
        except Exception as error:  # ours: everything else has become an answer by now
            _log_fault(request_id, error)
            if status:  # half of an answer is on its way: only the end of the connection can say that it is not whole
                raise
            await _fault(request_id)(scope, receive, send_with_headers)
        finally:
            self._log(scope, request_id, status, received, time.perf_counter() - started_s)

    def _learn_client(self, scope: Scope) -> None:
        """Puts the address that the front names into the scope, and takes the headers out that anybody can send."""
        secret = self.components.settings.front_secret
        named = {name: value for name, value in scope["headers"] if name in FORWARDED}
        sent = named.get(SECRET_HEADER.encode(), b"")
        if secret and hmac.compare_digest(sent, secret.encode()):
            if b"x-forwarded-for" in named:
                scope["client"] = (named[b"x-forwarded-for"].decode("latin-1"), 0)
            if named.get(b"x-forwarded-proto") in (b"http", b"https"):
                scope["scheme"] = named[b"x-forwarded-proto"].decode()
        scope["headers"] = [(name, value) for name, value in scope["headers"] if name not in FORWARDED]

    def _body_limit(self, path: str) -> int:
        if "/parts/" in path:
            return PART_BYTES
        settings = self.components.settings
        if path.startswith("/dicomweb/studies"):
            return settings.study_bytes
        return settings.clip_bytes if path.endswith("clips:map") else settings.json_bytes

    def _count(self, scope: Scope, status: int, seconds: float) -> None:
        route = _route(scope)
        method = scope["method"] if scope["method"] in METHODS else "other"  # a client can make up any method
        self.components.metrics.requests.labels(method, route, status).inc()
        self.components.metrics.request_s.labels(route).observe(seconds)

    def _log(self, scope: Scope, request_id: str, status: int, received: int, seconds: float) -> None:
        """The line holds the route's pattern, not the path and no query: a client can have put a name there."""
        caller: Caller | None = scope.get("state", {}).get("caller")
        line = {
            "request": request_id,
            "method": scope["method"],
            "route": _route(scope),
            "status": status,
            "bytes": received,
            "ms": round(seconds * 1000, 1),
        }
        if caller:
            line |= {"tenant": caller.tenant_id, "key": caller.key_id}
            line |= {
                name: value
                for name, value in scope.get("path_params", {}).items()
                if name.endswith("_id") and _ID.fullmatch(str(value))
            }
        log.info("%s", json.dumps(line))


def too_slow() -> HTTPException:
    """The refusal of a body that comes too slowly."""
    return HTTPException(
        408,
        f"the body came too slowly: expected {LEAST_RATE} bytes per second; send it again",
        {"Retry-After": "5", "Connection": "close"},
    )


def _fault(request_id: str) -> JSONResponse:
    """The answer where the service itself is wrong. It says nothing of what went wrong: that stands in the log."""
    detail = "the service has made a mistake with this request; tell its operator the number of the request"
    body = {"status": 500, "detail": detail, "request": request_id}
    return JSONResponse(body, 500, media_type="application/problem+json")


def _log_fault(request_id: str, error: Exception) -> None:
    """Writes where in the code an error arose, and its kind; its message can hold a name."""
    where = " < ".join(f"{Path(frame.filename).name}:{frame.lineno}" for frame in _frames(error)[:FRAMES_SHOWN])
    log.error("request %s failed: %s at %s", request_id, type(error).__name__, where)


def _frames(error: BaseException) -> list[traceback.FrameSummary]:
    """The frames of an error, the innermost first; of the errors in a group those of the first."""
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return traceback.extract_tb(error.__traceback__)[::-1]


def _route(scope: Scope) -> str:
    """The pattern of the request's route; 'none' where no route fits the path."""
    return getattr(scope.get("route"), "path", "none")
