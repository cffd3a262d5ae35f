"""Train steps on a CPU by the number of threads, and by how a thread waits for the others: alone, and beside a busy
process per core.

    python benchmarks/waiting_threads.py

Each measurement is a process of its own, since the runtime of the threads reads how to wait when it is loaded. Vectors
and labels are random. A step is one of the recipe `best`, or of `paper` with --recipe paper.
"""

from __future__ import annotations

import argparse
import multiprocessing
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager

STEPS = {"best": 60, "paper": 6}
ENCODER_WIDTH = 192


def main() -> None:
    """Prints the seconds of so many steps, wall clock and CPU, as medians of rounds taken in turns."""
    parser = argparse.ArgumentParser(description="Train steps on a CPU by threads and by how they wait.")
    parser.add_argument("--recipe", choices=STEPS, default="best")
    parser.add_argument("--rounds", type=int, default=3, help="measurements of each kind, in turns (default 3)")
    parser.add_argument("--threads", type=int, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.threads:
        print(*train(options.recipe, options.threads))
        return
    cores = os.cpu_count() or 1
    kinds = [("1 thread", 1, "passive"), (f"{cores}, passive", cores, "passive"), (f"{cores}, as torch", cores, "")]
    for beside in (0, cores):
        seconds: dict[str, list[tuple[float, float]]] = {name: [] for name, *_ in kinds}
        with busy(beside):
            for _ in range(options.rounds):
                for name, threads, policy in kinds:
                    seconds[name].append(measured(options.recipe, threads, policy))
        for name, values in seconds.items():
            wall_s, cpu_s = (statistics.median(column) for column in zip(*values, strict=True))
            print(f"{STEPS[options.recipe]} steps, {name}, beside {beside}: {wall_s:.1f} s, {cpu_s:.1f} s of CPU")


def measured(recipe: str, threads: int, policy: str) -> tuple[float, float]:
    """(seconds, seconds of CPU) of the steps in a process of their own. ``policy``: of OMP_WAIT_POLICY; '' for none."""
    environment = {name: value for name, value in os.environ.items() if name != "OMP_WAIT_POLICY"}
    if policy:
        environment["OMP_WAIT_POLICY"] = policy
    words = [sys.executable, __file__, "--recipe", recipe, "--threads", str(threads)]
    wall_s, cpu_s = subprocess.run(words, env=environment, capture_output=True, text=True, check=True).stdout.split()
    return float(wall_s), float(cpu_s)


def train(recipe: str, threads: int) -> tuple[float, float]:
    """(seconds, seconds of CPU) of the steps in this process, after a short run to warm up."""
    import torch  # first: what is measured is the policy of the caller, whatever halsted_ray sets
    from training import Epochs, random_samples

    from halsted_ray.training.recipe import RECIPES

    torch.set_num_threads(threads)
    batch = RECIPES[recipe].batch_size
    Epochs(random_samples(batch, ENCODER_WIDTH), RECIPES[recipe], device=torch.device("cpu"), keep_on_device=True)()
    epoch = Epochs(
        random_samples(STEPS[recipe] * batch, ENCODER_WIDTH),
        RECIPES[recipe],
        device=torch.device("cpu"),
        keep_on_device=True,
    )
    started_s, started_cpu_s = time.monotonic(), time.process_time()
    epoch()
    return time.monotonic() - started_s, time.process_time() - started_cpu_s


@contextmanager
def busy(processes: int) -> Iterator[None]:
    """So many busy processes beside the block."""
    running = [multiprocessing.get_context("spawn").Process(target=count, daemon=True) for _ in range(processes)]
    for process in running:
        process.start()
    try:
        yield
    finally:
        for process in running:
            process.kill()
            process.join()


def count() -> None:
    """Takes a core until it is killed."""
    while True:
        pass


if __name__ == "__main__":
    main()
