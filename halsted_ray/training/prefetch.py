"""Batches drawn ahead by a thread and copied to a GPU while it computes."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar, cast

import torch

Item = TypeVar("Item")
Tensors = TypeVar("Tensors", bound=tuple[torch.Tensor | None, ...])
"""A named tuple of tensors; a field may be None."""
AHEAD = 4
"""Batches that are drawn before they are asked for. One would do if drawing never took longer than a train step."""
END: Any = object()


def prefetched(items: Iterable[Item], ahead: int = AHEAD) -> Iterator[Item]:
    """``items`` in their order, drawn by one thread, ``ahead`` of them before they are asked for.

    An error in ``items`` is raised in the item's place. Closing the iterator ends the thread.
    """
    source = iter(items)
    pool = ThreadPoolExecutor(1, thread_name_prefix="prefetch")
    try:
        waiting = deque(pool.submit(next, source, END) for _ in range(ahead))
        while (item := waiting.popleft().result()) is not END:
            waiting.append(pool.submit(next, source, END))
            yield cast(Item, item)
    finally:
        pool.shutdown(cancel_futures=True)


def copied_ahead(batches: Iterable[Tensors], device: torch.device) -> Iterator[Tensors]:
    """``batches`` of tensors on the host, drawn ahead by a thread, as tensors on ``device``.

    On a GPU the copies run on a stream of their own, from page-locked memory, so that they overlap with computing.
    """
    if device.type != "cuda":
        yield from prefetched(batches)
        return
    stream = torch.cuda.Stream(device)

    def copied(batch: Tensors) -> tuple[Tensors, torch.cuda.Event]:
        with torch.cuda.stream(stream):  # a stream is chosen per thread, and this runs in the thread that draws
            moved = (None if value is None else value.pin_memory().to(device, non_blocking=True) for value in batch)
            make: Callable[..., Tensors] = type(batch)
            return make(*moved), stream.record_event()

    for batch, is_copied in prefetched(map(copied, batches)):
        computing = torch.cuda.current_stream(device)
        computing.wait_event(is_copied)
        for value in batch:
            if value is not None:
                # Else the allocator would give the memory to the next copy as soon as Python lets go of this batch,
                # while the GPU may still read it.
                value.record_stream(computing)
        yield batch
