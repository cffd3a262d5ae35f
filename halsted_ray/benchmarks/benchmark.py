"""A benchmark as data: one YAML file each in ``known/``. A further benchmark of a known layout is one more file."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cache
from importlib import resources
from typing import Any

import yaml

from halsted_ray.atlas.formats.published_splits import Split, published_split, split_of_numbers
from halsted_ray.errors import UsageError, first_line
from halsted_ray.language.prompts import strings
from halsted_ray.storage.files import read_file
from halsted_ray.storage.locations import filesystem

METRICS = {
    "accuracy-f1": ("accuracy", "f1"),
    "map": ("map",),
    "map-per-video": ("map",),
}
"""Metric → the figures that its rows have."""
FROM_DATA = "data set"
"""Stands for labels that the data set's own files name."""


@dataclass(frozen=True)
class Published:
    """A row that others published. ``figures``: figure → percent, as printed there."""

    model: str
    figures: Mapping[str, float]
    source: str


@dataclass(frozen=True)
class Benchmark:
    """What ``known/NAME.yaml`` says.

    ``layout``: one of ``published_files.LAYOUTS``. ``target``: what of it is judged. ``within``: a part of the data
    set, '' for all. ``labels``: label → sentences without templates; empty where the data set's own files name them.
    ``parts``: part of the split → names of videos; empty where the data set's own files say it, or where it is
    ``unknown``, which says why and what to do. ``rest``: the part of all videos that ``parts`` does not name, '' for
    none. ``recordings``: finds the number of the operation in the path of a video (group 1), among the recordings of
    ``recordings_of``. ``vocabulary``: the taxonomy that ships with the labels, and the tag (``grasp/phase``); '' where
    none does.
    """

    name: str
    title: str
    layout: str
    target: str
    metric: str
    parts: Mapping[str, tuple[str, ...]]
    split_source: str
    recordings: str
    recordings_of: str
    published: tuple[Published, ...]
    published_source: str
    """In short, as a table has it."""
    published_where: str
    """In full."""
    within: str = ""
    unknown: str = ""
    rest: str = ""
    vocabulary: str = ""
    labels: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    templates: tuple[str, ...] = ("{}",)
    protocol: tuple[str, ...] = ()
    segments: bool = False
    """Whether the score of segments (SAR-RARP50) is computed too."""

    @property
    def is_multi_label(self) -> bool:
        """Whether a frame may have several labels, or none."""
        return self.metric != "accuracy-f1"

    def recording(self, path: str) -> str:
        """``cholec80 41`` for a path that is named as a video of the data set's operation 41; '' for others."""
        found = re.search(self.recordings, path)
        return f"{self.recordings_of} {found[1]}" if found else ""

    def sentences(self, labels: Mapping[str, tuple[str, ...]]) -> dict[str, tuple[str, ...]]:
        """Label → its sentences in each template."""
        return {
            label: tuple(template.replace("{}", text) for text in own for template in self.templates)
            for label, own in labels.items()
        }


@cache
def known() -> dict[str, Benchmark]:
    """Name → benchmark, in the order of names: every file in ``known/``."""
    folder = resources.files("halsted_ray.benchmarks") / "known"
    files = sorted((file for file in folder.iterdir() if file.name.endswith(".yaml")), key=lambda file: file.name)
    found = [benchmark_of(yaml.safe_load(file.read_text(encoding="utf-8")), file.name) for file in files]
    return {benchmark.name: benchmark for benchmark in found}


def benchmark(name: str) -> Benchmark:
    """The benchmark of this name. Raises UsageError that names all."""
    if name not in known():
        raise UsageError(f"no benchmark {name!r}; expected one of {', '.join(known())}")
    return known()[name]


def benchmark_of(said: Any, place: str) -> Benchmark:
    """The content of a file as a ``Benchmark``. Raises UsageError for a wrong or missing key.

    Any: whatever YAML gives."""
    try:
        split, published = said["split"], said["published"]
        parts, split_source = published_split(split["published"]) if "published" in split else own_split(split)
        labels = said["labels"]
        if said["metric"] not in METRICS:
            raise UsageError(f"{place}: metric {said['metric']!r}; expected one of {', '.join(METRICS)}")
        figures = METRICS[said["metric"]]
        rows = tuple(
            Published(str(model), {name: float(own[name]) for name in figures}, published["source"])
            for model, own in published["rows"].items()
        )
        return Benchmark(
            name=said["name"],
            title=said["title"],
            layout=said["layout"],
            target=said["target"],
            metric=said["metric"],
            parts=parts,
            split_source=split_source,
            recordings=re.compile(said["recordings"]).pattern,
            recordings_of=said.get("recordings_of", said["layout"]),
            published=rows,
            published_source=published["source"],
            published_where=published["where"],
            within=said.get("within", ""),
            unknown=split.get("unknown", ""),
            rest=split.get("rest", ""),
            vocabulary=said.get("vocabulary", ""),
            labels={} if labels == FROM_DATA else label_sentences(labels, place),
            templates=tuple(said.get("templates", ["{}"])),
            protocol=tuple(said.get("protocol", [])),
            segments=said.get("segments", False),
        )
    except (KeyError, TypeError, AttributeError, re.error) as error:
        raise UsageError(
            f"{place}: {type(error).__name__} {first_line(error)}; expected the keys of the other files in known/"
        ) from error


def own_split(said: Mapping[str, Any]) -> tuple[Split, str]:
    """(parts, source) of a split that the benchmark's own file states. Any: of YAML."""
    return split_of_numbers(said), said["source"]


def label_sentences(labels: object, place: str) -> dict[str, tuple[str, ...]]:
    """Label → sentences, of a mapping whose values are a sentence or a list of sentences. Raises UsageError."""
    if not isinstance(labels, dict) or len(labels) < 2:
        raise UsageError(f"{place}: expected labels, two or more, each with a sentence or a list of sentences")
    return {str(label): tuple(strings(own, f"label {label!r}", place)) for label, own in labels.items()}


def read_sentences(location: str, labels: tuple[str, ...]) -> dict[str, tuple[str, ...]]:
    """The user's own sentences, a YAML file ``labels: {label: [sentence]}``. Raises UsageError where it can't be read,
    or names other labels than ``labels``."""
    fs, path = filesystem(location)
    try:
        said = yaml.safe_load(read_file(fs, path))
    except (OSError, yaml.YAMLError, UnicodeDecodeError, RecursionError) as error:
        raise UsageError(f"labels {location!r} can't be read: {first_line(error)}; name a YAML file") from error
    found = label_sentences(said.get("labels") if isinstance(said, dict) else None, f"labels {location!r}")
    if set(found) != set(labels):
        wrong = sorted(set(found) ^ set(labels))[0]
        raise UsageError(
            f"labels {location!r}: {wrong!r} is {'missing' if wrong in labels else 'no label of this benchmark'}; "
            f"expected {', '.join(labels[:10])}{'…' if len(labels) > 10 else ''}"
        )
    return {label: found[label] for label in labels}
