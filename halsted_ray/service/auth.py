"""Who sends a request and what they may do: API keys, bearer tokens, the page's cookie, and permissions.

A program sends a key or a token in a header of its own; no other site can make a browser send such a header. The page
has a cookie instead, and to change something it must also send the token that belongs to the cookie (``sessions.py``).
"""

from __future__ import annotations

import hmac
import re
from collections.abc import Callable
from dataclasses import replace
from functools import cache
from typing import Annotated

from fastapi import Depends, Request
from fastapi.security import APIKeyCookie, APIKeyHeader, HTTPAuthorizationCredentials, HTTPBearer

from halsted_ray.service import audit, sessions
from halsted_ray.service.addresses import client_address
from halsted_ray.service.components import ServiceComponents
from halsted_ray.service.rate_limit import RateLimiter
from halsted_ray.service.refusals import HttpRefusal
from halsted_ray.service.tables import ApiKey, User
from halsted_ray.service.users import Caller, authenticate, key_id_of

ID_PATTERN = re.compile(r"[0-9a-f]{1,64}")
"""The form of an id of this service."""
SAFE_METHODS = ("GET", "HEAD")
"""The methods that change nothing."""
api_key_header = APIKeyHeader(name="x-api-key", auto_error=False, description="A key of `halsted serve key`.")
bearer_token = HTTPBearer(auto_error=False, description="The same key as a bearer token.")
session_cookie = APIKeyCookie(name=sessions.COOKIE, auto_error=False, description="The page's session.")


PERMISSION: dict[Callable[..., Caller], str | None] = {}
"""Dependency → the permission that it asks for: what the pages of the reference are written from."""
TAKES_LINKS: set[Callable[..., Caller]] = set()
"""The dependencies that also take whoever looks at a case through a link."""


@cache
def require_permission(permission: str | None, takes_links: bool = False) -> Callable[..., Caller]:
    """The dependency that gives the caller of a request, who must have ``permission`` (``users.PERMISSIONS``); None:
    any valid caller. It is the same dependency for the same permission, so that a request is counted once.
    ``takes_links``: also whoever looks through a link, whom every other route refuses.

    It answers 401 where nobody valid sends the request, 403 where the caller lacks the permission, and 429 where the
    caller sends too many requests. The audit log keeps a refused key or token and a refused permission.
    """

    def current_caller(
        request: Request,
        key: Annotated[str | None, Depends(api_key_header)],
        token: Annotated[HTTPAuthorizationCredentials | None, Depends(bearer_token)],
        cookie: Annotated[str | None, Depends(session_cookie)],
    ) -> Caller:
        components: ServiceComponents = request.app.state.components
        limiter: RateLimiter = request.app.state.rate_limiter
        request.state.credentials = (key, token.credentials if token else None, cookie)
        caller = _identify(components, request, *request.state.credentials)
        if caller is None:
            limiter.take(address_of(request))
            if secret := key or (token.credentials if token else None):
                record_failed_sign_in(components, request, "key" if key else "token", secret)
            raise HttpRefusal(
                401,
                "a valid key is needed: send it in the header x-api-key",
                {"WWW-Authenticate": "Bearer"},
            ).named("sign-in-needed")
        limiter.take(f"{caller.user_id} {caller.key_id}")
        caller = replace(caller, address=client_address(request))
        request.state.caller = caller
        if caller.is_link and not takes_links:
            record_refusal(components, request, caller, permission or "any")
            raise HttpRefusal(403, "a link shows one case and nothing else; sign in to see or to do more").named(
                "link-limits"
            )
        if permission is not None and not caller.may(permission):
            record_refusal(components, request, caller, permission)
            raise HttpRefusal(403, f"the role {caller.role!r} does not have the permission {permission!r}").named(
                "role"
            )
        return caller

    PERMISSION[current_caller] = permission
    if takes_links:
        TAKES_LINKS.add(current_caller)
    return current_caller


def caller_now(request: Request) -> Caller | None:
    """The caller of a request that is still being answered, by the same key, token or session; None where that has
    ended meanwhile."""
    caller = _identify(request.app.state.components, request, *request.state.credentials)
    return None if caller is None else replace(caller, address=client_address(request))


def record_refusal(
    components: ServiceComponents, request: Request, caller: Caller, asked: str, subject: str | None = None
) -> None:
    """Writes into the audit log that ``caller`` asked for what they may not have: which route, which id, which right or
    permission. An id is written only in the form of an id, since a client can put a name there."""
    ids = [value for name, value in request.path_params.items() if name.endswith("_id")]
    subject = subject or next((str(value) for value in ids if ID_PATTERN.fullmatch(str(value))), "-")
    route = getattr(request.scope.get("route"), "path", "-")
    with components.database.writing() as session:
        audit.record_by(session, caller, "access.refused", subject, asked=asked, route=route, method=request.method)


def record_failed_sign_in(components: ServiceComponents, request: Request, how: str, secret: str = "") -> None:
    """Writes a refused sign-in into the audit log of the tenant whose key it was; with a key that nobody has issued, of
    no tenant. ``how``: key, token, page, provider, link or setup. The secret itself is not kept."""
    with components.database.writing() as session:
        key = session.get(ApiKey, key_id_of(secret)) if secret else None
        tenant_id = session.get_one(User, key.user_id).tenant_id if key else audit.NO_TENANT
        subject = key.key_id if key else "-"
        audit.record(session, tenant_id, "-", "sign-in.refused", subject, how=how, address=client_address(request))


def caller_by_cookie(components: ServiceComponents, request: Request, cookie: str) -> Caller | None:
    """The user whose session ``cookie`` is; None where the session has ended.

    Raises HTTPException 403 where the request would change something and lacks the token that belongs to the cookie.
    """
    with components.database.reading() as session:
        caller = sessions.caller_of(session, cookie)
    if caller is not None and request.method not in SAFE_METHODS:
        sent = request.headers.get(sessions.CSRF_HEADER, "")
        if not hmac.compare_digest(sessions.csrf_token(cookie).encode(), sent.encode()):
            raise HttpRefusal(403, f"a session changes something only with its token in {sessions.CSRF_HEADER}").named(
                "session-token"
            )
    return caller


def address_of(request: Request) -> str:
    """The name of the rate limiter's bucket for a request without a caller: the client's address."""
    return f"address {client_address(request)}"


def _identify(
    components: ServiceComponents, request: Request, key: str | None, token: str | None, cookie: str | None
) -> Caller | None:
    """The caller by key, or by cookie where no key and no token was sent, or by a token of the identity provider."""
    caller = None
    if secret := key or token:
        with components.database.reading() as session:
            caller = authenticate(session, secret)
    elif cookie:
        caller = caller_by_cookie(components, request, cookie)
    if caller is None and token is not None and components.single_sign_on is not None:
        caller = components.single_sign_on.caller(token)
    return caller
