"""What a model does not know, seen over a whole video: such a video has no tags at all."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from halsted_ray.maps.reading import commit_of_run, read_table
from halsted_ray.maps.staging import SegmentResult
from halsted_ray.maps.table_schemas import Provenance
from halsted_ray.maps.timeline import Unasked
from halsted_ray.records import UNKNOWN
from halsted_ray.video.presence import Span, overlapping, union, without


def unknown_share(results: Sequence[SegmentResult]) -> float:
    """The share of a video's time with a picture that is unknown for some task; 0 where nothing has a picture.

    ``results``: of all segments of the video.
    """
    gaps = union((gap.start_s, gap.stop_s) for result in results for gap in result.gaps)
    unknown = union((s.start_s, s.stop_s) for result in results for s in result.unasked if s.code == UNKNOWN)

    def seen_s(span: Span) -> float:
        return _length_s(without(span, overlapping(gaps, span)))

    all_seen_s = sum(seen_s((result.segment.start_s, result.segment.stop_s)) for result in results)
    return sum(map(seen_s, unknown)) / all_seen_s if all_seen_s else 0.0


def with_unknown_video(results: Sequence[SegmentResult], provenance: Provenance) -> Sequence[SegmentResult]:
    """``results`` of all segments of a video as they stand in its timeline.

    Where more of the video is unknown than the model saw in nearly every video of its own kind, the few windows that
    look familiar are an accident: all of it is unknown then. The table of segments keeps what each window said.
    """
    limit = provenance.unknown_share
    if limit is None or unknown_share(results) <= limit:
        return results
    return [
        replace(
            result,
            tags=[],
            unasked=[
                Unasked(task, result.segment.start_s, result.segment.stop_s, UNKNOWN) for task in provenance.tasks
            ],
        )
        for result in results
    ]


def unknown_seconds(out: str) -> dict[str, float]:
    """video_id → seconds of its timeline that are unknown for some task; videos without any are left out."""
    rows = read_table(out, "timeline", ["video_id", "start_s", "stop_s"], [("source", "=", UNKNOWN)])
    spans: dict[str, list[Span]] = {}
    for row in rows.to_pylist() if rows is not None else ():
        spans.setdefault(row["video_id"], []).append((row["start_s"], row["stop_s"]))
    return {video_id: round(_length_s(union(own)), 6) for video_id, own in spans.items()}


def can_say_unknown(out: str) -> bool:
    """Whether the model of the newest maps at ``out`` can say that it does not know something; True where there are no
    maps yet."""
    commit = commit_of_run(out)
    return not commit or "unknown_share" in commit


def _length_s(spans: Sequence[Span]) -> float:
    return sum(stop_s - start_s for start_s, stop_s in spans)
