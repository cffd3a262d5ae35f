"""Measures tag generation at the paper's size: forced tokens with a cache, against token by token without a cache.

Both ways run the same untrained decoder on the same vectors and must give the same tags. Each of the four tasks gets a
quarter of the vectors.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable

import numpy as np
import torch
from measuring import Setting, ratio

from halsted_ray.model.generation import Generated, generate, generate_token_by_token
from halsted_ray.model.halsted import Halsted
from halsted_ray.model.vocabulary import PAD

WINDOWS, DIM, REPEATS = 64, 1408, 3


def measure(setting: Setting, device: str = "cpu") -> list[dict]:
    """Returns one result: windows/s of ``generate`` divided by windows/s of ``generate_token_by_token``."""
    model = Halsted.create(None, DIM, seed=0, device=device)
    with torch.no_grad():
        model.decoder.head.weight.mul_(20)  # untrained logits are nearly equal; these differ like trained logits
    vectors = torch.from_numpy(np.random.default_rng(0).normal(size=(WINDOWS, DIM)).astype(np.float16)).to(device)
    tasks = torch.arange(WINDOWS, device=device) % len(model.taxonomy.tasks)

    def fast() -> Generated:
        return generate(model.frozen, model.grammars["grid"], vectors, tasks, model.rows_per_pass)

    def slow() -> list[list[int]]:
        return generate_token_by_token(model.decoder, model.vocabulary, model.grammars["grid"], vectors, tasks)

    seconds: dict[Callable[[], object], list[float]] = {fast: [], slow: []}
    for run in (fast, slow) * (1 + (1 if setting.quick else REPEATS)):  # both take turns; the first turn is warm-up
        started_s = time.perf_counter()
        run()
        if device != "cpu":
            torch.cuda.synchronize()
        seconds[run].append(time.perf_counter() - started_s)
    rates = {run: WINDOWS / statistics.median(times[1:]) for run, times in seconds.items()}
    same = _tokens(model, fast().chosen_NG, tasks) == [[i for i in row if i != PAD] for row in slow()]
    return [
        ratio(
            "tag generation against token by token",
            rates[fast] / rates[slow],
            3,
            also=same,
            rows=f"{WINDOWS} windows, D = {DIM}, {model.parameters / 1e6:.0f} M parameters",
            why=f"{rates[fast]:.1f} against {rates[slow]:.1f} windows/s, "
            f"{'the same' if same else 'OTHER'} tags, {torch.get_num_threads()} threads",
        )
    ]


def _tokens(model: Halsted, chosen_NG: torch.Tensor, tasks_N: torch.Tensor) -> list[list[int]]:
    """Returns the token ids of each row's answer."""
    answers = []
    for chosen, k in zip(chosen_NG.tolist(), tasks_N.tolist(), strict=True):
        task = model.taxonomy.tasks[k]
        tags = {tag.name: tag.categories[c] for tag, c in zip(task.tags, chosen, strict=False)}
        answers.append(model.vocabulary.encode(task.name, tags))
    return answers
