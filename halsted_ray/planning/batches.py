"""How much of what the GPU computes is useful: batches have a fixed size, and what is missing is padded.

A segment asks for the vectors of its coarse windows, waits for them, and then asks for the fine windows of those that
are looked at closely. The encoder takes full batches from all segments that are in flight. It pads a batch only where
every one of them waits.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from functools import lru_cache

from halsted_ray.compute.pools import CALLS_PER_GPU_ACTOR

BATCH = 8
"""Clips per pass of an encoder on a GPU (``Encoder.micro_batch``)."""
SEGMENTS = 400
"""Segments that are followed; the share changes by less than 0.1% with more."""


def requests(number: int, coarse: int, fine: int, looked_at: float) -> Iterator[int]:
    """The sizes of the requests of segment ``number``, one after another.

    ``coarse`` windows, and then ``fine`` windows for each that is looked at; ``looked_at`` of all coarse windows are,
    in an even order.
    """
    if coarse:
        yield coarse
    first = number * coarse
    opened = int((first + coarse) * looked_at + 1e-9) - int(first * looked_at + 1e-9)
    if opened * fine:
        yield opened * fine


@lru_cache(maxsize=256)
def useful_share(
    coarse: int,
    fine: int,
    looked_at: float,
    batch: int = BATCH,
    in_flight: int = CALLS_PER_GPU_ACTOR,
    segments: int = SEGMENTS,
) -> float:
    """Clips that were needed, as a share of the clips that the GPU computes.

    ``coarse``: coarse windows of a segment; ``fine``: fine windows in each of them; ``looked_at``: share of the coarse
    windows whose fine windows are encoded too. ``in_flight``: segments that an encoding actor has in hand at once; with
    1, each segment is encoded alone.
    """
    numbers = iter(range(segments))
    queue: deque[list[int]] = deque()  # [clips that wait, slot of their segment]
    running: list[Iterator[int]] = []

    def advance(slot: int) -> None:
        """Puts the next request of a slot into the queue, from its segment or from the next one."""
        while (clips := next(running[slot], 0)) == 0:
            number = next(numbers, None)
            if number is None:
                return
            running[slot] = requests(number, coarse, fine, looked_at)
        queue.append([clips, slot])

    for slot in range(in_flight):
        running.append(iter(()))
        advance(slot)
    needed = computed = 0
    while queue:
        room = batch
        done: list[int] = []
        while queue and room:
            taken = min(room, queue[0][0])
            queue[0][0] -= taken
            room -= taken
            if not queue[0][0]:
                done.append(queue.popleft()[1])
        needed, computed = needed + batch - room, computed + batch
        for slot in done:
            advance(slot)
    return needed / computed if computed else 1.0
