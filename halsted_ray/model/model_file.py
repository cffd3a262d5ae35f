"""What a model's folder says of the model without its weights: a run is planned from ``model.json`` alone.

Whoever loads the weights checks that they are those that the file states.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, Protocol, TypedDict

from halsted_ray.errors import ModelError, TaxonomyError
from halsted_ray.model.calibration import Unit
from halsted_ray.model.checkpoint import JsonObject, locate
from halsted_ray.model.shipped import model_location
from halsted_ray.records import WindowSpec, digest
from halsted_ray.taxonomy import Taxonomy, from_dict

FORMAT = "halsted-model/1"
FILES = ("model.json", "decoder.safetensors")


class ModelDescription(TypedDict, total=False):
    """The fields of ``ModelConfig`` that may change without other weights."""

    name: str
    version: str
    atlas_release: str
    atlas_version: int | None
    windows: WindowSpec
    temperatures: Mapping[str, float]
    clip_temperatures: Mapping[str, float]
    learned_from: Mapping[str, Sequence[str]] | None
    novelty: Mapping[str, float] | None
    verdict: str


@dataclass(frozen=True)
class ModelConfig:
    """Everything about a model but its weights and its taxonomy. ``model.json`` holds it under ``config``."""

    encoder_ref: str
    encoder_fingerprint: str
    encoder_dim: int
    name: str = "halsted"
    version: str = "0"
    atlas_release: str = ""
    atlas_version: int | None = None
    """Delta version of the atlas's samples table."""
    windows: WindowSpec = WindowSpec()
    layers: int = 2
    heads: int = 8
    width: int = 0
    feedforward: int = 0
    dropout: float = 0.1
    steps: int = 1
    """Vectors per window: 8 with an encoder of ``encoder.STEPS``. ``encoder_dim`` is the width of all together."""
    soft_prompt: bool = False
    pooling: str = "mean"
    """``attention``: the decoder makes one vector of the ``steps`` by what it learned (``step_pooling``)."""
    llama: Mapping[str, Any] | None = None
    """LlamaConfig's arguments where a Llama is the decoder. Width, layers, heads and feedforward are then the Llama's.
    """
    temperatures: Mapping[str, float] = field(default_factory=dict)
    """Per tag, of windows of a map's grid, fitted on validation windows. A tag without an entry has temperature 1."""
    clip_temperatures: Mapping[str, float] = field(default_factory=dict)
    """Per tag, of clips over their own span. A tag without an entry has that of ``temperatures``, as all tags of models
    that were calibrated before units had temperatures of their own."""
    learned_from: Mapping[str, Sequence[str]] | None = None
    """``train`` → ids of the videos that taught the weights, ``validation`` → of those that chose the epoch and the
    temperatures. None where nobody wrote it down. It decides no tag, so it is no part of ``Halsted.digest``."""

    novelty: Mapping[str, float] | None = None
    """``novelty.NoveltyLimits`` as JSON values: from where on a window or a video is unknown. None: the model can't say
    "unknown"."""
    verdict: str = ""
    """At which tasks training learned nothing, in words (``TrainSummary.verdict``); '' for a model that learned all, or
    that was saved before models said it. It decides no tag, so it is no part of ``Halsted.digest``."""

    def temperatures_of(self, unit: Unit) -> dict[str, float]:
        """Tag → temperature of one unit; a tag without an entry has 1."""
        own = self.clip_temperatures if unit == "clips" else {}
        return {**self.temperatures, **own}

    @property
    def decoder_sizes(self) -> JsonObject:
        """The argument ``sizes`` of ``decoder.build_decoder``, as JSON values."""
        names = ("width", "layers", "heads", "feedforward", "dropout", "steps", "soft_prompt", "pooling", "llama")
        return {"dim": self.encoder_dim, **{name: getattr(self, name) for name in names}}


class KnownEncoder(Protocol):
    """What tells which encoder it is: an ``Encoder``, an ``EncoderIdentity``, or what stands for an encoder."""

    @property
    def ref(self) -> str:
        """Where it was loaded from."""

    @property
    def fingerprint(self) -> str:
        """As ``Encoder.fingerprint``."""


@dataclass(frozen=True)
class StatedModel:
    """A model as its ``model.json`` states it."""

    ref: str
    config: ModelConfig
    taxonomy: Taxonomy
    weights_digest: str
    refinement_digest: str = ""
    """Of ``refinement.safetensors``; '' where the model has no refinement, as every older model."""

    @property
    def digest(self) -> str:
        """As ``Halsted.digest``."""
        return model_digest(self.config, self.taxonomy, self.weights_digest)

    def check_encoder(self, encoder: KnownEncoder) -> None:
        """As ``Halsted.check_encoder``."""
        check_encoder(self.config, encoder)

    def read_weights(self) -> bytes:
        """The file of the decoder's weights. Raises ModelError where it is not the stated one."""
        fs, path = locate(model_location(self.ref), "model")
        try:
            weights: bytes = fs.cat_file(f"{path.rstrip('/')}/decoder.safetensors")
        except OSError as error:
            raise ModelError(f"model {self.ref!r} can't be read: {error}") from error
        if (found := weights_digest(weights)) != self.weights_digest:
            raise ModelError(
                f"model {self.ref!r}: decoder.safetensors is not the file that model.json was written with "
                f"(digest {found}, expected {self.weights_digest}); copy both again"
            )
        return weights


def read_stated_model(ref: str) -> StatedModel:
    """Reads ``model.json`` of the model in a folder or at an fsspec URL, or of a model of ``shipped.SHIPPED``.

    Raises ModelError with what was found there.
    """
    stated = _read_model_json(ref)
    try:
        if stated["format"] != FORMAT:
            raise ModelError(f"model {ref!r} has format {stated['format']!r}; this version reads {FORMAT!r}")
        taxonomy = from_dict(stated["taxonomy"], f"taxonomy of model {ref!r}")
        config = ModelConfig(**{**stated["config"], "windows": WindowSpec(**stated["config"]["windows"])})
    except (KeyError, TypeError) as error:
        raise ModelError(
            f"model {ref!r}: model.json has other keys than expected: {error}; save the model again"
        ) from error
    except TaxonomyError as error:
        raise ModelError(f"model {ref!r}: {error}") from error
    if taxonomy.digest != stated.get("taxonomy_digest"):
        raise ModelError(
            f"model {ref!r}: its taxonomy has digest {taxonomy.digest}, model.json says "
            f"{stated.get('taxonomy_digest')}; the file was changed by hand, so take the original"
        )
    return StatedModel(
        ref, config, taxonomy, str(stated.get("weights_digest")), str(stated.get("refinement_digest", ""))
    )


def check_encoder(config: ModelConfig, encoder: KnownEncoder) -> None:
    """Raises ModelError unless ``encoder`` is the one that the model was trained on."""
    if encoder.fingerprint != config.encoder_fingerprint:
        raise ModelError(
            f"model {config.name!r} version {config.version!r} was trained on encoder {config.encoder_ref!r} with "
            f"fingerprint {config.encoder_fingerprint}, got {encoder.ref!r} with {encoder.fingerprint}; give the "
            "encoder it was trained on, or train the model on this one"
        )


def model_digest(config: ModelConfig, taxonomy: Taxonomy, weights: str) -> str:
    """16 hex digits over everything that decides the tags; ``weights``: the digest of the weights."""
    deciding = {**asdict(config), "temperatures": dict(config.temperatures)}
    del deciding["learned_from"], deciding["verdict"]
    # A model without these keeps the digest that it had before there were any.
    if deciding["novelty"] is None:
        del deciding["novelty"]
    if not deciding["clip_temperatures"]:
        del deciding["clip_temperatures"]
    if deciding["pooling"] == "mean":
        del deciding["pooling"]
    return digest(deciding, taxonomy.digest, weights)


def weights_digest(weights: bytes) -> str:
    """16 hex digits over a file of weights."""
    return hashlib.sha256(weights).hexdigest()[:16]


def _read_model_json(ref: str) -> JsonObject:
    fs, path = locate(model_location(ref), "model")
    path = path.rstrip("/")
    try:
        if not fs.isdir(path):
            found = "a file" if fs.exists(path) else "nothing"
            raise ModelError(f"no model at {ref!r}: found {found}, expected a folder with {' and '.join(FILES)}")
        names = sorted(entry.rstrip("/").rsplit("/", 1)[-1] for entry in fs.ls(path, detail=False))
        if missing := [name for name in FILES if name not in names]:
            raise ModelError(
                f"no model at {ref!r}: found {', '.join(names[:8]) or 'an empty folder'}, "
                f"expected {' and '.join(FILES)} ({', '.join(missing)} missing)"
            )
        content: JsonObject = json.loads(fs.cat_file(f"{path}/model.json"))
        return content
    except OSError as error:
        raise ModelError(f"model {ref!r} can't be read: {error}") from error
    except ValueError as error:
        if isinstance(error, ModelError):
            raise
        raise ModelError(f"model {ref!r}: model.json is not JSON: {error}") from error
