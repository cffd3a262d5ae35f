"""The stitches of a mapped archive: read from its tables, by Python and by the command, as table, CSV and JSON."""

from __future__ import annotations

import csv
import io
import json
import shutil
from dataclasses import replace

import pyarrow as pa
import pytest
from maps import PARTIAL, WHOLE, video, write_maps
from sutured import write_suturing

from halsted_ray import open_maps
from halsted_ray import taxonomy as taxonomies
from halsted_ray.cli import main
from halsted_ray.errors import UsageError
from halsted_ray.maps.cases import publish_cases
from halsted_ray.maps.stitch_table import (
    STITCHES_SCHEMA,
    read_stitches,
    stitch_rows,
    stitches_of_timeline,
    video_json,
    write_csv,
)
from halsted_ray.maps.table_schemas import TIMELINE_SCHEMA


@pytest.fixture(scope="module")
def out(tmp_path_factory):
    folder = str(tmp_path_factory.mktemp("sutured"))
    write_suturing(folder)
    return folder


def test_the_stitches_of_each_video_are_read_from_its_map(out):
    whole, partial = read_stitches(out)
    assert (whole.video_id, whole.state, whole.is_complete, whole.model_version) == (WHOLE, "found", True, "v1")
    assert [(one.start_s, one.stop_s, one.target, one.is_high) for one in whole.stitches] == [
        (0, 20, "Bladder–Urethra", True),
        (20, 40, None, False),
    ]
    assert (partial.video_id, partial.state, partial.is_complete, partial.stitches) == (PARTIAL, "none", False, [])


def test_a_map_without_the_suturing_tasks_says_that_they_were_not_asked(tmp_path):
    write_maps(str(tmp_path))
    assert {one.state for one in read_stitches(str(tmp_path))} == {"not asked"}
    assert not read_stitches(str(tmp_path))[0].is_asked
    with pytest.raises(UsageError, match="holds no maps"):
        read_stitches(str(tmp_path / "none"))


def test_a_taxonomy_without_phases_says_so_and_an_unknown_one_is_asked_for(out, tmp_path):
    timeline = pa.Table.from_pylist(open_maps(out).timeline.to_arrow().to_pylist(), schema=TIMELINE_SCHEMA)
    place = TIMELINE_SCHEMA.names.index("taxonomy_digest")

    def of(digest):
        return timeline.set_column(place, "taxonomy_digest", pa.array([digest] * len(timeline), pa.string()))

    cholec = taxonomies.load("cholec80").digest
    assert [one.state for one in stitches_of_timeline(of(cholec), {})] == ["not in taxonomy"] * 2
    with pytest.raises(UsageError, match="taxonomy dddd, which does not ship with this package; give the file"):
        stitches_of_timeline(of("dddd"), {})
    own = replace(taxonomies.load(), name="own")
    assert [one.state for one in stitches_of_timeline(of(own.digest), {}, own)] == ["found", "none"]


def test_a_model_of_before_brings_the_taxonomy_without_the_phases_of_a_stitch_and_stitches_are_found_all_the_same(out):
    timeline = open_maps(out).timeline.to_arrow()
    before = replace(taxonomies.load(), stitch=None)
    assert before.digest == taxonomies.load().digest
    assert [one.state for one in stitches_of_timeline(timeline, {}, before)] == ["found", "none"]


def test_rows_and_csv_have_the_columns_of_the_schema(out):
    rows = stitch_rows(read_stitches(out))
    assert pa.Table.from_pylist(rows, schema=STITCHES_SCHEMA).to_pylist() == rows
    assert [row["index"] for row in rows] == [1, 2]
    lines = list(csv.DictReader(io.StringIO(write_csv(read_stitches(out)), newline="")))
    assert list(lines[0]) == STITCHES_SCHEMA.names and len(lines) == 2
    assert (float(lines[0]["driving_s"]), lines[1]["target"]) == (10.0, "")


def test_the_json_of_a_video_has_its_stitches_and_totals(out):
    shown = video_json(read_stitches(out)[0])
    assert (shown["asked"], shown["complete"], shown["why_none"], len(shown["stitches"])) == (True, True, "", 2)
    assert shown["stitches"][0]["proficiency_probability"] == 0.875
    totals = shown["totals"]
    assert (totals["count"], totals["driving_s"], totals["withdrawal_n"]) == (2, 12.5, 1)
    assert (totals["high_share"], totals["proficiency_n"]) == (0.5, 2)
    assert 0 < totals["high_low"] < 0.5 < totals["high_high"] < 1


def run(capsys, *words):
    code = main(["stitches", *words])
    printed = capsys.readouterr()
    return code, printed.out, printed.err


def test_the_command_prints_a_table_with_totals(out, capsys):
    code, printed, _ = run(capsys, out)
    assert code == 0
    assert "0:20" in printed and "Bladder–Urethra" in printed and "High .88" in printed
    assert "2 stitches" in printed and "driving 12.5 s" in printed and "high proficiency 50.0%" in printed
    assert "no suturing found in 1 of 2 videos" in printed
    assert max(map(len, printed.splitlines())) <= 80


def test_a_case_has_its_stitches_on_one_axis(out, capsys, tmp_path):
    copy = str(tmp_path / "cases")
    shutil.copytree(out, copy)
    order = tmp_path / "cases.csv"
    order.write_text(f"file,case,order\n{video(PARTIAL).uri},one,1\n{video(WHOLE).uri},one,2\n")
    publish_cases(copy, "/archive", str(order))
    [case] = read_stitches(copy, by_case=True)
    assert [(one.start_s, one.stop_s) for one in case.stitches] == [(120, 140), (140, 160)]
    assert "2:00" in run(capsys, copy, "--video", case.video_id[:6])[1]
    assert "0:20" in run(capsys, copy, "--video", WHOLE)[1], "a video of a case by its own id"


def test_the_command_of_one_video_and_in_other_formats(out, capsys):
    assert "no suturing found" in run(capsys, out, "--video", PARTIAL[:4])[1]
    lines = run(capsys, out, "--format", "jsonl")[1].splitlines()
    assert [json.loads(line)["index"] for line in lines] == [1, 2]
    answer = json.loads(run(capsys, out, "--format", "json")[1])
    assert [one["video_id"] for one in answer["videos"]] == [WHOLE, PARTIAL] and answer["totals"]["count"] == 2
    assert run(capsys, out, "--format", "csv")[1].replace("\r\n", "\n").startswith("video_id,index,start_s")
    code, _, said = run(capsys, out, "--video", "nosuch")
    assert code == 2 and "no video has the id or file name 'nosuch'" in said


def test_python_reads_stitches_as_a_table(out):
    table = open_maps(out).stitches
    assert table.schema == STITCHES_SCHEMA
    assert table.to_arrow(["driving_s"], [("video_id", "=", WHOLE)])["driving_s"].to_pylist() == [10, 15]
    assert list(table.to_pandas().columns) == STITCHES_SCHEMA.names
