"""Connects to the Ray cluster at hand, or starts a local one where there is none."""

from __future__ import annotations

import logging
import math
import os
import signal
import socket
import sys
import threading
import time
import traceback
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import halsted_ray
from halsted_ray.compute.pools import SPARE_CPUS
from halsted_ray.errors import ResourceError
from halsted_ray.storage.locations import local_uri, printable

WORKERS_WITHIN_S = 900.0
"""A machine of a cloud needs 2 to 5 minutes to start, and the image some more to arrive."""
STARTS = 3
PATIENCE = {"RAY_health_check_timeout_ms": "60000", "RAY_worker_register_timeout_seconds": "300"}
"""By default Ray ends a node that five times says nothing for 10 s, and a worker that takes more than 60 s to start:
a laptop that swaps memory must not lose its run. A node whose process is gone refuses to be asked, so that this is
noticed as soon as before."""
NO_PREEMPTION = "RAY_TRAIN_ENABLE_PREEMPTION_WATCHER", "0"
"""By default each training starts a process that looks for machines that a cloud is about to take away. A cluster of
this machine alone has none."""
ANSWER_S = 10.0
"""How long a cluster may take to take a connection, and as long again to say its first word."""
HTTP2_PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + bytes([0, 0, 0, 4, 0, 0, 0, 0, 0])
HTTP2_SETTINGS, HTTP2_HEAD_BYTES = b"\x04", 9
"""How both sides of HTTP/2 begin (RFC 9113, 3.4): with a frame of settings, whose type is the fourth byte of its
head."""
NO_CRASH_HANDLER = "RAY_DISABLE_FAILURE_SIGNAL_HANDLER"
"""Where this is 1 when ray is imported, it installs no signal handlers in C++. Its handler of SIGTERM prints a stack
trace and aborts the process. A crash (SIGSEGV) still leaves Python's stack, by the faulthandler that Ray enables."""
logger = logging.getLogger(__name__)


@contextmanager
def connected(
    wait_for: tuple[int, int] = (0, 0),
    on_message: Callable[[str], None] = lambda message: None,
    on_wait: Callable[[str], None] = lambda message: None,
) -> Iterator[tuple[float, float, int]]:
    """(free logical CPUs, free GPUs, cores that compute) of the cluster at hand.

    This is the cluster that the process is connected to, else the one of RAY_ADDRESS, else a local one that ends with
    the block. A cluster that grows on demand is first asked for ``wait_for`` (CPUs, GPUs), and is let go of at the end
    of the block: a run begins with pools for the workers that are there, and grows them when more come.
    ``on_wait`` is called once per second while the cluster has not grown, with what is still missing; ``on_message`` is
    called where it did not grow in time. Raises ResourceError where no cluster answers.
    """
    import ray

    started = False
    if not ray.is_initialized():
        started = not is_attached()
        _start(local=started)
    has_requested = any(wait_for) and not started
    try:
        if has_requested:
            _wait_for_workers(*wait_for, on_message, on_wait)
        free = ray.available_resources()
        cpus, gpus = free.get("CPU", 0.0), free.get("GPU", 0.0)
        yield cpus, gpus, _cores() if started else max(1, int(cpus - SPARE_CPUS))
    finally:
        if has_requested:
            _request(0, 0)
        if started:
            ray.shutdown()


def is_attached() -> bool:
    """Whether ``connected`` gives a cluster that other runs may use at the same time."""
    import ray

    return ray.is_initialized() or bool(os.environ.get("RAY_ADDRESS"))


def _wait_for_workers(cpus: int, gpus: int, on_message: Callable[[str], None], on_wait: Callable[[str], None]) -> None:
    import ray

    until_s = time.monotonic() + WORKERS_WITHIN_S
    _request(cpus, gpus)
    while (total := ray.cluster_resources()).get("CPU", 0) < cpus or total.get("GPU", 0) < gpus:
        left_s = until_s - time.monotonic()
        has = f"the cluster has {total.get('CPU', 0):g} CPUs and {total.get('GPU', 0):g} GPUs"
        if left_s < 0:
            on_message(
                f"{has} after {WORKERS_WITHIN_S:.0f} s, not the {cpus} CPUs and {gpus} GPUs that were asked for; "
                "the run goes on with what is there"
            )
            return
        on_wait(
            f"{has} of the {cpus} CPUs and {gpus} GPUs that were asked for; the run goes on with what is there in "
            f"{math.ceil(left_s / 60)} min"
        )
        time.sleep(1)


def _request(cpus: int, gpus: int) -> None:
    """Makes an autoscaler, where there is one, keep this many until the next request."""
    from ray.autoscaler.sdk import request_resources

    request_resources(bundles=[{"CPU": 1}] * cpus + [{"GPU": 1}] * gpus)


def _start(local: bool) -> None:
    os.environ.setdefault(NO_CRASH_HANDLER, "1")
    import ray  # it reads this variable when it is imported

    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    # Ray's core prints to the driver's terminal at every level but this, and once to say that the level was set.
    os.environ.setdefault("RAY_BACKEND_LOG_LEVEL", "fatal")
    # By default Ray's workers yield to every other process: beside eight busy processes on two cores, a run of 22 s was
    # not done after 540 s; with niceness 0 it took 103 s. Who wants a run that yields starts the command with `nice`.
    os.environ.setdefault("RAY_worker_niceness", "0")
    options: dict[str, object] = {"log_to_driver": False, "logging_level": logging.ERROR}
    if local:
        for name, value in PATIENCE.items():
            os.environ.setdefault(name, value)
        os.environ.setdefault(*NO_PREEMPTION)
        options |= {"address": "local", "num_cpus": max(4, _cores() + SPARE_CPUS), "include_dashboard": False}
    else:
        try:
            ask_cluster(os.environ["RAY_ADDRESS"])
        except OSError as error:
            raise _no_cluster(error) from error
    for tries_left in reversed(range(STARTS if local else 1)):
        try:
            with _muted_stderr(), signals_held(), _words_as_utf8(), ExitStack() as stack:
                if local:
                    stack.enter_context(on_loopback())
                    stack.enter_context(without_monitors())
                ray.init(**options)
            return
        except ConnectionError as error:
            raise _no_cluster(error) from error
        except Exception as error:
            # Ray waits 30 s for its own processes, and on a busy machine they do not always start in that time.
            _end_half_started(error)
            ray.shutdown()
            if "timed out during startup" not in str(error) or not tries_left:
                raise
            logger.warning("Ray did not start within its 30 s; trying again")


def _end_half_started(error: BaseException) -> None:
    """Ends the processes of a node that did not start whole. ``ray.shutdown`` knows nothing of it, and they would run
    on beside the next try, on a machine that is too busy already."""
    from ray._private.node import Node

    for frame, _ in traceback.walk_tb(error.__traceback__):
        node = frame.f_locals.get("self")
        if isinstance(node, Node):
            node.kill_all_processes(check_alive=False, wait=True)


def ask_cluster(address: str) -> bool:
    """Whether a cluster was asked at ``address`` (as RAY_ADDRESS names it), and answered; False for a name that only
    Ray itself can try. Takes at most twice ``ANSWER_S``.

    Raises OSError where none answers. Ray itself would try for minutes without a word, also where its note of the
    latest cluster of this machine (``auto``) outlived the cluster, where something else listens, and where the
    cluster's first process hangs.
    """
    from ray._private import services

    if address == "auto":
        address = services.canonicalize_bootstrap_address(address) or ""
    host, _, port = address.removeprefix("ray://").rpartition(":")
    if not host or "/" in host or not port.isdigit():
        return False
    with socket.create_connection((host.strip("[]"), int(port)), timeout=ANSWER_S) as connection:
        if os.environ.get("RAY_USE_TLS", "0") == "0":
            _require_http2(connection)
    return True


def _require_http2(connection: socket.socket) -> None:
    """Raises OSError where the other side does not begin to speak HTTP/2 in time, as each process of Ray does (gRPC).
    (Not by a channel of grpc: its threads would stay in a process that forks.)"""
    connection.sendall(HTTP2_PREFACE)
    answer = b""
    until_s = time.monotonic() + ANSWER_S
    while len(answer) < HTTP2_HEAD_BYTES:
        connection.settimeout(max(0.001, until_s - time.monotonic()))
        more = connection.recv(HTTP2_HEAD_BYTES - len(answer))
        if not more:
            break
        answer += more
    if answer[3:4] != HTTP2_SETTINGS:
        raise ConnectionError("what listens there is no Ray cluster")


def _no_cluster(error: Exception) -> ResourceError:
    return ResourceError(
        f"no Ray cluster answers at RAY_ADDRESS={os.environ.get('RAY_ADDRESS')!r}: {error}; start it, set "
        "RAY_AUTH_MODE=token where it asks for a token (`ray start` makes it do so), or unset "
        "RAY_ADDRESS to run on this machine alone"
    )


@contextmanager
def signals_held() -> Iterator[None]:
    """Holds SIGTERM and the first Ctrl-C back until the end of the block, in which Ray starts.

    A process that leaves ``ray.init`` in the middle aborts in Ray's core when it ends. And Ray sets a handler of
    SIGTERM of its own, which would stay. In a thread other than the main thread there is nothing to hold.
    """
    import ray._private.utils

    if threading.current_thread() is not threading.main_thread():
        yield
        return
    held: list[int] = []

    def hold(number: int, _frame: object) -> None:
        if number in held and number == signal.SIGINT:
            raise KeyboardInterrupt  # whoever gives Ctrl-C twice does not want to wait for Ray
        held.append(number)

    before = {number: signal.signal(number, hold) for number in (signal.SIGINT, signal.SIGTERM)}
    set_handler = ray._private.utils.set_sigterm_handler
    ray._private.utils.set_sigterm_handler = lambda _handler: None
    try:
        yield
    finally:
        ray._private.utils.set_sigterm_handler = set_handler
        for number, handler in before.items():
            signal.signal(number, signal.SIG_DFL if handler is None else handler)
        if held:
            signal.raise_signal(held[0])


@contextmanager
def on_loopback() -> Iterator[None]:
    """Has a Ray that starts within the block listen on 127.0.0.1 alone, in all of its processes.

    By default it listens on all interfaces, without a token, and takes ``_node_ip_address="127.0.0.1"`` for a slip that
    it corrects. Where Ray makes no clusters (macOS and Windows) it uses loopback; this says so of Linux too.
    """
    import ray._private.ray_constants as constants

    name = constants.ENABLE_RAY_CLUSTERS_ENV_VAR  # what Ray starts reads it; this process has read it already
    of_environment, of_process = os.environ.get(name), constants.ENABLE_RAY_CLUSTER
    os.environ[name], constants.ENABLE_RAY_CLUSTER = "0", False
    try:
        yield
    finally:
        constants.ENABLE_RAY_CLUSTER = of_process
        if of_environment is None:
            del os.environ[name]
        else:
            os.environ[name] = of_environment


@contextmanager
def without_monitors() -> Iterator[None]:
    """Has a Ray that starts within the block start two processes fewer, 3 CPU-seconds: the log monitor, which copies
    what workers print to drivers that want it, and the monitor of the autoscaler, for clusters that grow."""
    from ray._private.parameter import RayParams

    make = RayParams.__init__

    def make_without(self: RayParams, *arguments: object, **named: object) -> None:
        make(self, *arguments, **{"include_log_monitor": False, "no_monitor": True, **named})

    RayParams.__init__ = make_without
    try:
        yield
    finally:
        RayParams.__init__ = make


@contextmanager
def _words_as_utf8() -> Iterator[None]:
    """Lets Ray start where a word of the command, or the folder that the command was given in, is not UTF-8.

    Ray notes both as text: the command as the name of the driver, and the folder as a place of modules. In place of
    such a folder it notes the folder of this package.
    """
    import ray._private.utils

    here, name_of_command = os.getcwd(), ray._private.utils.get_entrypoint_name
    ray._private.utils.get_entrypoint_name = lambda: printable(name_of_command())
    try:
        if local_uri(here) != here:
            os.chdir(Path(halsted_ray.__file__).parents[1])
        yield
    finally:
        ray._private.utils.get_entrypoint_name = name_of_command
        if os.getcwd() != here:
            os.chdir(here)


@contextmanager
def _muted_stderr() -> Iterator[None]:
    """Drops what libraries write to the file descriptor of stderr, past Python, during the block."""
    sys.stderr.flush()
    stderr, null = os.dup(2), os.open(os.devnull, os.O_WRONLY)
    os.dup2(null, 2)
    try:
        yield
    finally:
        os.dup2(stderr, 2)
        os.close(stderr)
        os.close(null)


def _cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
