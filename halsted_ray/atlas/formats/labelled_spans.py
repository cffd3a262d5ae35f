"""What a label of an annotation program means, and how labels of the same span become one sample.

Annotation programs know controls (lanes, tiers, attributes) and labels. A control that is named after a tag gives the
tag. Otherwise the label decides, if it is a category of only one tag. Labels with the same span, task, annotator and
caption are one sample.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from difflib import get_close_matches
from typing import NamedTuple

from halsted_ray.atlas.formats.recording import Recording, format_error, origin
from halsted_ray.errors import TaxonomyError
from halsted_ray.records import Clip
from halsted_ray.taxonomy import Taxonomy
from halsted_ray.taxonomy.names import fold


class Meaning(NamedTuple):
    """What a label says."""

    task: str
    tag: str
    category: str


Operation = tuple[str, str]
"""(specialty, procedure), '' for those that are not known."""


class SpanKey(NamedTuple):
    """What the labels of one sample share. ``start`` and ``stop``: half-open, in the unit of the recording."""

    start: float
    stop: float
    task: str
    source: str
    annotator: str
    caption: str


@dataclass
class SpanTags:
    """The tags of one sample, the lowest confidence of its labels, and the place of the first of them."""

    confidence: float
    where: int | str
    tags: dict[str, str] = field(default_factory=dict)


@dataclass
class LabelledSpans:
    """The labels of one recording, while its file is read."""

    file: str
    spans: dict[SpanKey, SpanTags] = field(default_factory=dict)

    def add(self, key: SpanKey, said: Meaning, confidence: float, where: int | str) -> None:
        """Adds one label. Raises AtlasError where the span is empty or already has another category of this tag."""
        if not 0 <= key.start < key.stop:
            raise format_error(self.file, where, (key.start, key.stop), "0 <= start < end", "no-span")
        if not 0 <= confidence <= 1:
            raise format_error(self.file, where, confidence, "a confidence of 0 to 1")
        sample = self.spans.setdefault(key, SpanTags(confidence, where))
        if sample.tags.get(said.tag, said.category) != said.category:
            expected = f"one {said.tag} per span; it is {sample.tags[said.tag]!r} too"
            raise format_error(self.file, where, said.category, expected, "contradiction")
        sample.tags[said.tag] = said.category
        sample.confidence = min(sample.confidence, confidence)

    def recording(
        self, at: str, operation: Operation, rate: float | None = 1.0, uri: str = "", video_id: str = ""
    ) -> Recording:
        """Returns the Recording of the samples. ``at``: its origin; ``operation``: the specialty and procedure."""
        clips = tuple(
            Clip(
                "",
                key.start,
                key.stop,
                key.task,
                sample.tags,
                key.source,
                key.annotator,
                sample.confidence,
                *operation,
                key.caption,
            )
            for key, sample in self.spans.items()
        )
        origins = tuple(origin(self.file, sample.where) for sample in self.spans.values())
        return Recording(clips, at, uri, video_id, rate=rate, origins=origins)


def tag_named(control: str, taxonomy: Taxonomy) -> str:
    """Returns the tag that a control is named after, in any spelling; '' for none."""
    return next((tag.name for tag in taxonomy.tags if fold(tag.name) == fold(control)), "")


def meaning(control: str, label: str, file: str, where: int | str, taxonomy: Taxonomy) -> Meaning:
    """Returns what a label says. ``where``: the label's place in ``file``, for messages.

    Raises AtlasError (code ``unknown-label``) where the label is a category of no tag or of several.
    """
    named = tag_named(control, taxonomy)
    names = [named] if named else [tag.name for tag in taxonomy.tags]
    found, last = [], ""
    for name in names:
        task = taxonomy.task_of_tag(name)
        try:
            found.append(Meaning(task.name, *taxonomy.canonical(task, name, label)))
        except TaxonomyError as error:
            last = str(error)
    if len(found) == 1:
        return found[0]
    if found:
        several = ", ".join(said.tag for said in found)
        expected = f"a control named after its tag, since {several} all have this category"
    else:
        expected = f"a category of {named}: {last}" if named else _of_any_tag(label, taxonomy)
    raise format_error(file, where, label, expected, "unknown-label")


def _of_any_tag(label: str, taxonomy: Taxonomy) -> str:
    """Returns what is expected of a label without a control, with the category that it is near to."""
    known = {fold(category): category for tag in taxonomy.tags for category in tag.categories}
    near = get_close_matches(fold(label), known, 1)
    return f"a category of taxonomy {taxonomy.name!r}{f'; did you mean {known[near[0]]!r}?' if near else ''}"
