"""Sentences whose first words are learned: context optimization (CoOp, Zhou et al. 2022).

A few vectors stand before each label's name, in the place of words and the same for all labels. They are learned from
a few clips, and everything else stays as it is. This follows the paper but for the optimizer: since the clips' vectors
do not change, every step takes all clips of a draw, by Adam over ``STEPS`` steps; the paper takes batches of 32 clips,
by SGD over 50 to 200 epochs.
"""

from __future__ import annotations

import numpy as np
import torch
from torch.nn import functional as F

from halsted_ray.errors import UsageError
from halsted_ray.language.contrast_model import VideoTextModel
from halsted_ray.language.few_shot import Learn
from halsted_ray.language.prompts import LabelPrompts
from halsted_ray.language.text_encoder import TextEncoder

CONTEXT_WORDS = 16
STEPS = 100
LEARNING_RATE = 0.002
SPREAD = 0.02
"""Standard deviation of the vectors that learning begins with, as in the paper."""


def learned_prompts(
    model: VideoTextModel, texts: TextEncoder, prompts: LabelPrompts, test_ND: np.ndarray, steps: int = STEPS
) -> Learn:
    """Learns the context of the labels' names for each draw of ``few_shot``.

    Raises UsageError where clips have several labels, ModelError where ``texts`` is not the model's text encoder.
    """
    if prompts.is_multi_label:
        raise UsageError("learned prompts choose one label for each clip; with multi_label: true, use linear alone")
    model.check(text_fingerprint=texts.fingerprint)
    names = [label.lower() for label in prompts.labels]

    def label_vectors(context_MW: torch.Tensor) -> torch.Tensor:
        return model.project_text(texts.encode_behind(context_MW, names))

    def learn(vectors_ND: np.ndarray, truth_NK: np.ndarray, seed: int) -> np.ndarray:
        generator = torch.Generator().manual_seed(seed)
        context_MW = torch.randn(CONTEXT_WORDS, texts.width, generator=generator) * SPREAD
        context_MW.requires_grad_(True)
        optimizer = torch.optim.Adam([context_MW], lr=LEARNING_RATE)
        schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps)
        clips_ND, truth_N = torch.from_numpy(vectors_ND), torch.from_numpy(truth_NK.argmax(1))
        model.eval()
        with _frozen(model), _frozen(texts.model):
            for _ in range(steps):
                optimizer.zero_grad()
                loss = F.cross_entropy(clips_ND @ label_vectors(context_MW).T / model.temperature, truth_N)
                loss.backward()
                optimizer.step()
                schedule.step()
            with torch.inference_mode():
                scores_NK: np.ndarray = (torch.from_numpy(test_ND) @ label_vectors(context_MW).T).numpy()
        return scores_NK

    return learn


class _frozen:
    """No weight of a network gets a gradient in the block, so that a step costs the context's alone."""

    def __init__(self, network: torch.nn.Module):
        self.weights = [weight for weight in network.parameters() if weight.requires_grad]

    def __enter__(self) -> None:
        for weight in self.weights:
            weight.requires_grad_(False)

    def __exit__(self, *_: object) -> None:
        for weight in self.weights:
            weight.requires_grad_(True)
