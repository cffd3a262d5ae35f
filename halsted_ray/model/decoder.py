"""The prefix language model that reads a window's vector and writes its tags (paper, Methods).

The input is [vector | instruction | answer]. Every position attends to the whole prefix [vector | instruction];
answer tokens attend to earlier answer tokens only.

Shapes: N rows, D width of the encoder's vector, W width of the decoder, T vectors per window (1: their mean),
P = T + 8 prefix positions (1 + 8 where the T vectors are pooled), S answer tokens, V tokens in the vocabulary,
L = P + S positions in all.

With D = W = 1408, 2 layers and 8 heads the decoder has 44.1 M parameters (the paper: 44 M). The paper does not state
the feed-forward width: 3.5 W gives its count, and the usual 4 W gives 47.2 M.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import torch
from torch import nn
from torch.nn import functional as F

from halsted_ray.model.step_pooling import StepPooling
from halsted_ray.model.vocabulary import INSTRUCTION_LENGTH, PAD, Vocabulary

LEAST_DEVIATION = 1e-3
"""Of the features' mean deviation: a feature that varies less is treated as if it varied this much. Else a feature that
is constant in training would be multiplied by whatever rounding makes of its deviation."""
FIT_ROWS = 1 << 18
"""Vectors that are turned into float64 at once to fit mean and deviation: 3 GB of the giant's."""
WHITENING = "feature_whitening_DD"
"""The tensor of decoders that whitened their vectors, which were trained before features were standardised."""
LayerCache = tuple[torch.Tensor, torch.Tensor]
"""Keys and values of one layer, each [N, heads, positions, W / heads]."""
Cache = Any
"""The keys and values of all layers so far: here a list with a LayerCache per layer (None before the first token), in
``llama.LlamaDecoder`` a DynamicCache. Only the decoder that made a cache looks inside."""


class Decoder(nn.Module):
    """Predicts the next token of an answer from a window's vector, a task and the answer so far.

    ``length``: most answer tokens. ``steps``: T. ``vectors``: how many of them enter the first layer, 1 where they are
    pooled. ``prefix``: P. ``feature_mean`` and ``feature_scale_D``: how the encoder's vectors are standardised
    (``fit_features``). ``feature_whitening_DD``: None, or the matrix by which an older model multiplies its vectors in
    the place of the scale, which is None then; ``load_state_dict`` sets both.
    """

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
        pooling: str = "mean",
    ):
        """Makes an untrained decoder.

        ``tokens``: V. ``instructions_KM``: the 8 token ids of each task's instruction. ``length``: most answer
        tokens. ``dim``: the width of all T = ``steps`` vectors of a window together. ``width``: W. ``soft_prompt``:
        the 8 instruction embeddings of a task are learned freely and do not depend on the instruction's words.
        ``pooling``: ``attention`` makes one vector of the T (``StepPooling``); ``mean`` takes them as they are.
        """
        super().__init__()
        assert dim % steps == 0, f"{steps} vectors can't have a width of {dim} together"
        self.length, self.steps, self.vectors = length, steps, 1 if pooling == "attention" else steps
        self.prefix = self.vectors + INSTRUCTION_LENGTH
        dim //= steps
        # The encoder's features have an arbitrary scale and a large common mean, and a decoder that sees them as they
        # are learns hardly anything. Standardised, the same recipe suits every encoder.
        self.register_buffer("feature_mean", torch.zeros(dim))
        self.register_buffer("feature_scale_D", torch.ones(dim))
        self.register_buffer(WHITENING, None)
        self.register_buffer("instructions_KM", torch.tensor(instructions_KM), persistent=False)
        self.vector_norm = nn.LayerNorm(dim)
        self.vector_projection = nn.Identity() if dim == width else nn.Linear(dim, width)
        self.pooling = StepPooling(width, steps, heads) if pooling == "attention" else None
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
                # All layers add to one residual stream, so each starts smaller the more layers there are (as GPT-2).
                residual = name.endswith(("attention_out.weight", "feedforward.2.weight"))
                nn.init.normal_(parameter, std=0.02 / math.sqrt(2 * layers) if residual else 0.02)
            elif name.endswith("bias"):
                nn.init.zeros_(parameter)
        if self.pooling is not None:
            self.pooling.start_as_mean()

    @torch.no_grad()
    def fit_features(self, embeddings_ND: torch.Tensor) -> None:
        """Sets the mean and the scale of the features from training vectors [N, D]. Call it once, before training.

        The scale is one over a feature's standard deviation, so that each feature has a variance of 1.
        """
        rows_ND = embeddings_ND.reshape(-1, len(self.feature_mean))
        parts = rows_ND.split(FIT_ROWS)
        mean = torch.stack([part.double().sum(0) for part in parts]).sum(0) / len(rows_ND)
        squares = torch.stack([(part.double() - mean).square().sum(0) for part in parts]).sum(0)
        deviation = (squares / len(rows_ND)).sqrt()
        least = (LEAST_DEVIATION * deviation.mean()).clamp_min(1e-12)
        self.feature_mean.copy_(mean)
        self.feature_scale_D = (1 / torch.maximum(deviation, least)).to(self.feature_mean)

    def _load_from_state_dict(self, state_dict: dict[str, Any], prefix: str, *arguments: Any) -> None:
        """Also reads the tensors of a decoder that whitens its vectors; torch calls this."""
        # A decoder has one of the two, so that what it saves again is what was read, to the last bit.
        whitening = state_dict.get(prefix + WHITENING)
        self.feature_whitening_DD = None if whitening is None else torch.empty_like(whitening).to(self.feature_mean)
        self.feature_scale_D = torch.ones_like(self.feature_mean) if whitening is None else None
        super()._load_from_state_dict(state_dict, prefix, *arguments)

    def forward(self, embeddings_ND: torch.Tensor, tasks_N: torch.Tensor, tokens_NS: torch.Tensor) -> torch.Tensor:
        """Returns logits [N, S, V] in one pass without a cache. Those at s predict the token after ``tokens_NS[:, s]``.

        ``embeddings_ND``: a vector per row. ``tasks_N``: the index of each row's task. ``tokens_NS``: the answer.
        """
        logits, _ = self.prefill(embeddings_ND, tasks_N, tokens_NS)
        return logits

    def prefill(
        self, embeddings_ND: torch.Tensor, tasks_N: torch.Tensor, tokens_NS: torch.Tensor, last_only: bool = False
    ) -> tuple[torch.Tensor, Cache]:
        """Runs the prefix and the first answer tokens.

        Returns logits [N, S, V] (with ``last_only`` [N, 1, V], of the last token) and the cache for ``extend``.
        """
        stream = self._embed(embeddings_ND, tasks_N, tokens_NS)
        return self._logits(stream, self._empty_cache(), 0, 1 if last_only else tokens_NS.shape[1])

    def features(self, embeddings_ND: torch.Tensor, tasks_N: torch.Tensor, tokens_NS: torch.Tensor) -> torch.Tensor:
        """Returns the last layer [N, W], averaged over prefix and answer: what the paper's map of features shows."""
        stream_NLW = self._embed(embeddings_ND, tasks_N, tokens_NS)
        stream_NLW, _ = self._run_layers(stream_NLW, self._empty_cache(), 0, stream_NLW.shape[1])
        counted_NL = F.pad(tokens_NS != PAD, (self.prefix, 0), value=True)
        return (stream_NLW * counted_NL[..., None]).sum(1) / counted_NL.sum(1, keepdim=True)

    def extend(self, tokens_NS: torch.Tensor, cache: Cache) -> tuple[torch.Tensor, Cache]:
        """Runs the next answer tokens after the tokens in the cache.

        Returns logits [N, 1, V] after the last of these tokens, and the cache with them added.
        """
        return self._logits(self.tokens(tokens_NS), cache, cache[0][0].shape[2], 1)

    def _empty_cache(self) -> Cache:
        return [None] * len(self.blocks)

    def _embed(self, embeddings_ND: torch.Tensor, tasks_N: torch.Tensor, tokens_NS: torch.Tensor) -> torch.Tensor:
        """Returns the input [N, L, W] of the first layer: prefix and answer."""
        # Never in bfloat16: the common mean is large, so that rounding before it is taken off would hide what varies.
        with torch.autocast(embeddings_ND.device.type, enabled=False):
            vectors = embeddings_ND.float().unflatten(1, (self.steps, -1)) - self.feature_mean
            if self.feature_whitening_DD is not None:
                vectors = vectors @ self.feature_whitening_DD
            else:
                vectors = vectors * self.feature_scale_D
        vectors = self.vector_projection(self.vector_norm(vectors))
        if self.pooling is not None:
            vectors = self.pooling(vectors)
        instructions = (
            self.tokens(self.instructions_KM[tasks_N]) if self.prompts_KMW is None else self.prompts_KMW[tasks_N]
        )
        return torch.cat([vectors, instructions, self.tokens(tokens_NS)], dim=1)

    def _logits(self, stream_NLW: torch.Tensor, cache: Cache, start: int, keep: int) -> tuple[torch.Tensor, Cache]:
        """Returns logits [N, keep, V] of the last ``keep`` positions, and the cache. ``start``: the first position."""
        stream_NLW, cache = self._run_layers(stream_NLW, cache, start, keep)
        return self.head(self.norm(stream_NLW)), cache

    def _run_layers(self, stream_NLW: torch.Tensor, cache: Cache, start: int, keep: int) -> tuple[torch.Tensor, Cache]:
        """Returns the last layer's output at the last ``keep`` positions [N, keep, W], and the cache."""
        stop = start + stream_NLW.shape[1]
        stream_NLW = self.dropout(stream_NLW + self.positions[start:stop])
        mask = self.mask[start:stop, :stop]
        extended: list[LayerCache] = []
        for index, (block, past) in enumerate(zip(self.blocks, cache, strict=True)):
            # The last block computes only the positions that are read out, which saves a third of all work.
            wanted = keep if index == len(self.blocks) - 1 else stream_NLW.shape[1]
            stream_NLW, present = block(stream_NLW, mask, past, wanted)
            extended.append(present)
        return stream_NLW, extended

    def loss(self, logits_NSV: torch.Tensor, tokens_NS: torch.Tensor) -> torch.Tensor:
        """Returns per row [N] the sum of -log p over the answer's tokens after BOS (paper, eq. 1). PAD has no loss."""
        return token_losses(logits_NSV, tokens_NS).sum(1)


def token_losses(logits_NSV: torch.Tensor, tokens_NS: torch.Tensor) -> torch.Tensor:
    """Returns -log p [N, S - 1] of each token after BOS, 0 for PAD."""
    targets = tokens_NS[:, 1:]
    # One row per token: with the tokens of an answer as a last dimension, the CPU's kernel takes three times as long.
    rows = logits_NSV[:, :-1].float().flatten(0, 1)
    return F.cross_entropy(rows, targets.flatten(), reduction="none", ignore_index=PAD).view(targets.shape)


class Block(nn.Module):
    """One layer: attention and feed-forward. Each normalises its input and adds its output to the stream."""

    def __init__(self, width: int, heads: int, feedforward: int, dropout: float):
        super().__init__()
        self.heads, self.attention_dropout = heads, dropout
        self.attention_norm = nn.LayerNorm(width)
        self.attention_in = nn.Linear(width, 3 * width)
        self.attention_out = nn.Linear(width, width)
        self.feedforward_norm = nn.LayerNorm(width)
        self.feedforward = nn.Sequential(nn.Linear(width, feedforward), nn.GELU(), nn.Linear(feedforward, width))
        self.dropout = nn.Dropout(dropout)

    def forward(
        self, stream_NLW: torch.Tensor, mask: torch.Tensor, past: LayerCache | None, keep: int
    ) -> tuple[torch.Tensor, LayerCache]:
        """Returns the stream at its last ``keep`` positions [N, keep, W], and the keys and values at all positions.

        ``mask``: bool [L, positions], true where a query may attend to a key. ``past``: keys and values of earlier
        positions.
        """
        count, length, width = stream_NLW.shape
        projected = self.attention_in(self.attention_norm(stream_NLW))
        query, key, value = projected.view(count, length, 3, self.heads, width // self.heads).permute(2, 0, 3, 1, 4)
        query, stream_NLW, mask = query[:, :, -keep:], stream_NLW[:, -keep:], mask[-keep:]
        if past is not None:
            key, value = torch.cat([past[0], key], 2), torch.cat([past[1], value], 2)
        if self.training or stream_NLW.device.type != "cpu":
            dropout = self.attention_dropout if self.training else 0.0
            attended = F.scaled_dot_product_attention(query, key, value, attn_mask=mask, dropout_p=dropout)
        else:
            # In float32 the last bits of the CPU's kernel depend on the number of threads (measured). In float64,
            # rounded back to float32, they do not. This costs 1% of the work.
            attended = F.scaled_dot_product_attention(query.double(), key.double(), value.double(), attn_mask=mask)
            attended = attended.to(stream_NLW.dtype)
        attended = attended.transpose(1, 2).reshape(count, keep, width)
        stream_NLW = stream_NLW + self.dropout(self.attention_out(attended))
        stream_NLW = stream_NLW + self.dropout(self.feedforward(self.feedforward_norm(stream_NLW)))
        return stream_NLW, (key, value)


def build_decoder(vocabulary: Vocabulary, sizes: Mapping[str, Any]) -> Decoder:
    """Makes an untrained decoder from ``ModelConfig.decoder_sizes``: this project's own, or a Llama."""
    of_vocabulary = len(vocabulary), vocabulary.instructions, vocabulary.length
    sizes = dict(sizes)
    llama = sizes.pop("llama", None)
    assert llama is None or sizes["pooling"] == "mean", "the recipe and Halsted.create refuse it"
    if llama is None:
        return Decoder(*of_vocabulary, **sizes)
    from halsted_ray.model.llama import LlamaDecoder  # imported here: it takes a second, and few need it

    return LlamaDecoder(*of_vocabulary, sizes["dim"], dict(llama), sizes["steps"], sizes["soft_prompt"])
