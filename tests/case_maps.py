"""Test data: the map of one file of a case, as a mapping run leaves it, with a procedure of the whole operation."""

from __future__ import annotations

from library_site import TENANT

from halsted_ray import taxonomy as taxonomies
from halsted_ray.maps.publishing import publish, publish_videos
from halsted_ray.maps.staging import MappingRun, SegmentResult, Staging
from halsted_ray.maps.table_schemas import ArchiveFile, Provenance
from halsted_ray.maps.timeline import Interval
from halsted_ray.records import Prediction, Segment, Video
from halsted_ray.service.components import ServiceComponents

TASKS = ("macro", "proficiency")


def write_map(
    service: ServiceComponents,
    video_id: str,
    spans: list[tuple[str, str, float, float]],
    procedure: tuple[str, float] | None = None,
    duration_s: float = 100.0,
    digest: str = "",
) -> None:
    """Publishes the map of a file: spans (tag, category, start_s, stop_s), and a procedure of the whole operation with
    its confidence. ``digest``: of the taxonomy, by default of ``halsted``."""
    out = service.videos.maps_location(TENANT, video_id)
    video = Video("f" * 16, "/archive/Jane Doe.mp4", 1000, duration_s, 640, 360, 25.0, "h264")
    segment = Segment("f0", video.video_id, video.uri, 0.0, duration_s, duration_s)
    task_of = {"step": "macro", "phase": "proficiency", "proficiency": "proficiency"}
    tags = [Prediction(start_s, stop_s, task_of[tag], tag, name, 0.9) for tag, name, start_s, stop_s in spans]

    def timeline_of(_results) -> list[Interval]:
        rows = [Interval(t.start_s, t.stop_s, t.task, t.tag, t.category, 0.9, "ai") for t in tags]
        if procedure:
            rows.append(Interval(0.0, duration_s, "macro", "procedure", *procedure, "ai", 10, 1.0, 0.5))
        return sorted(rows, key=lambda row: row.start_s)

    staging = Staging(out, "recipe")
    staging.begin(MappingRun("run", "recipe", TASKS, 60.0, "2026-01-01T00:00:00"))
    staging.write(SegmentResult(segment, tags, [], "run"))
    publish_videos(out, [ArchiveFile(video, "")])
    digest = digest or taxonomies.load().digest
    origin = Provenance("run", "recipe", TASKS, "demo/model", "v1", "phantom-1", digest, "0.1.0")
    publish(out, staging, {video.video_id: [segment]}, origin, timeline_of=timeline_of)
