"""Places that many owners (tenants or keys) share: bounded in all and for each, and handed out in turns."""

from __future__ import annotations

import asyncio
from collections import Counter, deque
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress

from fastapi import HTTPException

RETRY_AFTER_S = 2


class FairPlaces:
    """At most ``total`` places, at most ``each`` of them held by one owner.

    An owner that finds no place waits; ``waiting`` requests of one owner wait at most. A place that becomes free goes
    to the owner whose last turn among those that wait was the longest ago, so an owner with a thousand requests delays
    another owner's request by one request. ``what`` is named in the refusal. For one event loop.
    """

    def __init__(self, what: str, total: int, each: int, waiting: int = 0) -> None:
        self.what, self.total, self.each, self.waiting = what, total, each, waiting
        self._held: Counter[str] = Counter()
        self._queues: dict[str, deque[asyncio.Future[None]]] = {}
        """Owner → who waits; owners in the order of their next turn."""

    @asynccontextmanager
    async def place(self, owner: str) -> AsyncIterator[None]:
        """Holds a place for the time of the block. Raises HTTPException 429 where too many of the owner's requests are
        open or wait, 503 where others hold all places and nobody may wait."""
        await self._take(owner)
        try:
            yield
        finally:
            self._give(owner)

    @property
    def free(self) -> int:
        """How many places nobody holds."""
        return self.total - self._held.total()

    async def _take(self, owner: str) -> None:
        if self.free > 0 and self._held[owner] < self.each:
            self._held[owner] += 1
            return
        queue = self._queues.get(owner, deque())
        if len(queue) >= self.waiting:
            status = 429 if self.waiting or self._held[owner] >= self.each else 503
            raise HTTPException(
                status,
                f"too many {self.what} are open; wait for the end of one of them, then send the request again",
                {"Retry-After": str(RETRY_AFTER_S)},
            )
        turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        queue.append(turn)
        self._queues[owner] = queue
        try:
            await turn
        except asyncio.CancelledError:
            if turn.done() and not turn.cancelled():  # the place came in the same moment
                self._give(owner)
            else:
                with suppress(ValueError):  # it was taken out already
                    queue.remove(turn)
                self._forget_if_empty(owner)
            raise

    def _give(self, owner: str) -> None:
        self._held[owner] -= 1
        if not self._held[owner]:
            del self._held[owner]
        while self.free > 0:
            following = next((name for name in self._queues if self._held[name] < self.each), None)
            if following is None:
                return
            queue = self._queues.pop(following)
            turn = queue.popleft()
            if queue:
                self._queues[following] = queue  # behind all others
            if not turn.done():  # else its client has just left
                self._held[following] += 1
                turn.set_result(None)

    def _forget_if_empty(self, owner: str) -> None:
        if not self._queues.get(owner, True):
            del self._queues[owner]
