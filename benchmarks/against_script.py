"""Whole mapping against the script that a user would write: the same video, side by side, the same tags."""

from __future__ import annotations

from pathlib import Path

from measuring import Setting, ratio, timed
from model import trained
from script import Script

from halsted_ray.mapping.pipeline import map_archive
from halsted_ray.mapping.publish import read_segments
from halsted_ray.mapping.workflow import Workflow
from halsted_ray.model.halsted import Halsted
from halsted_ray.records import Segment, Tag
from halsted_ray.video.plan import frame_times_s
from halsted_ray.video.readers import read_frames

MINUTES = 10
SUTURING = ("macro", "proficiency", "context")
"""Tasks that need a close look at the suturing only: 30% of the footage."""
LEAST_SAME = 0.97
WHY_NOT_ALL = "fidelity 'reference' shows some windows a frame that is 1/30 s older"


def measure(setting: Setting) -> list[dict]:
    model = trained(setting.cache)
    with setting.place() as folder:
        place = Path(folder)
        archive = setting.archive(place / "archive", MINUTES)
        video = str(archive / "video.mp4")
        script = Script(video, model)
        script_s, rows = timed(script.run)
        once_s, _ = timed(Script(video, model, once=True).run)
        whole_s, summary = timed(lambda: map_archive(str(archive), str(place / "whole"), model))
        stages_s, partial = timed(lambda: map_archive(str(archive), str(place / "stages"), model, list(SUTURING)))
        exact = exactly(video, summary.video_s, model)
        whole, in_stages = published(place / "whole"), published(place / "stages")
        windows, looked_at = new_vectors(place / "whole"), new_vectors(place / "stages")
    length = f"{summary.video_s / 60:g} min of video"
    took = ", ".join(f"{stage} {seconds:.0f}" for stage, seconds in script.seconds.items())
    cpu_s = partial.stages["cpu_s"]
    # What the script answers to the one task that is not asked here is not counted against it.
    fewer_s = script_s - script.seconds.get("micro", 0.0)
    return [
        ratio("whole mapping against a user's script", script_s / whole_s, 1.6, also=same(rows, whole) >= LEAST_SAME,
              rows=f"{length}, {windows} windows", why=f"{script_s:.0f} s ({took}) against {whole_s:.0f} s"),
        ratio("  against one that decodes every frame once", once_s / whole_s, None, rows=length,
              why=f"{once_s:.0f} s against {whole_s:.0f} s"),
        ratio("  the same tags, fidelity exact", same(rows, exact), 1, unit="of 1", rows=f"{len(exact)} decisions"),
        ratio("  the same tags, fidelity reference", same(rows, whole), None, unit="of 1",
              rows=f"{len(whole)} decisions", why=WHY_NOT_ALL),
        ratio("multi-stage mapping, 30% of it suturing", fewer_s / stages_s, 2.5,
              also=same(rows, in_stages) >= LEAST_SAME, rows=f"{length}, {looked_at} of {windows} windows",
              why=f"{fewer_s:.0f} s against {stages_s:.0f} s, of which all is decoded: CPU-seconds "
                  f"{cpu_s['decode']:.0f} of decoding, {cpu_s['encode']:.0f} of encoding"),
    ]


def same(rows: list[tuple], tags: list[Tag]) -> float:
    """Share of the map's decisions that the script made too, window by window."""
    of_script = {row[:4]: row[4] for row in rows}
    return sum(of_script.get((tag.start_s, tag.stop_s, tag.task, tag.tag)) == tag.category for tag in tags) / len(tags)


def published(out: Path) -> list[Tag]:
    return [Tag(**tag) for tags in read_segments(str(out), ["tags"])["tags"].to_pylist() for tag in tags]


def new_vectors(out: Path) -> int:
    return sum(read_segments(str(out), ["new_vectors"])["new_vectors"].to_pylist())


def exactly(video: str, duration_s: float, model: str, stop_s: float = 120.0) -> list[Tag]:
    """Decisions of the pipeline's workflow about the first two minutes, from the frames that the script sees."""
    halsted = Halsted.load(model)
    workflow, tags = Workflow(halsted, halsted.load_encoder()), []
    for start_s in range(0, int(stop_s), 60):
        segment = Segment("", "", video, float(start_s), start_s + 60.0, duration_s)
        times_s = frame_times_s(segment, workflow.spec)
        tags += workflow(segment, read_frames(video, times_s, workflow.encoder.image_size, "exact").images_NHWC).tags
    return tags
