"""Halsted, the model as one thing: taxonomy, decoder, calibration, and which encoder it stands on.

A model folder holds ``model.json`` and ``decoder.safetensors`` and nothing else is needed to read it: the taxonomy
is inside. The encoder is named by reference and fingerprint, since all models of an archive share it.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace

import numpy as np
import safetensors.torch
import torch
from safetensors import SafetensorError

from halsted_ray.errors import ModelError, TaxonomyError
from halsted_ray.model.calibration import fit_temperature
from halsted_ray.model.checkpoint import locate
from halsted_ray.model.decoder import Decoder
from halsted_ray.model.encoder import Encoder
from halsted_ray.model.generation import DECIMALS, Generated, Grammar, generate, rounded
from halsted_ray.model.shipped import model_location
from halsted_ray.model.vocabulary import PAD, Parsed, Vocabulary, parse
from halsted_ray.records import WindowSpec, digest
from halsted_ray.taxonomy import Taxonomy, from_dict, load

FORMAT = "halsted-model/1"
FILES = ("model.json", "decoder.safetensors")


@dataclass(frozen=True)
class ModelConfig:
    """All of a model but its weights; what ``model.json`` holds."""

    encoder_ref: str
    encoder_fingerprint: str
    encoder_dim: int
    name: str = "halsted"
    version: str = "0"
    atlas_release: str = ""
    atlas_version: int | None = None
    """Delta version of the atlas's samples."""
    windows: WindowSpec = WindowSpec()
    layers: int = 2
    heads: int = 8
    width: int = 0
    feedforward: int = 0
    dropout: float = 0.1
    steps: int = 1
    """Vectors a window: 8 with an encoder of ``encoder.STEPS``; ``encoder_dim`` is the width of all together."""
    soft_prompt: bool = False
    llama: Mapping | None = None
    """LlamaConfig's arguments where a Llama is the decoder; then width, layers, heads and feedforward are its own."""
    temperatures: Mapping[str, float] = field(default_factory=dict)
    """Per tag, fitted on validation windows; 1 where a tag is not named."""
    learned_from: Mapping[str, Sequence[str]] | None = None
    """``train`` → ids of the videos that taught the weights, ``validation`` → of those that chose the epoch and the
    temperatures. None where nobody wrote it down. It decides no tag, so it is no part of ``Halsted.digest``."""

    @property
    def decoder_sizes(self) -> dict:
        """What ``decoder_of`` needs."""
        names = ("width", "layers", "heads", "feedforward", "dropout", "steps", "soft_prompt", "llama")
        return {"dim": self.encoder_dim, **{name: getattr(self, name) for name in names}}


class Halsted:
    """Vectors of windows in, tags out.

    ``config``, ``taxonomy``, ``vocabulary``; ``decoder`` is the torch module that training optimises.
    """

    def __init__(self, config: ModelConfig, taxonomy: Taxonomy, device: str = "cpu"):
        self.taxonomy, self.vocabulary = taxonomy, Vocabulary(taxonomy)
        self.device = torch.device(device)
        self.decoder = decoder_of(self.vocabulary, config.decoder_sizes).to(self.device).eval()
        self.configure(config)

    @classmethod
    def create(
        cls,
        taxonomy: Taxonomy | None,
        encoder_dim: int,
        *,
        encoder_ref: str = "",
        encoder_fingerprint: str = "",
        layers: int = 2,
        heads: int = 8,
        width: int | None = None,
        feedforward: int | None = None,
        steps: int = 1,
        llama: Mapping | None = None,
        seed: int = 0,
        device: str = "cpu",
        **described,
    ) -> Halsted:
        """An untrained model. ``width`` defaults to the width of one vector, ``feedforward`` to 3.5 times the width.

        ``described``: any of ``name``, ``version``, ``atlas_release``, ``atlas_version``, ``windows``, ``dropout``,
        ``soft_prompt``, ``learned_from``.
        """
        if llama:
            width, layers, heads, feedforward = (
                llama[name] for name in ("hidden_size", "num_hidden_layers", "num_attention_heads", "intermediate_size")
            )
        if encoder_dim % steps:
            raise ModelError(f"an encoder of width {encoder_dim} gives no {steps} vectors a window")
        width = width or encoder_dim // steps
        if width % heads:
            raise ModelError(f"a decoder of width {width} can't have {heads} heads; the width must be a multiple")
        config = ModelConfig(
            encoder_ref,
            encoder_fingerprint,
            encoder_dim,
            layers=layers,
            heads=heads,
            width=width,
            feedforward=feedforward or width * 7 // 2,
            steps=steps,
            llama=llama,
            **described,
        )
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            model = cls(config, taxonomy or load())
        return model.to(device)

    @classmethod
    def load(cls, ref: str, device: str = "cpu") -> Halsted:
        """The model in the folder or at the fsspec URI ``ref``, or a model of ``shipped.SHIPPED``. Raises ModelError
        with what was found there."""
        fs, path = locate(model_location(ref), "model")
        description, weights = _read_folder(fs, path.rstrip("/"), ref)
        try:
            if description["format"] != FORMAT:
                raise ModelError(f"model {ref!r} has format {description['format']!r}; this version reads {FORMAT!r}")
            taxonomy = from_dict(description["taxonomy"], f"taxonomy of model {ref!r}")
            stated = description["config"]
            config = ModelConfig(**{**stated, "windows": WindowSpec(**stated["windows"])})
        except (KeyError, TypeError) as error:
            raise ModelError(f"model {ref!r}: model.json has other keys than expected: {error}; save anew") from error
        except TaxonomyError as error:
            raise ModelError(f"model {ref!r}: {error}") from error
        if taxonomy.digest != description.get("taxonomy_digest"):
            raise ModelError(
                f"model {ref!r}: its taxonomy has digest {taxonomy.digest}, model.json says "
                f"{description.get('taxonomy_digest')}; the file was changed by hand, take the original"
            )
        if _weights_digest(weights) != description.get("weights_digest"):
            raise ModelError(
                f"model {ref!r}: decoder.safetensors is not the file that model.json was written with "
                f"(digest {_weights_digest(weights)}, expected {description.get('weights_digest')}); copy both anew"
            )
        model = cls(config, taxonomy)
        try:
            model.decoder.load_state_dict(safetensors.torch.load(weights))
        except (SafetensorError, RuntimeError) as error:
            raise ModelError(f"model {ref!r}: decoder.safetensors does not fit model.json: {error}") from error
        return model.to(device)

    def save(self, folder: str) -> None:
        """Writes ``model.json`` and ``decoder.safetensors`` to a folder or fsspec URI, model.json last."""
        fs, path = locate(folder, "model")
        weights = self._weights()
        description = {
            "format": FORMAT,
            "config": {**asdict(self.config), "temperatures": dict(self.config.temperatures)},
            "parameters": self.parameters,
            "taxonomy_digest": self.taxonomy.digest,
            "weights_digest": _weights_digest(weights),
            "taxonomy": self.taxonomy.to_dict(),
        }
        fs.makedirs(path, exist_ok=True)
        fs.pipe_file(f"{path}/decoder.safetensors", weights)
        fs.pipe_file(f"{path}/model.json", (json.dumps(description, indent=2, ensure_ascii=False) + "\n").encode())

    def configure(self, config: ModelConfig | None = None, **changes) -> None:
        """Changes what ``model.json`` says (``version``, ``atlas_release``, ``temperatures``…), not the weights."""
        self.config = replace(config or self.config, **changes)
        self.grammar = Grammar(self.vocabulary, self.config.temperatures, self.device)

    def to(self, device: str) -> Halsted:
        """Moves the model; returns itself."""
        self.device = torch.device(device)
        self.decoder.to(self.device)
        self.configure()
        return self

    @property
    def rows_per_pass(self) -> int:
        """Fixed for each kind of machine, padded up to: with another number a row's last bits would be others."""
        return 256 if self.device.type == "cuda" else 16

    @property
    def parameters(self) -> int:
        """How many weights are trained."""
        return sum(parameter.numel() for parameter in self.decoder.parameters())

    @property
    def digest(self) -> str:
        """16 hex digits over everything that decides the tags; reads the weights once."""
        config = {**asdict(self.config), "temperatures": dict(self.config.temperatures)}
        del config["learned_from"]
        return digest(config, self.taxonomy.digest, _weights_digest(self._weights()))

    def load_encoder(self, **options) -> Encoder:
        """The encoder that this model was trained on; ModelError when the reference now holds another one."""
        encoder = Encoder.load(self.config.encoder_ref, **options)
        self.check_encoder(encoder)
        return encoder

    def check_encoder(self, encoder: Encoder) -> None:
        """Raises ModelError unless ``encoder`` is the one this model was trained on."""
        if encoder.fingerprint != self.config.encoder_fingerprint:
            raise ModelError(
                f"model {self.config.name!r} version {self.config.version!r} was trained on encoder "
                f"{self.config.encoder_ref!r} with fingerprint {self.config.encoder_fingerprint}, got {encoder.ref!r} "
                f"with {encoder.fingerprint}; give that encoder, or train the model on this one"
            )

    def tag(
        self,
        embeddings_ND: np.ndarray,
        tasks: str | Sequence[str],
        *,
        return_probabilities: bool = False,
        given: Sequence[Mapping[str, str]] | None = None,
    ):
        """Tags of N windows: per row tag -> (category, confidence), in the order of the row's task.

        ``tasks``: one task for all rows, or one each; any mix runs in one batch. A confidence is the calibrated
        probability among the tag's categories, given the tags before it, to 4 decimals. With
        ``return_probabilities`` a second list holds per row tag -> float64 [categories], in the taxonomy's order.
        ``given``: per row tags that are taken as known, so that what follows is conditioned on them (teacher
        forcing, for AUROC). Raises ModelError for vectors of another width, TaxonomyError for unknown names.
        """
        generated, tasks_N = self._generate(embeddings_ND, tasks, given)
        chosen_GN = generated.chosen_NG.T.tolist()
        probabilities = [
            rounded(self.grammar.probabilities(generated.logits_NGC[:, g], tasks_N, g)).cpu().numpy()
            for g in range(len(chosen_GN))
        ]
        rows, distributions = [], []
        for n, k in enumerate(tasks_N.tolist()):
            row, distribution = {}, {}
            for g, tag in enumerate(self.taxonomy.tasks[k].tags):
                category = chosen_GN[g][n]
                row[tag.name] = tag.categories[category], round(float(probabilities[g][n, category]), DECIMALS)
                distribution[tag.name] = probabilities[g][n, : len(tag.categories)]
            rows.append(row)
            distributions.append(distribution)
        return (rows, distributions) if return_probabilities else rows

    def features(self, embeddings_ND: np.ndarray, task: str, tags: Sequence[Mapping[str, str]]) -> np.ndarray:
        """float32 [N, width]: the decoder's last layer over windows and their answers (``Decoder.features``)."""
        tasks_N, tokens_NS = self.targets([task] * len(tags), tags)
        embeddings_ND = torch.from_numpy(np.ascontiguousarray(embeddings_ND)).float()
        with torch.inference_mode():
            parts = [
                self.decoder.features(*(rows.to(self.device) for rows in part)).cpu()
                for part in zip(*(side.split(1024) for side in (embeddings_ND, tasks_N, tokens_NS)), strict=True)
            ]
        return torch.cat(parts).numpy()

    def text(self, task: str, tags: Mapping[str, str]) -> str:
        """An answer as the text that the paper shows: ``BOS <step> Suturing </step> EOS``."""
        return self.vocabulary.text(self.vocabulary.encode(task, tags))

    def parse(self, text: str, task: str) -> Parsed:
        """Tags of such a text, in any spelling that the taxonomy knows."""
        return parse(text, self.taxonomy, task)

    def targets(self, tasks: Sequence[str], tags: Sequence[Mapping[str, str]]) -> tuple[torch.Tensor, torch.Tensor]:
        """(task ids [N], answer tokens [N, S] padded) of samples, for ``loss``; absent tags are left out."""
        tokens = torch.full((len(tasks), self.vocabulary.length), PAD)
        for row, (task, named) in enumerate(zip(tasks, tags, strict=True)):
            ids = self.vocabulary.encode(task, named)
            tokens[row, : len(ids)] = torch.tensor(ids)
        return self._task_ids(tasks).cpu(), tokens

    def loss(
        self,
        embeddings_ND: torch.Tensor,
        tasks_N: torch.Tensor,
        tokens_NS: torch.Tensor,
        weights_N: torch.Tensor | None = None,
    ) -> torch.Tensor:
        """Weighted mean over samples of the summed -log p of the answer's tokens (paper, eq. 1, over B)."""
        logits_NSV = self.decoder(embeddings_ND, tasks_N, tokens_NS)
        loss_N = self.decoder.loss(logits_NSV, tokens_NS)
        return loss_N.mean() if weights_N is None else (loss_N * weights_N).sum() / weights_N.sum()

    def calibrate(self, embeddings_ND: np.ndarray, tasks: Sequence[str], tags: Sequence[Mapping[str, str]]) -> None:
        """Fits one temperature per tag on validation samples, so that a confidence is how often it is right.

        Fitted on the model's own run, with its own earlier tags before each: what a map will hold.
        """
        self.configure(temperatures={})
        generated, tasks_N = self._generate(embeddings_ND, tasks, None)
        truth_NG = self._given(tasks, tags)
        temperatures = {}
        for k, task in enumerate(self.taxonomy.tasks):
            for g, tag in enumerate(task.tags):
                rows = (tasks_N == k) & (truth_NG[:, g] >= 0)
                logits = generated.logits_NGC[rows, g, : len(tag.categories)]
                temperatures[tag.name] = fit_temperature(logits, truth_NG[rows, g])
        self.configure(temperatures=temperatures)

    def _generate(self, embeddings_ND, tasks, given) -> tuple[Generated, torch.Tensor]:
        embeddings_ND = np.asarray(embeddings_ND)
        if embeddings_ND.ndim != 2 or embeddings_ND.shape[1] != self.config.encoder_dim:
            raise ModelError(
                f"model {self.config.name!r} got vectors of shape {embeddings_ND.shape}, expected "
                f"(N, {self.config.encoder_dim}) from encoder {self.config.encoder_ref!r}"
            )
        tasks = [tasks] * len(embeddings_ND) if isinstance(tasks, str) else list(tasks)
        if len(tasks) != len(embeddings_ND) or (given is not None and len(given) != len(tasks)):
            raise ModelError(f"got {len(embeddings_ND)} vectors and {len(tasks)} tasks; expected one task a vector")
        tasks_N = self._task_ids(tasks)
        vectors = torch.from_numpy(np.ascontiguousarray(embeddings_ND)).to(self.device)
        given_NG = None if given is None else self._given(tasks, given).to(self.device)
        training = self.decoder.training
        self.decoder.eval()
        try:
            return generate(self.decoder, self.grammar, vectors, tasks_N, self.rows_per_pass, given_NG), tasks_N
        finally:
            self.decoder.train(training)

    def _task_ids(self, tasks: Sequence[str]) -> torch.Tensor:
        ids = self.vocabulary.task_ids
        return torch.tensor(
            [ids[t] if t in ids else ids[self.taxonomy.task(t).name] for t in tasks],
            dtype=torch.long,
            device=self.device,
        )

    def _given(self, tasks: Sequence[str], tags: Sequence[Mapping[str, str]]) -> torch.Tensor:
        given_NG = torch.full((len(tasks), max(self.grammar.tags)), -1)
        for n, (name, named) in enumerate(zip(tasks, tags, strict=True)):
            task = self.taxonomy.task(name)
            for g, tag in enumerate(task.tags):
                if tag.name in named:
                    given_NG[n, g] = self.vocabulary.category_index(task, tag.name, named[tag.name])
        return given_NG

    def _weights(self) -> bytes:
        return safetensors.torch.save({k: v.cpu().contiguous() for k, v in self.decoder.state_dict().items()})


def decoder_of(vocabulary: Vocabulary, sizes: Mapping) -> Decoder:
    """An untrained decoder of these ``sizes``: this project's own, or a Llama."""
    of_vocabulary = len(vocabulary), vocabulary.instructions, vocabulary.length
    sizes = dict(sizes)
    llama = sizes.pop("llama", None)
    if llama is None:
        return Decoder(*of_vocabulary, **sizes)
    from halsted_ray.model.llama import LlamaDecoder  # here: it brings a second of imports that few need

    return LlamaDecoder(*of_vocabulary, sizes["dim"], dict(llama), sizes["steps"], sizes["soft_prompt"])


def _weights_digest(weights: bytes) -> str:
    return hashlib.sha256(weights).hexdigest()[:16]


def _read_folder(fs, path: str, ref: str) -> tuple[dict, bytes]:
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
        return json.loads(fs.cat_file(f"{path}/model.json")), fs.cat_file(f"{path}/decoder.safetensors")
    except OSError as error:
        raise ModelError(f"model {ref!r} can't be read: {error}") from error
    except ValueError as error:
        if isinstance(error, ModelError):
            raise
        raise ModelError(f"model {ref!r}: model.json is not JSON: {error}") from error
