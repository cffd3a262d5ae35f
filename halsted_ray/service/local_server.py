"""The whole service on this machine, with embedded defaults: Ray, Ray Serve and the front are started here and ended
again. Clients reach the front only; Ray Serve's proxy listens on a free port of loopback."""

from __future__ import annotations

import errno
import logging
import os
import secrets
import signal
import socket
import threading
import time

from halsted_ray.compute.cluster import NO_CRASH_HANDLER, PATIENCE, on_loopback, signals_held
from halsted_ray.errors import UsageError
from halsted_ray.service import setup_link
from halsted_ray.service.database import Database
from halsted_ray.service.front import SECRET_VARIABLE, Front, FrontLimits, free_port
from halsted_ray.service.served_model import model_source
from halsted_ray.service.settings import Settings

WILDCARDS = ("0.0.0.0", "::", "")
"""Hosts that stand for every address of the machine."""
LEAST_CPUS = 8
"""Logical CPUs. Replicas that mostly wait hold some of them, and the actors of every job need one each."""
PORT_WAIT_S = 10.0
"""How long to wait for a port. Where four busy processes shared each core, a killed service held its port for 0.2 s."""
ENVIRONMENT = {
    **PATIENCE,
    "RAY_USAGE_STATS_ENABLED": "0",
    "HF_HUB_OFFLINE": "1",
    "DO_NOT_TRACK": "1",
    NO_CRASH_HANDLER: "1",
    "FORWARDED_ALLOW_IPS": "",  # Serve's proxy believes no X-Forwarded-For; middleware.py does, of the front
    "RAY_worker_niceness": "0",  # otherwise the replicas wait for all other processes of the machine
}
"""What Ray and the replicas find in their environment, unless it says something else already."""


def serve_until_stopped(settings: Settings, host: str, port: int) -> None:
    """Runs the service at ``host:port`` until SIGINT or SIGTERM, and prints its address.

    Where nobody can sign in as an administrator yet, it also prints a link with which the first one is made, once and
    within an hour. No key is printed. Raises UsageError, before anything is started, where there is no model, no
    HAProxy, the port is taken, or clients would not know the service's address.
    """
    if settings.public_url is None and host in WILDCARDS:
        raise UsageError(
            f"--host {host} takes requests on every address of this machine; set HALSTED_PUBLIC_URL to the one that "
            "clients use, such as https://halsted.example"
        )
    claim = claim_port(host, port)
    secret, inner_port = secrets.token_hex(16), free_port()
    limits = FrontLimits(address_connections=settings.address_connections)
    front = Front(host, port, f"127.0.0.1:{inner_port}", secret, limits, settings.trusted_proxies)
    served = model_source(settings.model)()
    database = Database(settings.database)
    database.migrate()
    setup = None
    if not settings.oidc_issuer:  # else the provider says who an administrator is
        with database.writing() as session:
            setup = setup_link.begin(session)
    database.close()
    address = settings.public_url or f"http://{f'[{host}]' if ':' in host else host}:{port}"
    # The replicas are other processes and read the same variables.
    os.environ |= {
        "HALSTED_DATABASE": settings.database,
        "HALSTED_STORE": settings.store,
        "HALSTED_MODEL": settings.model,
        SECRET_VARIABLE: secret,
        "HALSTED_PUBLIC_URL": address,
    }
    for name, value in ENVIRONMENT.items():
        os.environ.setdefault(name, value)
    import ray  # Ray reads the environment when it is imported

    from halsted_ray.service import deployments

    logging.getLogger("ray.serve").setLevel(logging.ERROR)
    with signals_held(), on_loopback():
        ray.init(
            address="local",
            num_cpus=max(LEAST_CPUS, (os.cpu_count() or 1) + 6),
            include_dashboard=False,
            log_to_driver=False,
            logging_level=logging.ERROR,
        )
    deployments.start("127.0.0.1", inner_port)
    front.start()
    address = address.rstrip("/")
    print(f"serving {served.name} version {served.version}\naddress: {address}  (documentation: {address}/docs)")
    if setup:
        print(f"setup:   {address}/#setup={setup}  (makes the first administrator; once, within an hour)")
    print("keys:    halsted serve key TENANT USER ROLE", flush=True)
    stop = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: stop.set())
    stop.wait()
    front.stop()
    deployments.shut_down()
    ray.shutdown()
    claim.close()


def claim_port(host: str, port: int) -> socket.socket:
    """The claim on ``port``, which the caller keeps for as long as the service lives. Raises UsageError where the port
    is served, or where another service has claimed it and is about to start.

    Half a minute passes between this look at the port and the moment when the front binds it. A service that was
    killed holds its port until its last thread has ended; this waits for that.
    """
    until_s = time.monotonic() + PORT_WAIT_S
    claim = socket.socket(socket.AF_UNIX)
    while error := _claim_error(claim, port) or _bind_error(host, port):
        if error.errno != errno.EADDRINUSE or time.monotonic() > until_s:
            claim.close()
            raise UsageError(
                f"can't serve at {host}:{port}: {error}; end the service there, or name another --port or --host"
            )
        time.sleep(0.1)
    return claim


def _claim_error(claim: socket.socket, port: int) -> OSError | None:
    """Binds ``claim`` to a name that stands for ``port``, unless it is bound already.

    The name is an abstract name, which lies in no folder. Like a port it belongs to the first process that takes it,
    of any user, within one network namespace. The kernel frees it at once when the process ends, however the process
    ends. The processes that Ray starts do not inherit it.
    """
    try:
        if not claim.getsockname():
            claim.bind(f"\0halsted-service-{port}")
    except OSError as error:
        return error
    return None


def _bind_error(host: str, port: int) -> OSError | None:
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        with socket.socket(found[0], socket.SOCK_STREAM) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind(found[4])
    except OSError as error:
        return error
    return None
