"""Lets a Ray of this machine alone start and live beside other work, where its processes take longer than Ray waits."""

from __future__ import annotations

import inspect
import random
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any

PATIENCE = {
    "RAY_health_check_timeout_ms": "60000",
    "RAY_worker_register_timeout_seconds": "300",
    "RAY_agent_register_timeout_ms": "120000",
}
"""By default Ray ends a node that five times says nothing for 10 s, a worker that takes more than 60 s to start, and a
node whose agents take more than 30 s: a laptop that swaps memory must not lose its run. A node whose process is gone
refuses to be asked, so that this is noticed as soon as before."""
STARTS_WITHIN_S = 120.0
NOT_STARTED = "timed out during startup"
"""What Ray says, and what ``given_time_to_start`` says, where Ray's processes don't start."""
PORTS = range(20_000, 32_000)
"""No system hands these out by itself, so that a port that is free now is free when the agent binds it."""
AGENT_PORTS = ("metrics_agent_port", "metrics_export_port", "runtime_env_agent_port", "dashboard_agent_listen_port")


@contextmanager
def given_time_to_start() -> Iterator[None]:
    """Has a Ray that starts within the block wait ``STARTS_WITHIN_S`` for its own processes.

    By itself Ray waits 30 s for the process of the node, and that process waits 15 s for its agents to tell their
    ports, for which there is no setting, and then crashes. Here it is told the ports.
    """
    import ray._private.services as services

    start, look = services.start_raylet, services.get_node
    started: list[Any] = []

    def start_with_ports(*given: object, **named: object) -> Any:
        words = inspect.signature(start).bind(*given, **named).arguments
        for name in AGENT_PORTS:
            if not words.get(name):
                words[name] = _free_port()
        _tell_port(words["session_dir"], words["node_id"], AGENT_PORTS[-1], words[AGENT_PORTS[-1]])
        started.append(start(**words))
        return started[-1]

    def wait(*node: object) -> Any:
        until_s = time.monotonic() + STARTS_WITHIN_S
        while True:
            try:
                return look(*node)
            except RuntimeError as error:  # it is not registered yet
                has_ended = bool(started) and started[-1].process.poll() is not None
                if has_ended or time.monotonic() > until_s:
                    raise Exception(f"Ray's process {NOT_STARTED}") from error
                time.sleep(0.25)

    services.start_raylet, services.get_node = start_with_ports, wait
    try:
        yield
    finally:
        services.start_raylet, services.get_node = start, look


def _tell_port(session_dir: Any, node_id: Any, name: str, port: Any) -> None:
    """Of this port alone Ray's process always waits for the file in which the agent says it."""
    from ray._raylet import persist_port  # type: ignore[attr-defined]  # the stub lacks it

    persist_port(session_dir, node_id, name, port)


def _free_port() -> int:
    for port in random.SystemRandom().sample(PORTS, 100):
        with suppress(OSError), socket.socket() as found:
            found.bind(("", port))
            return port
    return 0  # the agent chooses one itself
