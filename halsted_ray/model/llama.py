"""A Llama's layers in the decoder's place, behind an adaptor, with this project's own vocabulary.

A two-layer perceptron (the adaptor) brings the vector of a window, or its vectors per time step, to the width of the
language model. The Llama's layers then replace the decoder's own layers. Prefix, vocabulary and constrained generation
stay the same. All weights are trained.

It writes the tokens of ``vocabulary.py``, so every answer is well-formed. That is not the paper's ablation, whose Llama
writes byte pairs, with a regular expression to find the tags in its text: see ``llama_text.py``.

Any folder of Hugging Face's type "llama" will do (config.json and safetensors). Nothing is downloaded, and no code of
the folder runs. Tested only with small untrained models, since Llama's own weights may not ship with this package.
"""

from __future__ import annotations

import json
from pathlib import Path

import torch
from torch import nn
from transformers import DynamicCache, LlamaConfig, LlamaModel

from halsted_ray.errors import ModelError
from halsted_ray.model.checkpoint import JsonObject, locate, read_folder_tensors
from halsted_ray.model.decoder import Cache, Decoder


class LlamaDecoder(Decoder):
    """A ``Decoder`` whose layers are a Llama's. ``llama``: LlamaConfig's arguments, from ``read_config``."""

    def __init__(
        self,
        tokens: int,
        instructions_KM: list[list[int]],
        length: int,
        dim: int,
        llama: JsonObject,
        steps: int = 1,
        soft_prompt: bool = False,
    ):
        config = LlamaConfig.from_dict(llama)
        width = config.hidden_size
        super().__init__(tokens, instructions_KM, length, dim, width, 0, 1, 0, 0.0, steps, soft_prompt)
        self.vector_projection = nn.Sequential(nn.Linear(dim // steps, width), nn.GELU(), nn.Linear(width, width))
        self.positions = None  # the layers contain rotary position embeddings
        self.norm = nn.Identity()  # the trunk ends with a norm of its own
        self.trunk = LlamaModel(config)
        self.trunk.embed_tokens = nn.Identity()  # its vocabulary differs from ours, so `tokens` and `head` replace it

    def load_trunk(self, folder: str) -> None:
        """Loads the trained layers in ``folder`` (local, or any fsspec URL). All workers must give the same folder.

        Raises ModelError where the folder can't be read or its weights do not fit its config.json.
        """
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

    def extend(self, tokens_NS: torch.Tensor, cache: Cache) -> tuple[torch.Tensor, Cache]:
        """As ``Decoder.extend``."""
        return self._logits(self.tokens(tokens_NS), cache, cache.get_seq_length(), 1)

    def _empty_cache(self) -> Cache:
        return DynamicCache()

    def _run_layers(self, stream_NLW: torch.Tensor, cache: Cache, start: int, keep: int) -> tuple[torch.Tensor, Cache]:
        stop = start + stream_NLW.shape[1]
        output = self.trunk(
            inputs_embeds=stream_NLW,
            past_key_values=cache,
            use_cache=True,
            attention_mask=self.mask[start:stop, :stop].expand(len(stream_NLW), 1, -1, -1),
            position_ids=torch.arange(start, stop, device=stream_NLW.device)[None],
        )
        return output.last_hidden_state[:, -keep:], cache


def read_config(folder: str) -> JsonObject:
    """Reads LlamaConfig's arguments from the folder's config.json. Raises ModelError where the model is no Llama."""
    fs, path = locate(folder, "llama")
    try:
        config = json.loads(fs.cat_file(f"{path.rstrip('/')}/config.json"))
    except (OSError, ValueError) as error:
        raise ModelError(
            f"llama {folder!r}: config.json can't be read: {error}; expected a folder in Hugging Face's layout, with "
            "config.json and safetensors"
        ) from error
    if config.get("model_type") != "llama":
        raise ModelError(f"llama {folder!r} is of type {config.get('model_type')!r}; expected 'llama'")
    # We compute in float32, and with the attention kernel that accepts our mask, whatever the folder says of these.
    left_out = ("dtype", "torch_dtype", "_name_or_path", "architectures", "transformers_version")
    return {name: value for name, value in config.items() if name not in left_out} | {"attn_implementation": "sdpa"}
