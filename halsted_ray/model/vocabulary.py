"""The tokens of a taxonomy, and the grammar of an answer: ``BOS {<tag> category </tag>} EOS`` (paper, Fig. 7).

Each category has one token, so that a tag is one decision and its probability comes from one softmax. The token's name
contains the tag, since two tags can share a category: ``Stapler`` is an action and an instrument, ``Both`` is an arm
and a direction. Instructions are words, padded to 8 tokens.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from halsted_ray.errors import TaxonomyError
from halsted_ray.taxonomy import Task, Taxonomy

PAD, BOS, EOS = 0, 1, 2
INSTRUCTION_LENGTH = 8
"""M in the paper: embeddings per instruction. The words come first, then PAD."""


class Vocabulary:
    """The token ids of one taxonomy. They follow the taxonomy's order, so equal taxonomy digests mean equal ids.

    ``tokens``: the name of each token, by id. ``instructions``: 8 token ids per task. ``length``: tokens of the longest
    answer, BOS and EOS included. ``opening``, ``closing``: the ids of ``<tag>`` and ``</tag>`` per tag.
    ``task_ids``: the index of each task.
    """

    def __init__(self, taxonomy: Taxonomy):
        self.taxonomy = taxonomy
        words = dict.fromkeys(word for task in taxonomy.tasks for word in task.instruction.split())
        tokens = ["PAD", "BOS", "EOS", *words]
        word_ids = {word: index for index, word in enumerate(tokens)}
        self.instructions: list[list[int]] = []
        for task in taxonomy.tasks:
            ids = [word_ids[word] for word in task.instruction.split()]
            if len(ids) > INSTRUCTION_LENGTH:
                raise TaxonomyError(
                    f"instruction {task.instruction!r} has {len(ids)} words; expected at most {INSTRUCTION_LENGTH}"
                )
            self.instructions.append(ids + [PAD] * (INSTRUCTION_LENGTH - len(ids)))
        self.opening: dict[str, int] = {}
        self.closing: dict[str, int] = {}
        self.first: dict[str, int] = {}
        """The id of each tag's first category. The ids of its other categories follow in order."""
        for tag in taxonomy.tags:
            self.opening[tag.name], self.closing[tag.name] = len(tokens), len(tokens) + 1
            self.first[tag.name] = len(tokens) + 2
            tokens += [f"<{tag.name}>", f"</{tag.name}>", *(f"{tag.name}={name}" for name in tag.categories)]
        self.tokens = tuple(tokens)
        self.task_ids = {task.name: index for index, task in enumerate(taxonomy.tasks)}
        self.length = 2 + 3 * max(len(task.tags) for task in taxonomy.tasks)
        self._indices = {tag.name: {name: i for i, name in enumerate(tag.categories)} for tag in taxonomy.tags}

    def __len__(self) -> int:
        """Returns the number of tokens."""
        return len(self.tokens)

    def category_index(self, task: Task, tag: str, category: str) -> int:
        """Returns the index of ``category`` among the categories of ``tag``; aliases are resolved.

        Raises TaxonomyError for an unknown category.
        """
        found = self._indices[tag].get(category)
        return self._indices[tag][self.taxonomy.canonical(task, tag, category)[1]] if found is None else found

    def encode(self, task_name: str, tags: Mapping[str, str]) -> list[int]:
        """Returns the token ids of an answer. A tag of the task that is missing in ``tags`` is left out.

        Raises TaxonomyError for an unknown task, tag or category.
        """
        task = self.taxonomy.task(task_name)
        named = {self.taxonomy.canonical_tag(task, tag).name: category for tag, category in tags.items()}
        ids = [BOS]
        for tag in task.tags:
            if tag.name in named:
                value = self.first[tag.name] + self.category_index(task, tag.name, named[tag.name])
                ids += [self.opening[tag.name], value, self.closing[tag.name]]
        return [*ids, EOS]

    def text(self, ids: Sequence[int]) -> str:
        """Returns the answer as text without PAD, such as ``BOS <step> Suturing </step> EOS``."""
        shown = (self.tokens[i] for i in ids if i != PAD)
        return " ".join(t if t.startswith("<") else t.split("=", 1)[-1] for t in shown)

    def allowed_next(self, task_name: str, ids: Sequence[int]) -> list[int]:
        """Returns the token ids that may follow ``ids`` in an answer that has every tag of the task once, in order.

        Categories that an earlier choice excludes (a procedure of another specialty) are left out.
        """
        task = self.taxonomy.task(task_name)
        if not ids:
            return [BOS]
        done, inside = divmod(len(ids) - 1, 3)
        if done >= len(task.tags):
            return [EOS] if len(ids) == 1 + 3 * len(task.tags) else [PAD]
        tag = task.tags[done].name
        if inside == 0:
            return [self.opening[tag]]
        if inside == 2:
            return [self.closing[tag]]
        chosen = {t.name: t.categories[ids[2 + 3 * i] - self.first[t.name]] for i, t in enumerate(task.tags[:done])}
        return [self.first[tag] + self._indices[tag][name] for name in self.taxonomy.allowed(tag, chosen)]


@dataclass(frozen=True)
class Parsed:
    """What ``parse`` reads from a text: tags (name to category), and one line per fault."""

    tags: dict[str, str]
    faults: tuple[str, ...]


def parse(text: str, taxonomy: Taxonomy, task_name: str) -> Parsed:
    """Reads the tags of a generated text by the paper's exact-match rules, in any spelling that the taxonomy knows.

    An unclosed tag is invalid; well-formed tags after it still count. If a tag occurs twice, the first one counts. An
    unknown tag or category is listed as a fault; it raises no error. An evaluation counts a missing tag as wrong.
    Raises TaxonomyError for an unknown task.
    """
    task = taxonomy.task(task_name)
    marks = list(re.finditer(r"<\s*(/?)\s*([^<>/]+?)\s*>", text))
    tags: dict[str, str] = {}
    faults: list[str] = []
    index = 0
    while index < len(marks):
        mark = marks[index]
        index += 1
        if mark[1]:
            faults.append(f"{mark[0]} closes nothing")
            continue
        following = marks[index] if index < len(marks) else None
        if following is None or not following[1] or following[2] != mark[2]:
            faults.append(f"{mark[0]} is not closed")
            # A wrong closing mark still ends this tag; an opening mark starts the next tag.
            index += following is not None and bool(following[1])
            continue
        index += 1
        try:
            tag, category = taxonomy.canonical(task, mark[2], text[mark.end() : following.start()])
        except TaxonomyError as error:
            faults.append(str(error))
            continue
        if tag in tags:
            faults.append(f"<{tag}> occurs twice")
        tags.setdefault(tag, category)
    return Parsed(tags, tuple(faults))
