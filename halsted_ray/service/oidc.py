"""Single sign-on: a bearer token of the site's own identity provider (OpenID Connect) in place of a key, and for the
page the way there and back.

Only by configuration; then, and only then, this fetches the provider's description and public keys from the issuer
that the site named. A token says who its user is, of which tenant, and in which role; tenants are added by the
operator, users come with their first token.
"""

from __future__ import annotations

import hashlib
import hmac
import json
import logging
import secrets
import threading
import urllib.request
from base64 import urlsafe_b64encode
from dataclasses import dataclass
from urllib.parse import urlencode

import jwt
from sqlalchemy import select

from halsted_ray.service import audit, users
from halsted_ray.service.database import Database, Tenant, User
from halsted_ray.service.users import MAY, Caller

log = logging.getLogger(__name__)
ALGORITHMS = ("RS256", "RS384", "RS512", "PS256", "ES256", "ES384", "EdDSA")
"""With a public key only: a token signed with a shared secret, or not at all, is none of theirs."""
TIMEOUT_S = 5.0
CLOCKS_APART_S = 30.0


@dataclass(frozen=True)
class Provider:
    """``issuer`` as its tokens name it, ``audience`` as it knows this service: its client there. ``secret``: where
    it is not a public client."""

    issuer: str
    audience: str
    secret: str | None = None
    tenant_claim: str = "halsted_tenant"
    role_claim: str = "halsted_role"


class SignOn:
    """Tokens of one provider. Its keys are kept for five minutes, and fetched anew for a key that is not known."""

    def __init__(self, provider: Provider, database: Database):
        self.provider, self.database = provider, database
        self._described: dict | None = None
        self._keys: jwt.PyJWKClient | None = None
        self._lock = threading.Lock()

    def takes_browsers(self) -> bool:
        """False where the provider does not say where people sign in, or does not answer."""
        try:
            return {"authorization_endpoint", "token_endpoint"} <= self._description().keys()
        except (OSError, ValueError, KeyError) as error:
            log.warning("the identity provider does not answer: %s", type(error).__name__)
            return False

    def begin(self, back: str) -> tuple[str, str]:
        """(where the browser goes, what it keeps until it is back at the address ``back``)."""
        state, nonce, verifier = (secrets.token_urlsafe(32) for _ in range(3))
        query = {
            "response_type": "code",
            "scope": "openid",
            "client_id": self.provider.audience,
            "redirect_uri": back,
            "state": state,
            "nonce": nonce,
            "code_challenge_method": "S256",
            "code_challenge": _digest(verifier),
        }
        where = self._description()["authorization_endpoint"]
        return f"{where}{'&' if '?' in where else '?'}{urlencode(query)}", f"{state}.{nonce}.{verifier}"

    def finish(self, code: str, state: str, waiting: str, back: str) -> Caller | None:
        """Who came back with ``code``; None where it is not the way that began here, or the provider refuses."""
        began, _, rest = waiting.partition(".")
        nonce, _, verifier = rest.partition(".")
        if not verifier or not hmac.compare_digest(began.encode(), state.encode()):
            log.warning("a sign-on that did not begin here was refused")
            return None
        form = {
            "grant_type": "authorization_code",
            "code": code,
            "redirect_uri": back,
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
        """Whose token this is; None for one that does not hold, with the reason in the log. ``nonce``: what it must
        carry, so that a token from another sign-on is none of this one."""
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
                raise ValueError("of another sign-on")
        except (jwt.PyJWTError, OSError, ValueError, KeyError) as error:
            log.warning("a token was refused: %s", type(error).__name__)
            return None
        tenant_id, role = claims.get(provider.tenant_claim), claims.get(provider.role_claim)
        if role not in MAY or not isinstance(tenant_id, str):
            log.warning("a token without a known role, or without a tenant, was refused")
            return None
        # The subject, not a name: names change hands. Hashed, since some providers put an address there.
        name = f"oidc-{hashlib.sha256(claims['sub'].encode()).hexdigest()[:16]}"
        return self._user(tenant_id, name, role)

    def _user(self, tenant_id: str, name: str, role: str) -> Caller | None:
        with self.database.reading() as session:
            if session.get(Tenant, tenant_id) is None:
                log.warning("a token of a tenant that the operator did not add was refused")
                return None
            user = session.scalar(select(User).where(User.tenant_id == tenant_id, User.name == name))
        if user is None or user.role != role:
            with self.database.writing() as session:
                user = session.scalar(select(User).where(User.tenant_id == tenant_id, User.name == name))
                if user is None:
                    user = users.add_user(session, tenant_id, name, role, "oidc")
                elif user.role != role:
                    user.role = role
                    audit.record(session, tenant_id, "oidc", "user.role", name, role=role)
        return Caller(tenant_id, user.user_id, name, role, "oidc")

    def _description(self) -> dict:
        """What the provider says of itself, fetched once."""
        with self._lock:
            if self._described is None:
                where = f"{self.provider.issuer.rstrip('/')}/.well-known/openid-configuration"
                with urllib.request.urlopen(where, timeout=TIMEOUT_S) as answer:
                    found = json.load(answer)
                if found["issuer"] != self.provider.issuer:
                    raise ValueError("the provider describes another issuer")
                self._described = found
            return self._described

    def _key_client(self) -> jwt.PyJWKClient:
        where = self._description()["jwks_uri"]
        with self._lock:
            self._keys = self._keys or jwt.PyJWKClient(where, timeout=TIMEOUT_S)
            return self._keys


def _digest(verifier: str) -> str:
    """Of PKCE (RFC 7636): whoever steals the code on its way lacks the verifier."""
    return urlsafe_b64encode(hashlib.sha256(verifier.encode()).digest()).rstrip(b"=").decode()
