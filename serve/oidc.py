"""Single sign-on: a bearer token of the site's own identity provider (OpenID Connect) in place of a key.

Only by configuration; then, and only then, this fetches the provider's description and public keys from the issuer
that the site named. A token says who its user is, of which tenant, and in which role; tenants are added by the
operator, users come with their first token.
"""

from __future__ import annotations

import hashlib
import json
import logging
import threading
import urllib.request
from dataclasses import dataclass

import jwt
from sqlalchemy import select

from serve import audit, people
from serve.database import Database, Tenant, User
from serve.people import MAY, Caller

log = logging.getLogger(__name__)
ALGORITHMS = ("RS256", "RS384", "RS512", "PS256", "ES256", "ES384", "EdDSA")
"""With a public key only: a token signed with a shared secret, or not at all, is none of theirs."""
TIMEOUT_S = 5.0
CLOCKS_APART_S = 30.0


@dataclass(frozen=True)
class Provider:
    """``issuer`` as its tokens name it, ``audience`` as it knows this service."""

    issuer: str
    audience: str
    tenant_claim: str = "halsted_tenant"
    role_claim: str = "halsted_role"


class SignOn:
    """Tokens of one provider. Its keys are kept for five minutes, and fetched anew for a key that is not known."""

    def __init__(self, provider: Provider, database: Database):
        self.provider, self.database = provider, database
        self._keys: jwt.PyJWKClient | None = None
        self._lock = threading.Lock()

    def caller(self, token: str) -> Caller | None:
        """Whose token this is; None for one that does not hold, with the reason in the log."""
        provider = self.provider
        try:
            key = self._key_client().get_signing_key_from_jwt(token)
            claims = jwt.decode(token, key.key, ALGORITHMS, audience=provider.audience, issuer=provider.issuer,
                                leeway=CLOCKS_APART_S, options={"require": ["exp", "iat", "sub"]})
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
                    user = people.add_user(session, tenant_id, name, role, "oidc")
                elif user.role != role:
                    user.role = role
                    audit.record(session, tenant_id, "oidc", "user.role", name, role=role)
        return Caller(tenant_id, user.user_id, name, role, "oidc")

    def _key_client(self) -> jwt.PyJWKClient:
        with self._lock:
            if self._keys is None:
                where = f"{self.provider.issuer.rstrip('/')}/.well-known/openid-configuration"
                with urllib.request.urlopen(where, timeout=TIMEOUT_S) as answer:
                    described = json.load(answer)
                if described["issuer"] != self.provider.issuer:
                    raise ValueError("the provider describes another issuer")
                self._keys = jwt.PyJWKClient(described["jwks_uri"], timeout=TIMEOUT_S)
            return self._keys
