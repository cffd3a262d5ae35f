"""A file of labels and the sentences that describe them, for recognition without training.

    tag: action                          # a tag of the atlas's taxonomy
    multi_label: false                   # true: a clip may have several labels ("Cadiere Forceps–Bipolar Grasper")
    templates: ["{}", "The video shows this: {}"]    # each sentence in each template; optional
    labels:
      Clip: [a clip is placed, the vessel is clipped]
      Retraction: the organ is held aside

YAML or JSON. A label's vector is the mean of those of its sentences (an ensemble of prompts, Radford et al. 2021).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import yaml

from halsted_ray.errors import UsageError, first_line
from halsted_ray.language.contrast_model import VideoTextModel
from halsted_ray.language.text_encoder import TextEncoder
from halsted_ray.storage.files import read_file
from halsted_ray.storage.locations import filesystem
from halsted_ray.taxonomy import Taxonomy

EXPECTED = "tag: a tag's name, and labels: a category to one sentence or a list of sentences"
JOINED = "–"
"""Joins categories that occur together, as the paper's taxonomy writes them."""
LONGEST_BYTES = 4_000_000


@dataclass(frozen=True)
class LabelPrompts:
    """``sentences``: label → the sentences that describe it, with the templates filled in. ``task`` and ``tag``: where
    the truth stands in an atlas."""

    task: str
    tag: str
    sentences: dict[str, tuple[str, ...]]
    is_multi_label: bool = False

    @property
    def labels(self) -> tuple[str, ...]:
        """The labels, in the file's order."""
        return tuple(self.sentences)

    def vectors(self, model: VideoTextModel, texts: TextEncoder) -> np.ndarray:
        """float32 [K, dim], of unit length: one row per label. Raises ModelError where the text encoder is not the
        model's."""
        model.check(text_fingerprint=texts.fingerprint)
        every = [sentence for own in self.sentences.values() for sentence in own]
        found_SD = model.embed_text(texts.encode(every))
        cuts = np.cumsum([len(own) for own in self.sentences.values()])[:-1]
        means_KD = np.stack([own.mean(0) for own in np.split(found_SD, cuts)])
        unit_KD: np.ndarray = means_KD / np.maximum(np.linalg.norm(means_KD, axis=1, keepdims=True), 1e-9)
        return unit_KD


def read_prompts(location: str, taxonomy: Taxonomy) -> LabelPrompts:
    """Reads the file at ``location``. Raises UsageError for a file that breaks the layout, TaxonomyError for a tag or
    label that ``taxonomy`` does not have."""
    fs, path = filesystem(location)
    try:
        data = read_file(fs, path)
    except OSError as error:
        raise UsageError(f"labels {location!r} can't be read: {first_line(error)}; name a YAML file") from error
    if len(data) > LONGEST_BYTES:
        raise UsageError(f"labels {location!r} has {len(data):,} bytes; expected {LONGEST_BYTES:,} at most")
    try:
        said = yaml.safe_load(data)
    except (yaml.YAMLError, UnicodeDecodeError, RecursionError) as error:
        raise UsageError(f"labels {location!r} is not YAML: {first_line(error)}; expected {EXPECTED}") from error
    if said is None or (isinstance(said, dict) and not said.get("labels")):
        raise UsageError(f"labels {location!r} names no label; expected {EXPECTED}")
    if not isinstance(said, dict) or not isinstance(said["labels"], dict) or not isinstance(said.get("tag"), str):
        raise UsageError(f"labels {location!r} has another layout; expected {EXPECTED}")
    return prompts_of(said, location, taxonomy)


def prompts_of(said: dict[str, object], location: str, taxonomy: Taxonomy) -> LabelPrompts:
    """The content of a file as ``LabelPrompts``. Raises as ``read_prompts``."""
    tag, is_multi_label = str(said["tag"]), said.get("multi_label", False) is True
    task = taxonomy.task_of_tag(tag).name
    templates = strings(said.get("templates", ["{}"]), "templates", location)
    if wrong := [template for template in templates if template.count("{}") != 1]:
        raise UsageError(f"labels {location!r}: template {wrong[0]!r}; expected one {{}} where the sentence goes")
    known = next(own.categories for own in taxonomy.task(task).tags if own.name == tag)
    parts = {part for category in known for part in category.split(JOINED)}
    labels = said["labels"]
    assert isinstance(labels, dict)
    sentences = {}
    for label, own in labels.items():
        if is_multi_label and str(label) in parts:
            name = str(label)
        else:
            _, name = taxonomy.canonical(task, tag, str(label))
        found = strings(own, f"label {label!r}", location)
        sentences[name] = tuple(template.replace("{}", text) for text in found for template in templates)
    if len(sentences) < 2:
        raise UsageError(f"labels {location!r} names one label; expected two or more to choose from")
    return LabelPrompts(task, tag, sentences, is_multi_label)


def strings(value: object, what: str, location: str) -> list[str]:
    """One sentence or a list of sentences. Raises UsageError for anything else, and where there is none."""
    found = [value] if isinstance(value, str) else value
    if not isinstance(found, list) or not found or not all(isinstance(one, str) and one.strip() for one in found):
        raise UsageError(f"labels {location!r}, {what}: got {value!r}; expected a sentence or a list of sentences")
    return [str(one) for one in found]
