"""How much of a GPU a fold of an evaluation needs, so that several small folds share one."""

from __future__ import annotations

from halsted_ray.evaluation.dataset import EvaluationData
from halsted_ray.model.vocabulary import Vocabulary
from halsted_ray.taxonomy import from_dict
from halsted_ray.training.recipe import Recipe
from halsted_ray.training.train import decoder_options

GPU_BYTES = 16e9
"""The GPU that shares are computed for: the smallest that this project plans with (T4, A4000). A larger one has room to
spare."""
PROCESS_BYTES = 2e9
"""A process on a GPU without weights and vectors: CUDA's context, the libraries' work space, a batch's activations.
Estimated; not measured on a GPU."""
BYTES_PER_WEIGHT = 16
"""A weight, its gradient and AdamW's two moments, in float32."""
SHARES = (0.25, 0.5)
"""Of a GPU: what a fold takes at least, where it needs no whole one."""


def gpu_share_of_fold(data: EvaluationData) -> float:
    """The share of a GPU that a fold of ``data`` takes at least: a quarter, a half or a whole one, by its memory.

    With a Llama beside the model it is a whole one.
    """
    if data.llama:
        return 1.0
    vectors = data.training.embeddings_WD.nbytes + data.testing.embeddings_WD.nbytes
    tokens = len(Vocabulary(from_dict(dict(data.taxonomy))))
    weights = decoder_weights(data.recipe, data.config.encoder_dim // data.config.steps, tokens)
    needed = PROCESS_BYTES + vectors + BYTES_PER_WEIGHT * weights
    return next((share for share in SHARES if needed <= share * GPU_BYTES), 1.0)


def decoder_weights(recipe: Recipe, dim: int, tokens: int) -> int:
    """About how many weights the decoder of ``recipe`` has: its matrices, without biases and norms.

    ``dim``: width of an encoder's vector. ``tokens``: size of the vocabulary. Raises ModelError for a Llama that can't
    be read.
    """
    sizes = decoder_options(recipe)
    if llama := sizes["llama"]:
        layers, width, feedforward = (llama[name] for name in ("num_hidden_layers", "hidden_size", "intermediate_size"))
        return layers * (4 * width**2 + 3 * width * feedforward) + (dim + width + 2 * tokens) * width
    width = sizes["width"] or dim
    feedforward = sizes["feedforward"] or width * 7 // 2
    projection = 0 if width == dim else dim * width
    if recipe.pooling == "attention":
        projection += 2 * width**2
    return sizes["layers"] * (4 * width**2 + 2 * width * feedforward) + 2 * tokens * width + projection
