"""A taxonomy file, checked against its form, becomes a Taxonomy. A message names file, line, key, got, expected."""

from __future__ import annotations

from importlib import resources
from typing import Any

import fsspec
import yaml

from halsted_ray.errors import TaxonomyError
from halsted_ray.taxonomy.names import Narrowing, Tag, Task, Taxonomy, fold, nearest

SHIPPED = ("halsted", "sar_rarp50", "cholec80", "surglavi")
WINDOWS = ("coarse", "fine")


def load(name_or_path: str = "halsted") -> Taxonomy:
    """A shipped taxonomy by name, or one from a YAML file (a path or any fsspec URI) of the same form.

    Raises TaxonomyError when there is no such name or file, or the file breaks the form.
    """
    if name_or_path in SHIPPED:
        text = resources.files("halsted_ray.taxonomy").joinpath(f"{name_or_path}.yaml").read_text("utf-8")
        return from_yaml(text, f"{name_or_path}.yaml")
    if not name_or_path.endswith((".yaml", ".yml")):
        raise TaxonomyError(
            f"no taxonomy {name_or_path!r}; {nearest(name_or_path, SHIPPED)} (or give a path that ends in .yaml)"
        )
    try:
        with fsspec.open(name_or_path, "rt", encoding="utf-8") as file:
            text = file.read()
    except OSError as error:
        raise TaxonomyError(f"taxonomy file {name_or_path!r} can't be read: {error}; give an existing file") from error
    except UnicodeDecodeError as error:
        raise TaxonomyError(f"taxonomy file {name_or_path!r} is not UTF-8 text: {error}; save it as UTF-8") from error
    return from_yaml(text, name_or_path)


def from_yaml(text: str, origin: str) -> Taxonomy:
    """``text`` of a YAML file; ``origin`` is how messages name it."""
    try:
        root = yaml.compose(text, Loader=yaml.SafeLoader)
    except yaml.YAMLError as error:
        raise TaxonomyError(f"{origin}: not well-formed YAML: {error}") from error
    lines: dict[tuple, int] = {}
    if root is not None:
        _note_lines(root, (), lines, origin)
    return _Reader(origin, lines).taxonomy(yaml.safe_load(text))


def from_dict(data: dict, origin: str = "taxonomy") -> Taxonomy:
    """A taxonomy from its file's form as Python values (``Taxonomy.to_dict``), checked in the same way."""
    return _Reader(origin, {}).taxonomy(data)


def _note_lines(node: yaml.Node, key: tuple, lines: dict[tuple, int], origin: str) -> None:
    lines[key] = node.start_mark.line + 1
    if isinstance(node, yaml.MappingNode):
        seen = set()
        for name, value in node.value:
            line = name.start_mark.line + 1
            if name.value in seen:  # YAML itself keeps the last one without a word
                raise TaxonomyError(f"{origin}:{line}: key {name.value!r} stands twice; keep one of them")
            seen.add(name.value)
            _note_lines(value, (*key, name.value), lines, origin)
            lines[*key, name.value] = line
    elif isinstance(node, yaml.SequenceNode):
        for index, value in enumerate(node.value):
            _note_lines(value, (*key, index), lines, origin)


class _Reader:
    """Checks values by key; remembers where the keys stand in the file."""

    def __init__(self, origin: str, lines: dict[tuple, int]):
        self.origin, self.lines = origin, lines

    def fail(self, key: tuple, got: str, expected: str) -> TaxonomyError:
        near = next((self.lines[key[:n]] for n in range(len(key), -1, -1) if key[:n] in self.lines), None)
        where = self.origin if near is None else f"{self.origin}:{near}"
        name = ".".join(str(part) for part in key) or "the file"
        return TaxonomyError(f"{where}: {name}: got {got}; expected {expected}")

    def mapping(self, value: Any, key: tuple, known: tuple[str, ...] = (), needed: tuple[str, ...] = ()) -> dict:
        if not isinstance(value, dict):
            raise self.fail(key, f"{value!r}", "a mapping" + (f" with {', '.join(needed)}" if needed else ""))
        for name in value:
            if known and name not in known:
                raise self.fail((*key, name), f"an unknown key {name!r}", nearest(str(name), known))
        for name in needed:
            if name not in value:
                raise self.fail(key, f"no {name!r}", f"the keys {', '.join(needed)}")
        return value

    def sequence(self, value: Any, key: tuple, of: str) -> list:
        if not isinstance(value, list) or not value:
            raise self.fail(key, f"{value!r}", f"a list of {of}, at least one")
        return value

    def text(self, value: Any, key: tuple) -> str:
        if not isinstance(value, str) or not value.strip():
            raise self.fail(key, f"{value!r}", "a text (put quotes around words that YAML reads otherwise, like No)")
        if "<" in value or ">" in value:  # would be read as the tag's end in a generated text
            raise self.fail(key, f"{value!r}", "a text without '<' and '>'")
        return value

    def distinct(self, names: list[str], key: tuple, what: str) -> None:
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
        self.mapping(data, (), ("name", "source", "tasks", "narrows", "aliases"), ("name", "tasks"))
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
            for index, value in enumerate(data.get("narrows") or ())
        )
        tag_aliases, category_aliases = self.aliases(data.get("aliases") or {}, tasks)
        return Taxonomy(
            self.text(data["name"], ("name",)),
            tasks,
            narrowings,
            tag_aliases,
            category_aliases,
            data.get("source") or "",
        )

    def task(self, value: Any, key: tuple) -> Task:
        needed = ("name", "instruction", "window", "tags")
        self.mapping(value, key, (*needed, "title", "when"), needed)
        name = self.text(value["name"], (*key, "name"))
        window = value["window"]
        if window not in WINDOWS:
            raise self.fail((*key, "window"), f"{window!r}", " or ".join(WINDOWS))
        when = self.mapping(value.get("when") or {}, (*key, "when"))
        pairs = tuple((str(tag), self.text(category, (*key, "when", tag))) for tag, category in when.items())
        tags = []
        for index, entry in enumerate(self.sequence(value["tags"], (*key, "tags"), "tags")):
            at = (*key, "tags", index)
            self.mapping(entry, at, ("name", "categories"), ("name", "categories"))
            names = self.sequence(entry["categories"], (*at, "categories"), "categories")
            names = [self.text(category, (*at, "categories", i)) for i, category in enumerate(names)]
            self.distinct(names, (*at, "categories"), "categories")
            tags.append(Tag(self.text(entry["name"], (*at, "name")), tuple(names)))
        instruction = self.text(value["instruction"], (*key, "instruction"))
        return Task(name, value.get("title") or name.capitalize(), instruction, window, pairs, tuple(tags))

    def narrowing(self, value: Any, key: tuple, tasks: tuple[Task, ...], tags: dict[str, Tag]) -> Narrowing:
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

    def aliases(self, value: Any, tasks: tuple[Task, ...]) -> tuple[dict, dict]:
        by_task = {task.name: task for task in tasks}
        tag_aliases: dict[str, dict[str, str]] = {}
        category_aliases: dict[str, dict[str, str]] = {}
        for task_name, entry in self.mapping(value, ("aliases",), tuple(by_task)).items():
            key = ("aliases", task_name)
            self.mapping(entry, key, ("tags", "categories"))
            tags = {tag.name: tag for tag in by_task[task_name].tags}
            for alias, name in (entry.get("tags") or {}).items():
                self.known(name, tags, (*key, "tags", alias))
                tag_aliases.setdefault(task_name, {})[fold(str(alias))] = name
            for tag_name, names in (entry.get("categories") or {}).items():
                self.known(tag_name, tags, (*key, "categories", tag_name))
                for alias, name in self.mapping(names, (*key, "categories", tag_name)).items():
                    self.known(name, tags[tag_name].categories, (*key, "categories", tag_name, alias))
                    category_aliases.setdefault(tag_name, {})[fold(str(alias))] = name
        return tag_aliases, category_aliases

    def known(self, name: Any, names: Any, key: tuple) -> None:
        if name not in names:
            raise self.fail(key, f"{name!r}", f"a name of this taxonomy; {nearest(str(name), names)}")
