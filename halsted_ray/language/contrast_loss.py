"""Symmetric InfoNCE over the captions of a batch, whatever the number of workers that share it."""

from __future__ import annotations

import torch
import torch.distributed


def contrast_loss(
    clips_ND: torch.Tensor, texts_ND: torch.Tensor, temperature: torch.Tensor, not_negative_NN: torch.Tensor
) -> torch.Tensor:
    """Mean cross-entropy of finding each clip's text among all texts, and each text's clip among all clips.

    Radford et al. 2021 (CLIP), figure 3. Vectors have length 1. Pairs of ``not_negative_NN`` do not count as negatives.
    """
    logits_NN = (clips_ND @ texts_ND.T / temperature).masked_fill(not_negative_NN, -torch.inf)
    truth_N = torch.arange(len(logits_NN), device=logits_NN.device)
    clip_to_text = torch.nn.functional.cross_entropy(logits_NN, truth_N)
    text_to_clip = torch.nn.functional.cross_entropy(logits_NN.T, truth_N)
    return (clip_to_text + text_to_clip) / 2


def gathered(own_ND: torch.Tensor, rank: int, sizes: list[int]) -> torch.Tensor:
    """[N, D] of all workers, in their order; only this worker's rows have a gradient. ``sizes``: rows of each worker.

    Each worker computes the whole loss with the gradient of its own rows. The gradients then add up to that of the
    whole batch, as if one worker had computed it.
    """
    if len(sizes) == 1:
        return own_ND
    padded_ND = torch.nn.functional.pad(own_ND.detach(), (0, 0, 0, max(sizes) - len(own_ND)))
    parts = [torch.empty_like(padded_ND) for _ in sizes]
    torch.distributed.all_gather(parts, padded_ND.contiguous())
    return torch.cat([own_ND if worker == rank else parts[worker][:size] for worker, size in enumerate(sizes)])


def shared(value: torch.Tensor, workers: int) -> torch.Tensor:
    """``value`` with a gradient of one ``workers``-th: each worker has the whole gradient of the temperature, and the
    sum over workers is to be that gradient once."""
    return value.detach() + (value - value.detach()) / workers
