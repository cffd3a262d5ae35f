"""A surgeon's single upload is not behind a month of archive: what a run may take of a cluster, and when it waits.

    low      leaves a quarter of the logical CPUs and of every GPU to others, for an archive; all runs of priority low
             together leave that much
    normal   takes what is free
    high     starts in what is left, on actors that hold little of it; all other runs on the cluster pause between
             segments while it is at work, so the cores themselves are its own

Ray takes nothing back from a run, so the room is left beforehand. A run of priority high announces itself by an actor
with a name: it ends with the driver, however that ends, and nobody waits for a run that is gone. A run of priority low
announces what it holds in the same way, so that the next one knows what the others leave it.
"""

from __future__ import annotations

import math
import random
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass

from halsted_ray.compute.pools import LEAST_SHARE, SPARE_CPUS, Pools
from halsted_ray.errors import ResourceError

PRIORITIES = ("low", "normal", "high")
NAMESPACE = "halsted-runs"
"""Of the actors by which runs of priority high announce themselves."""
LOW_NAMESPACE = "halsted-low-runs"
"""Of the actors by which runs of priority low announce what they hold; the name of each says it."""
RESERVED_SHARE = 0.25
LEAST_CPUS = SPARE_CPUS + 2 * LEAST_SHARE
"""One decoding and one tagging actor beside Ray Data itself."""
LOOK_EVERY_S = 0.5
WAIT_AT_MOST_S = 900.0
"""A new machine takes 2 to 5 minutes until it is part of the cluster, and its image may have to come first."""


@dataclass(frozen=True)
class Room:
    """What a run may take of a cluster now: what ``pools.size_pools`` asks for."""

    cpus: float
    gpus: int
    cores: int
    gpu_share: float = 1.0


@dataclass(frozen=True)
class Share:
    """What actors of priority low hold: logical CPUs, and GPUs of each of which they leave ``RESERVED_SHARE``."""

    cpus: float = 0.0
    gpus: int = 0


NOTHING = Share()


def room_of(priority: str, free: dict[str, float], total: dict[str, float], low: Share = NOTHING) -> Room:
    """The room of a run on a cluster with these resources ('CPU', 'GPU'). ``low``: what the other runs of priority
    low hold of it."""
    cpus, gpus = free.get("CPU", 0.0), free.get("GPU", 0.0)
    # What is left of the GPUs of low runs adds up to whole GPUs that are nowhere.
    whole_gpus = max(0, int(gpus - RESERVED_SHARE * low.gpus))
    if priority == "low":
        left = _left_to_low(total, low)
        cpus = min(cpus, left.cpus)
        return Room(cpus, min(whole_gpus, left.gpus), _whole(cpus), 1 - RESERVED_SHARE)
    if priority == "high":
        # As many actors as fit in what is left by asking for little: the cores are theirs while the others pause.
        actors = int((cpus - SPARE_CPUS) / LEAST_SHARE)
        shared = min(int(total.get("GPU", 0.0)), int(gpus / RESERVED_SHARE))
        return Room(cpus, shared, max(1, min(_whole(total.get("CPU", 0.0)), actors - 1)), RESERVED_SHARE)
    return Room(cpus, whole_gpus, _whole(cpus))


def room(
    priority: str,
    on_wait: Callable[[str], None] = lambda message: None,
    wait_s: float = WAIT_AT_MOST_S,
    own: str | None = None,
) -> Room:
    """The room on the cluster that this process is connected to; waits for machines on their way, and for other runs
    to end, until there is any. ``own``: the name under which this run announced what it holds. ``on_wait`` is told at
    each look why. Raises ResourceError after ``wait_s``."""
    import ray
    from ray.autoscaler.sdk import request_resources

    started_s, asked = time.monotonic(), False
    try:
        while True:
            total, low = ray.cluster_resources(), low_runs(without=own)
            found = room_of(priority, ray.available_resources(), total, low)
            if found.cpus >= LEAST_CPUS:
                return found
            waited_s = time.monotonic() - started_s
            there = (
                f"{max(0.0, found.cpus):g} of the {total.get('CPU', 0.0):g} logical CPUs of the cluster are free "
                f"for a run of priority {priority}, which needs {LEAST_CPUS:g}"
                + (f"; other runs of priority low hold {low.cpus:g}" if low.cpus else "")
            )
            if waited_s >= wait_s:
                raise ResourceError(
                    f"{there}, and were not within {wait_s:.0f} s; start Ray with --num-cpus=4 or more, "
                    "let its workers start, end what else runs there"
                    + (", or map with another priority" if priority == "low" else "")
                )
            if total.get("CPU", 0.0) < LEAST_CPUS and not asked:
                asked = True
                request_resources(bundles=[{"CPU": 1}] * 4)  # a cluster that grows does so for those who ask
            on_wait(f"{there}; gives up in {math.ceil((wait_s - waited_s) / 60)} min")
            time.sleep(min(LOOK_EVERY_S, wait_s - waited_s))
    finally:
        if asked:
            request_resources(bundles=[])  # from here on the actors speak for themselves, or nobody waits any more


@contextmanager
def announced(priority: str) -> Iterator[None]:
    """Other runs pause while the block of a run of priority high lasts, or as long as its process lives."""
    import ray

    if priority != "high":
        yield
        return
    actor = _named_actor(uuid.uuid4().hex, NAMESPACE)
    try:
        yield
    finally:
        ray.kill(actor)


class LowRun:
    """What one run of priority low tells the others on the cluster: how much its actors hold. Use it as a context:
    at its end, or at the end of its process, the run holds nothing any more."""

    def __init__(self) -> None:
        self.name: str | None = None
        self._actor = None

    def __enter__(self) -> LowRun:
        return self

    def __exit__(self, *_exc: object) -> None:
        self._take_back()

    def claim(
        self, size: Callable[[Room], Pools], on_wait: Callable[[str], None] = lambda message: None
    ) -> tuple[Room, Pools]:
        """(room of this run now, the pools that ``size`` makes of it), announced to the other runs. What the run
        announced before counts as free. Waits and raises as ``room`` does, and raises what ``size`` raises.

        Runs that ask in the same moment don't see each other before they have announced their shares. So each looks
        again afterwards, and takes its word back and tries again where all shares together leave too little: of two
        runs at least the one that looks last sees the other.
        """
        import ray

        while True:
            found = room("low", on_wait, own=self.name)
            pools = size(found)
            self._announce(pools)
            held, left = held_by(pools), _left_to_low(ray.cluster_resources(), low_runs(without=self.name))
            if held.cpus <= left.cpus and held.gpus <= left.gpus:
                return found, pools
            self._take_back()
            time.sleep(random.uniform(0, 2 * LOOK_EVERY_S))

    def _announce(self, pools: Pools) -> None:
        held, before = held_by(pools), self._actor
        self.name = f"{held.cpus:.2f} {held.gpus} {uuid.uuid4().hex}"
        self._actor = _named_actor(self.name, LOW_NAMESPACE)
        self._end(before)

    def _take_back(self) -> None:
        before, self._actor, self.name = self._actor, None, None
        self._end(before)

    def _end(self, actor) -> None:
        import ray

        if actor is not None:
            ray.kill(actor)


def _left_to_low(total: dict[str, float], low: Share) -> Share:
    """The most that one more run of priority low may hold on a cluster with these resources beside those of ``low``."""
    reserve = max(LEAST_CPUS, RESERVED_SHARE * total.get("CPU", 0.0))
    return Share(total.get("CPU", 0.0) - reserve - low.cpus, max(0, int(total.get("GPU", 0.0)) - low.gpus))


def held_by(pools: Pools) -> Share:
    """What these pools hold of a cluster."""
    cpus = pools.decoders * pools.decoder_cpus + pools.taggers * pools.tagger_cpus
    return Share(cpus, pools.taggers if pools.tagger_gpus else 0)


def low_runs(without: str | None = None) -> Share:
    """What the runs of priority low on this cluster hold together, but for the run that announced it under the name
    ``without``. One question to Ray's head, about 1 ms."""
    import ray

    names = [actor["name"] for actor in ray.util.list_named_actors(True) if actor["namespace"] == LOW_NAMESPACE]
    shares = [name.split()[:2] for name in names if name != without]
    return Share(sum(float(cpus) for cpus, _ in shares), sum(int(gpus) for _, gpus in shares))


def must_pause() -> bool:
    """Whether a run of priority high is at work on this cluster: one question to Ray's head, about 1 ms."""
    import ray

    return any(actor["namespace"] == NAMESPACE for actor in ray.util.list_named_actors(all_namespaces=True))


@contextmanager
def pauses_told(on_wait: Callable[[str], None]) -> Iterator[Callable[[], None]]:
    """While the block lasts, ``on_wait`` is told at each look that this run pauses for one of priority high, if it
    does: nothing comes back from the actors then. It is called in a thread of its own. The block gets a function that
    raises what ``on_wait`` raised, for the thread that follows the run."""
    over, raised = threading.Event(), []

    def look() -> None:
        while not over.wait(LOOK_EVERY_S):
            paused = False
            with suppress(Exception):  # a head that does not answer: whoever needs it for the work tells of it
                paused = must_pause()
            if not paused:
                continue
            try:
                on_wait("a run of priority high is at work on this cluster; this run pauses until that run ends")
            except BaseException as error:
                raised.append(error)
                return

    def check() -> None:
        if raised:
            raise raised[0]

    thread = threading.Thread(target=look, name="pauses", daemon=True)
    thread.start()
    try:
        yield check
    finally:
        over.set()
        thread.join(timeout=5)


def _named_actor(name: str, namespace: str):
    """An actor that other drivers see by name, from the moment this returns until it is killed or this process ends.
    It needs a process of its own (about 60 MB) and no CPU."""
    import ray

    class HalstedRun:
        pass

    return ray.remote(HalstedRun).options(name=name, namespace=namespace, num_cpus=0).remote()


def _whole(cpus: float) -> int:
    return max(1, int(cpus - SPARE_CPUS))
