"""The page for surgeons: its three files, and signing in to it. All that the page shows and does goes through /v1.

/  /page.css  /page.js    ``service/page/``: no build step, nothing is loaded from outside
/session                  begins a session with a key, says who is signed in, ends the session
/session/sign-on          signs in at the site's identity provider, where it has one
"""

from __future__ import annotations

from importlib import resources
from typing import Annotated

from fastapi import APIRouter, Cookie, HTTPException, Query, Request, Response
from fastapi.responses import RedirectResponse
from pydantic import BaseModel, Field

from halsted_ray.service import sessions
from halsted_ray.service.auth import address_of, caller_by_cookie
from halsted_ray.service.components import ServiceComponents
from halsted_ray.service.deps import Components, SessionCookie, base_url
from halsted_ray.service.oidc import SingleSignOn
from halsted_ray.service.users import Caller, authenticate

POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; media-src 'self'; "
    "img-src data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
"""The Content-Security-Policy of the page."""
SIGN_ON_COOKIE, SIGN_ON_S = "halsted_sign_on", 600
"""The cookie that the browser keeps while its user is at the identity provider, and for how many seconds."""

router = APIRouter(tags=["page"])


class SignIn(BaseModel):
    """A sign-in with a key."""

    key: str = Field(min_length=1, max_length=200)


class SignedIn(BaseModel):
    """Who is signed in; ``user`` is null where nobody is. ``sign_on``: whether the site has an identity provider
    where users can sign in."""

    user: str | None = None
    tenant: str | None = None
    role: str | None = None
    csrf: str | None = None
    sign_on: bool = False


@router.get("/", include_in_schema=False)
def index() -> Response:
    """The page."""
    return _file("index.html", "text/html")


@router.get("/page.css", include_in_schema=False)
def style() -> Response:
    """The page's style sheet."""
    return _file("page.css", "text/css")


@router.get("/page.js", include_in_schema=False)
def program() -> Response:
    """The page's program."""
    return _file("page.js", "text/javascript")


@router.get("/session")
def show(components: Components, cookie: SessionCookie) -> SignedIn:
    """Who is signed in."""
    with components.database.reading() as session:
        caller = sessions.caller_of(session, cookie) if cookie else None
    return _signed_in(components, caller, cookie)


@router.post("/session")
def begin(request: Request, response: Response, components: Components, sign_in: SignIn) -> SignedIn:
    """Signs in with a key. The cookie of the answer is the session. The page sends ``csrf`` in the header
    x-csrf-token with every request that changes something."""
    with components.database.reading() as session:
        caller = authenticate(session, sign_in.key)
    if caller is None:
        request.app.state.rate_limiter.take(address_of(request))
        raise HTTPException(401, "this key is not valid; ask the operator of your site for a key")
    return _signed_in(components, caller, _begin_session(request, response, components, caller))


@router.delete("/session", status_code=204)
def end(request: Request, response: Response, components: Components, cookie: SessionCookie) -> None:
    """Signs out."""
    if cookie and caller_by_cookie(components, request, cookie):
        with components.database.writing() as session:
            sessions.end(session, cookie)
    response.delete_cookie(sessions.COOKIE, path="/")


@router.get("/session/sign-on", include_in_schema=False)
def sign_on(request: Request, components: Components) -> RedirectResponse:
    """Sends the browser to the identity provider (authorization code flow with PKCE)."""
    provider = _provider(components)
    if provider is None:
        raise HTTPException(404, "this site has no identity provider where users can sign in")
    url, cookie = provider.begin(_redirect_uri(request))
    answer = RedirectResponse(url, 303)
    # SameSite=Lax, since the way back begins at the provider's site.
    answer.set_cookie(
        SIGN_ON_COOKIE, cookie, SIGN_ON_S, path="/session", httponly=True, samesite="lax", secure=_is_secure(request)
    )
    return answer


@router.get("/session/signed-on", include_in_schema=False)
def signed_on(
    request: Request,
    components: Components,
    state: Annotated[str, Query(max_length=200)],
    code: Annotated[str | None, Query(max_length=4000)] = None,
    cookie: Annotated[str | None, Cookie(alias=SIGN_ON_COOKIE)] = None,
) -> RedirectResponse:
    """The way back from the provider: its code becomes a token, the token a session. Where anything is not valid,
    nobody is signed in and the page says so."""
    caller = None
    if (provider := _provider(components)) and code and cookie:
        caller = provider.finish(code, state, cookie, _redirect_uri(request))
    if caller is None:
        request.app.state.rate_limiter.take(address_of(request))
        answer = RedirectResponse(f"{base_url(request)}#refused", 303)
    else:
        answer = RedirectResponse(base_url(request), 303)
        _begin_session(request, answer, components, caller)
    answer.delete_cookie(SIGN_ON_COOKIE, path="/session")
    return answer


def _file(name: str, media_type: str) -> Response:
    content = resources.files("halsted_ray.service").joinpath("page", name).read_bytes()
    headers = {"content-security-policy": POLICY, "cache-control": "no-cache"}
    return Response(content, media_type=media_type, headers=headers)


def _begin_session(request: Request, response: Response, components: ServiceComponents, caller: Caller) -> str:
    """Begins a session, sets its cookie and returns the cookie's value."""
    with components.database.writing() as session:
        token = sessions.begin(session, caller)
    response.set_cookie(
        sessions.COOKIE,
        token,
        int(sessions.SESSION_S),
        path="/",
        httponly=True,
        samesite="strict",
        secure=_is_secure(request),
    )
    return token


def _signed_in(components: ServiceComponents, caller: Caller | None, token: str | None) -> SignedIn:
    has_provider = _provider(components) is not None
    if caller is None or token is None:
        return SignedIn(sign_on=has_provider)
    return SignedIn(
        user=caller.name,
        tenant=caller.tenant_id,
        role=caller.role,
        csrf=sessions.csrf_token(token),
        sign_on=has_provider,
    )


def _provider(components: ServiceComponents) -> SingleSignOn | None:
    """The identity provider, where the site has one with a sign-in form that answers."""
    provider = components.single_sign_on
    return provider if provider is not None and provider.has_sign_in_form() else None


def _redirect_uri(request: Request) -> str:
    return f"{base_url(request)}session/signed-on"


def _is_secure(request: Request) -> bool:
    """Whether cookies are marked Secure. Over plain HTTP, as on loopback, a browser does not keep such a cookie."""
    return base_url(request).startswith("https:")
