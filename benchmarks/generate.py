"""Tag generation at the paper's size: forced tokens and a cache against token by token without one.

    python benchmarks/generate.py [--windows 64] [--dim 1408] [--repeats 3]

Both run the same untrained decoder on the same vectors, a quarter of them for each of the four tasks, and must give
the same tags. Prints one JSON line with the ratio.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time

import numpy as np
import torch

from halsted_ray.model.generate import generate, generate_token_by_token
from halsted_ray.model.halsted import Halsted
from halsted_ray.model.vocabulary import PAD

BAR = 3.0


def measure(windows: int = 64, dim: int = 1408, repeats: int = 3, device: str = "cpu") -> dict:
    """The ratio of windows per second, as one entry of ``benchmarks/results/latest.json``."""
    model = Halsted.create(None, dim, seed=0, device=device)
    with torch.no_grad():
        model.decoder.head.weight.mul_(20)  # untrained logits are nearly equal; these differ as trained ones do
    print(f"decoder: {model.parameters / 1e6:.2f} M parameters at D = {dim}")
    vectors = torch.from_numpy(np.random.default_rng(0).normal(size=(windows, dim)).astype(np.float16)).to(device)
    tasks = torch.arange(windows, device=device) % len(model.taxonomy.tasks)

    def fast():
        return generate(model.decoder, model.grammar, vectors, tasks, model.rows_per_pass)

    def slow():
        return generate_token_by_token(model.decoder, model.vocabulary, model.grammar, vectors, tasks)

    seconds: dict = {fast: [], slow: []}
    cpu_seconds: dict = {fast: [], slow: []}
    for run in (fast, slow) * (1 + repeats):  # alternating, so that a busy machine slows both; the first is warm-up
        start, cpu_start = time.perf_counter(), time.process_time()
        run()
        if device != "cpu":
            torch.cuda.synchronize()
        seconds[run].append(time.perf_counter() - start)
        cpu_seconds[run].append(time.process_time() - cpu_start)
    rates = {run: windows / statistics.median(times[1:]) for run, times in seconds.items()}
    same = _tokens(model, fast().chosen_NG, tasks) == [[i for i in row if i != PAD] for row in slow()]
    ratio = rates[fast] / rates[slow]
    cpu_ratio = statistics.median(cpu_seconds[slow][1:]) / statistics.median(cpu_seconds[fast][1:])
    print(f"forced tokens and cache: {rates[fast]:.1f} windows/s; token by token: {rates[slow]:.1f} windows/s; "
          f"ratio {ratio:.2f}, in CPU-seconds {cpu_ratio:.2f}; same tags: {same}; threads: {torch.get_num_threads()}")
    return {"name": "tag generation against token by token", "value": round(ratio, 2), "unit": "x", "bar": BAR,
            "holds": same and ratio >= BAR}


def _tokens(model: Halsted, chosen_NG: torch.Tensor, tasks_N: torch.Tensor) -> list[list[int]]:
    answers = []
    for chosen, k in zip(chosen_NG.tolist(), tasks_N.tolist(), strict=True):
        task = model.taxonomy.tasks[k]
        tags = {tag.name: tag.categories[c] for tag, c in zip(task.tags, chosen, strict=False)}
        answers.append(model.vocabulary.encode(task.name, tags))
    return answers


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--windows", type=int, default=64)
    parser.add_argument("--dim", type=int, default=1408)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--device", default="cpu")
    print(json.dumps(measure(**vars(parser.parse_args()))))
