"""How runs of priority low share a cluster: each tells the others what its actors hold, and they claim their shares one
after the other."""

from __future__ import annotations

import random
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Any

from halsted_ray.compute.pools import Pools
from halsted_ray.compute.priority import (
    LEAST_CPUS,
    LOOK_EVERY_S,
    LOW_NAMESPACE,
    WAIT_AT_MOST_S,
    Capacity,
    capacity_now,
    held_by,
    named_actor,
    wait_for_capacity,
)
from halsted_ray.errors import ResourceError

TURN_NAMESPACE = "halsted-low-turn"
"""Of the actor by which a run of priority low keeps others waiting while it claims its share."""
LONGEST_KNOCK_S = 0.2
"""The limit of the random pause between two tries to have the turn. One try is one question to Ray's head."""


class LowPriorityRun:
    """What one run of priority low tells the others on the cluster: how much its actors hold. A context manager: at
    its end, or at the end of its process, the run holds nothing any more."""

    def __init__(self) -> None:
        self.name: str | None = None
        self._actor: Any = None

    def __enter__(self) -> LowPriorityRun:
        return self

    def __exit__(self, *_exc: object) -> None:
        self._take_back()

    def claim(
        self, size: Callable[[Capacity], Pools], on_wait: Callable[[str], None] = lambda message: None
    ) -> tuple[Capacity, Pools]:
        """(what this run may take now, the pools that ``size`` makes of it), announced to the other runs.

        What the run announced before counts as free. Waits and raises as ``wait_for_capacity`` does, and raises what
        ``size`` raises. Runs look and announce one after the other (``taking_turns``): two that did so in one moment
        would both take the same room.
        """
        while True:
            wait_for_capacity("low", on_wait, own=self.name)
            with taking_turns(on_wait):
                capacity = capacity_now("low", self.name)[0]
                if capacity.cpus >= LEAST_CPUS:  # else the run whose turn it was before took the room
                    pools = size(capacity)
                    self._announce(pools)
                    return capacity, pools

    def _announce(self, pools: Pools) -> None:
        held, before = held_by(pools), self._actor
        self.name = f"{held.cpus:.2f} {held.gpus} {uuid.uuid4().hex}"
        self._actor = named_actor(self.name, LOW_NAMESPACE)
        self._end(before)

    def _take_back(self) -> None:
        before, self._actor, self.name = self._actor, None, None
        self._end(before)

    def _end(self, actor: Any) -> None:
        import ray

        if actor is not None:
            ray.kill(actor)


@contextmanager
def taking_turns(on_wait: Callable[[str], None]) -> Iterator[None]:
    """Waits until no other run of priority low claims a share, and keeps the others waiting during the block.

    The turn is an actor with a name, of which Ray makes only one at a time. Ray ends it with its driver, however the
    driver ends. ``on_wait`` is called twice per second. Raises ResourceError after ``WAIT_AT_MOST_S``.
    """
    import ray

    started_s = told_s = time.monotonic()
    while True:
        with suppress(ValueError):  # the name is taken
            actor = named_actor("turn", TURN_NAMESPACE)
            break
        now_s = time.monotonic()
        reason = "another run of priority low is taking its share of the cluster"
        if now_s - started_s >= WAIT_AT_MOST_S:
            raise ResourceError(
                f"{reason}, and was not done within {WAIT_AT_MOST_S:.0f} s; end the run of priority low that hangs, or "
                "map with another priority"
            )
        if now_s - told_s >= LOOK_EVERY_S:
            told_s = now_s
            on_wait(reason)
        time.sleep(random.uniform(0.1, 1.0) * LONGEST_KNOCK_S)
    try:
        yield
    finally:
        ray.kill(actor)
