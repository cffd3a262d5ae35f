"""What a model does not know, from the staged segments to status, report, terminal and exports."""

from __future__ import annotations

import pytest
from maps import TASKS, WHOLE, video

from halsted_ray import taxonomy as taxonomies
from halsted_ray.cli import main
from halsted_ray.maps import exports
from halsted_ray.maps.publishing import publish, publish_videos
from halsted_ray.maps.reading import read_segments, read_timeline
from halsted_ray.maps.staging import MappingRun, SegmentResult, Staging
from halsted_ray.maps.status import status_of
from halsted_ray.maps.table_schemas import ArchiveFile, Provenance
from halsted_ray.maps.timeline import Gap, unknown_spans
from halsted_ray.maps.unknown import can_say_unknown
from halsted_ray.records import UNKNOWN_REASON, Prediction, Segment
from halsted_ray.reporting.lanes import timeline
from halsted_ray.reporting.map_page import map_page
from halsted_ray.reporting.report_data import read_report_data
from halsted_ray.reporting.summary import summarise
from halsted_ray.reporting.terminal import draw

SHARE = 0.6


def map_video(
    out: str, unknown_s: tuple[float, float], share: float | None = SHARE, gaps: tuple[Gap, ...] = ()
) -> None:
    """Publishes a video of 120 s, two segments of it, that is unknown in ``unknown_s`` for all tasks."""
    staging = Staging(out, "recipe")
    staging.begin(MappingRun("run", "recipe", TASKS, 60.0, 1))
    segments = [Segment(f"s{n}", WHOLE, video(WHOLE).uri, 60.0 * n, 60.0 * n + 60, 120.0) for n in range(2)]
    for segment in segments:
        start_s, stop_s = max(segment.start_s, unknown_s[0]), min(segment.stop_s, unknown_s[1])
        spans = [(task, start_s, stop_s) for task in TASKS] if start_s < stop_s else []
        windows = [segment.start_s + 30 * n for n in range(2)]
        tags = [
            Prediction(at_s, at_s + 30, "macro", "step", "Suturing", 0.9)
            for at_s in windows
            if not unknown_s[0] <= at_s < unknown_s[1]
        ]
        staging.write(SegmentResult(segment, tags, list(gaps), "run", unasked=unknown_spans(spans)))
    publish_videos(out, [ArchiveFile(video(WHOLE), "")])
    digest = taxonomies.load().digest
    publish(out, staging, {WHOLE: segments}, Provenance("run", "recipe", TASKS, "m", "1", "", digest, "0", share))


def rows(out: str) -> list[tuple]:
    return [(r["start_s"], r["stop_s"], r["task"], r["tag"], r["source"]) for r in read_timeline(out).to_pylist()]


@pytest.fixture
def out(tmp_path) -> str:
    map_video(str(tmp_path / "maps"), (90, 120))
    return str(tmp_path / "maps")


def test_the_timeline_says_unknown_and_the_video_is_mapped_all_the_same(out):
    assert rows(out) == [
        (0, 90, "macro", "step", "ai"),
        (90, 120, "macro", "unknown", "unknown"),
        (90, 120, "micro", "unknown", "unknown"),
    ]
    status = status_of(out)[0]
    assert (status["status"], status["unknown_s"], status["missing_s"]) == ("mapped", 30, 0)


def test_a_video_of_which_too_much_is_unknown_is_unknown_as_a_whole(tmp_path):
    out = str(tmp_path)
    map_video(out, (30, 120))
    assert rows(out) == [(0, 120, task, "unknown", "unknown") for task in TASKS]
    assert status_of(out)[0]["unknown_s"] == 120
    kept = [tag for tags in read_segments(out, ["tags"])["tags"].to_pylist() for tag in tags]
    assert len(kept) == 1, "what the windows said stays in the table of segments"


def test_maps_of_a_model_that_cant_say_unknown_keep_their_tags_and_say_so(tmp_path, out, capsys):
    old = str(tmp_path / "old")
    map_video(old, (0, 0), share=None)
    assert not can_say_unknown(old) and can_say_unknown(out)
    assert main(["status", old]) == 0 and "can't say 'unknown'" in capsys.readouterr().out


def test_status_counts_the_unknown_minutes_and_says_why(out, capsys):
    assert main(["status", out]) == 0
    said = capsys.readouterr().out
    assert f"0.5 minutes in 1 video are unknown:\n{UNKNOWN_REASON}" in said and "30.00 s" in said


def test_show_and_report_draw_what_is_unknown(out):
    data = read_report_data(out)
    lanes = timeline(data.videos[0], data.rows_of(WHOLE), None, data.taxonomy)
    drawn = draw(lanes)
    assert f"unknown, {UNKNOWN_REASON}" in drawn.replace("\n            ", " ") and "▒" in drawn.split("\n")[1]
    figures = summarise(data)
    assert figures["videos"]["unknown_s"] == 30 and figures["videos"]["gap_s"] == 0
    assert figures["per_video"][WHOLE]["steps_s"] == {"Suturing": 90, "unknown": 30}
    page = map_page(data, figures)
    assert "unknown to the model" in page and UNKNOWN_REASON in page


def test_exports_hold_the_unknown_rows_and_read_them_back(out):
    table = exports.canonical_rows(read_timeline(out))
    assert exports.read_csv(exports.write_csv(table)) == table
    assert exports.read_jsonl(exports.write_jsonl(table)) == table
    assert [row["tag"] for row in exports.read_captions(exports.write_srt(table))] == ["step", "unknown", "unknown"]
    assert "Unknown" in exports.write_chapter_vtt(table)


def test_what_is_a_gap_is_not_unknown(tmp_path):
    map_video(str(tmp_path), (90, 120), gaps=(Gap(60, 90, "corrupt", "no frame decodes"),))
    assert status_of(str(tmp_path))[0]["status"] == "partial"
    assert (90, 120, "macro", "unknown", "unknown") in rows(str(tmp_path))
