"""Mapping against the script that a user would write: both map the same video, and their tags are compared."""

from __future__ import annotations

from pathlib import Path

from measuring import Setting, ratio, timed
from model import trained
from script import Script

from halsted_ray.mapping.pipeline import map_archive
from halsted_ray.maps.reading import read_segments
from halsted_ray.records import Prediction

MINUTES = 10
SUTURING = ("macro", "proficiency", "context")
"""Tasks that look closely at the suturing only, which is 30% of the footage."""
WHY_NOT_ALL = "fidelity 'reference' shows some windows a frame that is 1/30 s older"


def measure(setting: Setting) -> list[dict]:
    """The ratios of mapping to the script, by fidelity and in stages."""
    model = trained(setting.cache)
    with setting.place() as folder:
        place = Path(folder)
        archive = setting.archive(place / "archive", MINUTES)
        video = str(archive / "video.mp4")
        script = Script(video, model)
        script_s, rows = timed(script.run)
        once_s, _ = timed(Script(video, model, once=True).run)
        exact_s, summary = timed(lambda: map_archive(str(archive), str(place / "exact"), model, fidelity="exact"))
        whole_s, _ = timed(lambda: map_archive(str(archive), str(place / "whole"), model))
        stages_s, partial = timed(lambda: map_archive(str(archive), str(place / "stages"), model, list(SUTURING)))
        exact, whole, in_stages = (published(place / out) for out in ("exact", "whole", "stages"))
        windows, looked_at = new_vectors(place / "whole"), new_vectors(place / "stages")
    length = f"{summary.video_s / 60:g} min of video"
    took = ", ".join(f"{stage} {seconds:.0f}" for stage, seconds in script.seconds.items())
    cpu_s = partial.stages["cpu_s"]
    # The time in which the script answers the one task that is not asked here does not count.
    fewer_s = script_s - script.seconds.get("micro", 0.0)
    return [
        ratio(
            "whole mapping against a user's script, same tags",
            script_s / exact_s,
            1.6,
            also=same(rows, exact) == 1,
            rows=f"{length}, {windows} windows",
            why=f"{script_s:.0f} s ({took}) against {exact_s:.0f} s at fidelity exact",
        ),
        ratio(
            "  against one that decodes every frame once",
            once_s / exact_s,
            None,
            rows=length,
            why=f"{once_s:.0f} s against {exact_s:.0f} s",
        ),
        ratio("  tags that are the same", same(rows, exact), 1, unit="of 1", rows=f"{len(exact)} decisions"),
        ratio(
            "  at fidelity reference, the default",
            script_s / whole_s,
            1.6,
            rows=length,
            why=f"{script_s:.0f} s against {whole_s:.0f} s",
        ),
        ratio(
            "  tags that are the same at reference",
            same(rows, whole),
            None,
            unit="of 1",
            rows=f"{len(whole)} decisions",
            why=WHY_NOT_ALL,
        ),
        ratio(
            "multi-stage mapping, 30% of it suturing",
            fewer_s / stages_s,
            2.5,
            rows=f"{length}, {looked_at} of {windows} windows",
            why=f"{fewer_s:.0f} s against {stages_s:.0f} s, of which all is decoded: CPU-seconds "
            f"{cpu_s['decode']:.0f} of decoding, {cpu_s['encode']:.0f} of encoding",
        ),
        ratio(
            "  tags that are the same in stages",
            same(rows, in_stages),
            None,
            unit="of 1",
            rows=f"{len(in_stages)} decisions",
            why=WHY_NOT_ALL,
        ),
    ]


def same(rows: list[tuple], tags: list[Prediction]) -> float:
    """Share of the map's decisions that the script made too, window by window."""
    of_script = {row[:4]: row[4] for row in rows}
    return sum(of_script.get((tag.start_s, tag.stop_s, tag.task, tag.tag)) == tag.category for tag in tags) / len(tags)


def published(out: Path) -> list[Prediction]:
    """All predictions of the maps at ``out``."""
    return [Prediction(**tag) for tags in read_segments(str(out), ["tags"])["tags"].to_pylist() for tag in tags]


def new_vectors(out: Path) -> int:
    """Number of windows that were encoded for the maps at ``out``."""
    return sum(read_segments(str(out), ["new_vectors"])["new_vectors"].to_pylist())
