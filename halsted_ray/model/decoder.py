"""The prefix-LM decoder: [vector | instruction] attended in full, the answer causally (paper, Methods).

Shapes: N rows, D encoder width, W decoder width, T vectors a window (1: its mean), P = T + 8 prefix positions,
S answer tokens, V vocabulary.
With D = W = 1408, 2 layers and 8 heads: 44.1 M parameters (the paper: 44 M). Its feed-forward width is not stated;
3.5 W gives that count, where the usual 4 W gives 47.2 M.
"""

from __future__ import annotations

import math

import torch
from torch import nn
from torch.nn import functional as F

from halsted_ray.model.vocabulary import INSTRUCTION_LENGTH, PAD

SHRINKAGE = 0.1
"""Measured on 400 labelled windows of 19 actions: right answers of a linear classifier on held-out videos .73 without
whitening, .87 at 0.001, .92 at 0.01, .94 at 0.1."""
Cache = list[tuple[torch.Tensor, torch.Tensor]]
"""Keys and values per layer, [N, heads, positions, W / heads]."""


class Decoder(nn.Module):
    """Next-token logits given a window's vector, a task and the answer so far."""

    def __init__(
        self,
        tokens: int,
        instructions_KM: list[list[int]],
        length: int,
        dim: int,
        width: int,
        layers: int,
        heads: int,
        feedforward: int,
        dropout: float,
        steps: int = 1,
        soft_prompt: bool = False,
    ):
        """``dim``: of all T = ``steps`` vectors of a window together. With ``soft_prompt`` a task's 8 positions are
        learned as they are, and its instruction's words are not looked at."""
        super().__init__()
        assert dim % steps == 0, f"{steps} vectors of {dim} together"
        self.length, self.steps, self.prefix = length, steps, steps + INSTRUCTION_LENGTH
        dim //= steps
        # The encoder's features have any scale and share a large mean, and most of their variance is what a task
        # does not ask for (tissue, light). Whitened, a few hundred samples teach what thousands had to before.
        self.register_buffer("feature_mean", torch.zeros(dim))
        self.register_buffer("feature_whitening_DD", torch.eye(dim))
        self.register_buffer("instructions_KM", torch.tensor(instructions_KM), persistent=False)
        self.vector_norm = nn.LayerNorm(dim)
        self.vector_projection = nn.Identity() if dim == width else nn.Linear(dim, width)
        self.tokens = nn.Embedding(tokens, width)
        self.prompts_KMW = (
            nn.Parameter(torch.empty(len(instructions_KM), INSTRUCTION_LENGTH, width)) if soft_prompt else None
        )
        self.positions = nn.Parameter(torch.empty(self.prefix + length, width))
        self.blocks = nn.ModuleList(Block(width, heads, feedforward, dropout) for _ in range(layers))
        self.norm = nn.LayerNorm(width)
        self.head = nn.Linear(width, tokens, bias=False)
        self.dropout = nn.Dropout(dropout)
        key, query = torch.arange(self.prefix + length)[None], torch.arange(self.prefix + length)[:, None]
        self.register_buffer("mask", (key < self.prefix) | (key <= query), persistent=False)
        self._initialise(layers)

    def _initialise(self, layers: int) -> None:
        for name, parameter in self.named_parameters():
            if parameter.dim() > 1:
                # Layers add into one stream: each adds less, the more there are (as GPT-2).
                residual = name.endswith(("attention_out.weight", "feedforward.2.weight"))
                nn.init.normal_(parameter, std=0.02 / math.sqrt(2 * layers) if residual else 0.02)
            elif name.endswith("bias"):
                nn.init.zeros_(parameter)

    @torch.no_grad()
    def fit_features(self, embeddings_ND: torch.Tensor) -> None:
        """Sets the features' mean and whitening from training data; before training, and never after.

        The inverse square root of their covariance, shrunk towards a multiple of the identity (Ledoit and Wolf's
        form, with the fixed share ``SHRINKAGE``), so that directions that hardly vary stay small.
        """
        features = embeddings_ND.double().reshape(-1, len(self.feature_mean))
        mean = features.mean(0)
        covariance = (features - mean).T @ (features - mean) / len(features)
        level = covariance.diagonal().mean().clamp_min(1e-12)
        covariance = (1 - SHRINKAGE) * covariance + SHRINKAGE * level * torch.eye(len(mean)).to(covariance)
        values, vectors = torch.linalg.eigh(covariance)
        self.feature_mean.copy_(mean)
        self.feature_whitening_DD.copy_((vectors * values.rsqrt()) @ vectors.T)

    def forward(self, embeddings_ND: torch.Tensor, tasks_N: torch.Tensor, tokens_NS: torch.Tensor) -> torch.Tensor:
        """Logits [N, S, V]: those at s are for the token that follows ``tokens_NS[:, s]``. One pass, no cache."""
        logits, _ = self.start(embeddings_ND, tasks_N, tokens_NS)
        return logits

    def start(self, embeddings_ND, tasks_N, tokens_NS, last_only: bool = False) -> tuple[torch.Tensor, Cache]:
        """The prefix and the first answer tokens; logits [N, S, V] (or [N, 1, V]) and the cache to go on from."""
        stream = self._prefixed(embeddings_ND, tasks_N, tokens_NS)
        return self._run(stream, [None] * len(self.blocks), 0, 1 if last_only else tokens_NS.shape[1])

    def features(self, embeddings_ND, tasks_N, tokens_NS) -> torch.Tensor:
        """[N, W] the last layer, averaged over prefix and answer: what the paper's map of features shows."""
        return self._mean_of(self._prefixed(embeddings_ND, tasks_N, tokens_NS), [None] * len(self.blocks), tokens_NS)

    def _mean_of(self, stream_NTW, cache, tokens_NS) -> torch.Tensor:
        stream_NTW, _ = self._through(stream_NTW, cache, 0, stream_NTW.shape[1])
        shown_NT = F.pad(tokens_NS != PAD, (self.prefix, 0), value=True)
        return (stream_NTW * shown_NT[..., None]).sum(1) / shown_NT.sum(1, keepdim=True)

    def go_on(self, tokens_NS: torch.Tensor, cache: Cache) -> tuple[torch.Tensor, Cache]:
        """The next answer tokens after what the cache holds; logits [N, 1, V] after the last of them."""
        return self._run(self.tokens(tokens_NS), cache, cache[0][0].shape[2], 1)

    def _prefixed(self, embeddings_ND, tasks_N, tokens_NS) -> torch.Tensor:
        vectors = (embeddings_ND.float().unflatten(1, (self.steps, -1)) - self.feature_mean) @ self.feature_whitening_DD
        vectors = self.vector_projection(self.vector_norm(vectors))
        instructions = (
            self.tokens(self.instructions_KM[tasks_N]) if self.prompts_KMW is None else self.prompts_KMW[tasks_N]
        )
        return torch.cat([vectors, instructions, self.tokens(tokens_NS)], dim=1)

    def _run(self, stream_NTW, cache, start: int, keep: int) -> tuple[torch.Tensor, Cache]:
        stream_NTW, kept = self._through(stream_NTW, cache, start, keep)
        return self.head(self.norm(stream_NTW)), kept

    def _through(self, stream_NTW, cache, start: int, keep: int) -> tuple[torch.Tensor, Cache]:
        """The stream after all blocks at its last ``keep`` positions, and their keys and values."""
        stop = start + stream_NTW.shape[1]
        stream_NTW = self.dropout(stream_NTW + self.positions[start:stop])
        mask = self.mask[start:stop, :stop]
        kept: Cache = []
        for index, (block, past) in enumerate(zip(self.blocks, cache, strict=True)):
            # Of the last block only the positions that are read out are needed: a third of all work saved.
            wanted = keep if index == len(self.blocks) - 1 else stream_NTW.shape[1]
            stream_NTW, present = block(stream_NTW, mask, past, wanted)
            kept.append(present)
        return stream_NTW, kept

    def loss(self, logits_NSV: torch.Tensor, tokens_NS: torch.Tensor) -> torch.Tensor:
        """Per row the sum of -log p over its answer's tokens after BOS (paper, eq. 1); the prefix has no loss. [N]"""
        targets = tokens_NS[:, 1:]
        each = F.cross_entropy(logits_NSV[:, :-1].transpose(1, 2).float(), targets, reduction="none", ignore_index=PAD)
        return each.sum(1)


class Block(nn.Module):
    """Attention and feed-forward, normalised before each, added to the stream."""

    def __init__(self, width: int, heads: int, feedforward: int, dropout: float):
        super().__init__()
        self.heads, self.attention_dropout = heads, dropout
        self.attention_norm = nn.LayerNorm(width)
        self.attention_in = nn.Linear(width, 3 * width)
        self.attention_out = nn.Linear(width, width)
        self.feedforward_norm = nn.LayerNorm(width)
        self.feedforward = nn.Sequential(nn.Linear(width, feedforward), nn.GELU(), nn.Linear(feedforward, width))
        self.dropout = nn.Dropout(dropout)

    def forward(self, stream_NTW, mask, past, keep: int):
        """The stream at its last ``keep`` positions, and the keys and values at all."""
        count, length, width = stream_NTW.shape
        mixed = self.attention_in(self.attention_norm(stream_NTW))
        query, key, value = mixed.view(count, length, 3, self.heads, width // self.heads).permute(2, 0, 3, 1, 4)
        query, stream_NTW, mask = query[:, :, -keep:], stream_NTW[:, -keep:], mask[-keep:]
        if past is not None:
            key, value = torch.cat([past[0], key], 2), torch.cat([past[1], value], 2)
        if self.training or stream_NTW.device.type != "cpu":
            dropout = self.attention_dropout if self.training else 0.0
            seen = F.scaled_dot_product_attention(query, key, value, attn_mask=mask, dropout_p=dropout)
        else:
            # In float32 the CPU's kernel gives other last bits with another number of threads (measured). In float64,
            # rounded back, it does not; it is 1% of the work.
            seen = F.scaled_dot_product_attention(query.double(), key.double(), value.double(), attn_mask=mask)
            seen = seen.to(stream_NTW.dtype)
        seen = seen.transpose(1, 2).reshape(count, keep, width)
        stream_NTW = stream_NTW + self.dropout(self.attention_out(seen))
        stream_NTW = stream_NTW + self.dropout(self.feedforward(self.feedforward_norm(stream_NTW)))
        return stream_NTW, (key, value)
