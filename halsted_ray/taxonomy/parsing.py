"""Reads a taxonomy file, checks it, and makes it a Taxonomy.

An error names the file, the line, the key, the value that was found and the value that was expected.
"""

from __future__ import annotations

from collections.abc import Collection
from functools import cache
from importlib import resources
from typing import Any

import yaml

from halsted_ray.errors import TaxonomyError, UsageError, VideoError
from halsted_ray.records import JsonObject
from halsted_ray.storage.files import read_bytes
from halsted_ray.taxonomy.names import Narrowing, StitchRoles, Tag, Task, Taxonomy, fold, nearest

SHIPPED = (
    "halsted",
    "sar_rarp50",
    "cholec80",
    "surglavi",
    "out_of_body",
    "bsa",
    "autolaparo",
    "cholect50",
    "grasp",
    "multibypass140",
)
WINDOWS = ("coarse", "fine")
SPANS = ("window", "operation")
MOST_VALUES = 20_000
"""Of one file. Aliases count as what they stand for: ten lines can stand for billions. The shipped have hundreds."""

Key = tuple[Any, ...]
"""Where a value stands in the file: the names and positions that lead to it, such as ("tasks", 0, "name")."""

Aliases = dict[str, dict[str, str]]
"""As ``Taxonomy.tag_aliases`` and ``Taxonomy.category_aliases``."""


def load(name_or_path: str = "halsted") -> Taxonomy:
    """The shipped taxonomy of this name, or the taxonomy in a YAML file (a path or any fsspec URL).

    Raises TaxonomyError where there is no such name or file, or where the file has another form than the shipped files.
    """
    if name_or_path in SHIPPED:
        return _shipped(name_or_path)
    if not name_or_path.endswith((".yaml", ".yml")):
        raise TaxonomyError(
            f"no taxonomy {name_or_path!r}; {nearest(name_or_path, SHIPPED)} (or give a path that ends in .yaml)"
        )
    try:
        text = read_bytes(name_or_path).decode()
    except UnicodeDecodeError as error:
        raise TaxonomyError(f"taxonomy file {name_or_path!r} is not UTF-8 text: {error}; save it as UTF-8") from error
    except (OSError, UsageError, VideoError) as error:
        raise TaxonomyError(f"taxonomy file {name_or_path!r} can't be read: {error}; give an existing file") from error
    return from_yaml(text, name_or_path)


@cache
def _shipped(name: str) -> Taxonomy:
    text = resources.files("halsted_ray.taxonomy").joinpath(f"{name}.yaml").read_text("utf-8")
    return from_yaml(text, f"{name}.yaml")


def from_yaml(text: str, origin: str) -> Taxonomy:
    """The taxonomy in the ``text`` of a YAML file, which messages call ``origin``. Raises TaxonomyError."""
    lines: dict[Key, int] = {}
    try:
        root = yaml.compose(text, Loader=yaml.SafeLoader)
        if root is not None:
            _note_lines(root, (), lines, origin)
        data = yaml.safe_load(text)
    except RecursionError as error:
        raise TaxonomyError(f"{origin}: a value that contains itself, or is nested too deeply") from error
    except (yaml.YAMLError, ValueError) as error:  # ValueError: a date or a number that is none
        if isinstance(error, TaxonomyError):
            raise
        raise TaxonomyError(f"{origin}: not well-formed YAML: {error}") from error
    return _Reader(origin, lines).taxonomy(data)


def from_dict(data: JsonObject, origin: str = "taxonomy") -> Taxonomy:
    """The taxonomy that ``Taxonomy.to_dict`` gave as Python values, checked as a file is. Raises TaxonomyError."""
    return _Reader(origin, {}).taxonomy(data)


@cache
def shipped_of_digest(digest: str) -> Taxonomy | None:
    """The shipped taxonomy of this ``Taxonomy.digest``; None where no shipped taxonomy has it."""
    return next((taxonomy for taxonomy in map(load, SHIPPED) if taxonomy.digest == digest), None)


def _note_lines(node: yaml.Node, key: Key, lines: dict[Key, int], origin: str) -> None:
    """Notes in ``lines`` the line of every key below ``node``. Raises TaxonomyError where a key stands twice, and where
    aliases repeat values without end."""
    lines[key] = node.start_mark.line + 1
    if len(lines) > MOST_VALUES:
        raise TaxonomyError(f"{origin}: more than {MOST_VALUES:,} values, aliases counted; expected a taxonomy")
    if isinstance(node, yaml.MappingNode):
        seen = set()
        for name, value in node.value:
            line = name.start_mark.line + 1
            if not isinstance(name, yaml.ScalarNode):
                raise TaxonomyError(f"{origin}:{line}: got a key that is a list or a mapping; expected a name")
            if name.value in seen:  # YAML itself keeps the last value and says nothing
                raise TaxonomyError(f"{origin}:{line}: key {name.value!r} stands twice; keep one of them")
            seen.add(name.value)
            _note_lines(value, (*key, name.value), lines, origin)
            lines[*key, name.value] = line
    elif isinstance(node, yaml.SequenceNode):
        for index, value in enumerate(node.value):
            _note_lines(value, (*key, index), lines, origin)


class _Reader:
    """Checks the values of a file one by one. Each method checks the value at ``key`` and returns it, or raises the
    TaxonomyError that ``fail`` makes."""

    def __init__(self, origin: str, lines: dict[Key, int]):
        self.origin, self.lines = origin, lines

    def fail(self, key: Key, got: str, expected: str) -> TaxonomyError:
        """The error about the value at ``key``."""
        near = next((self.lines[key[:n]] for n in range(len(key), -1, -1) if key[:n] in self.lines), None)
        where = self.origin if near is None else f"{self.origin}:{near}"
        name = ".".join(str(part) for part in key) or "the file"
        return TaxonomyError(f"{where}: {name}: got {got}; expected {expected}")

    def mapping(
        self, value: Any, key: Key, known: tuple[str, ...] = (), needed: tuple[str, ...] = ()
    ) -> dict[Any, Any]:
        """A mapping that has the ``needed`` keys and no keys but the ``known`` (any key where none is given)."""
        if not isinstance(value, dict):
            raise self.fail(key, f"{value!r}", "a mapping" + (f" with {', '.join(needed)}" if needed else ""))
        for name in value:
            if known and name not in known:
                raise self.fail((*key, name), f"an unknown key {name!r}", nearest(str(name), known))
        for name in needed:
            if name not in value:
                raise self.fail(key, f"no {name!r}", f"the keys {', '.join(needed)}")
        return value

    def sequence(self, value: Any, key: Key, of: str) -> list[Any]:
        """A list with at least one entry."""
        if not isinstance(value, list) or not value:
            raise self.fail(key, f"{value!r}", f"a list of {of}, at least one")
        return value

    def text(self, value: Any, key: Key) -> str:
        """A text that is not empty."""
        if not isinstance(value, str) or not value.strip():
            raise self.fail(key, f"{value!r}", "a text (put quotes around words that YAML reads otherwise, like No)")
        if "<" in value or ">" in value:  # in a generated text it would be read as the end of a tag
            raise self.fail(key, f"{value!r}", "a text without '<' and '>'")
        return value

    def distinct(self, names: list[str], key: Key, what: str) -> None:
        """Checks that no two of ``names`` are spellings of one name."""
        first: dict[str, int] = {}
        for index, name in enumerate(names):
            if fold(name) in first:
                raise self.fail(
                    (*key, index),
                    f"{name!r} a second time (first at position {first[fold(name)]})",
                    f"{what} that differ in more than case, spaces and the kind of dash",
                )
            first[fold(name)] = index

    def taxonomy(self, data: Any) -> Taxonomy:
        """The whole file."""
        self.mapping(data, (), ("name", "source", "tasks", "narrows", "aliases", "stitch"), ("name", "tasks"))
        tasks = tuple(
            self.task(value, ("tasks", index))
            for index, value in enumerate(self.sequence(data["tasks"], ("tasks",), "tasks"))
        )
        self.distinct([task.name for task in tasks], ("tasks",), "task names")
        self.distinct([task.instruction for task in tasks], ("tasks",), "instructions")
        self.distinct([tag.name for task in tasks for tag in task.tags], ("tasks",), "tag names over all tasks")
        tags = {tag.name: tag for task in tasks for tag in task.tags}
        for index, task in enumerate(tasks):
            for tag, category in task.when:
                key = ("tasks", index, "when", tag)
                self.known(tag, tags, key)
                self.known(category, tags[tag].categories, key)
                if tag in {own.name for own in task.tags}:
                    raise self.fail(key, f"the task's own tag {tag!r}", "a tag of another task")
        narrowings = tuple(
            self.narrowing(value, ("narrows", index), tasks, tags)
            for index, value in enumerate(self.sequence(data.get("narrows") or [None], ("narrows",), "narrowings"))
            if value is not None
        )
        self.orderly(tasks)
        pairs = [(narrowing.tag, narrowing.narrows) for narrowing in narrowings]
        for index, pair in enumerate(pairs):
            if pair in pairs[:index]:
                raise self.fail(("narrows", index), f"{pair} a second time", "one entry for each pair of tags")
        tag_aliases, category_aliases = self.aliases(data.get("aliases") or {}, tasks)
        return Taxonomy(
            self.text(data["name"], ("name",)),
            tasks,
            narrowings,
            tag_aliases,
            category_aliases,
            self.text(data["source"], ("source",)) if data.get("source") else "",
            self.stitch(data["stitch"], tags) if data.get("stitch") is not None else None,
        )

    def task(self, value: Any, key: Key) -> Task:
        """One entry of ``tasks``."""
        needed = ("name", "instruction", "window", "tags")
        self.mapping(value, key, (*needed, "title", "when", "several"), needed)
        name = self.text(value["name"], (*key, "name"))
        if "," in name:  # tables and commands list the names of tasks with commas between them
            raise self.fail((*key, "name"), f"{name!r}", "a name without a comma")
        window = value["window"]
        if window not in WINDOWS:
            raise self.fail((*key, "window"), f"{window!r}", " or ".join(WINDOWS))
        when = self.mapping(value.get("when") or {}, (*key, "when"))
        pairs = tuple((str(tag), self.text(category, (*key, "when", tag))) for tag, category in when.items())
        tags = []
        for index, entry in enumerate(self.sequence(value["tags"], (*key, "tags"), "tags")):
            at = (*key, "tags", index)
            self.mapping(entry, at, ("name", "categories", "per"), ("name", "categories"))
            names = self.sequence(entry["categories"], (*at, "categories"), "categories")
            names = [self.text(category, (*at, "categories", i)) for i, category in enumerate(names)]
            self.distinct(names, (*at, "categories"), "categories")
            per = entry.get("per", "window")
            if per not in SPANS:
                raise self.fail((*at, "per"), f"{per!r}", " or ".join(SPANS))
            tags.append(Tag(self.text(entry["name"], (*at, "name")), tuple(names), per))
        instruction = self.text(value["instruction"], (*key, "instruction"))
        title = self.text(value["title"], (*key, "title")) if value.get("title") else name.capitalize()
        several = value.get("several", False)
        if not isinstance(several, bool):
            raise self.fail((*key, "several"), f"{several!r}", "true or false")
        return Task(name, title, instruction, window, pairs, tuple(tags), several)

    def orderly(self, tasks: tuple[Task, ...]) -> None:
        """Checks that no tasks wait for each other: none of them would ever be asked."""
        waiting = list(enumerate(tasks))
        while waiting:
            unknown = {tag.name for _, task in waiting for tag in task.tags}
            left = [(index, task) for index, task in waiting if any(tag in unknown for tag, _ in task.when)]
            if len(left) == len(waiting):
                names = [task.name for _, task in left]
                raise self.fail(("tasks", left[0][0], "when"), f"tasks {names} that wait for each other", "no circle")
            waiting = left

    def narrowing(self, value: Any, key: Key, tasks: tuple[Task, ...], tags: dict[str, Tag]) -> Narrowing:
        """One entry of ``narrows``; ``tags`` are the tags of ``tasks`` by name."""
        needed = ("tag", "narrows", "to")
        self.mapping(value, key, needed, needed)
        first, second = value["tag"], value["narrows"]
        self.known(first, tags, (*key, "tag"))
        self.known(second, tags, (*key, "narrows"))
        names = next([tag.name for tag in task.tags] for task in tasks if tags[first] in task.tags)
        if second not in names or names.index(second) <= names.index(first):
            raise self.fail((*key, "narrows"), f"{second!r}", f"a tag that follows {first!r} in the same task")
        to = self.mapping(value["to"], (*key, "to"))
        for category, names in to.items():
            self.known(category, tags[first].categories, (*key, "to", category))
            for index, name in enumerate(self.sequence(names, (*key, "to", category), "categories")):
                self.known(name, tags[second].categories, (*key, "to", category, index))
        return Narrowing(first, second, tuple((category, tuple(names)) for category, names in to.items()))

    def stitch(self, value: Any, tags: dict[str, Tag]) -> StitchRoles:
        """The value of ``stitch``; ``tags`` are all tags by name."""
        described, phases = ("target", "direction", "extent", "proficiency"), ("handling", "driving", "withdrawal")
        self.mapping(value, ("stitch",), ("phase", *phases, *described, "high"), ("phase", "driving"))
        for name in ("phase", *described):
            if name in value:
                self.known(value[name], tags, ("stitch", name))
        found: dict[str, tuple[str, ...]] = {}
        for name in (*phases, "high"):
            if name not in value:
                continue
            of_tag = value.get("proficiency") if name == "high" else value["phase"]
            if of_tag is None:
                raise self.fail(("stitch", name), f"{value[name]!r}", "the tag of these categories under 'proficiency'")
            categories = self.sequence(value[name], ("stitch", name), "categories")
            for index, category in enumerate(categories):
                self.known(category, tags[of_tag].categories, ("stitch", name, index))
                taken = next((other for other in phases if other != name and category in found.get(other, ())), None)
                if name != "high" and taken:
                    raise self.fail(("stitch", name, index), f"{category!r}, which is {taken!r}", "one phase each")
            found[name] = tuple(categories)
        tag_of: dict[str, str] = {name: value[name] for name in described if name in value}
        return StitchRoles(
            value["phase"],
            found["driving"],
            found.get("handling", ()),
            found.get("withdrawal", ()),
            high=found.get("high", ()),
            **tag_of,
        )

    def aliases(self, value: Any, tasks: tuple[Task, ...]) -> tuple[Aliases, Aliases]:
        """(aliases of tags, aliases of categories) from the value of ``aliases``."""
        by_task = {task.name: task for task in tasks}
        tag_aliases: Aliases = {}
        category_aliases: Aliases = {}
        for task_name, entry in self.mapping(value, ("aliases",), tuple(by_task)).items():
            key = ("aliases", task_name)
            self.mapping(entry, key, ("tags", "categories"))
            tags = {tag.name: tag for tag in by_task[task_name].tags}
            for alias, name in self.mapping(entry.get("tags") or {}, (*key, "tags")).items():
                self.known(name, tags, (*key, "tags", alias))
                tag_aliases.setdefault(task_name, {})[fold(str(alias))] = name
            for tag_name, names in self.mapping(entry.get("categories") or {}, (*key, "categories")).items():
                self.known(tag_name, tags, (*key, "categories", tag_name))
                for alias, name in self.mapping(names, (*key, "categories", tag_name)).items():
                    at = (*key, "categories", tag_name, alias)
                    self.known(name, tags[tag_name].categories, at)
                    if fold(str(alias)) in {fold(own) for own in tags[tag_name].categories if own != name}:
                        raise self.fail(at, f"an alias {alias!r} that is another category", "a name of no category")
                    category_aliases.setdefault(tag_name, {})[fold(str(alias))] = name
        return tag_aliases, category_aliases

    def known(self, name: Any, names: Collection[str], key: Key) -> None:
        """Checks that ``name`` is one of ``names``."""
        if not isinstance(name, str) or name not in names:
            raise self.fail(key, f"{name!r}", f"a name of this taxonomy; {nearest(str(name), names)}")
