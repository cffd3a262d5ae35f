"""One temperature per tag, so that a confidence of 0.9 is right nine times in ten (Guo et al., 2017)."""

from __future__ import annotations

import torch

FEWEST = 20
"""With fewer samples than this a temperature would be a guess; it stays at 1."""
COLDEST, HOTTEST = 0.2, 10.0


def fit_temperature(logits_NC: torch.Tensor, labels_N: torch.Tensor) -> float:
    """The temperature in [0.2, 10] with the least -log p of the labels, to 3 decimals.

    The loss is convex over 1 / T, so its slope (mean expected logit minus mean label's logit) has one root: bisect.
    """
    if len(labels_N) < FEWEST:
        return 1.0
    logits_NC = logits_NC.double()
    reached = logits_NC.gather(1, labels_N.to(logits_NC.device)[:, None]).mean()
    low, high = 1 / HOTTEST, 1 / COLDEST
    for _ in range(40):
        middle = (low + high) / 2
        expected = ((logits_NC * middle).softmax(1) * logits_NC).sum(1).mean()
        low, high = (middle, high) if expected < reached else (low, middle)
    return round(1 / low, 3)
