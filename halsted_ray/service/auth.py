"""Who sends a request and what they may do: API keys, bearer tokens, the page's cookie, and permissions.

A program sends a key or a token in a header of its own; no other site can make a browser send such a header. The page
has a cookie instead, and to change something it must also send the token that belongs to the cookie (``sessions.py``).
"""

from __future__ import annotations

import hmac
from collections.abc import Callable
from typing import Annotated

from fastapi import Depends, HTTPException, Request
from fastapi.security import APIKeyCookie, APIKeyHeader, HTTPAuthorizationCredentials, HTTPBearer

from halsted_ray.service import sessions
from halsted_ray.service.components import ServiceComponents
from halsted_ray.service.rate_limit import RateLimiter
from halsted_ray.service.users import Caller, authenticate

SAFE_METHODS = ("GET", "HEAD")
"""The methods that change nothing."""
api_key_header = APIKeyHeader(name="x-api-key", auto_error=False, description="A key of `halsted serve key`.")
bearer_token = HTTPBearer(auto_error=False, description="The same key as a bearer token.")
session_cookie = APIKeyCookie(name=sessions.COOKIE, auto_error=False, description="The page's session.")


def require_permission(permission: str) -> Callable[..., Caller]:
    """The dependency that gives the caller of a request, who must have ``permission`` (``users.PERMISSIONS``).

    It answers 401 where nobody valid sends the request, 403 where the caller lacks the permission, and 429 where the
    caller sends too many requests.
    """

    def current_caller(
        request: Request,
        key: Annotated[str | None, Depends(api_key_header)],
        token: Annotated[HTTPAuthorizationCredentials | None, Depends(bearer_token)],
        cookie: Annotated[str | None, Depends(session_cookie)],
    ) -> Caller:
        components: ServiceComponents = request.app.state.components
        limiter: RateLimiter = request.app.state.rate_limiter
        caller = _identify(components, request, key, token.credentials if token else None, cookie)
        if caller is None:
            limiter.take(address_of(request))
            raise HTTPException(
                401,
                "a valid key is needed: send it in the header x-api-key",
                {"WWW-Authenticate": "Bearer"},
            )
        limiter.take(f"{caller.user_id} {caller.key_id}")
        request.state.caller = caller
        if not caller.may(permission):
            raise HTTPException(403, f"the role {caller.role!r} does not have the permission {permission!r}")
        return caller

    return current_caller


def caller_by_cookie(components: ServiceComponents, request: Request, cookie: str) -> Caller | None:
    """The user whose session ``cookie`` is; None where the session has ended.

    Raises HTTPException 403 where the request would change something and lacks the token that belongs to the cookie.
    """
    with components.database.reading() as session:
        caller = sessions.caller_of(session, cookie)
    if caller is not None and request.method not in SAFE_METHODS:
        sent = request.headers.get(sessions.CSRF_HEADER, "")
        if not hmac.compare_digest(sessions.csrf_token(cookie).encode(), sent.encode()):
            raise HTTPException(403, f"a session changes something only with its token in {sessions.CSRF_HEADER}")
    return caller


def address_of(request: Request) -> str:
    """The name of the rate limiter's bucket for a request without a caller: the client's address."""
    return f"address {request.client.host if request.client else ''}"


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
