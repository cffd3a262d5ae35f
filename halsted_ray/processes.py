"""Processes that end with their parent: a pool whose work is given up, and a program of its own."""

from __future__ import annotations

import multiprocessing
import sys
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from functools import partial

LAUNCH = "import ctypes, os, sys; getattr(ctypes.CDLL(None), 'prctl', int)(1, 15); os.execv(sys.argv[1], sys.argv[1:])"
"""Becomes a program that gets SIGTERM when the thread that started it ends, also by SIGKILL (PR_SET_PDEATHSIG)."""


def ends_with_parent(command: Sequence[str]) -> list[str]:
    """The command line that runs ``command``, whose first word is the path of a program, as ``LAUNCH`` says."""
    return [sys.executable, "-I", "-S", "-c", LAUNCH, *command]


@contextmanager
def process_pool(
    workers: int, initializer: Callable[..., object] | None = None, initargs: tuple[object, ...] = ()
) -> Iterator[ProcessPoolExecutor]:
    """A pool of ``workers`` processes; each of them first calls ``initializer(*initargs)``, where one is given.

    ``with process_pool(2) as pool:`` waits at its end for all tasks that were submitted, as the executor itself does.

    An exception in the block (a failed task, a full disk, Ctrl-C, SIGTERM) ends the processes at once. The executor
    alone would first do all queued tasks. With its queue cancelled, each process would still finish the task that it
    has begun, and the next task. Files that an ended process left in a temporary folder stay; the caller removes them.
    """
    context = multiprocessing.get_context("spawn")  # a forked child would inherit locks of torch, Ray and gRPC
    prepare = partial(initializer, *initargs) if initializer else None
    with ProcessPoolExecutor(workers, context, prepare) as pool:
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
