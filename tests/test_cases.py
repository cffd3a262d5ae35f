"""One case, several files: how files are grouped, and a case in status, timeline, exports and splits."""

from __future__ import annotations

import csv
import json
import os
from pathlib import Path

import pyarrow as pa
import pytest
import small_video
from maps import FAILED, PARTIAL, WHOLE, write_maps

from halsted_ray import open_maps
from halsted_ray.atlas import add_samples, read_atlas, release
from halsted_ray.atlas.commits import Change
from halsted_ray.atlas.split import split_by_video
from halsted_ray.atlas.verify import verify
from halsted_ray.cli import main
from halsted_ray.errors import UsageError
from halsted_ray.mapping import pipeline
from halsted_ray.mapping.pipeline import map_archive
from halsted_ray.maps.cases import Chapter, case_statuses, case_timeline, publish_cases, read_cases
from halsted_ray.maps.reading import read_timeline
from halsted_ray.maps.staging import SegmentResult, Staging
from halsted_ray.maps.status import status_of
from halsted_ray.maps.table_schemas import TIMELINE_SCHEMA
from halsted_ray.records import Clip, Prediction, Video
from halsted_ray.video.cases import group_cases, natural


def grouped(rule: str, *names: str, archive: str = "/a") -> list[list[str]]:
    """The cases of the files ``names`` of an archive, as names."""
    cases = group_cases([f"{archive}/{name}" for name in names], rule, archive)
    return [[uri.removeprefix(f"{archive}/") for uri in uris] for uris in cases.values()]


@pytest.mark.parametrize(
    "chapters",
    [
        ["VTS_01_1.VOB", "VTS_01_2.VOB", "VTS_01_9.VOB"],
        ["GX010123.MP4", "GX020123.MP4", "GX110123.MP4"],
        ["GOPR0123.MP4", "GP010123.MP4", "GP020123.MP4"],
        ["00000.MTS", "00001.MTS", "00010.MTS"],
        ["op.mp4", "op-part2.mp4", "op-part3.mp4"],
        ["op-part1.mp4", "op-part2.mp4", "op-part10.mp4"],
        ["Case 7 pt1.mov", "Case 7 pt2.mov"],
        ["OP_Teil_1.mp4", "OP_Teil_2.mp4"],
        ["op (1 of 3).mp4", "op (2 of 3).mp4", "op (3 of 3).mp4"],
        ["op_2of10.mp4", "op_10of10.mp4"],
        ["part1.mp4", "part2.mp4"],
        ["dvd disc 1.mpg", "dvd disc 2.mpg"],
    ],
    ids=lambda chapters: chapters[0],
)
def test_names_of_chapters_are_told_and_put_in_order(chapters):
    assert grouped("chapters", *reversed(chapters)) == [chapters]
    elsewhere = [f"deep/{name}" for name in chapters]
    assert sorted(grouped("chapters", *chapters, *elsewhere)) == sorted([chapters, elsewhere]), "per folder"


def test_other_names_are_no_chapters():
    names = ["case1.mp4", "case2.mp4", "video01.mp4", "video02.mp4", "VTS_01_0.VOB", "VIDEO_TS.VOB", "12345.mp4"]
    names += ["left_ch1.mp4", "left_ch2.mp4", "op-partial.mp4", "department 4.mp4", "2024-05-02 091011.mp4", "op.mp4"]
    assert grouped("chapters", *names) == []


def test_recordings_of_one_folder_are_told_apart():
    one, two = ["GX010123.MP4", "GX020123.MP4"], ["GX010124.MP4", "GX020124.MP4"]
    assert grouped("chapters", *one, *two) == [one, two]
    assert grouped("folder", *two, *one) == [[*one, *two]], "in the order of recording, not of chapter"
    disc = ["VTS_01_1.VOB", "VTS_01_2.VOB"], ["VTS_02_1.VOB"]
    assert grouped("chapters", *disc[1], *disc[0]) == [*disc]


def test_a_folder_is_a_case():
    assert grouped("folder", "b/2.mp4", "b/10.mp4", "a/x.mp4", "b/c/1.mp4") == [
        ["a/x.mp4"],
        ["b/2.mp4", "b/10.mp4"],
        ["b/c/1.mp4"],
    ]
    assert natural("part 2") < natural("part 10") < natural("Part 10a")


def test_a_pattern_names_case_and_chapter():
    names = ["2024/op7_b_1.mp4", "2024/op7_a_2.mp4", "2024/op8_a_1.mp4", "other.mp4"]
    assert grouped(r"(?P<case>op\d+)_\w_(?P<chapter>\d)", *names) == [names[:2], [names[2]]]
    assert grouped(r"(?P<case>op\d+)", *names) == [[names[1], names[0]], [names[2]]]
    for rule in ("op", "(?P<op>x)", "(?P<case>", "folders"):
        with pytest.raises(UsageError, match="expected folder, chapters, none, a pattern|no regular expression"):
            grouped(rule, *names)


@pytest.mark.parametrize("delimiter", [",", ";", "\t"])
def test_a_csv_file_names_cases(delimiter, tmp_path):
    def write(*rows: tuple[str, ...]) -> str:
        file = tmp_path / "cases.csv"
        with open(file, "w", encoding="utf-8-sig", newline="") as to:
            csv.writer(to, delimiter=delimiter).writerows(rows)
        return str(file)

    names = ["a.mp4", "deep/b, ü.mp4", "c.mp4", "d.mp4"]
    rule = write(("file", "case", "order"), ("a.mp4", "7", "10"), ("deep/b, ü.mp4", "7", "2"), ("/a/c.mp4", "8", ""))
    assert grouped(rule, *names) == [["deep/b, ü.mp4", "a.mp4"], ["c.mp4"]]
    rule = write(("file", "case"), ("b, ü.mp4", "7"), ("a.mp4", "7"))
    assert grouped(rule, *names) == [["a.mp4", "deep/b, ü.mp4"]], "a name alone, where one file has it"
    with pytest.raises(UsageError, match="line 2: 'e.mp4' is no video of the archive"):
        grouped(write(("file", "case"), ("e.mp4", "7")), *names)
    with pytest.raises(UsageError, match="line 3: 'a.mp4' is named twice"):
        grouped(write(("file", "case"), ("a.mp4", "7"), ("a.mp4", "8")), *names)
    with pytest.raises(UsageError, match="expected a header with file, case"):
        grouped(write(("video", "case"), ("a.mp4", "7")), *names)
    with pytest.raises(UsageError, match="can't be read"):
        grouped(str(tmp_path / "none.csv"), *names)


@pytest.fixture
def out(tmp_path) -> str:
    """Maps of two videos of 120 s and a file that is no video, all in one folder, as one case."""
    write_maps(str(tmp_path / "out"))
    assert publish_cases(str(tmp_path / "out"), "/archive", "folder") == 1
    return str(tmp_path / "out")


def test_a_case_has_one_axis_over_its_videos(out):
    chapters = read_cases(out)
    assert [(c.video_id, c.position, c.offset_s, c.duration_s) for c in chapters] == [
        (WHOLE, 1, 0.0, 120.0),
        (PARTIAL, 2, 120.0, 120.0),
        (FAILED, 3, 240.0, 0.0),
    ]
    (case_id,) = {c.case_id for c in chapters}
    rows = case_timeline(read_timeline(out), chapters).to_pylist()
    assert {row["video_id"] for row in rows} == {case_id}
    lanes = {(row["tag"], row["start_s"], row["stop_s"], row["category"]) for row in rows if row["task"] == "macro"}
    assert lanes == {
        ("procedure", 0.0, 180.0, "Prostatectomy"),
        ("step", 0.0, 60.0, "Suturing"),
        ("step", 60.0, 120.0, "Dissection"),
        ("step", 120.0, 180.0, "Suturing"),
        ("gap", 180.0, 240.0, "corrupt"),
    }, "one row over the border of two videos"
    maps = open_maps(out)
    assert maps.case_ids == [case_id] and maps.case_timeline(case_id).to_pylist() == rows
    assert maps.cases.to_arrow().num_rows == 3
    assert maps.plot(case_id).data
    with pytest.raises(UsageError, match=f"there is no case 'x'; expected one of {case_id}"):
        maps.case_timeline("x")


@pytest.mark.parametrize(
    ("said", "expected"),
    [
        pytest.param(
            [
                {"specialty": ("Cardiac", 0.60), "procedure": ("Mitral Repair", 0.50)},
                {"specialty": ("Bariatric", 0.55), "procedure": ("Gastric Bypass", 0.58)},
                {"step": ("Suturing", 0.90)},
            ],
            {"specialty": ("Bariatric", 0.275), "procedure": ("Gastric Bypass", 0.29), "step": ("Suturing", 0.9)},
            id="each tag alone would take another file's word",
        ),
        pytest.param(
            [{"specialty": ("General", 0.9)}, {"specialty": ("Urology", 0.5), "procedure": ("Prostatectomy", 0.5)}],
            {"specialty": ("General", 0.45)},
            id="a procedure of a specialty that is not chosen is not stated",
        ),
        pytest.param(
            [{"specialty": ("Urology", 0.9)}, {"specialty": ("Urology", 0.5), "procedure": ("Prostatectomy", 0.5)}],
            {"specialty": ("Urology", 0.7), "procedure": ("Prostatectomy", 0.5)},
            id="what agrees is filled in",
        ),
    ],
)
def test_a_case_has_no_procedure_of_another_specialty(said, expected):
    chapters = [Chapter("case", str(n), n, 100.0 * n, 100.0, "") for n in range(len(said))]
    rows = [
        {"video_id": str(n), "uri": "", "start_s": 0.0, "stop_s": 100.0, "task": "macro", "tag": tag}
        | {"category": category, "confidence": confidence, "windows": 10, "share": 1.0, "margin": 0.1}
        for n, tags in enumerate(said)
        for tag, (category, confidence) in tags.items()
    ]
    found = case_timeline(pa.Table.from_pylist(rows, schema=TIMELINE_SCHEMA), chapters).to_pylist()
    assert {row["tag"]: (row["category"], row["confidence"]) for row in found} == expected
    assert {(row["start_s"], row["stop_s"]) for row in found} == {(0.0, 100.0 * len(said))}


def test_rows_merge_by_length_and_only_within_a_case(out):
    timeline = read_timeline(out)
    assert case_timeline(timeline, []) == timeline
    single = [c for c in read_cases(out) if c.video_id == PARTIAL]
    rows = case_timeline(timeline, single).to_pylist()
    assert [row for row in rows if row["video_id"] == WHOLE] == [
        row for row in timeline.to_pylist() if row["video_id"] == WHOLE
    ]


def test_a_case_has_one_row_in_status(out, capsys):
    chapters = read_cases(out)
    (case,) = case_statuses(status_of(out), chapters)
    assert (case["video_id"], case["status"], case["videos"]) == (chapters[0].case_id, "partial", 3)
    assert (case["duration_s"], case["segments"], case["segments_done"], case["segments_failed"]) == (240.0, 4, 3, 1)
    assert case["reason"].startswith("video 2 of 3: no frame decodes")
    assert main(["status", out]) == 3
    shown = capsys.readouterr().out
    assert f"{chapters[0].case_id} ×3" in shown and WHOLE not in shown
    main(["status", out, "--files"])
    assert f"{chapters[0].case_id} 2  {PARTIAL}  /archive/Jane Doe ab.mp4" in capsys.readouterr().out
    main(["status", out, "--json"])
    videos = {video["video_id"]: video for video in json.loads(capsys.readouterr().out)}
    assert (videos[PARTIAL]["case_id"], videos[PARTIAL]["case_offset_s"]) == (chapters[0].case_id, 120.0)


def test_a_video_that_cannot_be_read_is_said_not_to_count(out):
    videos = [video for video in status_of(out) if video["video_id"] != PARTIAL]
    (case,) = case_statuses(videos, read_cases(out))
    assert case["status"] == "partial" and case["reason"].endswith("the times of the case do not count this video")


def test_a_case_is_exported_and_shown_as_one(out, tmp_path, capsys):
    case_id = read_cases(out)[0].case_id
    assert main(["export", out, "--format", "csv", "--to", str(tmp_path / "csv")]) == 0
    assert sorted(path.name for path in (tmp_path / "csv").iterdir()) == [f"{case_id}.csv", "timeline.csv"]
    assert f"{case_id},120.0,180.0,macro,step,Suturing" in (tmp_path / "csv" / f"{case_id}.csv").read_text()
    capsys.readouterr()
    assert main(["show", out, case_id[:6]]) == 0
    shown = capsys.readouterr().out
    assert shown.startswith(f"{case_id}  partial  4:00  video 2 of 3")
    assert main(["show", out, WHOLE]) == 0, "a video of a case can still be looked at alone"


@pytest.fixture
def run(tmp_path, small_model, monkeypatch):
    """A run without decoding over an archive, by default ``archive``; gives the names of the files of each case."""
    out = str(tmp_path / "out")

    def map_wave(waiting, tagging, *_):
        for segment in waiting:
            tag = Prediction(segment.start_s, segment.stop_s, "macro", "step", "Suturing", 0.9)
            Staging(tagging.out, tagging.recipe).write(SegmentResult(segment, [tag], [], "run"))
        return len(waiting)

    def mapped(archive: str = "archive", **options) -> list[list[str]]:
        map_archive(str(tmp_path / archive), out, small_model, settle_s=0, segment_s=5.0, **options)
        name_of = {video["video_id"]: Path(video["uri"]).name for video in status_of(out)}
        cases: dict[str, list[str]] = {}
        for chapter in read_cases(out):
            cases.setdefault(chapter.case_id, []).append(name_of[chapter.video_id])
        return sorted(cases.values())

    monkeypatch.setattr(pipeline, "finish_segments", map_wave)
    return mapped


@pytest.mark.parametrize("rule", [r"^(?P<case>OP\d+)/", r"(?P<case>OP\d+)", "folder"])
def test_files_of_two_archives_keep_their_own_cases(rule, tmp_path, run):
    """Another archive has other folders, and its OP1 is another patient's."""
    for n in (1, 2):
        small_video.write(tmp_path / f"archive/OP1/a{n}.mp4", 6, look=n)
        small_video.write(tmp_path / f"other/OP1/b{n}.mp4", 6, look=n + 2)
    of_a, of_b = ["a1.mp4", "a2.mp4"], ["b1.mp4", "b2.mp4"]
    assert run(case_by=rule) == [of_a]
    assert run("other") == [of_a, of_b]
    assert run("archive") == run("other") == [of_a, of_b]
    small_video.write(tmp_path / "archive/OP1/a3.mp4", 6, look=9)
    assert run("archive/OP1") == [[*of_a, "a3.mp4"], of_b], "a folder of an archive has the rule of the archive"
    assert run("other", case_by="none") == [[*of_a, "a3.mp4"]]


def test_a_copy_elsewhere_takes_no_chapter_out_of_its_case(tmp_path, run):
    for n in (1, 2):
        small_video.write(tmp_path / f"archive/op7/part{n}.mp4", 6, look=n)
    (tmp_path / "archive/a copy").mkdir()
    (tmp_path / "archive/a copy/x.mp4").write_bytes((tmp_path / "archive/op7/part1.mp4").read_bytes())
    assert run(case_by="folder") == [["x.mp4", "part2.mp4"]], "named after the file that stands for the video"
    assert run(case_by="chapters") == [["x.mp4", "part2.mp4"]]


def test_a_csv_file_that_is_gone_stops_no_later_run(tmp_path, run, monkeypatch):
    for n in (1, 2):
        small_video.write(tmp_path / f"archive/a{n}.mp4", 6, look=n)
    (tmp_path / "cases.csv").write_text("file,case\na1.mp4,7\na2.mp4,7\n")
    assert run(case_by=str(tmp_path / "cases.csv")) == [["a1.mp4", "a2.mp4"]]
    (tmp_path / "cases.csv").unlink()
    small_video.write(tmp_path / "archive/a3.mp4", 6, look=3)
    told: list[str] = []

    class Observer(pipeline.RunObserver):
        def on_message(self, message):
            told.append(message)

    assert run(observer=Observer()) == [["a1.mp4", "a2.mp4"]]
    assert any("can't be read" in message and "stay as they are" in message for message in told)
    with pytest.raises(UsageError, match="can't be read"):
        run(case_by=str(tmp_path / "cases.csv"))


@pytest.mark.parametrize("second", ["op-part3.mp4", "op-part1.m4v"])
def test_a_chapter_that_is_missing_or_there_twice_is_said(tmp_path, run, second):
    for n, name in enumerate(("op-part1.mp4", second, "whole-part1.mp4", "whole-part2.mp4")):
        small_video.write(tmp_path / f"archive/{name}", 6, look=n)
    told: list[str] = []

    class Observer(pipeline.RunObserver):
        def on_message(self, message):
            told.append(message)

    assert len(run(case_by="chapters", observer=Observer())) == 2
    (said,) = [message for message in told if "missing, or is there twice" in message]
    assert said.startswith("in 1 case ") and ("chapter 2)" if "3" in second else "chapter 1)") in said
    assert "op-part" not in said


def test_a_rule_that_fits_no_file_is_said(tmp_path, run):
    small_video.write(tmp_path / "archive/a.mp4", 6)
    told: list[str] = []

    class Observer(pipeline.RunObserver):
        def on_message(self, message):
            told.append(message)

    assert run(case_by="(?P<case>OP[0-9]+)", observer=Observer()) == []
    assert any("no file of the archive is in a case" in message for message in told)


def test_names_that_are_not_utf8_are_in_cases(tmp_path, run):
    for n in (1, 2):
        small_video.write(tmp_path / f"archive/a{n}.mp4", 6, look=n)
        folder = os.fsencode(tmp_path / "archive")
        os.rename(folder + b"/a%d.mp4" % n, folder + b"/M\xfcller_%d.mp4" % n)
    names = [["M%FCller_1.mp4", "M%FCller_2.mp4"]]
    assert run(case_by=r"(?P<case>.*)_(?P<chapter>\d+)") == names
    uris = [f"file+percent://{tmp_path}/archive/{name}" for name in names[0]]
    (tmp_path / "cases.csv").write_text("file,case\n" + "".join(f"{uri},7\n" for uri in uris))
    assert run(case_by=str(tmp_path / "cases.csv")) == names


def test_a_csv_file_names_a_video_by_the_end_of_its_path(tmp_path):
    (tmp_path / "cases.csv").write_text("file,case\nor2/a.mp4,7\nor3/a.mp4,7\n")
    rule, names = str(tmp_path / "cases.csv"), ["deep/or2/a.mp4", "deep/or3/a.mp4"]
    assert grouped(rule, *names) == [names]
    with pytest.raises(UsageError, match="several files have this name"):
        grouped(rule, *names, "other/or2/a.mp4")


def test_a_run_remembers_the_rule_and_new_chapters_come_to_their_case(tmp_path, small_model, monkeypatch):
    def map_wave(waiting, tagging, *_):
        for segment in waiting:
            tag = Prediction(segment.start_s, segment.stop_s, "macro", "step", "Suturing", 0.9)
            Staging(tagging.out, tagging.recipe).write(SegmentResult(segment, [tag], [], "run"))
        return len(waiting)

    monkeypatch.setattr(pipeline, "finish_segments", map_wave)
    archive, out = tmp_path / "archive", str(tmp_path / "out")
    for operation in range(2):
        for chapter in (1, 2):
            small_video.write(
                archive / f"op{operation}/VTS_01_{chapter}.mpg", 6, look=10 * operation + chapter, codec="mpeg2video"
            )
    small_video.write(archive / "single.mp4", 6)

    def run(**options):
        map_archive(str(archive), out, small_model, settle_s=0, segment_s=5.0, **options)
        return sorted(len([c for c in read_cases(out) if c.case_id == i]) for i in {c.case_id for c in read_cases(out)})

    assert run() == [], "single files stay the default"
    assert run(case_by="chapters") == [2, 2]
    before = {c.case_id for c in read_cases(out)}
    small_video.write(archive / "op1/VTS_01_3.mpg", 6, look=20, codec="mpeg2video")
    assert run() == [2, 3] and {c.case_id for c in read_cases(out)} == before
    assert len(case_statuses(status_of(out), read_cases(out))) == 3
    timeline = case_timeline(read_timeline(out), read_cases(out)).to_pylist()
    assert sorted(round(row["stop_s"]) for row in timeline) == [6, 12, 18], "one row of one category per case"
    assert run(case_by="none") == []
    with pytest.raises(UsageError, match="expected folder, chapters"):
        run(case_by="folders")


def chaptered_atlas(root: str, operations: int = 6, chapters: int = 4) -> list[str]:
    """An atlas of operations of several chapters each; the ids of its videos, by operation and chapter."""
    ids = [f"{n:016x}" for n in range(operations * chapters)]
    videos = [
        Video(name, f"{root}/case{n // chapters}/VTS_01_{n % chapters + 1}.mpg", 1, 60.0, 640, 360, 25.0, "mpeg2video")
        for n, name in enumerate(ids)
    ]
    clips = [Clip(name, 0.0, 30.0, "macro", {"procedure": "Myomectomy", "step": "Suturing"}) for name in ids]
    add_samples(root, clips, Change("anna", "list", "first"), videos=videos)
    return ids


def test_verify_warns_where_chapters_were_spread_and_a_release_by_case_keeps_them_together(tmp_path, capsys):
    root = str(tmp_path)
    chaptered_atlas(root)
    assert main(["atlas", "release", root, "spread", "--validation", "0.3", "--test", "0.3"]) == 0
    assert "they are chapters of one case" in capsys.readouterr().err
    findings = verify(read_atlas(root, "spread"), with_files=False)
    assert findings and {finding.kind for finding in findings} == {"split"}
    assert (
        "--case-by chapters" in findings[0].text and "VTS" not in findings[0].text and "case0" not in findings[0].text
    )
    assert main(["atlas", "verify", root, "--tables-only"]) == 3
    assert main(["atlas", "verify", root, "--tables-only", "--case-by", "none"]) == 0
    assert len(verify(read_atlas(root, "spread"), with_files=False, case_by="folder")) == len(findings)

    together = str(tmp_path / "together")
    ids = chaptered_atlas(together)
    made = release(together, "v1", validation=0.2, test=0.2, case_by="chapters")
    parts = [{made.split[name] for name in ids[n : n + 4]} for n in range(0, len(ids), 4)]
    assert all(len(part) == 1 for part in parts)
    assert {part for (part,) in parts} == {"train", "validation", "test"}
    assert verify(made, with_files=False) == []


def test_the_csv_file_of_a_whole_archive_serves_an_atlas_of_some_of_its_videos(tmp_path):
    ids = chaptered_atlas(str(tmp_path / "atlas"), operations=4, chapters=2)
    names = [f"case{n // 2}/VTS_01_{n % 2 + 1}.mpg" for n in range(len(ids))]
    rows = [*(f"{name},{n % 4}" for n, name in enumerate(names)), "not annotated/a.mpg,7"]
    (tmp_path / "cases.csv").write_text("\n".join(["file,case", *rows]))
    rule = str(tmp_path / "cases.csv")
    made = release(str(tmp_path / "atlas"), "v1", validation=0.25, test=0.25, case_by=rule)
    assert all(made.split[ids[n]] == made.split[ids[n + 4]] for n in range(4)), "by the file, not by the folder"
    assert not [finding for finding in verify(made, with_files=False, case_by=rule) if finding.kind == "split"]
    (tmp_path / "cases.csv").write_text("file,case\nelsewhere.mpg,7\n")
    with pytest.raises(UsageError, match="none of its rows names a video"):
        release(str(tmp_path / "atlas"), "v2", case_by=rule)


def test_a_case_keeps_the_part_of_its_fixed_video():
    ids, case_of = [f"v{n}" for n in range(8)], {f"v{n}": f"c{n // 2}" for n in range(8)}
    split = split_by_video(ids, [], validation=0.25, fixed={"v1": "validation"}, group_of=case_of)
    assert [name for name in ids if split[name] == "validation"] == ["v0", "v1"]
    assert split_by_video(ids, [], validation=0.25) == split_by_video(ids, [], validation=0.25, group_of={})


def test_an_archive_of_cases_is_named_without_names_of_files(out):
    """A case's name can be a patient's name: only its id stands in the table."""
    table = Path(out) / "cases"
    assert table.is_dir()
    assert not any(b"Jane" in path.read_bytes() or b"notes" in path.read_bytes() for path in table.rglob("*.parquet"))
