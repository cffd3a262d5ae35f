"""The settings of a site, from environment variables. ``serve/config.yaml`` holds replicas and resources instead.

HALSTED_STATE      folder of everything that is kept: database and store, unless these are named (./serve-state)
HALSTED_DATABASE   SQLAlchemy URL of the database (sqlite:///<state>/halsted.db)
HALSTED_STORE      folder or s3://bucket/prefix that holds the bytes of all tenants (<state>/store)
HALSTED_MODEL      the model to serve: a folder, a URL or registry:halsted@champion, see ``served_model.py``
                   (phantom, which ships and knows synthetic video; the registry is $MLFLOW_TRACKING_URI)
HALSTED_ENCODER    where the model's encoder lies, if not where the model says
HALSTED_PRESIGN    1: clients put the parts of uploads straight to the object store
HALSTED_PUBLIC_URL the address that clients use (the address on which the request came in); ``Host`` decides nothing
HALSTED_HOSTS      more host names by which clients may ask for the service, separated by commas
HALSTED_KEY_DAYS   after so many days a key expires that was issued without a time of its own (90)
HALSTED_AUDIT_TO   where the newest digest of the audit log is written on a schedule: a folder, s3://bucket/prefix with
                   object lock, syslog://host:port, syslog+tcp://host:port, syslog+tls://host:port (nowhere)
HALSTED_AUDIT_EVERY_S   how often, in seconds (300)
HALSTED_RETENTION_DAYS   after so many days a new case is deleted, unless it says otherwise itself (never)
HALSTED_WITHDRAWN_DAYS   so many days after its consent was withdrawn a case is deleted (7)
HALSTED_OIDC_ISSUER, HALSTED_OIDC_AUDIENCE   an identity provider: its tokens are taken like keys, and users of the
                   page may sign in there (redirect address: <public URL>/session/signed-on)
HALSTED_OIDC_SECRET   the secret of this client at the provider, if it has one
HALSTED_REQUESTS_A_MINUTE   how many requests one key may send per minute, shared evenly by the replicas (3000)
HALSTED_TRUSTED_PROXIES   addresses or networks of proxies before the service's own front, separated by commas: their
                   X-Forwarded-For says who the client is (none)
HALSTED_FRONT_SECRET   what the front sends with each request, so that the service believes the address that it names;
                   `serve run` makes one, on a cluster the front and the service get the same one (none: not believed)
HALSTED_FRONT_ADDRESS_CONNECTIONS   how many connections one address may have open; a hospital can have one address for
                   all of its people, and a browser opens six (600)
HALSTED_LEASE_S    after so many seconds without a sign of a job's worker another worker takes the job (30)
HALSTED_QUOTA_GB   what the videos and open uploads of one tenant may have together, in 10^9 bytes (no bound);
                   `halsted serve quota` sets it for one tenant
HALSTED_RESERVE_MB what uploads leave free on the disk of the store, in 10^6 bytes; mapping stops at half of it (5% of
                   the disk, at most 1 GiB)
HALSTED_OPEN_UPLOADS   how many uploads of one tenant may be open (1000)
HALSTED_UPLOAD_DAYS    after so many days without a part an upload is ended and its parts are removed (7)
HALSTED_VIDEO_HOURS, HALSTED_VIDEO_FRAMES   the longest video that is taken (24 hours, 10000000 frames)
HALSTED_DEIDENTIFY what is done to each upload before anything else reads it: full, metadata or off, see ``cleaning.py``
                   (full where the extra `deidentify` is installed, else metadata)
HALSTED_PROXY      auto: a copy is made of each video that browsers do not play; off: where somebody asks for it (auto)
HALSTED_ATLAS      the archive whose atlas takes annotations in, a folder or a URL (none: they stay in the service)
HALSTED_SEARCH_MODEL   the model of video and text with which cases are searched in words: a folder, a URL, or a version
                   of the registry, looked up once per start (none: they are searched by example alone)
HALSTED_COHORT_CASES   from so many cases of a procedure on, by at least five surgeons, a surgeon may compare their own
                   cases with the quartiles of the others (20); 0: nobody may; 10 is the least
HALSTED_REVIEW_FIRST   1: a video in which something was hidden is mapped only after somebody has accepted that
HALSTED_JOB_MEMORY_MB  the memory of a job's own process; a job that needs more fails (4096)
HALSTED_DATABASE_CONNECTIONS   the most connections of one replica to the database (48)

In brackets: the default.
"""

from __future__ import annotations

import ipaddress
import math
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from halsted_ray.deidentify.clean import has_text_reader
from halsted_ray.errors import UsageError
from halsted_ray.service.cleaning import LEVELS
from halsted_ray.service.cohort_members import FEWEST_EVER, LEAST_CASES
from halsted_ray.service.database import CONNECTIONS
from halsted_ray.service.playback import PROXIES

MIB = 1024 * 1024
ADDRESS_CONNECTIONS = 600
"""Of one address: 100 browsers, each with six connections."""


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
    hosts: tuple[str, ...] = ()
    """Host names of the service beside that of ``public_url``."""
    trusted_proxies: tuple[str, ...] = ()
    """Addresses or networks (CIDR) of proxies before the front, whose X-Forwarded-For it believes."""
    key_days: float = 90.0
    """After so many days a key expires that was issued without a time of its own."""
    audit_to: str | None = None
    """Where the newest digest of the audit log is written, see ``audit_places.py``."""
    audit_every_s: float = 300.0
    """How often the newest digest is written. What was added to the log since then can be cut off unnoticed."""
    retention_days: float | None = None
    """How long a new case is kept; None: until somebody deletes it."""
    withdrawn_days: float = 7.0
    """How long a case is kept once its consent is withdrawn."""
    clip_bytes: int = 16 * MIB
    """The largest clip in a request."""
    json_bytes: int = 4 * MIB
    """The largest other body of a request. The longest body names the 10,000 parts of an upload."""
    study_bytes: int = 256 * 1024 * MIB
    """The largest body of a request with DICOM instances."""
    clip_s: float = 60.0
    """The longest clip that is tagged."""
    requests_per_minute: int = 3000
    """How many requests one key may send per minute. Each part of an upload is one request."""
    upload_days: float = 7.0
    """After so many days without a part an upload that nobody completed is removed."""
    quota_bytes: int | None = None
    """What one tenant may keep, where it has no quota of its own; None: no bound."""
    reserve_bytes: int | None = None
    """What uploads leave free on the disk of the store; None: a share of the disk."""
    open_uploads: int = 1000
    """How many uploads of one tenant may be open."""
    video_hours: float = 24.0
    video_frames: int = 10_000_000
    """The longest video that is taken: 24 hours have 5,184,000 frames at 60 per second."""
    deidentify: str = "metadata"
    """What is done to each upload before anything else reads it (``cleaning.LEVELS``)."""
    proxies: str = "auto"
    """Whether a copy is made of each video that browsers do not play (``playback.PROXIES``)."""
    review_first: bool = False
    """Whether a video in which something was hidden is mapped only after somebody has accepted that."""
    cohort_cases: int = LEAST_CASES
    """From so many cases on a surgeon may compare their own with the others'; 0: never."""
    atlas: str | None = None
    """The archive whose atlas takes annotations in; None: annotations stay in the service."""
    search_model: str | None = None
    """The model of video and text for questions in words; None: questions by example alone."""
    job_memory_mb: int = 4096
    """The memory of the process that plans and publishes a job. The actors that decode and encode are bounded by
    segments and not by videos."""
    connections: int = CONNECTIONS
    """The most connections of one replica to the database."""
    link_s: float = 3600.0
    """How long the address of a part is valid."""
    poll_s: float = 25.0
    """How long a poll of the SDK is held open. The SDK has no timeout of its own and sleeps 10 s between polls."""
    model_poll_s: float = 5.0
    """How often the service looks for a new model."""
    front_secret: str | None = None
    address_connections: int = ADDRESS_CONNECTIONS
    """How many connections one address may have open."""
    lease_s: float = 30.0
    """How long a job belongs to its worker after the worker's last heartbeat."""

    @classmethod
    def read(cls, environment: Mapping[str, str] = os.environ) -> Settings:
        """The settings in ``environment``. Raises UsageError for a number that can't be used."""
        state = Path(environment.get("HALSTED_STATE") or "serve-state").absolute()
        atlas = environment.get("HALSTED_ATLAS")
        store = environment.get("HALSTED_STORE") or str(state / "store")
        return cls(
            database=environment.get("HALSTED_DATABASE") or f"sqlite:///{state / 'halsted.db'}",
            store=store if "://" in store else str(Path(store).absolute()),
            model=environment.get("HALSTED_MODEL") or "phantom",
            encoder=environment.get("HALSTED_ENCODER") or None,
            presign=environment.get("HALSTED_PRESIGN") == "1",
            public_url=environment.get("HALSTED_PUBLIC_URL") or None,
            hosts=_list(environment, "HALSTED_HOSTS"),
            trusted_proxies=_networks(environment, "HALSTED_TRUSTED_PROXIES"),
            key_days=_number(environment, "HALSTED_KEY_DAYS", 90.0),
            audit_to=environment.get("HALSTED_AUDIT_TO") or None,
            audit_every_s=_number(environment, "HALSTED_AUDIT_EVERY_S", 300.0),
            retention_days=(
                _number(environment, "HALSTED_RETENTION_DAYS", 1.0)
                if environment.get("HALSTED_RETENTION_DAYS")
                else None
            ),
            withdrawn_days=_number(environment, "HALSTED_WITHDRAWN_DAYS", 7.0),
            oidc_issuer=environment.get("HALSTED_OIDC_ISSUER") or None,
            oidc_audience=environment.get("HALSTED_OIDC_AUDIENCE") or "halsted",
            oidc_secret=environment.get("HALSTED_OIDC_SECRET") or None,
            requests_per_minute=int(_number(environment, "HALSTED_REQUESTS_A_MINUTE", 3000)),
            front_secret=environment.get("HALSTED_FRONT_SECRET") or None,
            address_connections=int(_number(environment, "HALSTED_FRONT_ADDRESS_CONNECTIONS", ADDRESS_CONNECTIONS)),
            lease_s=_number(environment, "HALSTED_LEASE_S", 30.0),
            quota_bytes=_bytes(environment, "HALSTED_QUOTA_GB", 10**9),
            reserve_bytes=_bytes(environment, "HALSTED_RESERVE_MB", 10**6),
            open_uploads=int(_number(environment, "HALSTED_OPEN_UPLOADS", 1000)),
            upload_days=_number(environment, "HALSTED_UPLOAD_DAYS", 7.0),
            video_hours=_number(environment, "HALSTED_VIDEO_HOURS", 24.0),
            video_frames=int(_number(environment, "HALSTED_VIDEO_FRAMES", 10_000_000)),
            deidentify=_level(environment),
            proxies=_proxies(environment),
            atlas=(atlas if "://" in atlas else str(Path(atlas).absolute())) if atlas else None,
            search_model=environment.get("HALSTED_SEARCH_MODEL") or None,
            cohort_cases=_cohort_cases(environment),
            review_first=environment.get("HALSTED_REVIEW_FIRST") == "1",
            job_memory_mb=int(_number(environment, "HALSTED_JOB_MEMORY_MB", 4096)),
            connections=int(_number(environment, "HALSTED_DATABASE_CONNECTIONS", CONNECTIONS)),
        )


def _bytes(environment: Mapping[str, str], name: str, unit: int) -> int | None:
    """The variable ``name``, which counts in ``unit`` bytes, as bytes; None where it is not set."""
    return round(_number(environment, name, 1.0) * unit) if environment.get(name) else None


def _level(environment: Mapping[str, str]) -> str:
    """HALSTED_DEIDENTIFY. Raises UsageError for another word, and for full where the extra is not installed."""
    level = environment.get("HALSTED_DEIDENTIFY") or ("full" if has_text_reader() else "metadata")
    if level not in LEVELS:
        raise UsageError(f"HALSTED_DEIDENTIFY={level!r}: expected one of {', '.join(LEVELS)}")
    if level == "full" and not has_text_reader():
        raise UsageError("HALSTED_DEIDENTIFY=full reads text: pip install 'halsted-ray[deidentify]', or say metadata")
    return level


def _cohort_cases(environment: Mapping[str, str]) -> int:
    """HALSTED_COHORT_CASES. Raises UsageError for what is neither 0 nor a whole number of enough cases."""
    text = environment.get("HALSTED_COHORT_CASES") or str(LEAST_CASES)
    if not text.isascii() or not text.isdigit() or 0 < int(text) < FEWEST_EVER:
        raise UsageError(
            f"HALSTED_COHORT_CASES={text!r}: expected 0 (no comparison) or a whole number from {FEWEST_EVER} on; "
            "quartiles of fewer cases say too much of each"
        )
    return int(text)


def _proxies(environment: Mapping[str, str]) -> str:
    """HALSTED_PROXY. Raises UsageError for another word."""
    proxies = environment.get("HALSTED_PROXY") or "auto"
    if proxies not in PROXIES:
        raise UsageError(f"HALSTED_PROXY={proxies!r}: expected one of {', '.join(PROXIES)}")
    return proxies


def _list(environment: Mapping[str, str], name: str) -> tuple[str, ...]:
    """The entries of the variable ``name``, which commas or spaces separate."""
    return tuple(environment.get(name, "").replace(",", " ").split())


def _networks(environment: Mapping[str, str], name: str) -> tuple[str, ...]:
    """The addresses or networks in the variable ``name``. Raises UsageError for anything else."""
    found = _list(environment, name)
    for entry in found:
        try:
            ipaddress.ip_network(entry)
        except ValueError:
            raise UsageError(f"{name}: {entry!r} is no address or network; expected such as 10.0.0.0/8") from None
    return found


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
