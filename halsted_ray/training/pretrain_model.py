"""The networks of pretraining, their losses and optimizers: VideoMAE with masked pixels, and a linear head per tag."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import nn
from transformers import VideoMAEForPreTraining, VideoMAEModel

from halsted_ray.model.checkpoint import IMAGENET_MEAN, IMAGENET_STD
from halsted_ray.training.pretrain_recipe import FRAMES, PretrainRecipe


class TagHeads(nn.Module):
    """The encoder's mean vector, standardised, through one linear layer for all tags: what a decoder could read.

    ``sizes``: number of categories of each tag.
    """

    def __init__(self, encoder: VideoMAEModel, sizes: list[int]) -> None:
        super().__init__()
        self.encoder, self.sizes = encoder, sizes
        self.standardise = nn.BatchNorm1d(encoder.config.hidden_size, affine=False, momentum=0.02)
        self.heads = nn.Linear(encoder.config.hidden_size, sum(sizes))

    def forward(self, clips_NTHWC: torch.Tensor, keep: float = 1.0, shake: bool = False) -> tuple[torch.Tensor, ...]:
        """Logits [N, categories] of each tag, from a random share ``keep`` of the tokens of uint8 clips."""
        hidden = self.encoder.encoder(self.tokens(clips_NTHWC, keep, shake)).last_hidden_state
        vectors_ND = self.encoder.layernorm(hidden).float().mean(1)
        logits: tuple[torch.Tensor, ...] = self.heads(self.standardise(vectors_ND)).float().split(self.sizes, dim=1)
        return logits

    def tokens(self, clips_NTHWC: torch.Tensor, keep: float, shake: bool) -> torch.Tensor:
        """[N, kept patches, width]: what the encoder's own embedding gives for the kept patches, at a third of its
        cost.

        Dropped patches are never copied, and normalising is folded into the projection's weights. ``shake`` multiplies
        each clip's colours by random gains; it never mirrors, since arms and directions have sides.
        """
        projection = self.encoder.embeddings.patch_embeddings.projection
        _, _, tube, patch, _ = projection.weight.shape
        count, frames, height, width, _ = clips_NTHWC.shape
        grid = (frames // tube, height // patch, width // patch)
        chosen = torch.arange(math.prod(grid)).expand(count, -1)
        if keep < 1:
            chosen = torch.rand(chosen.shape).argsort(1)[:, : round(keep * chosen.shape[1])]
        t, y, x = chosen // (grid[1] * grid[2]), chosen // grid[2] % grid[1], chosen % grid[2]
        patches = clips_NTHWC.view(count, grid[0], tube, grid[1], patch, grid[2], patch, 3)
        patches = patches.permute(0, 1, 3, 5, 2, 4, 6, 7)
        dtype = torch.bfloat16 if torch.is_autocast_enabled("cpu") else torch.float32
        pixels = patches[torch.arange(count)[:, None], t, y, x].to(dtype).flatten(2, 4)  # [N, kept, pixels, 3]
        if shake:
            gain = 1 + 0.08 * torch.randn(count, 1, 1, 1) + 0.04 * torch.randn(count, 1, 1, 3)
            pixels = pixels * gain.to(dtype)
        mean, std = torch.tensor(IMAGENET_MEAN), torch.tensor(IMAGENET_STD)
        middle = 124.0  # bfloat16 holds whole numbers to 256 exactly; near zero the sums lose the least
        weight = projection.weight.permute(0, 2, 3, 4, 1).flatten(1, 3)
        bias = projection.bias + (weight.sum(1) * ((middle / 255 - mean) / std)).sum(1)
        projected = nn.functional.linear((pixels - middle).flatten(2), (weight / (255 * std)).flatten(1), bias)
        return projected.float() + self.encoder.embeddings.position_embeddings[0][chosen]


def masked_loss(model: VideoMAEForPreTraining, pixels_NTHWC: torch.Tensor, keep: float) -> torch.Tensor:
    """VideoMAE's loss: the same places are hidden in every tubelet, and their normalised pixels are predicted."""
    tubelets = FRAMES // model.config.tubelet_size
    patches = model.videomae.embeddings.num_patches // tubelets
    is_hidden_NP = random_mask(len(pixels_NTHWC), patches, keep).repeat(1, tubelets)
    return model(normalised(pixels_NTHWC), bool_masked_pos=is_hidden_NP).loss


def random_mask(count: int, patches: int, keep: float) -> torch.Tensor:
    """bool [count, patches], True where hidden; every row hides the same number of patches."""
    return torch.rand(count, patches).argsort(1) >= max(1, round(keep * patches))


def normalised(clips_NTHWC: torch.Tensor) -> torch.Tensor:
    """uint8 [N, T, H, W, 3] -> float [N, T, 3, H, W], by ImageNet's mean and deviation."""
    mean, std = torch.tensor(IMAGENET_MEAN), torch.tensor(IMAGENET_STD)
    return ((clips_NTHWC.float() / 255 - mean) / std).permute(0, 1, 4, 2, 3)


def tag_loss(logits: Sequence[torch.Tensor], labels: torch.Tensor, weights: Sequence[float]) -> torch.Tensor:
    """Cross-entropy summed over the tags. ``labels``: int64 [N, tags], −1 where a clip has no such tag. 0, with
    gradients of 0, for a batch without a tag."""
    total = 0.0 * logits[0].sum()
    for n, (scores, weight) in enumerate(zip(logits, weights, strict=True)):
        if (labels[:, n] >= 0).any():
            # Divided by the batch's size: a rare tag's few clips must not weigh as much as a tag that all clips have.
            summed = nn.functional.cross_entropy(scores, labels[:, n], ignore_index=-1, reduction="sum")
            total = total + weight * summed / len(labels)
    return total


def new_optimizers(
    recipe: PretrainRecipe, tagger: TagHeads, masked_model: VideoMAEForPreTraining
) -> list[torch.optim.Optimizer]:
    """AdamW and, where the recipe wants it, Muon for the matrices inside the encoder's layers.

    Each group of parameters keeps its recipe's learning rate as ``base``, which the schedule multiplies.
    """
    matrices = [p for name, p in tagger.named_parameters() if ".layer." in name and p.dim() == 2]
    of_muon = {id(p) for p in matrices} if recipe.muon_lr else set()
    others = {id(p): p for p in (*tagger.parameters(), *masked_model.parameters()) if id(p) not in of_muon}
    decayed = [p for p in others.values() if p.dim() > 1]
    plain = [p for p in others.values() if p.dim() <= 1]
    groups = [{"params": decayed, "weight_decay": recipe.weight_decay}, {"params": plain, "weight_decay": 0.0}]
    optimizers: list[torch.optim.Optimizer] = [torch.optim.AdamW(groups, lr=recipe.lr, betas=(0.9, 0.95))]
    if of_muon:
        optimizers.append(torch.optim.Muon(matrices, lr=recipe.muon_lr, weight_decay=recipe.weight_decay))
    for optimizer in optimizers:
        for group in optimizer.param_groups:
            group["base"] = group["lr"]
    return optimizers


@torch.no_grad()
def update_average(average: dict[str, torch.Tensor], model: nn.Module, decay: float) -> None:
    """Moves the average of the weights towards ``model``'s: ``decay`` of the old value, the rest of the new."""
    for name, value in model.state_dict().items():
        if value.is_floating_point():
            average[name].lerp_(value, 1 - decay)
        else:
            average[name].copy_(value)
