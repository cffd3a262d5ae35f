"""The splits of data sets whose authors number the videos: ``published_splits.yaml``."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from functools import cache
from importlib import resources
from typing import Any

import yaml

Split = Mapping[str, tuple[str, ...]]
"""Part → names of its videos."""
PARTS = ("train", "validation", "test")


@cache
def published_split(name: str) -> tuple[Split, str]:
    """(the split of a data set whose authors number its videos, its source), from ``published_splits.yaml``."""
    text = (resources.files("halsted_ray.atlas.formats") / "published_splits.yaml").read_text(encoding="utf-8")
    said = yaml.safe_load(text)[name]
    return split_of_numbers(said), said["source"]


def split_of_numbers(said: Mapping[str, Any]) -> Split:
    """Part → names, of a mapping ``names`` (a form) and ``train``, ``validation``, ``test`` (numbers). Any: of YAML."""
    return {part: numbered_names(said["names"], said[part]) for part in PARTS if part in said}


def numbered_names(form: str, numbers: Iterable[int | str]) -> tuple[str, ...]:
    """``("video{:02d}", ["1-2", 5])`` → ``("video01", "video02", "video05")``."""

    def each() -> Iterator[str]:
        for own in numbers:
            first, _, last = str(own).partition("-")
            yield from (form.format(number) for number in range(int(first), int(last or first) + 1))

    return tuple(each())


def part_in(split: Split, name: str) -> str:
    """The part of a video; '' for one that the split does not name."""
    return next((part for part, names in split.items() if name in names), "")
