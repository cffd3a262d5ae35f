"""Halsted, the whole model: taxonomy, decoder and calibration, and the name of the encoder that it needs.

A model folder holds ``model.json`` and ``decoder.safetensors``, and can be read without anything else, since
``model.json`` contains the taxonomy. It does not contain the encoder, because all models of an archive share one: it
names the encoder by reference and fingerprint.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from typing import Any, Literal, Unpack, overload

import numpy as np
import safetensors.torch
import torch
from safetensors import SafetensorError

from halsted_ray.errors import ModelError
from halsted_ray.model.calibration import UNIT_SPREAD, UNITS, Unit, fit_temperatures, logits_of_tags
from halsted_ray.model.checkpoint import locate
from halsted_ray.model.decoder import Decoder, build_decoder
from halsted_ray.model.encoder import STEPS, Encoder, EncoderOptions
from halsted_ray.model.frozen_decoder import FrozenDecoder
from halsted_ray.model.generation import Generated, Grammar, generate, rounded, rows_stand_alone
from halsted_ray.model.model_file import (
    FORMAT,
    KnownEncoder,
    ModelDescription,
    check_encoder,
    model_digest,
    read_stated_model,
    weights_digest,
)
from halsted_ray.model.model_file import ModelConfig as ModelConfig  # here is where other rooms find it
from halsted_ray.model.novelty import PREFIX, Novelty, NoveltyLimits, fit_limits, fit_novelty
from halsted_ray.model.vocabulary import PAD, Parsed, Vocabulary, parse
from halsted_ray.storage.files import write_atomically
from halsted_ray.taxonomy import Taxonomy, load

FEW_ROWS, MOST_ROWS, ROWS_ON_GPU = 16, 64, 512
"""Rows of a forward pass (``Halsted.pass_sizes``). Measured on a CPU at D = 1408: a row takes 5.1 ms in passes of 16,
4.2 ms in passes of 64 or 256. For a GPU nothing is measured; 512 rows are 0.4 TFLOP with the paper's decoder."""
TagRow = dict[str, tuple[str, float]]
"""What a model says of one window: per tag its category and confidence."""
Distributions = dict[str, np.ndarray]
"""Per tag the probability of each of its categories: float64 [categories], in the taxonomy's order."""


class Halsted:
    """Takes the vectors of windows and gives their tags.

    ``config``: what ``model.json`` says. ``taxonomy`` and its ``vocabulary``. ``decoder``: the torch module that
    training optimises. ``grammars``: per unit the vocabulary's grammar with the unit's temperatures. ``novelty``: what
    its training vectors look like, None in a model that can't say "unknown".
    """

    config: ModelConfig
    grammars: Mapping[Unit, Grammar]

    def __init__(self, config: ModelConfig, taxonomy: Taxonomy, device: str = "cpu"):
        """Makes a model with untrained weights; ``create`` and ``load`` are the usual ways to one."""
        self.taxonomy, self.vocabulary = taxonomy, Vocabulary(taxonomy)
        self.device = torch.device(device)
        self.decoder = build_decoder(self.vocabulary, config.decoder_sizes).to(self.device).eval()
        self.novelty: Novelty | None = None
        self._frozen_of: tuple[tuple[tuple[int, int], ...], FrozenDecoder] | None = None
        self._rows_stand_alone: bool | None = None
        self._tags = [[(tag.name, tag.categories) for tag in task.tags] for task in taxonomy.tasks]
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
        dropout: float = 0.1,
        soft_prompt: bool = False,
        pooling: str = "mean",
        llama: Mapping[str, Any] | None = None,
        seed: int = 0,
        device: str = "cpu",
        **description: Unpack[ModelDescription],
    ) -> Halsted:
        """Makes an untrained model; the same ``seed`` gives the same weights. Torch's global seed stays as it is.

        ``taxonomy``: default the paper's. ``encoder_dim``: the width of the encoder's vectors. ``width``: default the
        width of one vector. ``feedforward``: default 3.5 times the width. The other arguments are fields of
        ``ModelConfig``. Raises ModelError for sizes that do not fit each other.
        """
        if llama:
            width, layers, heads, feedforward = (
                llama[name] for name in ("hidden_size", "num_hidden_layers", "num_attention_heads", "intermediate_size")
            )
        if encoder_dim % steps:
            raise ModelError(
                f"an encoder's vector of width {encoder_dim} can't hold {steps} vectors per window; the width must be "
                "a multiple of their number"
            )
        if pooling == "attention" and (steps == 1 or llama):
            wrong = "a Llama as its decoder" if llama else "one vector per window"
            raise ModelError(
                f"pooling=attention looks at the time steps of a window, and this model has {wrong}; give an encoder "
                f"with {STEPS} and this project's own decoder, or pooling=mean"
            )
        width = width or encoder_dim // steps
        if width % heads:
            raise ModelError(
                f"a decoder of width {width} can't have {heads} heads; the width must be a multiple of their number"
            )
        config = ModelConfig(
            encoder_ref,
            encoder_fingerprint,
            encoder_dim,
            layers=layers,
            heads=heads,
            width=width,
            feedforward=feedforward or width * 7 // 2,
            dropout=dropout,
            steps=steps,
            soft_prompt=soft_prompt,
            pooling=pooling,
            llama=llama,
            **description,
        )
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            model = cls(config, taxonomy or load())
        return model.to(device)

    @classmethod
    def load(cls, ref: str, device: str = "cpu") -> Halsted:
        """Loads the model from a folder or fsspec URL, or a model of ``shipped.SHIPPED``. Raises ModelError with what
        was found there."""
        stated = read_stated_model(ref)
        weights = stated.read_weights()
        model = cls(stated.config, stated.taxonomy)
        try:
            tensors = safetensors.torch.load(weights)
            model.novelty = Novelty.from_tensors(tensors)
            model.decoder.load_state_dict(
                {name: tensor for name, tensor in tensors.items() if not name.startswith(PREFIX)}
            )
        except (SafetensorError, RuntimeError) as error:
            raise ModelError(f"model {ref!r}: decoder.safetensors does not fit model.json: {error}") from error
        return model.to(device)

    def save(self, folder: str) -> None:
        """Writes ``decoder.safetensors`` and then ``model.json`` to a folder or fsspec URL.

        Raises OutputError where the folder can't be written.
        """
        fs, path = locate(folder, "model")
        weights = self._weights()
        content = {
            "format": FORMAT,
            "config": asdict(self.config),
            "parameters": self.parameters,
            "taxonomy_digest": self.taxonomy.digest,
            "weights_digest": weights_digest(weights),
            "taxonomy": self.taxonomy.to_dict(),
        }
        write_atomically(fs, f"{path}/decoder.safetensors", weights)
        write_atomically(fs, f"{path}/model.json", (json.dumps(content, indent=2, ensure_ascii=False) + "\n").encode())

    def configure(self, config: ModelConfig | None = None, **changes: Unpack[ModelDescription]) -> None:
        """Changes what ``model.json`` says (``version``, ``atlas_release``, ``temperatures``…), not the weights."""
        self.config = replace(config or self.config, **changes)
        self.grammars = {
            unit: Grammar(self.vocabulary, self.config.temperatures_of(unit), self.device) for unit in UNITS
        }

    def to(self, device: str) -> Halsted:
        """Moves the model to a device; returns itself."""
        self.device = torch.device(device)
        self.decoder.to(self.device)
        self.novelty = self.novelty and self.novelty.to(self.device)
        self.configure()
        return self

    @property
    def rows_per_pass(self) -> int:
        """Rows of the shortest forward pass: fewer windows take as long."""
        return ROWS_ON_GPU if self.device.type == "cuda" else FEW_ROWS

    def pass_sizes(self, rows: int) -> tuple[int, int]:
        """(rows of a forward pass, rows of which the last pass is a multiple) for a request of ``rows`` rows.

        The answer of a row must not depend on the request. On a GPU all passes have one shape. On a CPU that would make
        single windows slow, so long requests run in longer passes, where this machine is found to give the same bits.
        """
        few = self.rows_per_pass
        if rows <= few or self.device.type == "cuda":
            return few, few
        frozen = self.frozen
        if self._rows_stand_alone is None:
            self._rows_stand_alone = isinstance(frozen, FrozenDecoder) and rows_stand_alone(
                frozen, self.grammars["grid"], self.config.encoder_dim, MOST_ROWS, few
            )
        return (MOST_ROWS, few) if self._rows_stand_alone else (few, few)

    @property
    def frozen(self) -> FrozenDecoder | Decoder:
        """The decoder in the form in which it generates fastest, made again after its weights have changed."""
        if type(self.decoder) is not Decoder or not self.decoder.blocks:
            return self.decoder
        weights = tuple((value.data_ptr(), value._version) for value in self.decoder.state_dict().values())
        if self._frozen_of is None or self._frozen_of[0] != weights:
            self._frozen_of = weights, FrozenDecoder(self.decoder)
        return self._frozen_of[1]

    @property
    def device_name(self) -> str:
        """The device that the model runs on: ``cpu``, or the name that the driver gives the GPU."""
        return torch.cuda.get_device_name(self.device) if self.device.type == "cuda" else self.device.type

    @property
    def parameters(self) -> int:
        """The number of trained weights."""
        return sum(parameter.numel() for parameter in self.decoder.parameters())

    @property
    def digest(self) -> str:
        """16 hex digits over everything that decides the tags. Reads all weights."""
        return model_digest(self.config, self.taxonomy, weights_digest(self._weights()))

    def load_encoder(self, **options: Unpack[EncoderOptions]) -> Encoder:
        """Loads the encoder that this model was trained on. Raises ModelError where its place holds another one."""
        encoder = Encoder.load(self.config.encoder_ref, **options)
        self.check_encoder(encoder)
        return encoder

    def check_encoder(self, encoder: KnownEncoder) -> None:
        """Raises ModelError unless ``encoder`` is the one this model was trained on."""
        check_encoder(self.config, encoder)

    @overload
    def tag(
        self,
        embeddings_ND: np.ndarray,
        tasks: str | Sequence[str],
        *,
        unit: Unit | Sequence[Unit],
        return_probabilities: Literal[False] = False,
        given: Sequence[Mapping[str, str]] | None = None,
    ) -> list[TagRow]: ...

    @overload
    def tag(
        self,
        embeddings_ND: np.ndarray,
        tasks: str | Sequence[str],
        *,
        unit: Unit | Sequence[Unit],
        return_probabilities: Literal[True],
        given: Sequence[Mapping[str, str]] | None = None,
    ) -> tuple[list[TagRow], list[Distributions]]: ...

    def tag(
        self,
        embeddings_ND: np.ndarray,
        tasks: str | Sequence[str],
        *,
        unit: Unit | Sequence[Unit],
        return_probabilities: bool = False,
        given: Sequence[Mapping[str, str]] | None = None,
    ) -> list[TagRow] | tuple[list[TagRow], list[Distributions]]:
        """Tags N windows. Returns per window tag -> (category, confidence), in the order of the window's task.

        ``tasks``: one task for all windows, or one per window; any mix runs in one batch. A confidence is the
        calibrated probability of the category among those of its tag that the tags before it allow, to 4 decimals.
        ``unit``: what the vectors are of, for all windows or one per window. ``grid``: windows of the grid that a map
        asks; ``clips``: clips over their own span. Each unit has its own temperatures.
        With ``return_probabilities`` a second list holds the probabilities of all categories: 0 for a category that the
        tags before it exclude, but with ``given`` as if nothing were excluded.
        ``given``: per window the tags to take as known, so that later tags are conditioned on them (teacher forcing,
        for AUROC).

        Raises ModelError for vectors of another width, TaxonomyError for unknown names.
        """
        if isinstance(unit, str):
            rows, distributions = self._tag(embeddings_ND, tasks, unit, return_probabilities, given)
            return (rows, distributions) if return_probabilities else rows
        tasks = [tasks] * len(embeddings_ND) if isinstance(tasks, str) else tasks
        if len(unit) != len(embeddings_ND) or set(unit) - set(UNITS):
            raise ModelError(
                f"got {len(embeddings_ND)} vectors and {len(unit)} units ({', '.join(sorted(set(unit)))}); expected "
                f"one of {', '.join(UNITS)} per vector"
            )
        # A row's answer does not depend on the other rows, so the rows of a unit can be a batch of their own.
        found: list[tuple[TagRow, Distributions]] = [({}, {}) for _ in unit]
        for of_unit in UNITS:
            places = [n for n, own in enumerate(unit) if own == of_unit]
            part = self._tag(
                np.asarray(embeddings_ND)[places],
                [tasks[n] for n in places],
                of_unit,
                True,
                None if given is None else [given[n] for n in places],
            )
            for n, answer in zip(places, zip(*part, strict=True), strict=True):
                found[n] = answer
        rows, distributions = [row for row, _ in found], [shares for _, shares in found]
        return (rows, distributions) if return_probabilities else rows

    def _tag(
        self,
        embeddings_ND: np.ndarray,
        tasks: str | Sequence[str],
        unit: Unit,
        return_probabilities: bool,
        given: Sequence[Mapping[str, str]] | None,
    ) -> tuple[list[TagRow], list[Distributions]]:
        """As ``tag``, for windows of one unit; no distributions where they are not asked for."""
        grammar = self.grammars[unit]
        generated, tasks_N = self._generate(embeddings_ND, tasks, grammar, given)
        on_device = tasks_N.to(self.device)
        tags = range(generated.chosen_NG.shape[1])
        allowed_NGC = torch.stack(
            [
                grammar.allowed_probabilities(generated.logits_NGC[:, g], on_device, generated.chosen_NG, g)
                for g in tags
            ],
            1,
        )
        confidence_NG1 = allowed_NGC.gather(2, generated.chosen_NG.clamp_min(0)[..., None])
        stated_NGC = allowed_NGC
        if given is not None:
            stated_NGC = torch.stack([grammar.probabilities(generated.logits_NGC[:, g], on_device, g) for g in tags], 1)
        # One transfer from the device: everything before it is queued there without waiting.
        own_NG2 = torch.cat([generated.chosen_NG[..., None].double(), rounded(confidence_NG1)], 2)
        found = torch.cat([own_NG2, rounded(stated_NGC)], 2).cpu().numpy()
        chosen_NG, shares_NGC = found[..., 0].astype(np.int64), found[..., 2:]
        confidences = found[..., 1].tolist()
        task_of = tasks_N.tolist()
        rows: list[TagRow] = [
            {
                name: (categories[category], confidence)
                for (name, categories), category, confidence in zip(self._tags[k], chosen, of_row, strict=False)
            }
            for k, chosen, of_row in zip(task_of, chosen_NG.tolist(), confidences, strict=True)
        ]
        if not return_probabilities:
            return rows, []
        distributions: list[Distributions] = [
            {name: shares_GC[g, : len(categories)] for g, (name, categories) in enumerate(self._tags[k])}
            for k, shares_GC in zip(task_of, shares_NGC, strict=True)
        ]
        return rows, distributions

    @property
    def limits(self) -> NoveltyLimits | None:
        """From where on a window or a video is unknown; None in a model that can't say it."""
        return NoveltyLimits.from_json(self.config.novelty) if self.novelty else None

    def is_unknown(self, embeddings_ND: np.ndarray) -> np.ndarray:
        """bool [N]: which windows are outside of what this model has learned (``model.novelty``); none of them where it
        can't say. Raises ModelError for vectors of another width."""
        limits = self.limits
        if self.novelty is None or limits is None:
            return np.zeros(len(embeddings_ND), bool)
        self._require_width(embeddings_ND)
        scores_N = self.novelty.scores(torch.from_numpy(np.ascontiguousarray(embeddings_ND)))
        unknown_N: np.ndarray = (scores_N > limits.threshold).cpu().numpy()
        return unknown_N

    def learn_what_is_known(
        self,
        train_ND: np.ndarray,
        train_video_N: np.ndarray,
        validation_MD: np.ndarray,
        validation_video_M: np.ndarray,
    ) -> None:
        """Fits what the training windows look like, and on the validation windows from where on others are unknown.

        With too few of either the model stays one that can't say "unknown".
        """
        novelty, limits = fit_novelty(train_ND, train_video_N, self.config.steps), None
        if novelty is not None and len(validation_MD):
            novelty = novelty.to(self.device)
            scores_N = novelty.scores(torch.from_numpy(np.ascontiguousarray(validation_MD))).cpu().numpy()
            limits = fit_limits(scores_N, validation_video_M)
        self.novelty = novelty if limits is not None else None
        self.configure(novelty=limits.to_json() if limits else None)

    def features(self, embeddings_ND: np.ndarray, task: str, tags: Sequence[Mapping[str, str]]) -> np.ndarray:
        """Returns the decoder's last layer per window and answer, float32 [N, width] (``Decoder.features``)."""
        tasks_N, tokens_NS = self.targets([task] * len(tags), tags)
        vectors_ND = torch.from_numpy(np.ascontiguousarray(embeddings_ND)).float()
        with torch.inference_mode():
            parts = [
                self.decoder.features(*(rows.to(self.device) for rows in part)).cpu()
                for part in zip(*(side.split(1024) for side in (vectors_ND, tasks_N, tokens_NS)), strict=True)
            ]
        features: np.ndarray = torch.cat(parts).numpy()
        return features

    def text(self, task: str, tags: Mapping[str, str]) -> str:
        """Writes an answer as text, as the paper shows it: ``BOS <step> Suturing </step> EOS``."""
        return self.vocabulary.text(self.vocabulary.encode(task, tags))

    def parse(self, text: str, task: str) -> Parsed:
        """Reads the tags of such a text, in any spelling that the taxonomy knows."""
        return parse(text, self.taxonomy, task)

    def targets(self, tasks: Sequence[str], tags: Sequence[Mapping[str, str]]) -> tuple[torch.Tensor, torch.Tensor]:
        """Returns task ids [N] and padded answer tokens [N, S] of samples, for ``loss``. Missing tags are left out."""
        tokens = torch.full((len(tasks), self.vocabulary.length), PAD)
        for row, (task, named) in enumerate(zip(tasks, tags, strict=True)):
            ids = self.vocabulary.encode(task, named)
            tokens[row, : len(ids)] = torch.tensor(ids)
        return self._task_ids(tasks), tokens

    def loss(
        self,
        embeddings_ND: torch.Tensor,
        tasks_N: torch.Tensor,
        tokens_NS: torch.Tensor,
        weights_N: torch.Tensor | None = None,
    ) -> torch.Tensor:
        """Returns the weighted mean over samples of the answer's summed -log p (paper, eq. 1, over the batch)."""
        logits_NSV = self.decoder(embeddings_ND, tasks_N, tokens_NS)
        loss_N = self.decoder.loss(logits_NSV, tokens_NS)
        return loss_N.mean() if weights_N is None else (loss_N * weights_N).sum() / weights_N.sum()

    def calibrate(
        self,
        embeddings_ND: np.ndarray,
        tasks: Sequence[str],
        tags: Sequence[Mapping[str, str]],
        units: Sequence[Unit],
        video_N: np.ndarray | None = None,
        unit_spread: float = UNIT_SPREAD,
    ) -> None:
        """Fits one temperature per tag and unit on validation samples, so that a confidence says how often the tag is
        right.

        Each tag is predicted after the model's own earlier tags, as in a map. ``units``: what each sample is.
        ``video_N``: whose the samples are; a category of one video is one observation of a unit then. Without it each
        sample is one. ``unit_spread``: as ``calibration.UNIT_SPREAD``.
        """
        video_N = np.arange(len(tasks)) if video_N is None else video_N
        self.configure(temperatures={}, clip_temperatures={})
        generated, tasks_N = self._generate(embeddings_ND, tasks, self.grammars["grid"], None)
        truth_NG, logits_NGC = self._category_indices(tasks, tags), generated.logits_NGC.cpu()
        of_tags = logits_of_tags(self.taxonomy, logits_NGC, truth_NG, tasks_N, np.array(units), video_N)
        fitted = fit_temperatures(of_tags, unit_spread)
        self.configure(temperatures=fitted["grid"], clip_temperatures=fitted["clips"])

    def _generate(
        self,
        embeddings_ND: np.ndarray,
        tasks: str | Sequence[str],
        grammar: Grammar,
        given: Sequence[Mapping[str, str]] | None,
    ) -> tuple[Generated, torch.Tensor]:
        """Returns what ``generate`` gives, and the task id per row [N] in the host's memory."""
        embeddings_ND = np.asarray(embeddings_ND)
        self._require_width(embeddings_ND)
        tasks = [tasks] * len(embeddings_ND) if isinstance(tasks, str) else list(tasks)
        if len(tasks) != len(embeddings_ND) or (given is not None and len(given) != len(tasks)):
            raise ModelError(f"got {len(embeddings_ND)} vectors and {len(tasks)} tasks; expected one task per vector")
        tasks_N = self._task_ids(tasks)
        vectors = torch.from_numpy(np.ascontiguousarray(embeddings_ND)).to(self.device)
        given_NG = None if given is None else self._category_indices(tasks, given).to(self.device)
        rows, fill_to = self.pass_sizes(len(tasks))
        training = self.decoder.training
        self.decoder.eval()
        try:
            return generate(self.frozen, grammar, vectors, tasks_N, rows, given_NG, fill_to), tasks_N
        finally:
            self.decoder.train(training)

    def _require_width(self, embeddings_ND: np.ndarray) -> None:
        """Raises ModelError for vectors that are not of this model's encoder."""
        if embeddings_ND.ndim != 2 or embeddings_ND.shape[1] != self.config.encoder_dim:
            steps, width = self.config.steps, self.config.encoder_dim // self.config.steps
            if steps > 1 and embeddings_ND.ndim == 2 and embeddings_ND.shape[1] == width:
                raise ModelError(
                    f"model {self.config.name!r} looks at {steps} time steps per window ({steps} vectors of {width}), "
                    f"got one vector of {width} per window; embed the videos with the encoder "
                    f"{self.config.encoder_ref!r}, whose vectors keep the steps"
                )
            raise ModelError(
                f"model {self.config.name!r} got vectors of shape {embeddings_ND.shape}, expected "
                f"(N, {self.config.encoder_dim}) from encoder {self.config.encoder_ref!r}"
            )

    def _task_ids(self, tasks: Sequence[str]) -> torch.Tensor:
        """The index of each task [N], in the host's memory."""
        ids = self.vocabulary.task_ids
        return torch.tensor([ids[t] if t in ids else ids[self.taxonomy.task(t).name] for t in tasks], dtype=torch.long)

    def _category_indices(self, tasks: Sequence[str], tags: Sequence[Mapping[str, str]]) -> torch.Tensor:
        """Returns [N, G] the index of each tag's category, -1 for a missing tag."""
        indices_NG = torch.full((len(tasks), max(self.grammars["grid"].tags)), -1)
        for n, (name, named) in enumerate(zip(tasks, tags, strict=True)):
            task = self.taxonomy.task(name)
            for g, tag in enumerate(task.tags):
                if tag.name in named:
                    indices_NG[n, g] = self.vocabulary.category_index(task, tag.name, named[tag.name])
        return indices_NG

    def _weights(self) -> bytes:
        tensors = {name: tensor.cpu().contiguous() for name, tensor in self.decoder.state_dict().items()}
        weights: bytes = safetensors.torch.save(tensors | (self.novelty.tensors() if self.novelty else {}))
        return weights
