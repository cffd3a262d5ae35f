"""How many requests one key or one address may send per minute."""

from __future__ import annotations

import math
import threading
import time
from collections import OrderedDict

from fastapi import HTTPException

KEPT_BUCKETS = 10_000
"""So many keys and addresses are counted at most. Where there are more, the longest silent are forgotten."""


class RateLimiter:
    """A token bucket per key or address: it holds one minute's requests and fills evenly.

    ``requests_per_minute`` is the limit of all ``replicas`` together, and each replica lets its share of them through,
    since the router gives each replica equally many requests. Counting all requests in one place would cost a write
    per request.
    """

    def __init__(self, requests_per_minute: int, replicas: int = 1) -> None:
        self.requests_per_minute, self.share = requests_per_minute, max(1.0, requests_per_minute / replicas)
        self._left: OrderedDict[str, tuple[float, float]] = OrderedDict()
        self._lock = threading.Lock()

    def share_among(self, replicas: int) -> None:
        """From now on so many replicas share the limit."""
        self.share = max(1.0, self.requests_per_minute / max(1, replicas))

    def take(self, name: str) -> None:
        """Takes one request from the bucket ``name``. Raises HTTPException 429 where the bucket is empty; its
        Retry-After is the number of seconds until the bucket holds one request again."""
        with self._lock:
            now = time.monotonic()
            left, then = self._left.pop(name, (self.share, now))
            left = min(self.share, left + (now - then) * self.share / 60)
            # A refused request takes nothing, or a client that asks too often would never again be let through.
            is_let_through = left >= 1
            self._left[name] = (left - 1 if is_let_through else left, now)
            if len(self._left) > KEPT_BUCKETS:
                self._left.popitem(last=False)
        if not is_let_through:
            wait_s = math.ceil((1 - left) * 60 / self.share)
            detail = f"more than {self.requests_per_minute} requests per minute"
            raise HTTPException(429, detail, {"Retry-After": str(wait_s)})
