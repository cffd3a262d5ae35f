"""Test data: maps with stitches, as a mapping run leaves them. One video has two stitches, another a gap and none."""

from __future__ import annotations

from maps import PARTIAL, WHOLE, video

from halsted_ray import taxonomy as taxonomies
from halsted_ray.maps.publishing import publish, publish_videos
from halsted_ray.maps.staging import MappingRun, SegmentResult, Staging
from halsted_ray.maps.table_schemas import ArchiveFile, Provenance
from halsted_ray.maps.timeline import Gap
from halsted_ray.records import Prediction, Segment

TASKS = ("macro", "micro", "proficiency", "context")
SPANS = (
    ("Needle Handling", 0, 5),
    ("Driving", 5, 15),
    ("Withdrawal", 15, 20),
    ("Needle Handling", 20, 25),
    ("Driving", 25, 40),
)


def write_suturing(out: str, digest: str = "") -> None:
    """Publishes the maps of two videos of 120 s to ``out``: ``WHOLE`` has two stitches, ``PARTIAL`` a gap and none.
    ``digest``: of their taxonomy, by default of ``halsted``."""
    staging = Staging(out, "recipe")
    staging.begin(MappingRun("run", "recipe", TASKS, 120.0, "2026-01-01T00:00:00"))
    planned = {
        video_id: [Segment(f"{video_id[:2]}0", video_id, video(video_id).uri, 0, 120, 120.0)]
        for video_id in (WHOLE, PARTIAL)
    }
    tags = [
        Prediction(start_s, stop_s, "proficiency", tag, category, 0.875)
        for phase, start_s, stop_s in SPANS
        for tag, category in (("phase", phase), ("proficiency", "High" if start_s < 20 else "Low"))
    ]
    tags += [
        Prediction(0, 40, "macro", "step", "Suturing", 0.9),
        Prediction(5, 15, "context", "anatomy", "Bladder–Urethra", 0.9),
    ]
    gap = Gap(60, 120, "corrupt", "no frame decodes")
    staging.write(SegmentResult(planned[WHOLE][0], tags, [], "run"))
    staging.write(
        SegmentResult(planned[PARTIAL][0], [Prediction(0, 60, "macro", "step", "Dissection", 0.9)], [gap], "run")
    )
    publish_videos(out, [ArchiveFile(video(video_id), "") for video_id in planned])
    digest = digest or taxonomies.load().digest
    publish(out, staging, planned, Provenance("run", "recipe", TASKS, "demo/model", "v1", "phantom-1", digest, "0.1.0"))
