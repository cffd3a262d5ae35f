"""The page for surgeons: three files, and who signs in to it. What it shows and does goes through the API, version 1.

index.html  page.css  page.js     no build step, nothing loaded from outside
/session                          begins with a key, says who is signed in, ends
/session/sign-on                  begins with the site's identity provider, where it has one
"""

from __future__ import annotations

from importlib import resources
from typing import Annotated

from fastapi import APIRouter, Cookie, Depends, HTTPException, Query, Request, Response
from fastapi.responses import RedirectResponse
from pydantic import BaseModel, Field

from halsted_ray.service import sessions
from halsted_ray.service.components import ServiceComponents
from halsted_ray.service.middleware import address_of, base_of, caller_by_cookie, cookie, service_of
from halsted_ray.service.users import Caller, authenticate

FILES = {
    "": ("index.html", "text/html"),
    "page.css": ("page.css", "text/css"),
    "page.js": ("page.js", "text/javascript"),
}
POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; media-src 'self'; "
    "img-src data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
SIGN_ON, SIGN_ON_S = "halsted_sign_on", 600
"""The cookie that waits for somebody to come back from the provider, and for how long."""

router = APIRouter(tags=["page"])
Here = Annotated[ServiceComponents, Depends(service_of)]
Browser = Annotated[str | None, Depends(cookie)]


class SignIn(BaseModel):
    key: str = Field(min_length=1, max_length=200)


class SignedIn(BaseModel):
    """``user`` is null where nobody is. ``sign_on``: may they sign in at the identity provider?"""

    user: str | None = None
    tenant: str | None = None
    role: str | None = None
    csrf: str | None = None
    sign_on: bool = False


def add_files(app) -> None:
    """``/`` and what it loads."""
    for name, (file, media) in FILES.items():
        content = resources.files(__package__).joinpath(file).read_bytes()
        answer = Response(
            content, media_type=media, headers={"content-security-policy": POLICY, "cache-control": "no-cache"}
        )
        app.add_api_route(f"/{name}", lambda answer=answer: answer, include_in_schema=False)


@router.get("/session")
def show(service: Here, browser: Browser) -> SignedIn:
    """Who is signed in."""
    with service.database.reading() as session:
        caller = sessions.caller_of(session, browser) if browser else None
    return _shown(service, caller, browser)


@router.post("/session")
def begin(request: Request, response: Response, service: Here, asked: SignIn) -> SignedIn:
    """Signs in with a key. The answer's cookie is the session; its ``csrf`` goes into the header x-csrf-token."""
    with service.database.reading() as session:
        caller = authenticate(session, asked.key)
    if caller is None:
        request.app.state.buckets.take(address_of(request))
        raise HTTPException(401, "this key does not hold; ask your site's operator for one")
    return _shown(service, caller, _begin(request, response, service, caller))


@router.delete("/session", status_code=204)
def end(request: Request, response: Response, service: Here, browser: Browser) -> None:
    """Signs out."""
    if browser and caller_by_cookie(service, request, browser):
        with service.database.writing() as session:
            sessions.end(session, browser)
    response.delete_cookie(sessions.COOKIE, path="/")


@router.get("/session/sign-on", include_in_schema=False)
def sign_on(request: Request, service: Here) -> RedirectResponse:
    """To the provider, with what it must bring back (authorization code flow with PKCE)."""
    if not _signs_on(service):
        raise HTTPException(404, "this site has no identity provider for its page")
    address, waiting = service.sign_on.begin(_back(request))
    answer = RedirectResponse(address, 303)
    # Lax: the way back begins at the provider's site.
    answer.set_cookie(
        SIGN_ON, waiting, SIGN_ON_S, path="/session", httponly=True, samesite="lax", secure=_is_secure(request)
    )
    return answer


@router.get("/session/signed-on", include_in_schema=False)
def signed_on(
    request: Request,
    service: Here,
    state: Annotated[str, Query(max_length=200)],
    code: Annotated[str | None, Query(max_length=4000)] = None,
    waiting: Annotated[str | None, Cookie(alias=SIGN_ON)] = None,
) -> RedirectResponse:
    """Back from the provider: its code becomes a token, the token a session. Whatever does not hold is signed out."""
    answer = RedirectResponse(base_of(request), 303)
    caller = None
    if _signs_on(service) and code and waiting:
        caller = service.sign_on.finish(code, state, waiting, _back(request))
    if caller is None:
        request.app.state.buckets.take(address_of(request))
        answer = RedirectResponse(f"{base_of(request)}#refused", 303)
    else:
        _begin(request, answer, service, caller)
    answer.delete_cookie(SIGN_ON, path="/session")
    return answer


def _begin(request: Request, response: Response, service: ServiceComponents, caller: Caller) -> str:
    with service.database.writing() as session:
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


def _shown(service: ServiceComponents, caller: Caller | None, token: str | None) -> SignedIn:
    if caller is None:
        return SignedIn(sign_on=_signs_on(service))
    return SignedIn(
        user=caller.name,
        tenant=caller.tenant_id,
        role=caller.role,
        csrf=sessions.csrf_token(token),
        sign_on=_signs_on(service),
    )


def _signs_on(service: ServiceComponents) -> bool:
    return service.sign_on is not None and service.sign_on.takes_browsers()


def _back(request: Request) -> str:
    return f"{base_of(request)}session/signed-on"


def _is_secure(request: Request) -> bool:
    """Over plain HTTP, as on loopback, a browser would not keep a cookie that says Secure."""
    return base_of(request).startswith("https:")
