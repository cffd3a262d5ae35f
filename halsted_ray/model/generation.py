"""How tokens are generated: greedily, under the grammar, so that every answer is well-formed.

The model only chooses categories. The grammar forces BOS, ``<tag>``, ``</tag>`` and EOS, so several forced tokens go
through the decoder in one pass: first the prefix, BOS and the first ``<tag>``; then each chosen category together with
its ``</tag>`` and the next ``<tag>``. An answer of three tags takes three passes. Token by token it takes ten.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch

from halsted_ray.model.decoder import Decoder
from halsted_ray.model.frozen_decoder import FrozenDecoder
from halsted_ray.model.vocabulary import BOS, EOS, PAD, Vocabulary

DECIMALS = 4
"""Probabilities are rounded to this many decimals. The float noise between machines is 1e-6, so it rarely shows."""


@dataclass(frozen=True)
class Generated:
    """What ``generate`` returns for N rows, G tags at most, C categories at most.

    ``chosen_NG``: index of the category chosen for the g-th tag of the row's task, -1 where the task has no g-th tag.
    ``logits_NGC``: logits of all categories of the tag, also of excluded ones; -inf past the last category.
    """

    chosen_NG: torch.Tensor
    logits_NGC: torch.Tensor


class Grammar:
    """The grammar of a vocabulary as tensors on a device: K tasks, G tags at most, C categories at most.

    ``temperatures``: per tag name; 1 where a tag has none. ``tags``: number of tags per task. ``categories``: C.
    ``opening``, ``closing``, ``first`` and ``count`` are [K, G]: token ids of ``<tag>``, ``</tag>`` and the tag's first
    category, and the number of its categories.
    """

    def __init__(self, vocabulary: Vocabulary, temperatures: Mapping[str, float], device: torch.device):
        taxonomy = vocabulary.taxonomy
        shape = len(taxonomy.tasks), max(len(task.tags) for task in taxonomy.tasks)
        opening, closing, first, count = (torch.zeros(shape, dtype=torch.long) for _ in range(4))
        temperature = torch.ones(shape, dtype=torch.float64)
        self.narrowings: list[tuple[int, int, int, torch.Tensor]] = []
        """Where one tag limits another: (task, g of the limiting tag, g of the limited tag, which categories stay
        possible [categories of the limiting tag, C])."""
        self.tags = [len(task.tags) for task in taxonomy.tasks]
        self.categories = max(len(tag.categories) for tag in taxonomy.tags)
        for k, task in enumerate(taxonomy.tasks):
            names = [tag.name for tag in task.tags]
            for g, tag in enumerate(task.tags):
                opening[k, g], closing[k, g] = vocabulary.opening[tag.name], vocabulary.closing[tag.name]
                first[k, g], count[k, g] = vocabulary.first[tag.name], len(tag.categories)
                temperature[k, g] = temperatures.get(tag.name, 1.0)
            for narrowing in taxonomy.narrowings:
                if narrowing.tag in names:
                    g, h = names.index(narrowing.tag), names.index(narrowing.narrows)
                    possible = torch.zeros(count[k, g], self.categories, dtype=torch.bool)
                    for i, category in enumerate(task.tags[g].categories):
                        for name in taxonomy.allowed(narrowing.narrows, {narrowing.tag: category}):
                            possible[i, task.tags[h].categories.index(name)] = True
                    self.narrowings.append((k, g, h, possible.to(device)))
        self.opening, self.closing, self.first = opening.to(device), closing.to(device), first.to(device)
        self.count, self.temperature = count.to(device), temperature.to(device)

    def category_logits(self, logits_NV: torch.Tensor, tasks_N: torch.Tensor, g: int) -> torch.Tensor:
        """Returns the logits [N, C] of the categories of each row's g-th tag, -inf past the last category."""
        index = torch.arange(self.categories, device=logits_NV.device)[None]
        ids = (self.first[tasks_N, g][:, None] + index).clamp_max(logits_NV.shape[1] - 1)
        return logits_NV.gather(1, ids).masked_fill(index >= self.count[tasks_N, g][:, None], -torch.inf)

    def choose(self, logits_NC: torch.Tensor, tasks_N: torch.Tensor, chosen_NG: torch.Tensor, g: int) -> torch.Tensor:
        """Returns [N] the most probable category that the earlier choices allow.

        Probabilities are rounded before they are compared. Of equal categories the first one wins.
        """
        probabilities = rounded(self.probabilities(logits_NC, tasks_N, g))
        probabilities = probabilities.masked_fill(self.excluded(tasks_N, chosen_NG, g), -1.0)
        beyond = logits_NC == -torch.inf
        return probabilities.masked_fill(beyond, -2.0).argmax(1)

    def excluded(self, tasks_N: torch.Tensor, chosen_NG: torch.Tensor, g: int) -> torch.Tensor:
        """Returns bool [N, C]: the categories of the g-th tag that the choices of earlier tags rule out."""
        excluded_NC = torch.zeros((len(tasks_N), self.categories), dtype=torch.bool, device=tasks_N.device)
        for k, earlier, narrowed, possible in self.narrowings:
            if narrowed == g:
                excluded_NC |= (tasks_N == k)[:, None] & ~possible[chosen_NG[:, earlier].clamp(0, len(possible) - 1)]
        return excluded_NC

    def allowed_probabilities(
        self, logits_NC: torch.Tensor, tasks_N: torch.Tensor, chosen_NG: torch.Tensor, g: int
    ) -> torch.Tensor:
        """Returns float64 [N, C]: the probability of each category among those that the row's earlier tags allow.

        So that of the chosen category is at least one over their number. Among all categories it could be next to
        nothing, where the vector speaks for a category that an earlier tag rules out.
        """
        return self.probabilities(logits_NC.masked_fill(self.excluded(tasks_N, chosen_NG, g), -torch.inf), tasks_N, g)

    def probabilities(self, logits_NC: torch.Tensor, tasks_N: torch.Tensor, g: int) -> torch.Tensor:
        """Returns float64 [N, C]: the softmax over the tag's categories at its temperature, 0 past the last one."""
        probabilities = (logits_NC.double() / self.temperature[tasks_N, g][:, None]).softmax(1)
        return probabilities.nan_to_num(0.0)  # rows without a g-th tag


def rounded(probabilities: torch.Tensor) -> torch.Tensor:
    """Rounds to ``DECIMALS``."""
    return torch.round(probabilities, decimals=DECIMALS)


@torch.inference_mode()
def generate(
    decoder: Decoder | FrozenDecoder,
    grammar: Grammar,
    embeddings_ND: torch.Tensor,
    tasks_N: torch.Tensor,
    rows_per_pass: int,
    given_NG: torch.Tensor | None = None,
    fill_to: int | None = None,
) -> Generated:
    """Generates an answer per row. ``tasks_N`` holds the index of each row's task, in any mix.

    A pass has ``rows_per_pass`` rows. The last pass is padded to a multiple of ``fill_to`` rows (default
    ``rows_per_pass``: then every pass has the same shape, and a row's answer can't depend on the other rows).
    ``given_NG``: categories to condition on instead of the model's own choice (teacher forcing); -1 leaves the choice
    to the model.

    ``tasks_N`` is read once, at the beginning; on a GPU it had better lie in the host's memory. From then on everything
    is queued on the decoder's device, and nothing waits for it.
    """
    device = embeddings_ND.device
    # Rows with equally many tags run together, so that short answers do not wait for long ones.
    tags_N = torch.tensor(grammar.tags)[tasks_N.cpu()]
    order = torch.argsort(tags_N, stable=True)
    most_tags = [int(tags_N[rows[-1]]) for rows in order.split(rows_per_pass)] if len(order) else []
    tasks_N, tags_N, order = tasks_N.to(device), tags_N.to(device), order.to(device)
    chosen_NG = torch.full((len(tasks_N), max(grammar.tags)), -1, device=device)
    logits_NGC = torch.full((*chosen_NG.shape, grammar.categories), -torch.inf, device=device)
    for rows, most in zip(order.split(rows_per_pass), most_tags, strict=False):
        count = -(-len(rows) // (fill_to or rows_per_pass)) * (fill_to or rows_per_pass)
        tasks = _padded(tasks_N[rows], count)
        embeddings = _padded(embeddings_ND[rows], count)
        given = None if given_NG is None else _padded(given_NG[rows], count)
        chosen = torch.full((count, chosen_NG.shape[1]), -1, device=device)
        start = torch.stack([torch.full_like(tasks, BOS), grammar.opening[tasks, 0]], 1)
        logits, cache = decoder.prefill(embeddings, tasks, start, last_only=True)
        for g in range(most):
            if g:
                value = grammar.first[tasks, g - 1] + chosen[:, g - 1]
                forced = torch.stack([value, grammar.closing[tasks, g - 1], grammar.opening[tasks, g]], 1)
                logits, cache = decoder.extend(forced.clamp_min(PAD), cache)
            categories = grammar.category_logits(logits[:, -1], tasks, g)
            best = grammar.choose(categories, tasks, chosen, g)
            if given is not None:
                best = torch.where(given[:, g] >= 0, given[:, g], best)
            # A row without a g-th tag gets a harmless 0 here. Nobody reads the tokens that follow from it.
            chosen[:, g] = torch.where(grammar.count[tasks, g] > 0, best, 0)
            logits_NGC[rows, g] = categories[: len(rows)]
        chosen_NG[rows] = chosen[: len(rows)]
    absent = torch.arange(chosen_NG.shape[1], device=device)[None] >= tags_N[:, None]
    return Generated(chosen_NG.masked_fill(absent, -1), logits_NGC)


def _padded(rows: torch.Tensor, count: int) -> torch.Tensor:
    """Returns ``rows`` filled up to ``count`` with copies of its first row."""
    if len(rows) == count:
        return rows
    return torch.cat([rows, rows[:1].expand(count - len(rows), *rows.shape[1:])])


@torch.inference_mode()
def rows_stand_alone(decoder: FrozenDecoder, grammar: Grammar, dim: int, rows: int, few: int) -> bool:
    """Whether a pass of ``rows`` rows gives each of them what a pass of ``few`` rows gives it, to the last bit, on this
    machine. Libraries of matrix products do not promise it, so it is tried, with the shapes of a long answer."""
    drawn = torch.Generator().manual_seed(0)
    embeddings_ND = torch.randn((rows, dim), generator=drawn).to(decoder.device)
    longest = max(range(len(grammar.tags)), key=lambda k: grammar.tags[k])
    tasks_N = torch.full((rows,), longest)
    together = generate(decoder, grammar, embeddings_ND, tasks_N, rows)
    apart = generate(decoder, grammar, embeddings_ND, tasks_N, few)
    return torch.equal(together.logits_NGC, apart.logits_NGC)


@torch.inference_mode()
def generate_token_by_token(
    decoder: Decoder, vocabulary: Vocabulary, grammar: Grammar, embeddings_ND: torch.Tensor, tasks_N: torch.Tensor
) -> list[list[int]]:
    """Generates the token ids of all answers the simple way: one token per pass, without a cache.

    This is the reference for ``generate``: tests hold both equal, and ``benchmarks/generate.py`` compares their speed.
    """
    names = [vocabulary.taxonomy.tasks[k].name for k in tasks_N.tolist()]
    answers: list[list[int]] = [[BOS] for _ in names]
    while any(answer[-1] not in (EOS, PAD) for answer in answers):
        logits_NV = decoder(embeddings_ND, tasks_N, torch.tensor(answers, device=tasks_N.device))[:, -1]
        for row, (name, answer) in enumerate(zip(names, answers, strict=True)):
            allowed = vocabulary.allowed_next(name, answer)
            if len(allowed) > 1 or (len(answer) - 1) % 3 == 1:
                g = (len(answer) - 1) // 3
                task = tasks_N[row : row + 1]
                categories = grammar.category_logits(logits_NV[row : row + 1], task, g)
                probabilities = rounded(grammar.probabilities(categories, task, g))[0]
                first = int(grammar.first[tasks_N[row], g])
                allowed = [max(allowed, key=lambda i: (probabilities[i - first].item(), -i))]
            answer.append(allowed[0])
    return answers
