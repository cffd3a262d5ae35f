"""The loss of an answer: the paper's, with smoothed categories where the recipe wants them.

Legend: N samples, L tokens of an answer, V tokens of the vocabulary, T tags of the taxonomy.
"""

from __future__ import annotations

import torch

from halsted_ray.model.decoder import token_losses
from halsted_ray.model.vocabulary import Vocabulary


class AnswerLoss:
    """Sum of -log p over an answer's tokens (paper, eq. 1), with label smoothing (Szegedy et al. 2016) of categories.

    ``smoothing``: the share of a category's target that all categories of its tag get in equal parts. The other tokens
    follow from the grammar, so their targets stay certain. With a share of 0 this is ``Decoder.loss``, bit for bit.
    """

    def __init__(self, vocabulary: Vocabulary, smoothing: float, device: torch.device) -> None:
        self.smoothing = smoothing
        tags = vocabulary.taxonomy.tags
        share_VT = torch.zeros(len(vocabulary), len(tags) + 1)  # the last column is that of all other tokens
        self.tag_of_token_V = torch.full((len(vocabulary),), len(tags), device=device)
        for t, tag in enumerate(tags):
            own = slice(vocabulary.first[tag.name], vocabulary.first[tag.name] + len(tag.categories))
            share_VT[own, t], self.tag_of_token_V[own] = 1 / len(tag.categories), t
        self.share_VT = share_VT.to(device)

    def __call__(self, logits_NLV: torch.Tensor, tokens_NL: torch.Tensor) -> torch.Tensor:
        """Loss [N] of each answer. ``logits_NLV`` at l predict the token after ``tokens_NL[:, l]``; PAD has no loss."""
        each = token_losses(logits_NLV, tokens_NL)
        if self.smoothing:
            logits = logits_NLV[:, :-1].float()
            # -log p is the distance of a logit from the logsumexp, so the mean over categories needs one product.
            mean_of_tag = logits @ self.share_VT
            tag = self.tag_of_token_V[tokens_NL[:, 1:]][..., None]
            mean = logits.logsumexp(2) - mean_of_tag.gather(2, tag)[..., 0]
            is_category = tag[..., 0] < self.share_VT.shape[1] - 1
            each = torch.where(is_category, (1 - self.smoothing) * each + self.smoothing * mean, each)
        return each.sum(1)
