"""Maps that an older version made keep opening, and a run replaces them where it sees other pictures."""

from __future__ import annotations

import shutil
import tarfile
from pathlib import Path

import pytest

from halsted_ray.compute.resources import ResourceRequest
from halsted_ray.mapping.pipeline import map_archive
from halsted_ray.maps.reading import read_segments, read_timeline
from halsted_ray.maps.run_profile import read_profile
from halsted_ray.maps.staging import stagings
from halsted_ray.maps.status import status_of
from halsted_ray.model.halsted import Halsted
from halsted_ray.reporting.mapped_archive import open_maps

ARCHIVED = Path(__file__).parent / "data" / "maps-of-0.1.0.tar.xz"
"""Made before the columns of the pipeline were typed: an archive of two phantoms of 20 s, an untrained model, and OUT.
``published.mp4`` is mapped; a run that was stopped staged the first of the two segments of ``interrupted.mp4``."""
PUBLISHED, INTERRUPTED = "9acb904d84b480bb", "820d9db506ec3a69"
PUBLISHED_BY, STAGED_BY = "aa1cb4b4205e", "af832c357884"
ONE_OF_EACH = ResourceRequest(decoders=1, encoders=1)


@pytest.fixture(scope="module")
def older(tmp_path_factory) -> Path:
    """The folder with ``archive``, ``model`` and ``out``, at a place where no run has seen it."""
    folder = tmp_path_factory.mktemp("older")
    with tarfile.open(ARCHIVED) as archived:
        archived.extractall(folder, filter="data")
    return folder / "maps-of-0.1.0"


def test_maps_of_an_older_version_are_read(older):
    out = str(older / "out")
    assert {
        video["video_id"]: (video["status"], video["segments_done"], video["segments"]) for video in status_of(out)
    } == {
        PUBLISHED: ("mapped", 2, 2),
        INTERRUPTED: ("pending", 1, 2),
    }
    rows = read_timeline(out).to_pylist()
    assert {row["video_id"] for row in rows} == {PUBLISHED} and {row["model_version"] for row in rows} == {"v0"}
    assert read_profile(out).run_id == PUBLISHED_BY
    (staging,) = stagings(out)
    (result,) = staging.read(INTERRUPTED)
    assert staging.run().run_id == result.run_id == STAGED_BY and result.tags and result.state == "done"


@pytest.mark.slow
def test_python_reads_what_an_older_version_wrote_with_todays_columns(older):
    maps = open_maps(str(older / "out"))
    for table in (maps.timeline, maps.segments, maps.videos):
        rows = table.to_arrow()
        assert len(rows) and rows.schema.names == table.schema.names
    assert maps.timeline.to_arrow(["share"], [("source", "=", "ai")])["share"].null_count


def test_a_run_maps_again_what_an_older_version_saw_in_other_pictures(older, tmp_path):
    """The recipe's name holds the version of the pictures, so nothing of the older run counts as finished."""
    out, archive, model = str(tmp_path / "out"), str(older / "archive"), str(older / "model")
    shutil.copytree(older / "out", out)
    summary = map_archive(archive, out, model, segment_s=10, resources=ONE_OF_EACH)
    assert (summary.segments_before, summary.segments_decoded, summary.exit_code) == (0, 4, 0)
    segments = read_segments(out, ["video_id", "start_s", "run_id"]).to_pylist()
    assert {(row["video_id"], row["start_s"], row["run_id"]) for row in segments} == {
        (video_id, start_s, summary.run_id) for video_id in (PUBLISHED, INTERRUPTED) for start_s in (0.0, 10.0)
    }
    again = map_archive(archive, out, model, segment_s=10, resources=ONE_OF_EACH)
    assert (again.segments_before, again.segments_decoded, again.exit_code) == (4, 0, 0)
    assert {video["uri"] for video in status_of(out)} == {
        f"{archive}/{name}.mp4" for name in ("published", "interrupted")
    }

    newer = Halsted.load(model)
    newer.configure(version="v1")
    newer.save(str(tmp_path / "newer"))
    from_vectors = map_archive(archive, out, str(tmp_path / "newer"), segment_s=10)
    assert (from_vectors.segments_from_vectors, from_vectors.segments_decoded) == (4, 0)
    assert {row["model_version"] for row in read_timeline(out).to_pylist()} == {"v1"}
