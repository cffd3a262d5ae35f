"""Single sign-on with the site's own identity provider (OpenID Connect): its tokens in place of keys, and its sign-in
form for the page.

Only where the site's settings name a provider, and only then, the service fetches the provider's description and its
public keys from the named issuer. A token says who its user is, of which tenant, and in which role. The operator adds
tenants; a user is added with their first token.
"""

from __future__ import annotations

import hashlib
import hmac
import json
import logging
import secrets
import threading
import unicodedata
import urllib.request
from base64 import urlsafe_b64encode
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlencode

import jwt
from sqlalchemy import select

from halsted_ray.service import audit, users
from halsted_ray.service.database import Database
from halsted_ray.service.tables import Tenant, User
from halsted_ray.service.users import PERMISSIONS, Caller

log = logging.getLogger(__name__)
ALGORITHMS = ("RS256", "RS384", "RS512", "PS256", "ES256", "ES384", "EdDSA")
"""Algorithms with a public key only. A token that is signed with a shared secret, or not signed, is refused."""
TIMEOUT_S = 5.0
"""How long to wait for an answer of the provider."""
CLOCKS_APART_S = 30.0
"""How far the clocks of the provider and the service may differ."""


NAME_LENGTH = 100
"""The most characters of a user's name that are kept."""


@dataclass(frozen=True)
class OidcProvider:
    """An identity provider.

    ``issuer``: its name in its tokens. ``audience``: the provider's name for this service (the client id).
    ``secret``: the client's secret, None for a public client. ``tenant_claim``, ``role_claim``: where a token says
    the tenant and the role of its user.
    """

    issuer: str
    audience: str
    secret: str | None = None
    tenant_claim: str = "halsted_tenant"
    role_claim: str = "halsted_role"


class SingleSignOn:
    """Checks the tokens of one provider. Its public keys are kept for five minutes, and fetched again when a token
    names an unknown key."""

    def __init__(self, provider: OidcProvider, database: Database) -> None:
        self.provider, self.database = provider, database
        self._described: dict[str, Any] | None = None
        self._keys: jwt.PyJWKClient | None = None
        self._lock = threading.Lock()

    def has_sign_in_form(self) -> bool:
        """Whether people can sign in at the provider; False also where it does not answer."""
        try:
            return {"authorization_endpoint", "token_endpoint"} <= self._description().keys()
        except (OSError, ValueError, KeyError) as error:
            log.warning("the identity provider does not answer: %s", type(error).__name__)
            return False

    def begin(self, redirect_uri: str) -> tuple[str, str]:
        """Begins a sign-in. Returns the URL that the browser goes to, and the cookie that the browser keeps until
        the provider sends it back to ``redirect_uri``. Raises OSError, ValueError, KeyError where the provider does
        not answer."""
        state, nonce, verifier = (secrets.token_urlsafe(32) for _ in range(3))
        query = {
            "response_type": "code",
            "scope": "openid profile",
            "client_id": self.provider.audience,
            "redirect_uri": redirect_uri,
            "state": state,
            "nonce": nonce,
            "code_challenge_method": "S256",
            "code_challenge": _digest(verifier),
        }
        where = self._description()["authorization_endpoint"]
        return f"{where}{'&' if '?' in where else '?'}{urlencode(query)}", f"{state}.{nonce}.{verifier}"

    def finish(self, code: str, state: str, cookie: str, redirect_uri: str) -> Caller | None:
        """The user whom the provider sent back with ``code`` and ``state``, to a browser with ``cookie``; None where
        the sign-in did not begin in this browser, or the provider refuses."""
        began, _, rest = cookie.partition(".")
        nonce, _, verifier = rest.partition(".")
        if not verifier or not hmac.compare_digest(began.encode(), state.encode()):
            log.warning("a sign-in that did not begin in the same browser was refused")
            return None
        form = {
            "grant_type": "authorization_code",
            "code": code,
            "redirect_uri": redirect_uri,
            "client_id": self.provider.audience,
            "code_verifier": verifier,
        }
        if self.provider.secret:
            form["client_secret"] = self.provider.secret
        try:
            with urllib.request.urlopen(
                self._description()["token_endpoint"], urlencode(form).encode(), TIMEOUT_S
            ) as answer:
                token = json.load(answer)["id_token"]
        except (OSError, ValueError, KeyError) as error:
            log.warning("the identity provider gave no token: %s", type(error).__name__)
            return None
        return self.caller(token, nonce)

    def caller(self, token: str, nonce: str | None = None) -> Caller | None:
        """The user whose token this is; None for a token that is not valid, with the reason in the log.

        ``nonce``: what the token must carry, so that a token of another sign-in is refused.
        """
        provider = self.provider
        try:
            key = self._key_client().get_signing_key_from_jwt(token)
            claims = jwt.decode(
                token,
                key.key,
                ALGORITHMS,
                audience=provider.audience,
                issuer=provider.issuer,
                leeway=CLOCKS_APART_S,
                options={"require": ["exp", "iat", "sub"]},
            )
            if nonce is not None and claims.get("nonce") != nonce:
                raise ValueError("the token belongs to another sign-in")
        except (jwt.PyJWTError, OSError, ValueError, KeyError) as error:
            log.warning("a token was refused: %s", type(error).__name__)
            return None
        tenant_id, role = claims.get(provider.tenant_claim), claims.get(provider.role_claim)
        if role not in PERMISSIONS or not isinstance(tenant_id, str):
            log.warning("a token without a known role or without a tenant was refused")
            return None
        # The subject, since a name can pass to another person. Hashed, since some providers put an address there.
        name = f"oidc-{hashlib.sha256(claims['sub'].encode()).hexdigest()[:16]}"
        return self._user(tenant_id, name, role, display_name(claims))

    def _user(self, tenant_id: str, name: str, role: str, shown: str | None) -> Caller | None:
        """The user, added or given their new role and name first; None where the tenant is unknown."""
        with self.database.reading() as session:
            if session.get(Tenant, tenant_id) is None:
                log.warning("a token of a tenant that the operator has not added was refused")
                return None
            user = session.scalar(select(User).where(User.tenant_id == tenant_id, User.name == name))
        if user is None or user.role != role or user.display_name != shown:
            with self.database.writing() as session:
                user = session.scalar(select(User).where(User.tenant_id == tenant_id, User.name == name))
                if user is None:
                    user = users.add_user(session, tenant_id, name, role, "oidc")
                elif user.role != role:
                    user.role = role
                    audit.record(session, tenant_id, "oidc", "user.role", name, role=role)
                user.display_name = shown
        return Caller(tenant_id, user.user_id, name, role, "oidc")

    def _description(self) -> dict[str, Any]:
        """The provider's description of itself, fetched once. Raises OSError, ValueError, KeyError."""
        with self._lock:
            if self._described is None:
                where = f"{self.provider.issuer.rstrip('/')}/.well-known/openid-configuration"
                with urllib.request.urlopen(where, timeout=TIMEOUT_S) as answer:
                    found = json.load(answer)
                if found["issuer"] != self.provider.issuer:
                    raise ValueError("the provider's description names another issuer")
                self._described = found
            return self._described

    def _key_client(self) -> jwt.PyJWKClient:
        """What fetches and keeps the provider's public keys."""
        where = self._description()["jwks_uri"]
        with self._lock:
            self._keys = self._keys or jwt.PyJWKClient(where, timeout=TIMEOUT_S)
            return self._keys


def display_name(claims: Mapping[str, Any]) -> str | None:
    """The user's name in a token, for people: the claim ``name``, else ``preferred_username``; None where neither is
    a text. At most ``NAME_LENGTH`` characters, without such as break a line or turn the direction of writing."""
    for claim in ("name", "preferred_username"):
        given = claims.get(claim)
        if isinstance(given, str):
            letters = (one if one.isprintable() else " " for one in unicodedata.normalize("NFC", given[:1000]))
            if shown := " ".join("".join(letters).split())[:NAME_LENGTH]:
                return shown
    return None


def _digest(verifier: str) -> str:
    """The challenge of PKCE (RFC 7636): whoever steals the code on its way does not have the verifier."""
    return urlsafe_b64encode(hashlib.sha256(verifier.encode()).digest()).rstrip(b"=").decode()
