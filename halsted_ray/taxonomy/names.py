"""Tasks, tags and categories, and how a name that a person wrote is looked up among them."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from functools import cached_property

from halsted_ray.errors import TaxonomyError
from halsted_ray.records import JsonObject, digest

ABSENT_PRESENT = ("Absent", "Present")
"""A tag with these categories is one label of several that hold at once, such as a tool."""


@dataclass(frozen=True)
class Tag:
    """One component of surgery (such as ``action``), and its possible categories in vocabulary order."""

    name: str
    categories: tuple[str, ...]
    per: str = "window"
    """``window``: may change from window to window; ``operation``: a map states it once for the whole operation. It
    changes no weight of a model, so it is no part of ``Taxonomy.digest``."""


@dataclass(frozen=True)
class Task:
    """A question to the model: an instruction, and the tags of its answer in the order they are generated.

    ``window`` is ``coarse`` or ``fine``. ``when`` lists (tag, category) pairs of other tasks that must hold for the
    question to make sense (paper, Methods, multi-stage workflow); empty where the question is always asked.
    ``several``: whether several answers may hold at one moment, each a sample of its own; no part of a digest.
    """

    name: str
    title: str
    instruction: str
    window: str
    when: tuple[tuple[str, str], ...]
    tags: tuple[Tag, ...]
    several: bool = False


@dataclass(frozen=True)
class Narrowing:
    """Once ``tag`` is known, only ``to[category]`` of the tag ``narrows`` is possible."""

    tag: str
    narrows: str
    to: tuple[tuple[str, tuple[str, ...]], ...]


@dataclass(frozen=True)
class StitchRoles:
    """Which tags and categories make up a stitch (``maps.stitches``).

    ``phase``: the tag whose categories ``handling``, ``driving`` and ``withdrawal`` are. ``target``, ``direction``,
    ``extent`` and ``proficiency``: the tags that describe a stitch; '' where the taxonomy has no such tag. ``high``:
    the categories of ``proficiency`` that count as high.
    """

    phase: str
    driving: tuple[str, ...]
    handling: tuple[str, ...] = ()
    withdrawal: tuple[str, ...] = ()
    target: str = ""
    direction: str = ""
    extent: str = ""
    proficiency: str = ""
    high: tuple[str, ...] = ()


@dataclass(frozen=True)
class Taxonomy:
    """Everything that a model can be asked and can answer.

    Every look-up of an unknown name raises TaxonomyError, which lists the nearest known names.
    """

    name: str
    tasks: tuple[Task, ...]
    narrowings: tuple[Narrowing, ...] = ()
    tag_aliases: Mapping[str, Mapping[str, str]] = field(default_factory=dict, hash=False)
    """task -> other spelling of a tag (as ``fold`` gives it) -> tag."""
    category_aliases: Mapping[str, Mapping[str, str]] = field(default_factory=dict, hash=False)
    """tag -> other spelling of a category (as ``fold`` gives it) -> category."""
    source: str = ""
    """Where the names come from, for people."""
    stitch: StitchRoles | None = None
    """None: this taxonomy has no phases of suturing."""

    @cached_property
    def digest(self) -> str:
        """16 hex digits over everything that a trained model depends on.

        Titles, source, aliases and the roles of a stitch are left out, so they may change freely.
        """
        tasks = [
            [t.name, t.instruction, t.window, t.when, [[tag.name, tag.categories] for tag in t.tags]]
            for t in self.tasks
        ]
        return digest(self.name, tasks, [[n.tag, n.narrows, n.to] for n in self.narrowings])

    @property
    def tags(self) -> tuple[Tag, ...]:
        """All tags, in the order of the tasks."""
        return tuple(tag for task in self.tasks for tag in task.tags)

    def task(self, name: str) -> Task:
        """The task of this name. Raises TaxonomyError."""
        for task in self.tasks:
            if task.name == name:
                return task
        raise self._unknown("task", name, [task.name for task in self.tasks])

    def task_of_instruction(self, text: str) -> Task:
        """The task whose instruction is ``text``; spellings as in ``fold``. Raises TaxonomyError."""
        for task in self.tasks:
            if fold(task.instruction) == fold(text):
                return task
        raise self._unknown("instruction", text, [task.instruction for task in self.tasks])

    def tag(self, name: str) -> Tag:
        """The tag of this name. Raises TaxonomyError."""
        for tag in self.tags:
            if tag.name == name:
                return tag
        raise self._unknown("tag", name, [tag.name for tag in self.tags])

    def task_of_tag(self, tag_name: str) -> Task:
        """The task that asks for the tag of this name. Raises TaxonomyError."""
        tag = self.tag(tag_name)
        return next(task for task in self.tasks if tag in task.tags)

    def canonical(self, task: str | Task, tag: str, category: str) -> tuple[str, str]:
        """(tag, category) as this taxonomy spells them, from any spelling that it knows. Raises TaxonomyError.

        Letter case, ``_`` for a space and ``-`` for an en dash do not count. Aliases are resolved within the task
        (Fig. 7's ``<phase>`` is ``step`` in the macro task, its ``<action>`` is ``phase`` in the proficiency task).
        """
        task = self.task(task) if isinstance(task, str) else task
        found = self.canonical_tag(task, tag)
        for name in found.categories:
            if fold(name) == fold(category):
                return found.name, name
        alias = self.category_aliases.get(found.name, {}).get(fold(category))
        if alias is None:
            raise self._unknown(f"category of {found.name!r}", category, found.categories)
        return found.name, alias

    def canonical_tag(self, task: Task, tag: str) -> Tag:
        """The tag of ``task`` whose name or alias is ``tag``, in any spelling. Raises TaxonomyError."""
        name = self.tag_aliases.get(task.name, {}).get(fold(tag), tag)
        for found in task.tags:
            if fold(found.name) == fold(name):
                return found
        raise self._unknown(f"tag of task {task.name!r}", tag, [t.name for t in task.tags])

    def allowed(self, tag: str, chosen: Mapping[str, str]) -> tuple[str, ...]:
        """The categories of ``tag`` that are possible once other tags have the categories ``chosen`` (tag -> category).

        Raises TaxonomyError.
        """
        categories = self.tag(tag).categories
        for narrowing in self.narrowings:
            if narrowing.narrows == tag and narrowing.tag in chosen:
                possible = dict(narrowing.to).get(chosen[narrowing.tag], categories)
                categories = tuple(category for category in categories if category in possible)
        return categories

    def to_dict(self) -> JsonObject:
        """The taxonomy in the form of its YAML file, to be stored with a model; ``from_dict`` reads it back."""
        aliases: dict[str, JsonObject] = {}
        for task in self.tasks:
            aliases[task.name] = {
                "tags": dict(self.tag_aliases.get(task.name, {})),
                "categories": {
                    tag.name: dict(self.category_aliases[tag.name])
                    for tag in task.tags
                    if tag.name in self.category_aliases
                },
            }
        return {
            "name": self.name,
            "source": self.source,
            "tasks": [
                {
                    "name": task.name,
                    "title": task.title,
                    "instruction": task.instruction,
                    "window": task.window,
                    "when": dict(task.when),
                    **({"several": True} if task.several else {}),
                    "tags": [
                        {"name": tag.name, "categories": list(tag.categories)}
                        | ({"per": tag.per} if tag.per != "window" else {})
                        for tag in task.tags
                    ],
                }
                for task in self.tasks
            ],
            "narrows": [
                {"tag": n.tag, "narrows": n.narrows, "to": {key: list(names) for key, names in n.to}}
                for n in self.narrowings
            ],
            "aliases": aliases,
            **({} if self.stitch is None else {"stitch": _stitch_dict(self.stitch)}),
        }

    def _unknown(self, what: str, got: str, known: Iterable[str]) -> TaxonomyError:
        return TaxonomyError(f"taxonomy {self.name!r} has no {what} {got!r}; {nearest(got, known)}")


def _stitch_dict(roles: StitchRoles) -> JsonObject:
    """``roles`` in the form of the YAML file, without what is empty."""
    values = {name: getattr(roles, name) for name in StitchRoles.__dataclass_fields__}
    return {name: list(value) if isinstance(value, tuple) else value for name, value in values.items() if value}


def fold(name: str) -> str:
    """``name`` in the form in which names are compared: without differences in letter case, in spaces and underscores,
    and in the kind of dash."""
    name = re.sub(r"[\s_]+", " ", name.strip().casefold())
    return re.sub(r" ?[-\u2010-\u2015] ?", "\u2013", name)


def nearest(got: str, known: Iterable[str], show: int = 3) -> str:
    """The end of an error message: the ``show`` known names most like ``got``, or all known names where none is like
    it."""
    known = list(known)
    folded = {fold(name): name for name in known}
    close = [folded[name] for name in difflib.get_close_matches(fold(str(got)), folded, n=show, cutoff=0.6)]
    if close:
        return "did you mean " + " or ".join(repr(name) for name in close) + "?"
    return "known: " + ", ".join(repr(name) for name in known)
