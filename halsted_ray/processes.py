"""Worker processes side by side that end when their work is given up, whatever the reason."""

from __future__ import annotations

import multiprocessing
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager


@contextmanager
def process_pool(
    workers: int, initializer: Callable[..., object] | None = None, initargs: tuple[object, ...] = ()
) -> Iterator[ProcessPoolExecutor]:
    """``with process_pool(2) as pool:`` waits at its end for all that was submitted, as the executor itself does.

    An exception in the block (a failed task, a full disk, Ctrl-C, SIGTERM) ends the processes at once: the executor
    alone would first do all that is queued, and where that is cancelled still what each process has begun and its next
    task. What a process has left in a temporary folder then stays; the caller removes it.
    """
    context = multiprocessing.get_context("spawn")  # a forked child would inherit locks of torch, Ray and gRPC
    with ProcessPoolExecutor(workers, context, initializer, initargs) as pool:
        try:
            yield pool
        except BaseException:
            processes = list(pool._processes.values())
            pool.shutdown(wait=False, cancel_futures=True)
            for process in processes:
                process.terminate()
            for process in processes:
                process.join()
            raise
