"""The door: who sends a request and what they may, how much and how often; headers, log lines and figures of each.

Programs give a key, or a token, in a header of its own, which no other site can make a browser send. The page has a
cookie instead, and to change something its token beside it (``sessions.py``).
"""

from __future__ import annotations

import hmac
import json
import logging
import math
import re
import threading
import time
import uuid
from collections import OrderedDict
from collections.abc import Callable
from typing import Annotated

from fastapi import Depends, HTTPException, Request
from fastapi.security import APIKeyCookie, APIKeyHeader, HTTPAuthorizationCredentials, HTTPBearer
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from halsted_ray.service import sessions
from halsted_ray.service.components import ServiceComponents
from halsted_ray.service.object_store import PART_BYTES
from halsted_ray.service.users import Caller, authenticate

log = logging.getLogger("halsted_ray.service.requests")

HEADERS = {
    "x-content-type-options": "nosniff",
    "x-frame-options": "DENY",
    "referrer-policy": "no-referrer",
    "cache-control": "no-store",
    "cross-origin-resource-policy": "same-origin",
    "content-security-policy": "default-src 'none'; frame-ancestors 'none'",
}
METHODS = {"GET", "HEAD", "POST", "PUT", "DELETE", "OPTIONS", "PATCH"}
KEPT_BUCKETS = 10_000
_ID = re.compile(r"[0-9a-f]{1,64}")
key_header = APIKeyHeader(name="x-api-key", auto_error=False, description="A key of `python -m serve key`.")
cookie = APIKeyCookie(name=sessions.COOKIE, auto_error=False, description="The page's session.")
SAFE = ("GET", "HEAD")
"""Methods that change nothing."""
bearer = HTTPBearer(auto_error=False, description="The same key as a bearer token.")


def service_of(request: Request) -> ServiceComponents:
    return request.app.state.service


def base_of(request: Request) -> str:
    """The service's address, with a slash at its end."""
    return f"{(service_of(request).settings.public_url or str(request.base_url)).rstrip('/')}/"


def allowed(permission: str | None = None) -> Callable[..., Caller]:
    """A dependency: the caller, who must have ``permission``. 401 without a key that holds, 403 without the right,
    429 when they ask too often."""

    def caller(
        request: Request,
        key: Annotated[str | None, Depends(key_header)],
        token: Annotated[HTTPAuthorizationCredentials | None, Depends(bearer)],
        browser: Annotated[str | None, Depends(cookie)],
    ) -> Caller:
        service, buckets = service_of(request), request.app.state.buckets
        text = key or (token.credentials if token else None)
        found = _by_key(service, text) if text else caller_by_cookie(service, request, browser) if browser else None
        if found is None and token is not None and service.sign_on is not None:
            found = service.sign_on.caller(token.credentials)
        if found is None:
            buckets.take(address_of(request))
            raise HTTPException(
                401, "a key is needed: give one that holds in the header x-api-key", {"WWW-Authenticate": "Bearer"}
            )
        buckets.take(f"{found.user_id} {found.key_id}")
        request.state.caller = found
        if permission and not found.may(permission):
            raise HTTPException(403, f"the role {found.role!r} may not do this ({permission})")
        return found

    return caller


def address_of(request: Request) -> str:
    """Whose bucket a request without a caller takes from."""
    return f"address {request.client.host if request.client else ''}"


def _by_key(service: ServiceComponents, text: str) -> Caller | None:
    with service.database.reading() as session:
        return authenticate(session, text)


def caller_by_cookie(service: ServiceComponents, request: Request, token: str) -> Caller | None:
    """403 where something would change and the page's token is not beside the cookie."""
    with service.database.reading() as session:
        found = sessions.caller_of(session, token)
    if (
        found
        and request.method not in SAFE
        and not hmac.compare_digest(
            sessions.csrf_token(token).encode(), request.headers.get(sessions.CSRF_HEADER, "").encode()
        )
    ):
        raise HTTPException(403, f"a session changes something only with its token in {sessions.CSRF_HEADER}")
    return found


class RateLimiter:
    """Requests of one key in the last minute, roughly: a bucket that fills evenly. Each of the ``replicas`` lets its
    share of them through, since a router gives each as many: counting them in one place would be a write a request."""

    def __init__(self, a_minute: int, replicas: int = 1):
        self.a_minute, self.share = a_minute, max(1.0, a_minute / replicas)
        self._left: OrderedDict[str, tuple[float, float]] = OrderedDict()
        self._lock = threading.Lock()

    def take(self, name: str) -> None:
        """Takes one request from the bucket ``name``. Raises HTTPException 429 where the bucket is empty; its
        Retry-After is the number of seconds until the bucket holds one request again."""
        with self._lock:
            now = time.monotonic()
            left, then = self._left.pop(name, (self.share, now))
            left = min(self.share, left + (now - then) * self.share / 60)
            # A refused request takes nothing, or a client that asks too often would never again be let through.
            is_let_through = left >= 1
            self._left[name] = (left - 1 if is_let_through else left, now)
            if len(self._left) > KEPT_BUCKETS:
                self._left.popitem(last=False)
        if not is_let_through:
            wait_s = math.ceil((1 - left) * 60 / self.share)
            raise HTTPException(429, f"more than {self.a_minute} requests a minute", {"Retry-After": str(wait_s)})


class RequestMiddleware:
    """ASGI middleware: bounds every body, sets headers, writes one log line and one figure a request."""

    def __init__(self, app: ASGIApp, service: ServiceComponents):
        self.app, self.service = app, service

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        request_id, started_s, status = uuid.uuid4().hex[:16], time.perf_counter(), 0
        limit = self._limit(scope["path"])
        received = 0

        async def bounded() -> Message:
            nonlocal received
            message = await receive()
            received += len(message.get("body", b""))
            if received > limit:
                raise HTTPException(413, f"a body of at most {limit} bytes is taken here")
            return message

        async def answered(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                present = {name for name, _ in message["headers"]}
                extra = {**HEADERS, "x-halsted-request": request_id}  # Serve gives an x-request-id of its own
                if (self.service.settings.public_url or "").startswith("https:"):
                    extra["strict-transport-security"] = "max-age=31536000"
                message["headers"] = [
                    *message["headers"],
                    *((name.encode(), value.encode()) for name, value in extra.items() if name.encode() not in present),
                ]
                self._count(scope, status, time.perf_counter() - started_s)
            await send(message)

        try:
            await self.app(scope, bounded, answered)
        finally:
            self._log(scope, request_id, status, received, time.perf_counter() - started_s)

    def _limit(self, path: str) -> int:
        if "/parts/" in path:
            return PART_BYTES
        return self.service.settings.clip_bytes if path.endswith("clips:map") else self.service.settings.json_bytes

    def _count(self, scope: Scope, status: int, seconds: float) -> None:
        route = _route(scope)
        method = scope["method"] if scope["method"] in METHODS else "other"  # clients can make up any
        self.service.metrics.requests.labels(method, route, status).inc()
        self.service.metrics.request_s.labels(route).observe(seconds)

    def _log(self, scope: Scope, request_id: str, status: int, received: int, seconds: float) -> None:
        """The route's pattern, not the path, and no query: what a client put there can be a name."""
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
        ids = {
            name: value
            for name, value in scope.get("path_params", {}).items()
            if name.endswith("_id") and _ID.fullmatch(str(value))
        }
        log.info("%s", json.dumps(line | (ids if caller else {})))


def _route(scope: Scope) -> str:
    return getattr(scope.get("route"), "path", "none")
