"""The whole service on this machine, with embedded defaults: Ray and Ray Serve are started here and ended again."""

from __future__ import annotations

import errno
import logging
import os
import signal
import socket
import threading
import time
from pathlib import Path

from halsted_ray.compute.cluster import NO_CRASH_HANDLER, signals_held
from halsted_ray.errors import UsageError
from halsted_ray.service import users
from halsted_ray.service.database import Database
from halsted_ray.service.served_model import model_source
from halsted_ray.service.settings import Settings

TENANT, USER = "demo", "demo"
"""The tenant and the user of the key that is printed."""
LEAST_CPUS = 8
"""Logical CPUs. Replicas that mostly wait hold some of them, and the actors of every job need one each."""
PORT_WAIT_S = 10.0
"""How long to wait for a port. Where four busy processes shared each core, a killed service held its port for 0.2 s."""
ENVIRONMENT = {
    "RAY_USAGE_STATS_ENABLED": "0",
    "HF_HUB_OFFLINE": "1",
    "DO_NOT_TRACK": "1",
    NO_CRASH_HANDLER: "1",
    "RAY_worker_niceness": "0",  # otherwise the replicas wait for all other processes of the machine
}
"""What Ray and the replicas find in their environment, unless it says something else already."""


def serve_until_stopped(settings: Settings, host: str, port: int, key_file: Path) -> None:
    """Runs the service at ``host:port`` until SIGINT or SIGTERM, and prints its address and a key.

    The key is the key in ``key_file`` while it is valid, else a new key, which is written there. Raises UsageError
    where there is no model or the port is taken, before anything is started.
    """
    claim = claim_port(host, port)
    served = model_source(settings.model)()
    database = Database(settings.database)
    database.migrate()
    key = _operator_key(database, key_file)
    database.close()
    # The replicas are other processes and read the same variables.
    os.environ |= {
        "HALSTED_DATABASE": settings.database,
        "HALSTED_STORE": settings.store,
        "HALSTED_MODEL": settings.model,
    }
    for name, value in ENVIRONMENT.items():
        os.environ.setdefault(name, value)
    import ray  # Ray reads the environment when it is imported

    from halsted_ray.service import deployments

    logging.getLogger("ray.serve").setLevel(logging.ERROR)
    with signals_held():
        ray.init(
            address="local",
            _node_ip_address="127.0.0.1",
            num_cpus=max(LEAST_CPUS, (os.cpu_count() or 1) + 6),
            include_dashboard=False,
            log_to_driver=False,
            logging_level=logging.ERROR,
        )
    deployments.start(host, port)
    address = f"http://{host}:{port}"
    print(
        f"serving {served.name} version {served.version}\naddress: {address}  (documentation: {address}/docs)\n"
        f"user:    {USER}\nkey:     {key}",
        flush=True,
    )
    stop = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: stop.set())
    stop.wait()
    deployments.shut_down()
    ray.shutdown()
    claim.close()


def claim_port(host: str, port: int) -> socket.socket:
    """The claim on ``port``, which the caller keeps for as long as the service lives. Raises UsageError where the port
    is served, or where another service has claimed it and is about to start.

    Serve's proxies share a port, so a second service on it would get every second request of the first. Half a minute
    passes between this look at the port and the moment when Serve binds it. A service that was killed holds its port
    until its last thread has ended; this waits for that.
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


def _operator_key(database: Database, file: Path) -> str:
    """The key in ``file`` while it is valid, else a new key, written to a file that only its owner can read."""
    known = file.read_text().strip() if file.is_file() else ""
    if known:
        with database.reading() as session:
            if users.authenticate(session, known):
                return known
    key = users.issue_operator_key(database, TENANT, USER, "admin")
    file.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    file.touch(mode=0o600)
    file.write_text(key + "\n")
    return key
