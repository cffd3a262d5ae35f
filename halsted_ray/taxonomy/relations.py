"""How the categories of one taxonomy read in another: equal, part of, or related; who says so, and why.

    equal     both mean the same: a row reads in either vocabulary
    part of   whatever is the first is the second too: a row reads in the second vocabulary, not back
    related   worth looking at for a person; no row is translated by it

A file names both taxonomies, and says of each category of the first what it is in the second, or that it has no
counterpart. It is checked as a whole: unknown names, and statements that contradict each other, are errors.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from importlib import resources
from typing import Any

import yaml

from halsted_ray.errors import TaxonomyError, UsageError, VideoError
from halsted_ray.storage.files import read_bytes
from halsted_ray.taxonomy.names import Tag, Taxonomy, nearest
from halsted_ray.taxonomy.parsing import load

EQUAL, PART_OF, RELATED = "equal", "part of", "related"
KINDS = (EQUAL, PART_OF, RELATED)
SHIPPED = (
    "cholec80_halsted",
    "sar_rarp50_halsted",
    "bsa_halsted",
    "autolaparo_halsted",
    "cholect50_halsted",
    "grasp_halsted",
    "multibypass140_halsted",
)
LARGEST_BYTES = 1_000_000
Category = tuple[str, str]
"""(tag, category)."""


@dataclass(frozen=True)
class Relation:
    """``source`` of the first taxonomy is ``kind`` (KINDS) of ``target`` of the second; ``why``: for people."""

    source: Category
    kind: str
    target: Category
    why: str


@dataclass(frozen=True)
class Relations:
    """A checked file of relations from ``first`` to ``second``."""

    first: Taxonomy
    second: Taxonomy
    version: int
    author: str
    relations: tuple[Relation, ...]
    no_counterpart: Mapping[Category, str]

    def of(self, tag: str, category: str) -> list[Relation]:
        """What the first taxonomy's category is in the second. Raises TaxonomyError for a category that is none."""
        _known(self.first, (tag, category), "relations")
        return [relation for relation in self.relations if relation.source == (tag, category)]

    def reading(self, of: Taxonomy) -> dict[Category, dict[str, str]]:
        """(tag, category) of the taxonomy ``of``, one of the two → tag → category of the other, where a row of the one
        is a row of the other. Raises TaxonomyError for a third taxonomy."""
        found: dict[Category, dict[str, str]] = {}
        if of.digest == self.first.digest:
            for relation in self.relations:
                if relation.kind in (EQUAL, PART_OF):
                    found.setdefault(relation.source, {})[relation.target[0]] = relation.target[1]
            return found
        if of.digest == self.second.digest:
            for relation in self.relations:
                if relation.kind == EQUAL:
                    found.setdefault(relation.target, {})[relation.source[0]] = relation.source[1]
            return found
        raise TaxonomyError(
            f"the relations lead from {self.first.name!r} {self.first.digest} to {self.second.name!r} "
            f"{self.second.digest}; got rows of {of.name!r} {of.digest}"
        )


def load_relations(name_or_path: str, taxonomies: Iterable[Taxonomy] = ()) -> Relations:
    """The shipped relations of this name, such as ``cholec80_halsted``, or those in a YAML file.

    ``taxonomies``: those that a file may name beside the shipped ones. Raises TaxonomyError.
    """
    if name_or_path in SHIPPED:
        text = resources.files("halsted_ray.taxonomy").joinpath(f"related/{name_or_path}.yaml").read_text("utf-8")
        return relations_from_yaml(text, f"{name_or_path}.yaml", taxonomies)
    if not name_or_path.endswith((".yaml", ".yml")):
        raise TaxonomyError(
            f"no relations {name_or_path!r}; {nearest(name_or_path, SHIPPED)} (or give a path that ends in .yaml)"
        )
    try:
        text = read_bytes(name_or_path).decode()
    except UnicodeDecodeError as error:
        raise TaxonomyError(f"relations {name_or_path!r} are not UTF-8 text: {error}; save them as UTF-8") from error
    except (OSError, UsageError, VideoError) as error:
        raise TaxonomyError(f"relations {name_or_path!r} can't be read: {error}; give an existing file") from error
    return relations_from_yaml(text, name_or_path, taxonomies)


def relations_between(one: Taxonomy, other: Taxonomy) -> Relations:
    """The shipped relations between two taxonomies, in either direction. Raises TaxonomyError where none ship."""
    for name in SHIPPED:
        found = load_relations(name)
        if {found.first.digest, found.second.digest} == {one.digest, other.digest}:
            return found
    raise TaxonomyError(
        f"no relations between {one.name!r} {one.digest} and {other.name!r} {other.digest} ship with this package; "
        f"give a file of them (shipped: {', '.join(SHIPPED)})"
    )


def relations_from_yaml(text: str, origin: str, taxonomies: Iterable[Taxonomy] = ()) -> Relations:
    """The relations in the ``text`` of a YAML file, which messages call ``origin``. Raises TaxonomyError."""
    if len(text) > LARGEST_BYTES:
        raise TaxonomyError(f"{origin}: {len(text):,} characters; expected a file of at most {LARGEST_BYTES:,}")
    try:
        if any(isinstance(token, yaml.AliasToken) for token in yaml.scan(text)):
            raise TaxonomyError(f"{origin}: a YAML alias; write the names out")
        data = yaml.safe_load(text)
    except (yaml.YAMLError, RecursionError) as error:
        raise TaxonomyError(f"{origin}: not well-formed YAML: {error}") from error
    needed = ("from", "to", "version", "author", "relations")
    if not isinstance(data, dict) or any(name not in data for name in needed):
        raise TaxonomyError(f"{origin}: expected a mapping with {', '.join(needed)} (and no_counterpart)")
    if unknown := sorted(set(map(str, data)) - {*needed, "no_counterpart"}):
        raise TaxonomyError(f"{origin}: an unknown key {unknown[0]!r}; {nearest(unknown[0], needed)}")
    if not isinstance(data["version"], int) or not isinstance(data["author"], str) or not data["author"].strip():
        raise TaxonomyError(f"{origin}: expected a whole number as version, and as author who says so")
    given = {taxonomy.name: taxonomy for taxonomy in taxonomies}
    first, second = (given.get(str(data[key])) or load(str(data[key])) for key in ("from", "to"))
    relations = []
    for entry, where in _entries(data["relations"], f"{origin}: relations", ("from", "relation", "to", "why")):
        if entry["relation"] not in KINDS:
            raise TaxonomyError(f"{where}: relation {entry['relation']!r}; expected one of {', '.join(KINDS)}")
        for source in _categories(entry["from"], first, where):
            for target in _categories(entry["to"], second, where):
                relations.append(Relation(source, entry["relation"], target, entry["why"]))
    without: dict[Category, str] = {}
    for entry, where in _entries(data.get("no_counterpart") or [], f"{origin}: no_counterpart", ("from", "why")):
        without |= {source: entry["why"] for source in _categories(entry["from"], first, where)}
    found = Relations(first, second, data["version"], data["author"], tuple(relations), without)
    for problem in contradictions(found):
        raise TaxonomyError(f"{origin}: {problem}")
    return found


def contradictions(relations: Relations) -> Iterator[str]:
    """What can't be true together, and what nothing is said of."""
    kind_of: dict[tuple[Category, Category], str] = {}
    for relation in relations.relations:
        before = kind_of.setdefault((relation.source, relation.target), relation.kind)
        if before != relation.kind:
            yield (
                f"{_said(relation.source)} is {before!r} and {relation.kind!r} of {_said(relation.target)}; keep one "
                "of them"
            )
    holds: dict[tuple[Category, str], set[str]] = {}
    equals: dict[tuple[Category, str], set[str]] = {}
    for relation in relations.relations:
        if relation.kind in (EQUAL, PART_OF):
            holds.setdefault((relation.source, relation.target[0]), set()).add(relation.target[1])
        if relation.kind == EQUAL:
            equals.setdefault((relation.target, relation.source[0]), set()).add(relation.source[1])
    for what, table in (("equal to or part of", holds), ("equal to", equals)):
        for (category, tag), others in table.items():
            if len(others) > 1:
                yield (
                    f"{_said(category)} is {what} {' and '.join(map(repr, sorted(others)))} of {tag!r}, which exclude "
                    "each other; keep one of them, or call the others related"
                )
    for source in {relation.source for relation in relations.relations}:
        chosen = {tag: next(iter(others)) for (of, tag), others in holds.items() if of == source and len(others) == 1}
        for name, chosen_one in chosen.items():
            if chosen_one not in relations.second.allowed(name, {k: v for k, v in chosen.items() if k != name}):
                yield (
                    f"{_said(source)} is part of {_said((name, chosen_one))}, which its other relations rule out: "
                    f"{chosen}"
                )
    for without in relations.no_counterpart:
        if any(relation.source == without for relation in relations.relations):
            yield f"{_said(without)} has a relation, and is said to have no counterpart; keep one of them"
    told = {relation.source for relation in relations.relations} | set(relations.no_counterpart)
    for own in relations.first.tags:
        for name in own.categories:
            if (own.name, name) not in told:
                yield f"nothing is said of {_said((own.name, name))}; relate it, or list it under no_counterpart"


def _entries(value: Any, where: str, needed: tuple[str, ...]) -> Iterator[tuple[dict[str, Any], str]]:
    if not isinstance(value, list):
        raise TaxonomyError(f"{where}: got {type(value).__name__}; expected a list")
    for number, entry in enumerate(value, 1):
        at = f"{where}, entry {number}"
        if not isinstance(entry, dict) or set(entry) != set(needed):
            raise TaxonomyError(f"{at}: expected a mapping with {', '.join(needed)}")
        if not isinstance(entry["why"], str) or not entry["why"].strip():
            raise TaxonomyError(f"{at}: expected a reason under why")
        yield entry, at


def _categories(value: Any, taxonomy: Taxonomy, where: str) -> Iterator[Category]:
    """The categories of a mapping tag: category, or tag: [categories]."""
    if not isinstance(value, dict) or not value:
        raise TaxonomyError(f"{where}: got {value!r}; expected a mapping such as {{phase: Driving}}")
    for tag, names in value.items():
        for name in names if isinstance(names, list) else [names]:
            _known(taxonomy, (str(tag), str(name)), where)
            yield str(tag), str(name)


def _known(taxonomy: Taxonomy, category: Category, where: str) -> Tag:
    try:
        tag = taxonomy.tag(category[0])
    except TaxonomyError as error:
        raise TaxonomyError(f"{where}: {error}") from error
    if category[1] not in tag.categories:
        raise TaxonomyError(
            f"{where}: taxonomy {taxonomy.name!r} has no category {category[1]!r} of {category[0]!r}; "
            f"{nearest(category[1], tag.categories)}"
        )
    return tag


def _said(category: Category) -> str:
    return f"{category[0]} {category[1]!r}"
