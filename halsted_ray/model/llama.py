"""A Llama as the decoder, behind an adaptor (paper, Methods: the ablation with Llama-3.2-1B).

The vector of a window, or its steps, goes through a two-layer perceptron into the width of the language model, whose
layers then stand where the decoder's own would: the same prefix, the same vocabulary of categories, the same
constrained generation. Unlike the paper's ablation it writes our tokens and not byte pairs, so every answer is
well-formed and no regular expression has to find the tags in it. All of its weights are trained.

Any folder of Hugging Face's "llama" type: config.json and safetensors. Nothing is downloaded, no code of it runs.
Tried with small untrained ones only: Llama's own weights may not be shipped.
"""

from __future__ import annotations

import json
from pathlib import Path

import torch
from torch import nn
from transformers import DynamicCache, LlamaConfig, LlamaModel

from halsted_ray.errors import ModelError
from halsted_ray.model.checkpoint import locate, read_folder_tensors
from halsted_ray.model.decoder import Decoder


class LlamaDecoder(Decoder):
    """``Decoder`` with a Llama for its blocks; ``llama``: LlamaConfig's arguments, as ``read_config`` gives them."""

    def __init__(
        self,
        tokens: int,
        instructions_KM: list[list[int]],
        length: int,
        dim: int,
        llama: dict,
        steps: int = 1,
        soft_prompt: bool = False,
    ):
        config = LlamaConfig.from_dict(llama)
        width = config.hidden_size
        super().__init__(tokens, instructions_KM, length, dim, width, 0, 1, 0, 0.0, steps, soft_prompt)
        self.vector_projection = nn.Sequential(nn.Linear(dim // steps, width), nn.GELU(), nn.Linear(width, width))
        self.positions = None  # rotary, within the layers
        self.norm = nn.Identity()  # the trunk ends with its own
        self.trunk = LlamaModel(config)
        self.trunk.embed_tokens = nn.Identity()  # its vocabulary is another: `tokens` and `head` take its place

    def take_weights(self, folder: str) -> None:
        """The trained layers at ``folder`` (local, or any fsspec URI), the same on every worker. Raises ModelError."""
        fs, path = locate(folder, "llama")
        try:
            names = sorted(Path(entry).name for entry in fs.ls(path, detail=False))
        except OSError as error:
            raise ModelError(f"llama {folder!r} can't be read: {error}") from error
        tensors = {
            name.removeprefix("model."): value.float()
            for name, value in read_folder_tensors(fs, path, names, folder).items()
        }
        wanted = self.trunk.state_dict()
        given = {name: tensors[name] for name in wanted if name in tensors}
        if wrong := [name for name in wanted if name not in given or given[name].shape != wanted[name].shape]:
            raise ModelError(
                f"llama {folder!r}: its weights do not fit its config.json: {', '.join(wrong[:3])}"
                + (f" and {len(wrong) - 3} more" if len(wrong) > 3 else "")
            )
        self.trunk.load_state_dict(given)

    def start(self, embeddings_ND, tasks_N, tokens_NS, last_only: bool = False):
        stream = self._prefixed(embeddings_ND, tasks_N, tokens_NS)
        return self._run(stream, DynamicCache(), 0, 1 if last_only else tokens_NS.shape[1])

    def go_on(self, tokens_NS: torch.Tensor, cache: DynamicCache):
        return self._run(self.tokens(tokens_NS), cache, cache.get_seq_length(), 1)

    def features(self, embeddings_ND, tasks_N, tokens_NS) -> torch.Tensor:
        return self._mean_of(self._prefixed(embeddings_ND, tasks_N, tokens_NS), DynamicCache(), tokens_NS)

    def _through(self, stream_NTW, cache, start: int, keep: int):
        stop = start + stream_NTW.shape[1]
        shown = self.trunk(
            inputs_embeds=stream_NTW,
            past_key_values=cache,
            use_cache=True,
            attention_mask=self.mask[start:stop, :stop].expand(len(stream_NTW), 1, -1, -1),
            position_ids=torch.arange(start, stop, device=stream_NTW.device)[None],
        )
        return shown.last_hidden_state[:, -keep:], cache


def read_config(folder: str) -> dict:
    """LlamaConfig's arguments from the folder's config.json. Raises ModelError when it is no Llama."""
    fs, path = locate(folder, "llama")
    try:
        config = json.loads(fs.cat_file(f"{path.rstrip('/')}/config.json"))
    except (OSError, ValueError) as error:
        raise ModelError(
            f"llama {folder!r}: config.json can't be read: {error}; expected a folder of Hugging Face's "
            "with config.json and safetensors"
        ) from error
    if config.get("model_type") != "llama":
        raise ModelError(f"llama {folder!r} is of type {config.get('model_type')!r}; expected 'llama'")
    # float32 throughout, and the attention that takes our mask: what the folder says of these is for other uses.
    left_out = ("dtype", "torch_dtype", "_name_or_path", "architectures", "transformers_version")
    return {name: value for name, value in config.items() if name not in left_out} | {"attn_implementation": "sdpa"}
