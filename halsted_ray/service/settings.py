"""What a site decides, from the environment; replicas and resources stand in ``config.yaml`` instead.

HALSTED_STATE      folder of everything kept here: database, store, unless these are named (default ./serve-state)
HALSTED_DATABASE   SQLAlchemy URL (default sqlite:///<state>/halsted.db)
HALSTED_STORE      folder or s3://bucket/prefix that holds every tenant's bytes (default <state>/store)
HALSTED_MODEL      the model to serve: a folder, a URL or registry:halsted@champion, see ``models.py``
                   (default demo/model/model; the registry is $MLFLOW_TRACKING_URI)
HALSTED_ENCODER    where its encoder lies, if not where the model says
HALSTED_PRESIGN    1: clients upload parts straight to the object store
HALSTED_PUBLIC_URL the address that clients know, where a proxy stands before this (default: as they asked)
HALSTED_OIDC_ISSUER, HALSTED_OIDC_AUDIENCE   tokens of this identity provider are taken beside keys, and the page
                   signs in there (redirect address: <public URL>/session/signed-on)
HALSTED_OIDC_SECRET   this client's secret there, if it has one
HALSTED_REQUESTS_A_MINUTE   of one key, shared evenly between the replicas (default 3000)
HALSTED_LEASE_S    after this silence of its worker a job is taken up by another one (default 30)
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
    """One site. Sizes in bytes, times in seconds."""

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
    json_bytes: int = 4 * MIB
    """Of any other body: the longest names the 10,000 parts of an upload."""
    clip_s: float = 60.0
    requests_a_minute: int = 3000
    """Of one key; a part of an upload is one request."""
    upload_days: float = 7.0
    """An upload that nobody completes is removed after this."""
    link_s: float = 3600.0
    """How long a presigned address holds."""
    poll_s: float = 25.0
    """How long a poll of the SDK is held open: it has no timeout of its own and would sleep 10 s between polls."""
    model_poll_s: float = 5.0
    lease_s: float = 30.0

    @classmethod
    def read(cls, environment: Mapping[str, str] = os.environ) -> Settings:
        state = Path(environment.get("HALSTED_STATE") or "serve-state").absolute()
        store = environment.get("HALSTED_STORE") or str(state / "store")
        return cls(
            database=environment.get("HALSTED_DATABASE") or f"sqlite:///{state / 'halsted.db'}",
            store=store if "://" in store else str(Path(store).absolute()),
            model=environment.get("HALSTED_MODEL") or str(Path("demo/model/model").absolute()),
            encoder=environment.get("HALSTED_ENCODER") or None,
            presign=environment.get("HALSTED_PRESIGN") == "1",
            public_url=environment.get("HALSTED_PUBLIC_URL") or None,
            oidc_issuer=environment.get("HALSTED_OIDC_ISSUER") or None,
            oidc_audience=environment.get("HALSTED_OIDC_AUDIENCE") or "halsted",
            oidc_secret=environment.get("HALSTED_OIDC_SECRET") or None,
            requests_a_minute=int(_number(environment, "HALSTED_REQUESTS_A_MINUTE", 3000)),
            lease_s=_number(environment, "HALSTED_LEASE_S", 30.0),
        )


def _number(environment: Mapping[str, str], name: str, default: float) -> float:
    """Raises UsageError."""
    text = environment.get(name)
    try:
        value = float(text) if text else default
    except ValueError:
        value = math.nan
    if not 0 < value < math.inf:
        raise UsageError(f"{name}={text!r}; expected a number above 0")
    return value
