"""The settings of a site, from environment variables. ``serve/config.yaml`` holds replicas and resources instead.

HALSTED_STATE      folder of everything that is kept: database and store, unless these are named (./serve-state)
HALSTED_DATABASE   SQLAlchemy URL of the database (sqlite:///<state>/halsted.db)
HALSTED_STORE      folder or s3://bucket/prefix that holds the bytes of all tenants (<state>/store)
HALSTED_MODEL      the model to serve: a folder, a URL or registry:halsted@champion, see ``served_model.py``
                   (phantom, which ships and knows synthetic video; the registry is $MLFLOW_TRACKING_URI)
HALSTED_ENCODER    where the model's encoder lies, if not where the model says
HALSTED_PRESIGN    1: clients put the parts of uploads straight to the object store
HALSTED_PUBLIC_URL the address that clients use, where the service stands behind a proxy (the address of the request)
HALSTED_OIDC_ISSUER, HALSTED_OIDC_AUDIENCE   an identity provider: its tokens are taken like keys, and users of the
                   page may sign in there (redirect address: <public URL>/session/signed-on)
HALSTED_OIDC_SECRET   the secret of this client at the provider, if it has one
HALSTED_REQUESTS_A_MINUTE   how many requests one key may send per minute, shared evenly by the replicas (3000)
HALSTED_LEASE_S    after so many seconds without a sign of a job's worker another worker takes the job (30)

In brackets: the default.
"""

from __future__ import annotations

import math
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from halsted_ray.errors import UsageError

MIB = 1024 * 1024


@dataclass(frozen=True)
class Settings:
    """The settings of one site. Sizes are in bytes, times in seconds."""

    database: str
    store: str
    model: str
    encoder: str | None = None
    presign: bool = False
    public_url: str | None = None
    oidc_issuer: str | None = None
    oidc_audience: str = "halsted"
    oidc_secret: str | None = None
    clip_bytes: int = 16 * MIB
    """The largest clip in a request."""
    json_bytes: int = 4 * MIB
    """The largest other body of a request. The longest body names the 10,000 parts of an upload."""
    clip_s: float = 60.0
    """The longest clip that is tagged."""
    requests_per_minute: int = 3000
    """How many requests one key may send per minute. Each part of an upload is one request."""
    upload_days: float = 7.0
    """After so many days an upload that nobody completed is removed."""
    link_s: float = 3600.0
    """How long the address of a part is valid."""
    poll_s: float = 25.0
    """How long a poll of the SDK is held open. The SDK has no timeout of its own and sleeps 10 s between polls."""
    model_poll_s: float = 5.0
    """How often the service looks for a new model."""
    lease_s: float = 30.0
    """How long a job belongs to its worker after the worker's last heartbeat."""

    @classmethod
    def read(cls, environment: Mapping[str, str] = os.environ) -> Settings:
        """The settings in ``environment``. Raises UsageError for a number that can't be used."""
        state = Path(environment.get("HALSTED_STATE") or "serve-state").absolute()
        store = environment.get("HALSTED_STORE") or str(state / "store")
        return cls(
            database=environment.get("HALSTED_DATABASE") or f"sqlite:///{state / 'halsted.db'}",
            store=store if "://" in store else str(Path(store).absolute()),
            model=environment.get("HALSTED_MODEL") or "phantom",
            encoder=environment.get("HALSTED_ENCODER") or None,
            presign=environment.get("HALSTED_PRESIGN") == "1",
            public_url=environment.get("HALSTED_PUBLIC_URL") or None,
            oidc_issuer=environment.get("HALSTED_OIDC_ISSUER") or None,
            oidc_audience=environment.get("HALSTED_OIDC_AUDIENCE") or "halsted",
            oidc_secret=environment.get("HALSTED_OIDC_SECRET") or None,
            requests_per_minute=int(_number(environment, "HALSTED_REQUESTS_A_MINUTE", 3000)),
            lease_s=_number(environment, "HALSTED_LEASE_S", 30.0),
        )


def _number(environment: Mapping[str, str], name: str, default: float) -> float:
    """The variable ``name`` as a number. Raises UsageError where it is none above 0."""
    text = environment.get(name)
    try:
        value = float(text) if text else default
    except ValueError:
        value = math.nan
    if not 0 < value < math.inf:
        raise UsageError(f"{name}={text!r}; expected a number above 0")
    return value
