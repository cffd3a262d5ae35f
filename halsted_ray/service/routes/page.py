"""The page for surgeons: its files, and signing in to it. All that the page shows and does goes through /v1.

/  /assets/NAME             ``service/page/``, which is built from ``serve/web``; nothing is loaded from outside
/session                  begins a session with a key, says who is signed in, ends the session
/session/link             begins a session with a read-only link to one case
/session/setup            makes the first administrator of a new site
/session/sign-on          signs in at the site's identity provider, where it has one
"""

from __future__ import annotations

from dataclasses import replace
from importlib import resources
from pathlib import PurePosixPath
from typing import Annotated

from fastapi import APIRouter, Cookie, HTTPException, Query, Request, Response
from fastapi.responses import RedirectResponse
from pydantic import BaseModel, Field

from halsted_ray.errors import UsageError
from halsted_ray.service import links, sessions, setup_link, users
from halsted_ray.service.addresses import client_address
from halsted_ray.service.auth import address_of, caller_by_cookie, record_failed_sign_in
from halsted_ray.service.components import ServiceComponents
from halsted_ray.service.deps import Components, SessionCookie, base_url
from halsted_ray.service.links import LinkUse
from halsted_ray.service.oidc import SingleSignOn
from halsted_ray.service.proficiency import proficiency_tags
from halsted_ray.service.refusals import HttpRefusal
from halsted_ray.service.tables import ApiKey, User
from halsted_ray.service.users import Caller, authenticate

POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; media-src 'self' blob:; "
    "img-src 'self' data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
"""The Content-Security-Policy of the page."""
MEDIA_TYPES = {".js": "text/javascript", ".css": "text/css"}
"""Suffix of a file of the page → its media type."""
SIGN_ON_COOKIE, SIGN_ON_S = "halsted_sign_on", 600
"""The cookie that the browser keeps while its user is at the identity provider, and for how many seconds."""

router = APIRouter(tags=["page"])


class SignIn(BaseModel):
    """A sign-in with a key."""

    key: str = Field(min_length=1, max_length=200)


class FirstAdministrator(BaseModel):
    """The first administrator of a site. ``token``: what the link holds behind ``#setup=``."""

    token: str = Field(min_length=1, max_length=200)
    tenant: str = Field(min_length=1, max_length=63, description="The hospital or department, such as north.")
    user: str = Field(min_length=1, max_length=64)


class NewAdministrator(BaseModel):
    """The key of the first administrator."""

    key: str
    tenant: str
    user: str


class LinkToken(BaseModel):
    """A read-only link. ``token``: what it holds behind ``#shared=``."""

    token: str = Field(min_length=1, max_length=200)


class LinkedTag(BaseModel):
    """A tag that the map of a link can have, and its categories in the order of the taxonomy."""

    tag: str
    categories: list[str]


class LinkedCase(BaseModel):
    """What a link shows: of one video the part [from_s, to_s) in seconds, null for all of it. ``tags``: what its map
    can say, in the order of the taxonomy; none where it shows no map, or where no model can be asked now."""

    video_id: str
    from_s: float | None
    to_s: float | None
    shows: list[str]
    expires_s: float
    tags: list[LinkedTag]


class SignedIn(BaseModel):
    """Who is signed in; ``user`` is null where nobody is, and also where ``link`` says which case a link shows.
    ``name``: as people read it. ``key_id``, ``key_expires_s``: the key that the session stands on and its end; null
    after a sign-in at the identity provider. ``sign_on``: whether the site has an identity provider where users can
    sign in."""

    user: str | None = None
    name: str | None = None
    key_id: str | None = None
    key_expires_s: float | None = None
    tenant: str | None = None
    role: str | None = None
    csrf: str | None = None
    sign_on: bool = False
    link: LinkedCase | None = None


@router.get("/", include_in_schema=False)
def index() -> Response:
    """The page."""
    content = resources.files("halsted_ray.service").joinpath("page", "index.html").read_bytes()
    headers = {"content-security-policy": POLICY, "cache-control": "no-cache"}
    return Response(content, media_type="text/html", headers=headers)


@router.get("/assets/{name}", include_in_schema=False)
def asset(name: str) -> Response:
    """A script or style sheet of the page. A new version has a new name, so browsers keep what they have."""
    folder = resources.files("halsted_ray.service").joinpath("page", "assets")
    media_type = MEDIA_TYPES.get(PurePosixPath(name).suffix)
    if media_type is None or name not in {file.name for file in folder.iterdir()}:
        raise HTTPException(404, "there is no such file of the page")
    headers = {"content-security-policy": POLICY, "cache-control": "public, max-age=31536000, immutable"}
    return Response(folder.joinpath(name).read_bytes(), media_type=media_type, headers=headers)


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
        record_failed_sign_in(components, request, "page", sign_in.key)
        raise HttpRefusal(401, "this key is not valid; ask the operator of your site for a key").named("key-invalid")
    return _signed_in(components, caller, _begin_session(request, response, components, caller))


@router.post("/session/link")
def open_link(request: Request, response: Response, components: Components, sent: LinkToken) -> SignedIn:
    """Begins a session with a read-only link: it sees one case and changes nothing. It takes the place of another
    session of this browser."""
    request.app.state.rate_limiter.take(address_of(request))
    with components.database.writing() as session:
        use = links.use_by_token(session, sent.token)
        cookie = sessions.begin_of_link(session, use, client_address(request)) if use else None
    if use is None or cookie is None:
        record_failed_sign_in(components, request, "link")
        raise HttpRefusal(401, "this link has ended or is not whole; ask whoever sent it for a new one").named(
            "link-ended"
        )
    _set_cookie(request, response, cookie)
    return _signed_in(components, links.caller_by(use), cookie)


@router.post("/session/setup", status_code=201)
def set_up(request: Request, response: Response, components: Components, first: FirstAdministrator) -> NewAdministrator:
    """Makes the first administrator of the site with the link that its operator's terminal shows, and signs them in.
    The key is shown only this once."""
    limiter = request.app.state.rate_limiter
    limiter.take(address_of(request))
    with components.database.writing() as session:
        key = setup_link.use(session, first.token, first.tenant, first.user, components.settings.key_days)
        caller = authenticate(session, key) if key else None
    if key is None or caller is None:
        record_failed_sign_in(components, request, "setup")
        raise HttpRefusal(
            401, "this link has expired or was used; the operator starts the service again for another"
        ).named("setup-ended")
    _begin_session(request, response, components, caller)
    return NewAdministrator(key=key, tenant=first.tenant, user=first.user)


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
        record_failed_sign_in(components, request, "provider")
        answer = RedirectResponse(f"{base_url(request)}#refused", 303)
    else:
        answer = RedirectResponse(base_url(request), 303)
        _begin_session(request, answer, components, caller)
    answer.delete_cookie(SIGN_ON_COOKIE, path="/session")
    return answer


def _begin_session(request: Request, response: Response, components: ServiceComponents, caller: Caller) -> str:
    """Begins a session, sets its cookie and returns the cookie's value."""
    with components.database.writing() as session:
        token = sessions.begin(session, replace(caller, address=client_address(request)))
    _set_cookie(request, response, token)
    return token


def _set_cookie(request: Request, response: Response, token: str) -> None:
    response.set_cookie(
        sessions.COOKIE,
        token,
        int(sessions.SESSION_S),
        path="/",
        httponly=True,
        samesite="strict",
        secure=_is_secure(request),
    )


def _signed_in(components: ServiceComponents, caller: Caller | None, token: str | None) -> SignedIn:
    has_provider = _provider(components) is not None
    if caller is None or token is None:
        return SignedIn(sign_on=has_provider)
    if caller.is_link:
        with components.database.reading() as session:
            use = links.use_of(session, caller.key_id)
        return SignedIn(
            role=caller.role, csrf=sessions.csrf_token(token), sign_on=has_provider, link=_linked(components, use)
        )
    with components.database.reading() as session:
        name = users.shown_name(session.get_one(User, caller.user_id))
        key = session.get(ApiKey, caller.key_id)
    return SignedIn(
        user=caller.name,
        name=name,
        key_id=key.key_id if key else None,
        key_expires_s=key.expires_s if key else None,
        tenant=caller.tenant_id,
        role=caller.role,
        csrf=sessions.csrf_token(token),
        sign_on=has_provider,
    )


def _linked(components: ServiceComponents, use: LinkUse | None) -> LinkedCase | None:
    if use is None:
        return None
    from_s, to_s = use.span or (None, None)
    return LinkedCase(
        video_id=use.video_id,
        from_s=from_s,
        to_s=to_s,
        shows=list(use.shows),
        expires_s=use.expires_s,
        tags=_tags_of(components, use) if "timeline" in use.shows else [],
    )


def _tags_of(components: ServiceComponents, use: LinkUse) -> list[LinkedTag]:
    try:
        taxonomy = components.model_source().taxonomy
    except UsageError:  # the case is shown all the same, its lanes then in the order in which they come
        return []
    hidden = proficiency_tags(taxonomy) if use.hides_proficiency else frozenset()
    return [LinkedTag(tag=tag.name, categories=list(tag.categories)) for tag in taxonomy.tags if tag.name not in hidden]


def _provider(components: ServiceComponents) -> SingleSignOn | None:
    """The identity provider, where the site has one with a sign-in form that answers."""
    provider = components.single_sign_on
    return provider if provider is not None and provider.has_sign_in_form() else None


def _redirect_uri(request: Request) -> str:
    return f"{base_url(request)}session/signed-on"


def _is_secure(request: Request) -> bool:
    """Whether cookies are marked Secure. Over plain HTTP, as on loopback, a browser does not keep such a cookie."""
    return base_url(request).startswith("https:")
