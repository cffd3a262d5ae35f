"""Test data: maps as a mapping run leaves them. Two videos are mapped, one of them with a gap; one file is no video."""

from halsted_ray import taxonomy as taxonomies
from halsted_ray.maps.publishing import publish, publish_videos
from halsted_ray.maps.staging import MappingRun, SegmentResult, Staging
from halsted_ray.maps.table_schemas import ArchiveFile, Provenance
from halsted_ray.maps.timeline import Gap
from halsted_ray.records import Clip, Prediction, Segment, Video

WHOLE, PARTIAL, FAILED = "aa" * 8, "ab" * 8, "f0" * 8
TASKS = ("macro", "micro")
CLIPS = [
    Clip(WHOLE, 0, 60, "macro", {"procedure": "Prostatectomy", "step": "Suturing"}),
    Clip(WHOLE, 60, 120, "macro", {"procedure": "Prostatectomy", "step": "Dissection"}),
    Clip(WHOLE, 60, 120, "micro", {"action": "Push/Peel"}),
    Clip(PARTIAL, 0, 120, "macro", {"procedure": "Prostatectomy", "step": "Suturing"}),
]


def video(video_id: str) -> Video:
    """Returns a video of 120 s. Its file name is a patient's name, which must appear nowhere."""
    return Video(video_id, f"/archive/Jane Doe {video_id[:2]}.mp4", 1000, 120.0, 640, 360, 25.0, "h264")


def write_maps(out: str) -> None:
    """Publishes the maps to ``out``: ``WHOLE`` without gaps, ``PARTIAL`` with a gap, ``FAILED`` not at all."""
    taxonomy = taxonomies.load()
    staging = Staging(out, "recipe")
    staging.begin(MappingRun("run", "recipe", TASKS, 60.0, "2026-01-01T00:00:00"))
    planned = {
        video_id: [
            Segment(f"{video_id[:2]}{start_s}", video_id, video(video_id).uri, start_s, start_s + 60, 120.0)
            for start_s in (0, 60)
        ]
        for video_id in (WHOLE, PARTIAL)
    }
    for video_id, segments in planned.items():
        for segment in segments:
            tags, gaps = tags_of(segment), []
            if video_id == PARTIAL and segment.start_s == 60:
                tags, gaps = [], [Gap(60, 120, "corrupt", "no frame decodes in [60.0, 120.0) s")]
            staging.write(SegmentResult(segment, tags, gaps, "run"))
    publish_videos(
        out,
        [
            ArchiveFile(video(WHOLE), ""),
            ArchiveFile(video(PARTIAL), ""),
            ArchiveFile(
                Video(FAILED, "/archive/notes.mp4", 12, 0.0, 0, 0, 0.0, ""), "", "unreadable", "no container was found"
            ),
        ],
    )
    origin = Provenance("run", "recipe", TASKS, "demo/model", "v1", "phantom-1", taxonomy.digest, "0.1.0")
    publish(out, staging, planned, origin)


def tags_of(segment: Segment) -> list[Prediction]:
    """Returns the predictions of a segment: suturing in the first minute of a video, then dissection."""
    start_s = segment.start_s
    spans = [(start_s, start_s + 30), (start_s + 30, start_s + 60)]
    step = "Dissection" if start_s else "Suturing"
    tags = [
        Prediction(*span, "macro", name, category, 0.9)
        for span in spans
        for name, category in (("procedure", "Prostatectomy"), ("step", step))
    ]
    if step == "Dissection":
        tags += [Prediction(*span, "micro", "action", "Push/Peel", 0.7) for span in spans]
    return tags
