"""One temperature per tag, so that a confidence of 0.9 is right 9 times in 10 (Guo et al., 2017)."""

from __future__ import annotations

import torch

MIN_SAMPLES = 20
"""With fewer samples a temperature would be a guess, so it stays at 1."""
MIN_TEMPERATURE, MAX_TEMPERATURE = 0.2, 10.0


def fit_temperature(logits_NC: torch.Tensor, labels_N: torch.Tensor) -> float:
    """Returns the temperature in [0.2, 10] that gives the labels the least -log p, to 3 decimals.

    ``logits_NC``: N samples, C categories. ``labels_N``: index of the true category per sample.

    The loss is convex in 1 / T. Its slope is the mean expected logit minus the mean logit of the labels, and has one
    root, which bisection finds.
    """
    if len(labels_N) < MIN_SAMPLES:
        return 1.0
    logits_NC = logits_NC.double()
    mean_label_logit = logits_NC.gather(1, labels_N.to(logits_NC.device)[:, None]).mean()
    low, high = 1 / MAX_TEMPERATURE, 1 / MIN_TEMPERATURE
    for _ in range(40):
        middle = (low + high) / 2
        mean_expected_logit = ((logits_NC * middle).softmax(1) * logits_NC).sum(1).mean()
        low, high = (middle, high) if mean_expected_logit < mean_label_logit else (low, middle)
    return round(1 / low, 3)
