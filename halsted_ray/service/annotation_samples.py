"""People's spans become samples of the atlas: clips with the tags of one task, as training reads them."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

from halsted_ray.records import Clip
from halsted_ray.service.annotation_log import Span, conflicts
from halsted_ray.taxonomy import Taxonomy

LEAST_S = 0.25
"""A shorter clip comes of two tags whose ends are not exact; a fine window is ten times as long."""


def agreed(spans: Iterable[Span]) -> list[Span]:
    """The spans that say what is there, without those in which two people contradict each other."""
    spans = list(spans)
    disputed = {span_id for conflict in conflicts(spans) for span_id in conflict.span_ids}
    return [span for span in spans if not span.is_rejected and span.span_id not in disputed]


def clips_of_spans(video_id: str, duration_s: float, spans: Iterable[Span], taxonomy: Taxonomy) -> list[Clip]:
    """The manual samples that ``spans`` make: one clip wherever the same tags of one task hold.

    Where two spans of one tag overlap, the later word holds. ``annotator`` of a clip is who said the latest word of it.
    ``video_id``: as the atlas names the video; clips end at ``duration_s``. Raises TaxonomyError for an unknown tag.
    """
    lanes: dict[str, list[Span]] = {}
    for span in spans:
        lanes.setdefault(taxonomy.task_of_tag(span.last.tag).name, []).append(span)
    clips: list[Clip] = []
    for task, lane in sorted(lanes.items()):
        clips += _joined(_pieces(video_id, duration_s, task, lane))
    return [clip for clip in clips if clip.stop_s - clip.start_s >= LEAST_S]


def _pieces(video_id: str, duration_s: float, task: str, spans: list[Span]) -> Iterable[Clip]:
    """A clip between every two ends of spans, in order of time."""
    begin: dict[float, list[Span]] = {}
    end: dict[float, list[Span]] = {}
    for span in spans:
        begin.setdefault(span.last.start_s, []).append(span)
        end.setdefault(min(span.last.stop_s, duration_s), []).append(span)
    edges_s = sorted({*begin, *end})
    running: dict[str, Span] = {}
    for start_s, stop_s in zip(edges_s, edges_s[1:], strict=False):
        for span in end.get(start_s, ()):
            running.pop(span.span_id, None)
        for span in begin.get(start_s, ()):
            running[span.span_id] = span
        if running:
            said = sorted(running.values(), key=lambda span: span.last.revision)
            tags = {span.last.tag: span.last.category for span in said}
            yield Clip(video_id, start_s, stop_s, task, dict(sorted(tags.items())), annotator=said[-1].last.author_id)


def _joined(pieces: Iterable[Clip]) -> list[Clip]:
    """Neighbours with the same tags of one annotator as one clip."""
    joined: list[Clip] = []
    for clip in pieces:
        last = joined[-1] if joined else None
        if last and (last.stop_s, last.tags, last.annotator) == (clip.start_s, clip.tags, clip.annotator):
            joined[-1] = replace(last, stop_s=clip.stop_s)
        else:
            joined.append(clip)
    return joined
