"""The paper's ablation of the decoder: a Llama fine-tuned on the same samples, whose text is read by a regular
expression (``model.llama_text``).

What the paper does not state was chosen here: the recipe's learning rate and schedule are used as they are, and the
epoch with the lowest loss on the validation part is kept.

Legend: N test windows of one tag, K its categories, S samples.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import torch

from halsted_ray.evaluation.predictions import LLAMA, NO_CATEGORY, TagPredictions, TagTargets
from halsted_ray.model.vocabulary import parse
from halsted_ray.taxonomy import Taxonomy
from halsted_ray.training.recipe import Recipe, learning_rate_at, precision_on
from halsted_ray.training.samples import Samples

if TYPE_CHECKING:
    from halsted_ray.model.llama_text import LlamaText

ROWS = 64
"""Texts of one forward pass without gradients. Not measured on a GPU."""
SPARE_TOKENS = 8
"""Byte pairs that an answer may have beyond the longest answer of its task."""


class TextSamples(NamedTuple):
    """Samples as text: vectors float32 [S, D], instructions and answers, and the weight of each [S]."""

    vectors_SD: torch.Tensor
    instructions: list[str]
    answers: list[str]
    weight_S: torch.Tensor


def answer_text(tags: Mapping[str, str]) -> str:
    """Tags as text: ``<action> Retraction </action> <arm> Left </arm>``."""
    return " ".join(f"<{tag}> {category} </{tag}>" for tag, category in tags.items())


def text_samples(samples: Samples, taxonomy: Taxonomy) -> TextSamples:
    """All samples that have a tag, with their true tags as text."""
    rows = np.flatnonzero((samples.truth_SG >= 0).any(1))
    return TextSamples(
        torch.from_numpy(samples.embeddings_WD[samples.window_S[rows]].astype(np.float32)),
        [taxonomy.tasks[k].instruction for k in samples.task_S[rows]],
        [answer_text(tags_of(samples, row, taxonomy)) for row in rows.tolist()],
        torch.from_numpy(samples.weight_S[rows].astype(np.float32)),
    )


def tags_of(samples: Samples, row: int, taxonomy: Taxonomy) -> dict[str, str]:
    """The true tags of one sample, in the order of its task."""
    task = taxonomy.tasks[samples.task_S[row]]
    return {tag.name: tag.categories[k] for tag, k in zip(task.tags, samples.truth_SG[row], strict=False) if k >= 0}


def llama_predictions(
    folder: str,
    targets: Sequence[TagTargets],
    train: Samples,
    validation: Samples,
    test: Samples,
    taxonomy: Taxonomy,
    recipe: Recipe,
    device: str = "cpu",
) -> list[TagPredictions]:
    """What the Llama in ``folder``, fine-tuned on ``train`` by ``recipe``, answers for the ``targets`` of ``test``.

    A tag that the text lacks, or an unknown category, is no category. The scores are the probabilities of the texts of
    a tag's categories with the true earlier tags before them, among these texts; the confidence is the score of the
    category that the text names, and is not calibrated. Raises ModelError.
    """
    from halsted_ray.model.llama_text import load_llama_text  # here: it brings seconds of imports that few need

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(recipe.seed)
        model = load_llama_text(folder, train.embeddings_WD.shape[1]).to(device)
        fine_tune(model, text_samples(train, taxonomy), text_samples(validation, taxonomy), recipe, device)
    rows = np.unique(np.concatenate([of_tag.row_N for of_tag in targets]))
    with torch.autocast(device, torch.bfloat16, enabled=precision_on(device, recipe) == "bf16"):
        said = dict(zip(rows.tolist(), written_tags(model, test, rows, taxonomy, device), strict=True))
        found = []
        for of_tag in targets:
            categories = taxonomy.tag(of_tag.tag).categories
            scores_NK = category_scores(model, test, of_tag, taxonomy, device)
            named = [said[row].get(of_tag.tag) for row in of_tag.row_N.tolist()]
            chosen_N = np.array([NO_CATEGORY if name is None else categories.index(name) for name in named])
            confidence_N = np.where(
                chosen_N == NO_CATEGORY, 0.0, np.take_along_axis(scores_NK, chosen_N.clip(0)[:, None], 1)[:, 0]
            )
            is_right_N = (chosen_N == of_tag.truth_N).astype(float)
            found.append(TagPredictions(LLAMA, of_tag, chosen_N, confidence_N, is_right_N, scores_NK))
    return found


def fine_tune(model: LlamaText, train: TextSamples, validation: TextSamples, recipe: Recipe, device: str) -> None:
    """Trains adaptor and Llama by AdamW and keeps the epoch with the lowest validation loss, or the last epoch where
    there is no validation sample. Takes the memory of the weights once more on the host."""
    model.fit_features(train.vectors_SD.to(device))
    optimizer = torch.optim.AdamW(model.parameters(), lr=recipe.learning_rate, weight_decay=recipe.weight_decay)
    is_bf16 = precision_on(device, recipe) == "bf16"
    best: dict[str, torch.Tensor] = {}
    lowest = float("inf")
    for epoch in range(recipe.epochs):
        model.train()
        batches = torch.randperm(len(train.answers)).split(recipe.batch_size)
        for number, rows in enumerate(batches):
            for group in optimizer.param_groups:
                group["lr"] = learning_rate_at(epoch + number / len(batches), recipe)
            with torch.autocast(device, torch.bfloat16, enabled=is_bf16):
                loss_N = batch_loss(model, train, rows, device)
            weight_N = train.weight_S[rows].to(device)
            loss = (loss_N * weight_N).sum() / weight_N.sum()
            optimizer.zero_grad(set_to_none=True)
            loss.backward()
            optimizer.step()
        if not len(validation.answers):
            continue
        model.eval()
        with torch.inference_mode(), torch.autocast(device, torch.bfloat16, enabled=is_bf16):
            parts = torch.arange(len(validation.answers)).split(ROWS)
            loss_now = float(torch.cat([batch_loss(model, validation, rows, device) for rows in parts]).mean())
        if loss_now < lowest:
            lowest, best = loss_now, {name: value.cpu().clone() for name, value in model.state_dict().items()}
    if best:
        model.load_state_dict(best)
    model.eval()


def batch_loss(model: LlamaText, samples: TextSamples, rows: torch.Tensor, device: str) -> torch.Tensor:
    """The loss of the samples at ``rows``."""
    picked = rows.tolist()
    return model.loss(
        samples.vectors_SD[rows].to(device),
        [samples.instructions[row] for row in picked],
        [samples.answers[row] for row in picked],
    )


def written_tags(
    model: LlamaText, test: Samples, rows: np.ndarray, taxonomy: Taxonomy, device: str
) -> list[dict[str, str]]:
    """The tags in the text that the model writes about each of the samples at ``rows``."""
    found: dict[int, dict[str, str]] = {}
    for k, task in enumerate(taxonomy.tasks):
        longest = len(model.ids(answer_text({tag.name: max(tag.categories, key=len) for tag in task.tags})))
        own = rows[test.task_S[rows] == k]
        for part in np.split(own, range(ROWS, len(own), ROWS)) if len(own) else []:
            texts = model.write(vectors_at(test, part, device), task.instruction, longest + SPARE_TOKENS)
            found |= {
                row: parse(text, taxonomy, task.name).tags for row, text in zip(part.tolist(), texts, strict=True)
            }
    return [found[row] for row in rows.tolist()]


def category_scores(model: LlamaText, test: Samples, of_tag: TagTargets, taxonomy: Taxonomy, device: str) -> np.ndarray:
    """Probabilities [N, K] of the texts of a tag's categories, after the true earlier tags. Costs K forward passes over
    short texts per window."""
    task, categories = taxonomy.task(of_tag.task), taxonomy.tag(of_tag.tag).categories
    earlier = [tag.name for tag in task.tags][: [tag.name for tag in task.tags].index(of_tag.tag)]
    texts, rows = [], []
    for row in of_tag.row_N.tolist():
        before = {tag: name for tag, name in tags_of(test, row, taxonomy).items() if tag in earlier}
        texts += [answer_text({**before, of_tag.tag: category}) for category in categories]
        rows += [row] * len(categories)
    found = [
        model.log_probabilities(
            vectors_at(test, np.array(rows[at : at + ROWS]), device),
            [task.instruction] * len(rows[at : at + ROWS]),
            texts[at : at + ROWS],
        ).cpu()
        for at in range(0, len(rows), ROWS)
    ]
    scores_NK: np.ndarray = torch.cat(found).double().view(-1, len(categories)).softmax(1).numpy()
    return scores_NK


def vectors_at(samples: Samples, rows: np.ndarray, device: str) -> torch.Tensor:
    """The vectors [N, D] of the windows of the samples at ``rows``, on the device."""
    return torch.from_numpy(samples.embeddings_WD[samples.window_S[rows]].astype(np.float32)).to(device)
