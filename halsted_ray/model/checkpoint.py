"""Reads the weights of an encoder from a folder or file (local, or any fsspec URL).

These forms are known:

- Hugging Face's ``VideoMAEModel`` and the models that contain it: a folder with ``config.json``;
- VideoMAE V2 (``blocks.0.attn.qkv.weight``), as released: one ``.pth`` or safetensors file;
- a folder of another family of ``encoders.families``, by the ``model_type`` in its ``config.json``;
- an image network or a vision transformer of torchvision: a folder with one file of weights and ``encoder.json``, which
  names its architecture;
- a folder that ``Encoder.save`` wrote, which has one of these forms.

VideoMAE's tensors get one set of names here; those of other families keep their own.

Only tensors are unpickled. No code of a checkpoint runs, and nothing is downloaded from a model hub.
"""

from __future__ import annotations

import argparse
import io
import json
import os
import pickle
import re
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import fsspec
import safetensors.torch
import torch
from safetensors import SafetensorError, safe_open

from halsted_ray.errors import ModelError, first_line
from halsted_ray.model.brought import VECTORS_FILE
from halsted_ray.model.encoders.families import (
    ARCHITECTURES,
    FAMILIES,
    SETTINGS_FILE,
    TORCHVISION_VITS,
    VIDEOMAE,
    known_types,
)
from halsted_ray.model.encoders.preprocessing import IMAGENET_MEAN as IMAGENET_MEAN
from halsted_ray.model.encoders.preprocessing import IMAGENET_STD as IMAGENET_STD
from halsted_ray.model.encoders.preprocessing import PREPROCESSING_FILES, Preprocessing, read_preprocessing
from halsted_ray.model.encoders.torchvision_vit import FAMILY as VIT
from halsted_ray.model.encoders.torchvision_vit import vit_weights
from halsted_ray.model.file_digests import FileDigests
from halsted_ray.storage.files import write_atomically
from halsted_ray.storage.locations import filesystem, is_local

JsonObject = dict[str, Any]
"""A JSON object as it was read from a file."""
V2_HEADS = {384: 6, 768: 12, 1024: 16, 1280: 16, 1408: 16}
"""Width to number of attention heads in VideoMAE V2's own models. No tensor's shape shows the number of heads."""
TENSOR_FILES = (".safetensors", ".pth", ".pt", ".bin")


@dataclass(frozen=True)
class Checkpoint:
    """Weights and all that is needed to use them.

    ``config``: the content of a config.json; of VideoMAE the arguments of VideoMAEConfig. ``tensors``: of VideoMAE by
    their names in VideoMAEModel, and ``fc_norm.*`` where the checkpoint has it; of others by their names in the file.
    ``mean`` and ``std``: a pixel enters the model as ``(value / 255 - mean) / std``. ``size`` and ``crop``: as in
    ``Preprocessing``. ``family``: ``videomae``, a key of ``FAMILIES``, or one of ``ARCHITECTURES``.
    """

    config: JsonObject
    tensors: dict[str, torch.Tensor]
    mean: tuple[float, ...] = IMAGENET_MEAN
    std: tuple[float, ...] = IMAGENET_STD
    size: tuple[int, int] | None = None
    crop: tuple[int, int] | None = None
    family: str = VIDEOMAE


@dataclass(frozen=True)
class Placement:
    """Where tensors are put as they are read, one after another, so that no second copy of all of them exists.

    ``dtype``: what floating-point tensors become; None leaves them as they are stored. ``fc_norm.*`` is never less than
    float32, in which it is applied. ``digests`` are told of each file that is read.
    """

    device: str = "cpu"
    dtype: torch.dtype | None = None
    digests: FileDigests | None = None

    def put(self, name: str, value: torch.Tensor) -> torch.Tensor:
        """The tensor on the device, in its type."""
        return value.to(self.device, kept_type(name, self.dtype) if value.is_floating_point() else None)


def kept_type(name: str, dtype: torch.dtype | None) -> torch.dtype | None:
    """What the tensor ``name`` becomes where the others become ``dtype``: float32 for the norm of pooled vectors."""
    return torch.float32 if dtype is not None and "fc_norm." in name else dtype


AS_STORED = Placement()
"""On the CPU, in the type that the file has."""


def read_checkpoint(ref: str, placement: Placement = AS_STORED) -> Checkpoint:
    """Reads the checkpoint at ``ref``: a folder with ``config.json`` (or ``encoder.json``) and weights, or one file of
    V2 weights.

    ``placement``: where its tensors are put. Raises ModelError with what was found and what was expected.
    """
    fs, path = locate(ref, "encoder")
    try:
        is_file, is_folder = fs.isfile(path), fs.isdir(path)
    except OSError as error:
        raise ModelError(f"encoder {ref!r} can't be reached: {error}") from error
    if is_file:
        if not path.endswith(TENSOR_FILES):
            raise ModelError(f"encoder {ref!r}: expected a folder, or a file ending in {', '.join(TENSOR_FILES)}")
        return _from_v2(read_tensors(fs, path, placement), ref)
    if not is_folder:
        raise ModelError(
            f"no encoder at {ref!r}; expected 'tiny', a folder with config.json and model.safetensors, or a file of "
            f"VideoMAE V2 weights ({', '.join(TENSOR_FILES)})"
        )
    names = sorted(Path(entry).name for entry in fs.ls(path, detail=False))
    if VECTORS_FILE in names:
        raise ModelError(
            f"encoder {ref!r} holds vectors that were brought, so no frames can be encoded; import the vectors of the "
            "video too: halsted embeddings import"
        )
    if SETTINGS_FILE in names and "config.json" not in names:
        return _image_network(fs, path, names, ref, placement)
    if "config.json" not in names:
        raise ModelError(f"encoder {ref!r}: no config.json; found {', '.join(names) or 'nothing'}")
    config = _read_json(fs, f"{path}/config.json", ref)
    found = _preprocessing(fs, path, names, ref)
    family = config.get("model_type")
    if family in FAMILIES:
        if found is None:  # families differ in their means, so there is nothing to assume
            raise ModelError(
                f"encoder {ref!r}: model_type {family!r} and no {' or '.join(PREPROCESSING_FILES)}, expected one that "
                f"states size, mean and deviation; found {', '.join(names)}; copy the whole folder again"
            )
        tensors = read_folder_tensors(fs, path, names, ref, placement)
        return Checkpoint(config, tensors, found.mean, found.std, found.size, found.crop, family)
    tensors = read_folder_tensors(fs, path, names, ref, placement)
    if family == VIDEOMAE:
        named, pictures = hugging_face_names(tensors, ref), found or Preprocessing()
        return Checkpoint(config, named, pictures.mean, pictures.std, pictures.size, pictures.crop)
    if not any("blocks.0." in name for name in tensors):
        raise ModelError(
            f"encoder {ref!r}: its config.json has model_type {family!r}, which is not supported, and its tensors "
            f"({', '.join(sorted(tensors)[:3])}) are not VideoMAE V2's; expected a model_type of {known_types()}"
        )
    checkpoint = _from_v2(tensors, ref)
    if found is None:
        return checkpoint
    return replace(checkpoint, mean=found.mean, std=found.std, size=found.size, crop=found.crop)


def write_checkpoint(checkpoint: Checkpoint, folder: str) -> None:
    """Writes model.safetensors, config.json and preprocessor_config.json (of an image network encoder.json) to a folder
    or fsspec URL.

    Takes as much memory again as the tensors. Raises OutputError where the folder can't be written.
    """
    fs, path = locate(folder, "encoder")
    preprocessing = {
        "do_rescale": True,
        "rescale_factor": 1 / 255,
        "do_normalize": True,
        "image_mean": list(checkpoint.mean),
        "image_std": list(checkpoint.std),
        "size": checkpoint.config["image_size"] if checkpoint.size is None else _stated_size(checkpoint.size),
    }
    if checkpoint.crop is not None:
        preprocessing |= {"do_center_crop": True, "crop_size": _stated_size(checkpoint.crop)}
    files = {"config": checkpoint.config, "preprocessor_config": preprocessing}
    if checkpoint.family in ARCHITECTURES:
        files = {SETTINGS_FILE.removesuffix(".json"): {**checkpoint.config, **preprocessing}}
    write_atomically(fs, f"{path}/model.safetensors", safetensors.torch.save(checkpoint.tensors))
    for name, content in files.items():
        write_atomically(fs, f"{path}/{name}.json", (json.dumps(content, indent=2) + "\n").encode())


def _stated_size(size: tuple[int, int]) -> JsonObject:
    return {"height": size[0], "width": size[1]}


def locate(ref: str, what: str) -> tuple[fsspec.AbstractFileSystem, str]:
    """Returns the file system of ``ref`` and the path on it. ``what`` names the thing in the message.

    Raises ModelError for a URL of an unknown kind.
    """
    try:
        return filesystem(os.path.expanduser(ref))
    except (ValueError, ImportError) as error:
        raise ModelError(f"{what} {ref!r}: {error}; expected a path, or a URL such as s3://bucket/folder") from error


def read_tensors(fs: fsspec.AbstractFileSystem, path: str, placement: Placement = AS_STORED) -> dict[str, torch.Tensor]:
    """Reads the tensors of one file. Torch's loader reads ``.pth`` files, over the CPU, and admits tensors only.

    Raises ModelError for a file that can't be read, is cut off, or holds more than tensors.
    """
    try:
        data = None if is_local(fs) else fs.cat_file(path)
        if placement.digests is not None:
            if data is None:
                placement.digests.add_file(path)
            else:
                placement.digests.add_bytes(path, data)
        if path.endswith(".safetensors"):
            if data is not None:
                return {name: placement.put(name, value) for name, value in safetensors.torch.load(data).items()}
            with safe_open(path, framework="pt", device=placement.device) as file:
                return {name: placement.put(name, file.get_tensor(name)) for name in file.keys()}  # noqa: SIM118
        # Released VideoMAE checkpoints also hold the arguments of their training run, which are plain attributes.
        with torch.serialization.safe_globals([argparse.Namespace]):
            source = path if data is None else io.BytesIO(data)
            content = torch.load(source, map_location="cpu", weights_only=True)
    except OSError as error:
        raise ModelError(f"weights {path!r} can't be read: {error}") from error
    except pickle.UnpicklingError as error:
        raise ModelError(
            f"weights {path!r} hold more than tensors and are not loaded, since that could run code: "
            f"{first_line(error)}; save the tensors alone as safetensors"
        ) from error
    except (SafetensorError, RuntimeError, EOFError, LookupError) as error:  # LookupError: a text under this name
        if isinstance(error, (torch.OutOfMemoryError, torch.AcceleratorError)):  # the device's fault, not the file's
            raise
        raise ModelError(f"weights {path!r} are not a whole file of tensors: {first_line(error)}") from error
    for root in ("model", "module"):
        if isinstance(content, dict) and isinstance(content.get(root), dict):
            content = content[root]
    tensors = (
        {name: placement.put(name, value) for name, value in content.items() if isinstance(value, torch.Tensor)}
        if isinstance(content, dict)
        else {}
    )
    if not tensors:
        raise ModelError(f"weights {path!r}: no tensors, neither at the root nor under 'model' or 'module'")
    return tensors


def _read_json(fs: fsspec.AbstractFileSystem, path: str, ref: str) -> JsonObject:
    try:
        content: JsonObject = json.loads(fs.cat_file(path))
        return content
    except (OSError, ValueError) as error:
        raise ModelError(f"encoder {ref!r}: {Path(path).name} can't be read as JSON: {error}") from error


def read_folder_tensors(
    fs: fsspec.AbstractFileSystem, path: str, names: list[str], ref: str, placement: Placement = AS_STORED
) -> dict[str, torch.Tensor]:
    """Reads the tensors of a Hugging Face folder, from one file or from shards.

    ``names``: the files in the folder. ``ref``: names the folder in messages. Raises ModelError.
    """
    if "model.safetensors" in names:
        return read_tensors(fs, f"{path}/model.safetensors", placement)
    if "model.safetensors.index.json" in names:
        shards = set(_read_json(fs, f"{path}/model.safetensors.index.json", ref)["weight_map"].values())
        tensors: dict[str, torch.Tensor] = {}
        for shard in sorted(shards):
            if shard not in names:
                raise ModelError(
                    f"no weights in {ref!r}: its index names {shard!r}, which is missing; found {', '.join(names)}; "
                    "copy the whole folder again"
                )
            tensors |= read_tensors(fs, f"{path}/{shard}", placement)
        return tensors
    if "pytorch_model.bin" in names:
        return read_tensors(fs, f"{path}/pytorch_model.bin", placement)
    raise ModelError(
        f"no weights in {ref!r}: found {', '.join(names)}; expected model.safetensors (or its index, or "
        "pytorch_model.bin)"
    )


def _preprocessing(fs: fsspec.AbstractFileSystem, path: str, names: list[str], ref: str) -> Preprocessing | None:
    """What the folder says of pictures; None where it says nothing."""
    for name in PREPROCESSING_FILES:
        if name in names:
            return read_preprocessing(_read_json(fs, f"{path}/{name}", ref), ref)
    return None


def _image_network(
    fs: fsspec.AbstractFileSystem, path: str, names: list[str], ref: str, placement: Placement
) -> Checkpoint:
    """Weights without a config.json, whose ``encoder.json`` names the architecture and the preprocessing."""
    settings = _read_json(fs, f"{path}/{SETTINGS_FILE}", ref)
    architecture, weights = settings.get("architecture"), [name for name in names if name.endswith(TENSOR_FILES)]
    if architecture not in (*ARCHITECTURES, *TORCHVISION_VITS):
        raise ModelError(
            f"encoder {ref!r}: {SETTINGS_FILE} has the architecture {architecture!r}, expected one of "
            f"{', '.join((*ARCHITECTURES, *TORCHVISION_VITS))}"
        )
    if len(weights) != 1:
        raise ModelError(
            f"encoder {ref!r}: found {', '.join(weights) or 'no weights'} beside {SETTINGS_FILE}, expected one file "
            f"ending in {', '.join(TENSOR_FILES)}"
        )
    pictures = read_preprocessing(settings, ref)
    if pictures.size is None:
        raise ModelError(f"encoder {ref!r}: {SETTINGS_FILE} has no size, expected the pixels of a picture's side")
    tensors, family = read_tensors(fs, f"{path}/{weights[0]}", placement), str(architecture)
    if family in TORCHVISION_VITS:
        seen = pictures.crop or pictures.size
        settings, tensors = vit_weights(family, tensors, settings, seen, ref)
        family = VIT
    return Checkpoint(settings, tensors, pictures.mean, pictures.std, pictures.size, pictures.crop, family)


def _prefix_before(tensors: dict[str, torch.Tensor], known: str, ref: str) -> str:
    """Returns the text before ``known`` in the tensor names: ``videomae.``, ``backbone.``, ``encoder.`` or ''."""
    for name in tensors:
        if name.endswith(known):
            return name[: -len(known)]
    raise ModelError(
        f"encoder {ref!r} is not a VideoMAE: no tensor is named {known!r}; found "
        f"{', '.join(sorted(tensors)[:3])} and {max(len(tensors) - 3, 0)} more"
    )


def hugging_face_names(tensors: dict[str, torch.Tensor], ref: str) -> dict[str, torch.Tensor]:
    """Takes VideoMAEModel's tensors out of any Hugging Face model that contains one; keeps ``fc_norm``, drops heads.

    Older releases of Hugging Face's library name the biases ``attention.attention.q_bias``, newer releases
    ``attention.attention.query.bias``; both become the newer name. Raises ModelError where no tensor is VideoMAE's.
    """
    prefix = _prefix_before(tensors, "embeddings.patch_embeddings.projection.weight", ref)
    found = {}
    for name, value in tensors.items():
        if name.startswith("fc_norm."):
            found[name] = value
        elif name.startswith(prefix) and (prefix or name.startswith(("embeddings.", "encoder.", "layernorm."))):
            name = name[len(prefix) :]
            name = re.sub(
                r"attention\.([qv])_bias$", lambda m: f"attention.{'query' if m[1] == 'q' else 'value'}.bias", name
            )
            if name != "embeddings.position_embeddings":  # a fixed table, which the encoder computes again
                found[name] = value
    return found


def v2_names(tensors: dict[str, torch.Tensor], ref: str) -> dict[str, torch.Tensor]:
    """Gives VideoMAE V2's tensors their names in VideoMAEModel; keeps ``fc_norm.*``, drops the classifier head.

    The key projection has no bias in V2, as in VideoMAEModel. ``norm.*`` exists only where the tokens are normalised
    before pooling (pretraining). ``fc_norm.*`` exists only where the pooled vector is normalised. Raises ModelError
    for a tensor that VideoMAE V2 does not have.
    """
    prefix = _prefix_before(tensors, "patch_embed.proj.weight", ref)
    parts = {
        "norm1": "layernorm_before",
        "norm2": "layernorm_after",
        "attn.proj": "attention.output.dense",
        "mlp.fc1": "intermediate.dense",
        "mlp.fc2": "output.dense",
        "attn.q_bias": "attention.attention.query.bias",
        "attn.v_bias": "attention.attention.value.bias",
    }
    found, unknown = {}, []
    for full, value in tensors.items():
        if not full.startswith(prefix):
            continue
        name = full[len(prefix) :]
        block = re.fullmatch(r"blocks\.(\d+)\.(.+?)(\.weight|\.bias)?", name)
        if block and f"{block[2]}{block[3] or ''}" == "attn.qkv.weight":
            for part, rows in zip(("query", "key", "value"), value.chunk(3), strict=True):
                found[f"encoder.layer.{block[1]}.attention.attention.{part}.weight"] = rows
        elif block and block[2] in parts:
            found[f"encoder.layer.{block[1]}.{parts[block[2]]}{block[3] or ''}"] = value
        elif name.startswith("patch_embed.proj."):
            found[name.replace("patch_embed.proj", "embeddings.patch_embeddings.projection")] = value
        elif name.startswith("fc_norm."):
            found[name] = value
        elif re.fullmatch(r"norm\.(weight|bias)", name):
            found[f"layer{name}"] = value
        elif not name.startswith(("head.", "decoder.", "encoder_to_decoder.")) and name != "mask_token":
            unknown.append(full)
    if unknown:
        raise ModelError(f"encoder {ref!r}: tensors that VideoMAE V2 does not have: {', '.join(unknown[:5])}")
    return found


def _from_v2(raw: dict[str, torch.Tensor], ref: str) -> Checkpoint:
    if not any("blocks.0." in name for name in raw):
        raise ModelError(
            f"encoder {ref!r}: not VideoMAE V2's tensor names (such as blocks.0.attn.qkv.weight), found "
            f"{', '.join(sorted(raw)[:3])}; a model of another kind needs its folder with config.json"
        )
    tensors = v2_names(raw, ref)
    projection = tensors["embeddings.patch_embeddings.projection.weight"]
    width, channels, tubelet, patch, _ = projection.shape
    layers = 1 + max(int(name.split(".")[2]) for name in tensors if name.startswith("encoder.layer."))
    config = {
        "image_size": 224,
        "patch_size": patch,
        "num_channels": channels,
        "num_frames": 16,
        "tubelet_size": tubelet,
        "hidden_size": width,
        "num_hidden_layers": layers,
        "num_attention_heads": V2_HEADS.get(width, max(1, width // 64)),
        "intermediate_size": tensors["encoder.layer.0.intermediate.dense.weight"].shape[0],
        "layer_norm_eps": 1e-6,  # VideoMAE V2's; VideoMAEConfig's default is 1e-12
        "qv_bias": "encoder.layer.0.attention.attention.query.bias" in tensors,
    }
    # VideoMAE V2's own feature extraction only scales pixels to [0, 1].
    return Checkpoint(config, tensors, (0.0,) * 3, (1.0,) * 3)
