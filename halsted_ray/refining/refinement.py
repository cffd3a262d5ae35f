"""A refinement: what turns the answers of a video's windows into the tags of the whole video.

    viterbi   the decoder's answers, smoothed by the chain of each tag
    tcn       the decoder's answers and those of the temporal network, mixed per tag, then the chain

It lies beside a model's weights as ``refinement.safetensors``, and ``model.json`` states its digest. It belongs to the
one model (decoder and encoder) that it was learned with.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import safetensors.torch
import torch

from halsted_ray.errors import ModelError
from halsted_ray.model.checkpoint import locate
from halsted_ray.model.halsted import Halsted
from halsted_ray.model.model_file import read_stated_model, weights_digest
from halsted_ray.model.shipped import model_location
from halsted_ray.records import Prediction
from halsted_ray.refining.label_chain import LabelChain
from halsted_ray.refining.slots import UNKNOWN, VideoSequence, on_slots, runs_of
from halsted_ray.refining.temporal_network import TemporalNetwork
from halsted_ray.storage.files import write_atomically
from halsted_ray.taxonomy import Tag, Task, Taxonomy

KINDS = ("viterbi", "tcn")
FILE = "refinement.safetensors"
LEAST_SHARE = 1e-3
"""No slot rules a category out by itself: below this probability its answer counts as this probability."""
TRUST = 0.5
"""Weight of a slot's evidence. The five slots of a window come of one vector, and windows of one scene err together, so
that their evidence does not add up in full. On phantoms 0.2, 0.4, 0.7 and 1 differ by at most 0.01 in mean F1@50."""


RULED_OUT = -20.0
"""Evidence for a category that another tag rules out."""


@dataclass(frozen=True)
class Refinement:
    """``tags``: those that it smooths. ``network_share``: tag → weight of the network's answer beside the decoder's,
    from 0 to 1. ``model_digest``: of the model that it was learned with. ``stated``: kind → those of ``tags`` that it
    states in the place of the windows' answers, since they were no worse on the validation videos; the others only say
    where a task that waits for them is answered."""

    tags: tuple[str, ...]
    chains: Mapping[str, LabelChain]
    network: TemporalNetwork
    network_share: Mapping[str, float]
    model_digest: str
    stated: Mapping[str, tuple[str, ...]]

    def save(self, folder: str) -> None:
        """Writes the file into the model's folder and its digest into ``model.json``. Raises OutputError."""
        tensors = {f"network.{name}": value.contiguous() for name, value in self.network.state_dict().items()}
        for tag, chain in self.chains.items():
            tensors[f"start.{tag}"] = torch.from_numpy(chain.log_start_K)
            tensors[f"step.{tag}"] = torch.from_numpy(chain.log_step_KK)
        stated = {
            "tags": self.tags,
            "network_share": dict(self.network_share),
            "model_digest": self.model_digest,
            "stated": dict(self.stated),
        }
        data = safetensors.torch.save(tensors, {"refinement": json.dumps(stated)})
        fs, path = locate(folder, "model")
        described = json.loads(fs.cat_file(f"{path}/model.json"))
        described["refinement_digest"] = weights_digest(data)
        write_atomically(fs, f"{path}/{FILE}", data)
        write_atomically(
            fs, f"{path}/model.json", (json.dumps(described, indent=2, ensure_ascii=False) + "\n").encode()
        )

    @classmethod
    def load(cls, model: str) -> Refinement:
        """The refinement of the model at ``model``. Raises ModelError where it has none, or another model's."""
        expected = refinement_digest(model)
        taxonomy = read_stated_model(model).taxonomy
        fs, path = locate(model_location(model), "model")
        try:
            data: bytes = fs.cat_file(f"{path.rstrip('/')}/{FILE}")
        except OSError as error:
            raise ModelError(f"the refinement of model {model!r} can't be read: {error}; copy {FILE} again") from error
        if weights_digest(data) != expected:
            raise ModelError(
                f"model {model!r}: {FILE} is not the file that model.json states (digest {weights_digest(data)}, "
                f"expected {expected}); copy both again"
            )
        header = json.loads(data[8 : 8 + int.from_bytes(data[:8], "little")])
        stated = json.loads(header["__metadata__"]["refinement"])
        if stated["model_digest"] != read_stated_model(model).digest:
            raise ModelError(
                f"model {model!r}: its refinement was learned with another model ({stated['model_digest']}); learn it "
                "again: halsted train --refine"
            )
        tensors = safetensors.torch.load(data)
        chains = {
            tag: LabelChain(tensors[f"start.{tag}"].numpy(), tensors[f"step.{tag}"].numpy()) for tag in stated["tags"]
        }
        weights = {name.removeprefix("network."): value for name, value in tensors.items() if "network." in name}
        network = TemporalNetwork(len(weights["mean_D"]), [len(taxonomy.tag(tag).categories) for tag in stated["tags"]])
        network.load_state_dict(weights)
        return cls(
            tuple(stated["tags"]),
            chains,
            network.eval(),
            stated["network_share"],
            stated["model_digest"],
            {kind: tuple(tags) for kind, tags in stated["stated"].items()},
        )

    def evidence(self, model: Halsted, sequence: VideoSequence, kind: str = "tcn") -> dict[str, np.ndarray]:
        """tag → float64 [T, K]: log of what the slots say of each category, 0 where a window has no vector."""
        decoder = decoder_evidence(model, sequence, self.tags)
        if kind == "viterbi":
            return decoder
        network = network_evidence(self.network, sequence, self.tags)
        return {
            tag: self.network_share[tag] * network[tag] + (1 - self.network_share[tag]) * decoder[tag]
            for tag in self.tags
        }

    def refine(
        self,
        model: Halsted,
        sequence: VideoSequence,
        tasks: Iterable[str],
        kind: str,
        closed_T: np.ndarray | None = None,
    ) -> list[Prediction]:
        """The tags of ``tasks`` that are ``stated`` over the whole video, a prediction per span in which a tag keeps
        its category.

        ``kind``: one of ``KINDS``. ``closed_T``: slots that are not refined, beside those without a vector. A task is
        answered where what it waits for (``Task.when``) holds in the refined tags. A confidence is the mean posterior
        of the chain over the span. Costs some seconds per video-hour on one core, most of them the decoder's.
        """
        found = []
        paths = self.paths(model, sequence, kind, closed_T)
        for task in model.taxonomy.tasks:
            for tag in task.tags if task.name in set(tasks) else ():
                if tag.name not in self.stated[kind]:
                    continue
                labels_T, posterior_TK = paths[tag.name]
                for label, first, stop in runs_of(labels_T):
                    if label != UNKNOWN:
                        start_s, stop_s = (slot * sequence.slot_s for slot in (first, stop))
                        chance = 1 / len(tag.categories)
                        confidence = max(chance, float(posterior_TK[first:stop, label].mean()))
                        found.append(
                            Prediction(
                                start_s,
                                min(stop_s, sequence.stop_s),
                                task.name,
                                tag.name,
                                tag.categories[label],
                                round(confidence, 4),
                            )
                        )
        return found

    def paths(
        self, model: Halsted, sequence: VideoSequence, kind: str, closed_T: np.ndarray | None = None
    ) -> dict[str, tuple[np.ndarray, np.ndarray]]:
        """tag → (its category at each slot, int64 [T], ``UNKNOWN`` where it is not answered; the posterior of each
        category, float64 [T, K]); arguments as of ``refine``."""
        evidence = self.evidence(model, sequence, kind)
        usable_T = sequence.present_T if closed_T is None else sequence.present_T & ~closed_T
        labels: dict[str, np.ndarray] = {}
        found = {}
        for task in in_order(model.taxonomy):
            open_T = usable_T & open_slots(model.taxonomy, task, labels, len(usable_T))
            for tag in task.tags:
                if tag.name not in self.tags:
                    continue
                weighed_TK = np.where(open_T[:, None], TRUST * evidence[tag.name], 0.0)
                weighed_TK[excluded(model.taxonomy, tag, labels, len(open_T))] = RULED_OUT
                path_T, posterior_TK = self.chains[tag.name].decode(weighed_TK)
                labels[tag.name] = np.where(open_T, path_T, UNKNOWN)
                found[tag.name] = labels[tag.name], posterior_TK
        return found


def open_slots(taxonomy: Taxonomy, task: Task, labels: Mapping[str, np.ndarray], slots: int) -> np.ndarray:
    """bool [T]: the slots at which ``task`` is answered, by the labels (tag → int64 [T]) of what it waits for."""
    open_T = np.ones(slots, bool)
    for tag, category in task.when:
        if tag in labels:
            open_T &= labels[tag] == taxonomy.tag(tag).categories.index(category)
    return open_T


def excluded(taxonomy: Taxonomy, tag: Tag, labels: Mapping[str, np.ndarray], slots: int) -> np.ndarray:
    """bool [T, K]: the categories of ``tag`` that the labels of other tags (tag → int64 [T]) rule out."""
    excluded_TK = np.zeros((slots, len(tag.categories)), bool)
    for narrowing in taxonomy.narrowings:
        if narrowing.narrows == tag.name and narrowing.tag in labels:
            for number, category in enumerate(taxonomy.tag(narrowing.tag).categories):
                allowed = taxonomy.allowed(tag.name, {narrowing.tag: category})
                ruled_out_K = np.array([name not in allowed for name in tag.categories])
                excluded_TK[labels[narrowing.tag] == number] |= ruled_out_K
    return excluded_TK


def refinement_digest(model: str) -> str:
    """The digest of a model's refinement as its ``model.json`` states it. Raises ModelError where it has none."""
    stated = read_stated_model(model).refinement_digest
    if not stated:
        raise ModelError(
            f"the model {model!r} has no refinement: expected {FILE} beside its weights; learn one with halsted train "
            "--refine, or map without --refine"
        )
    return stated


def decoder_evidence(model: Halsted, sequence: VideoSequence, tags: Sequence[str]) -> dict[str, np.ndarray]:
    """tag → float64 [T, K]: log of the decoder's probabilities at the slots, 0 where a window has no vector."""
    rows_N = np.flatnonzero(sequence.present_W)
    found = {}
    for task in model.taxonomy.tasks:
        of_task = [tag for tag in task.tags if tag.name in tags]
        if not of_task:
            continue
        _, shares = model.tag(sequence.vectors_WD[rows_N], task.name, unit="grid", return_probabilities=True)
        for tag in of_task:
            shares_WK = np.zeros((len(sequence.present_W), len(tag.categories)))
            shares_WK[rows_N] = [of_window[tag.name] for of_window in shares]
            log_TK = np.log(np.maximum(on_slots(shares_WK, sequence.present_W), LEAST_SHARE))
            found[tag.name] = np.where(sequence.present_T[:, None], log_TK, 0.0)
    return found


def network_evidence(network: TemporalNetwork, sequence: VideoSequence, tags: Sequence[str]) -> dict[str, np.ndarray]:
    """tag → float64 [T, K]: log of the network's probabilities at the slots, 0 where a window has no vector."""
    with torch.inference_mode():
        present_BW = torch.from_numpy(sequence.present_W).float()[None]
        scores_TC = network(torch.from_numpy(sequence.vectors_WD)[None], present_BW)[0].double()
    absent_T1 = ~torch.from_numpy(sequence.present_T)[:, None]
    return {
        tag: scores.log_softmax(1).clamp_min(float(np.log(LEAST_SHARE))).masked_fill(absent_T1, 0.0).numpy()
        for tag, scores in zip(tags, scores_TC.split(network.categories, 1), strict=True)
    }


def in_order(taxonomy: Taxonomy) -> list[Task]:
    """The tasks of a taxonomy, each after those that own the tags it waits for."""
    waiting = list(taxonomy.tasks)
    ready: list[Task] = []
    while waiting:
        known = {tag.name for task in ready for tag in task.tags}
        task = next((task for task in waiting if all(tag in known for tag, _ in task.when)), None)
        if task is None:
            raise ModelError(
                f"tasks {[task.name for task in waiting]} of taxonomy {taxonomy.name!r} wait for each other; change "
                "their 'when'"
            )
        waiting.remove(task)
        ready.append(task)
    return ready


def refined_tags(taxonomy: Taxonomy) -> tuple[str, ...]:
    """The tags that change within an operation: all but those of the whole operation."""
    return tuple(tag.name for tag in taxonomy.tags if tag.per != "operation")
