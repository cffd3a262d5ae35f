"""How many actors of each kind a Ray cluster carries, and a local cluster where there is none."""

from __future__ import annotations

import logging
import math
import os
import signal
import socket
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from halsted_ray.compute.pools import SPARE_CPUS
from halsted_ray.errors import ResourceError

STARTS = 3
WORKERS_WITHIN_S = 900.0
"""A machine of a cloud needs 2 to 5 minutes to start, and the image some more to arrive."""
logger = logging.getLogger(__name__)


@contextmanager
def connected(
    wait_for: tuple[int, int] = (0, 0),
    say: Callable[[str], None] = lambda message: None,
    on_wait: Callable[[str], None] = lambda message: None,
) -> Iterator[tuple[float, float, int]]:
    """(free logical CPUs, free GPUs, cores that compute) of the cluster at hand: the one this process is connected
    to, the one of RAY_ADDRESS, or a local one that ends with the block.

    A cluster that grows by need is asked for ``wait_for`` (CPUs, GPUs) first, and let go of at the end of the block:
    pools are sized at the start of a wave, so workers that come later wait for the next one. ``on_wait`` is told once a
    second which of them have not come yet, ``say`` that they are waited for no longer.
    """
    import ray

    started = False
    if not ray.is_initialized():
        started = not is_attached()
        _start(local=started)
    asked = any(wait_for) and not started
    try:
        if asked:
            _await_workers(*wait_for, say, on_wait)
        free = ray.available_resources()
        cpus, gpus = free.get("CPU", 0.0), free.get("GPU", 0.0)
        yield cpus, gpus, _cores() if started else max(1, int(cpus - SPARE_CPUS))
    finally:
        if asked:
            _ask(0, 0)
        if started:
            ray.shutdown()


def is_attached() -> bool:
    """Whether ``connected`` gives a cluster that others may be using too."""
    import ray

    return ray.is_initialized() or bool(os.environ.get("RAY_ADDRESS"))


def _await_workers(cpus: int, gpus: int, say: Callable[[str], None], on_wait: Callable[[str], None]) -> None:
    import ray

    until_s = time.monotonic() + WORKERS_WITHIN_S
    _ask(cpus, gpus)
    while (there := ray.cluster_resources()).get("CPU", 0) < cpus or there.get("GPU", 0) < gpus:
        left_s = until_s - time.monotonic()
        has = f"the cluster has {there.get('CPU', 0):g} CPUs and {there.get('GPU', 0):g} GPUs"
        if left_s < 0:
            say(
                f"{has} after {WORKERS_WITHIN_S:.0f} s, not the {cpus} and {gpus} that were asked for; going on with "
                "these"
            )
            return
        on_wait(
            f"{has} of the {cpus} and {gpus} that were asked for; goes on with what there is in "
            f"{math.ceil(left_s / 60)} min"
        )
        time.sleep(1)


def _ask(cpus: int, gpus: int) -> None:
    """The autoscaler keeps this many until it is asked again; without one, nothing happens."""
    from ray.autoscaler.sdk import request_resources

    request_resources(bundles=[{"CPU": 1}] * cpus + [{"GPU": 1}] * gpus)


def _start(local: bool) -> None:
    import ray

    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    # Ray's core prints to the driver's terminal at every level but this, and once to say that the level was set.
    os.environ.setdefault("RAY_BACKEND_LOG_LEVEL", "fatal")
    # Ray makes its workers yield to every other process: beside eight busy ones on two cores a run of 22 s was not done
    # after 540 s; like this it took 103. Whoever wants that starts the command with `nice`.
    os.environ.setdefault("RAY_worker_niceness", "0")
    options = {"log_to_driver": False, "logging_level": logging.ERROR}
    if local:
        options |= {"address": "local", "num_cpus": max(4, _cores() + SPARE_CPUS), "include_dashboard": False}
    else:
        _require_answer(os.environ["RAY_ADDRESS"])
    for tries_left in reversed(range(STARTS if local else 1)):
        try:
            with _muted_stderr(), _own_sigterm():
                ray.init(**options)
            return
        except ConnectionError as error:
            raise _no_cluster(error) from error
        except Exception as error:
            # Ray waits 30 s for its own processes, which a machine that is busy otherwise does not always keep.
            ray.shutdown()
            if "timed out during startup" not in str(error) or not tries_left:
                raise
            logger.warning("Ray did not start within its 30 s; trying again")


def _require_answer(address: str) -> None:
    """Ray itself tries for minutes, without a word, to reach a cluster that is not there."""
    host, _, port = address.rpartition(":")
    if not host or "/" in host or not port.isdigit():
        return  # a name of its own, such as 'auto' or 'ray://…'
    try:
        socket.create_connection((host, int(port)), timeout=10).close()
    except OSError as error:
        raise _no_cluster(error) from error


def _no_cluster(error: Exception) -> ResourceError:
    return ResourceError(
        f"no Ray cluster answers at RAY_ADDRESS={os.environ.get('RAY_ADDRESS')!r}: {error}; start it, set "
        "RAY_AUTH_MODE=token where it asks for a token (`ray start` makes it do so), or unset "
        "RAY_ADDRESS to run on this machine alone"
    )


@contextmanager
def _own_sigterm() -> Iterator[None]:
    """Ray takes the signal for itself, at last in C++, where it prints a stack trace and ends the process at once:
    given back here to who had it."""
    kept = signal.getsignal(signal.SIGTERM)
    is_ours = kept is not None and threading.current_thread() is threading.main_thread()
    try:
        yield
    except SystemExit:  # of the handler that Ray has while it starts
        if is_ours:
            signal.signal(signal.SIGTERM, kept)
            signal.raise_signal(signal.SIGTERM)
        raise
    finally:
        if is_ours:
            signal.signal(signal.SIGTERM, kept)


@contextmanager
def _muted_stderr() -> Iterator[None]:
    """Without what libraries write to stderr past Python."""
    sys.stderr.flush()
    kept, nowhere = os.dup(2), os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, 2)
    try:
        yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)
        os.close(nowhere)


def _cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
