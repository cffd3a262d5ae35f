"""How many windows per second the decoder answers, by batch size: on a CPU, or on a GPU where there is one.

    python benchmarks/tagging.py --device cuda            untrained decoder of the paper's size (D = 1408, 44 M)
    python benchmarks/tagging.py --device cpu --dim 192   of the shipped model's size

A line per batch size: windows per second of one task, and the video-hours per hour that this makes where every fine
window is asked, from vectors in memory. A segment of a minute then asks 2 coarse windows ``macro``, and its 24 fine
windows ``macro``, one of ``micro`` and ``proficiency``, and half of them ``context``. Reading, staging and publishing
are not in it; ``benchmarks/remap.py`` measures the whole command.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from typing import Any

import numpy as np
import torch

from halsted_ray.model.halsted import Halsted

TASKS = ("macro", "micro", "proficiency", "context")
ASKED_PER_MINUTE = {"macro": 26, "micro": 12, "proficiency": 12, "context": 12}
"""Windows of a minute of video that are asked each task, where every fine window is asked."""


def measure(device: str, dim: int, batches: list[int], seconds: float) -> list[dict[str, Any]]:
    """For each batch size: task → windows per second, and video-hours per hour."""
    model = Halsted.create(None, dim, seed=0, device=device)
    found = []
    for batch in batches:
        vectors_ND = np.random.default_rng(0).normal(size=(batch, dim)).astype(np.float16)
        rates = {task: rate(model, vectors_ND, task, seconds) for task in TASKS}
        minute_s = sum(asked / rates[task] for task, asked in ASKED_PER_MINUTE.items())
        found.append(
            {
                "batch": batch,
                "windows_per_second": {task: round(value, 1) for task, value in rates.items()},
                "video_hours_per_hour": round(60 / minute_s, 1),
            }
        )
        print(json.dumps(found[-1]), flush=True)
    return found


def rate(model: Halsted, vectors_ND: np.ndarray, task: str, seconds: float) -> float:
    """Windows per second of wall clock: the median over calls of ``tag`` for about ``seconds``, after one that warms
    up. ``tag`` ends with a copy from the device, so a call's time is the device's too."""
    model.tag(vectors_ND, task, unit="grid")
    took_s: list[float] = []
    while sum(took_s) < seconds:
        started_s = time.perf_counter()
        model.tag(vectors_ND, task, unit="grid")
        took_s.append(time.perf_counter() - started_s)
    return len(vectors_ND) / statistics.median(took_s)


def main(words: list[str] | None = None) -> list[dict[str, Any]]:
    """Measures what the options ask for, and prints a line of JSON per batch size."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--device", default="cpu", choices=("cpu", "cuda"))
    parser.add_argument("--dim", type=int, default=1408)
    parser.add_argument("--batches", type=int, nargs="+", help="default: 16 to 256 on a CPU, 512 to 8,192 on a GPU")
    parser.add_argument("--seconds", type=float, default=2.0, help="for each task and batch size")
    parser.add_argument("--threads", type=int, help="of a CPU (default: one per core)")
    options = parser.parse_args(words)
    batches = options.batches or ([16, 64, 256] if options.device == "cpu" else [512, 2048, 8192])
    if options.threads:
        torch.set_num_threads(options.threads)
    name = torch.cuda.get_device_name() if options.device == "cuda" else f"cpu, {torch.get_num_threads()} threads"
    print(f"{name}, D = {options.dim}", flush=True)
    return measure(options.device, options.dim, batches, options.seconds)


if __name__ == "__main__":
    main()
