"""Exports come back as they went: times within 1 ms, overlapping lanes, any spelling, any length."""

import json

import pyarrow as pa
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from halsted_ray.errors import OutputError, UsageError
from halsted_ray.maps import exports
from halsted_ray.maps.table_schemas import TIMELINE_SCHEMA

CATEGORIES = st.one_of(
    st.sampled_from(["Bipolar Forceps–Vessel Sealer", 'a, "b", c', "Push/Peel", "<b>&amp;</b>", "x --> y", "Ä (0.50)"]),
    st.text(st.characters(exclude_categories=("Cc", "Cs", "Zl", "Zp")), min_size=1, max_size=20),
)
UNHURRIED = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
"""A busy machine is no failure."""
TASKS = st.sampled_from(["macro", "micro", "proficiency", "context"])
LENGTHS_S = st.one_of(st.floats(1e-5, 2e-3), st.floats(0.03125, 4000))
"""A video's last window can be shorter than a millisecond."""


@st.composite
def timelines(draw, max_size=8):
    rows = []
    for _ in range(draw(st.integers(0, max_size))):
        start_s = draw(st.floats(0, 50_000, allow_nan=False))
        rows.append(
            {
                **dict.fromkeys(TIMELINE_SCHEMA.names[:-3], ""),
                "video_id": draw(st.sampled_from(["a" * 16, "b" * 16])),
                "start_s": start_s,
                "stop_s": start_s + draw(LENGTHS_S),
                "task": draw(TASKS),
                "tag": draw(st.sampled_from(["step", "action", "extent"])),
                "category": draw(CATEGORIES),
                "confidence": draw(st.floats(0, 1)),
                "source": "ai",
                "model_version": draw(CATEGORIES),
            }
        )
    return pa.Table.from_pylist(rows, schema=TIMELINE_SCHEMA)


@pytest.mark.parametrize(
    "write, read",
    [
        (exports.write_csv, exports.read_csv),
        (exports.write_jsonl, exports.read_jsonl),
    ],
)
@UNHURRIED
@given(timeline=timelines())
def test_tables_come_back_exactly(write, read, timeline):
    rows = exports.canonical_rows(timeline)
    assert read(write(rows)) == rows


@UNHURRIED
@given(timeline=timelines())
def test_metadata_cues_come_back_within_a_millisecond(timeline):
    rows = exports.canonical_rows(timeline)
    back = exports.read_metadata_vtt(exports.write_metadata_vtt(rows))
    assert len(back) == len(rows)
    for row, again in zip(rows, back, strict=True):
        assert_same_span(row, again)
        assert {**row, "start_s": 0, "end_s": 0} == {**again, "start_s": 0, "end_s": 0}


@pytest.mark.parametrize("write", [exports.write_caption_vtt, exports.write_srt])
@UNHURRIED
@given(timeline=timelines())
def test_captions_come_back_within_a_millisecond(write, timeline):
    rows = exports.canonical_rows(timeline)
    back = exports.read_captions(write(rows))
    assert len(back) == len(rows)
    for row, again in zip(rows, back, strict=True):
        assert_same_span(row, again)
        assert (row["task"], row["tag"], row["category"]) == (again["task"], again["tag"], again["category"])
        assert abs(row["confidence"] - again["confidence"]) <= 0.00501


def assert_same_span(row, again):
    assert abs(row["start_s"] - again["start_s"]) <= 0.001
    assert abs(row["end_s"] - again["end_s"]) <= 0.001
    assert again["end_s"] > again["start_s"]


@settings(UNHURRIED, max_examples=20)
@given(timeline=timelines())
def test_cues_hold_no_arrow_and_no_blank_line(timeline):
    rows = exports.canonical_rows(timeline)
    for write in exports.WRITERS["vtt"].values():
        for block in write(rows).strip("\n").split("\n\n")[1:]:
            times, *payload = block.split("\n")
            assert times.count(" --> ") == 1
            assert len(payload) == 1 and "-->" not in payload[0]


def timeline(*rows):
    blank = dict.fromkeys(TIMELINE_SCHEMA.names[:-3], "") | {"confidence": 0.9, "video_id": "c0ffee0000000000"}
    return pa.Table.from_pylist([{**blank, **row} for row in rows], schema=TIMELINE_SCHEMA)


def test_files_are_named_by_video_and_tables_hold_all(tmp_path):
    table = timeline({"start_s": 3600.5, "stop_s": 3725.25, "task": "macro", "tag": "step", "category": "Suturing"})
    written = exports.export(table, str(tmp_path), "csv", video_ids=["d" * 16])
    names = {name.rsplit("/", 1)[1] for name in written}
    assert names == {"c0ffee0000000000.csv", "dddddddddddddddd.csv", "timeline.csv"}
    assert exports.read_csv((tmp_path / "timeline.csv").read_bytes().decode()) == exports.canonical_rows(table)
    assert exports.read_csv((tmp_path / "dddddddddddddddd.csv").read_bytes().decode()) == []


def test_subtitles_past_the_hour_read_as_players_expect(tmp_path):
    table = timeline({"start_s": 3600.5, "stop_s": 3725.25, "task": "macro", "tag": "step", "category": "Suturing"})
    exports.export(table, str(tmp_path / "new" / "folder"), "srt")
    assert (tmp_path / "new/folder/c0ffee0000000000.srt").read_text() == (
        "1\n01:00:00,500 --> 01:02:05,250\nmacro · step: Suturing (0.90)\n"
    )


def test_chapters_are_steps_and_gaps(tmp_path):
    spans = [{"start_s": 0, "stop_s": 60}, {"start_s": 60, "stop_s": 120}, {"start_s": 60, "stop_s": 120}]
    tags = [
        {"task": "macro", "tag": "step", "category": "Dissection"},
        {"task": "macro", "tag": "gap", "category": "corrupt"},
        {"task": "micro", "tag": "gap", "category": "corrupt"},
    ]
    rows = exports.canonical_rows(timeline(*({**span, **tag} for span, tag in zip(spans, tags, strict=True))))
    assert exports.write_chapter_vtt(rows) == (
        "WEBVTT\n\n00:00:00.000 --> 00:01:00.000\nDissection\n\n00:01:00.000 --> 00:02:00.000\nNot mapped\n"
    )


def test_metadata_cues_are_json(tmp_path):
    table = timeline({"start_s": 0, "stop_s": 2.5, "task": "micro", "tag": "action", "category": "Hot Cut"})
    exports.export(table, str(tmp_path), "vtt")
    cue = (tmp_path / "c0ffee0000000000.metadata.vtt").read_text().strip().split("\n")[-1]
    assert json.loads(cue)["category"] == "Hot Cut"


def test_wrong_use_is_named(tmp_path):
    with pytest.raises(UsageError, match="unknown export format 'docx'; expected one of csv, jsonl, vtt, srt"):
        exports.export(timeline(), str(tmp_path), "docx")
    (tmp_path / "file").write_text("")
    with pytest.raises(OutputError, match="can't write"):
        exports.export(timeline({"task": "macro", "start_s": 0, "stop_s": 1}), str(tmp_path / "file"), "csv")
    with pytest.raises(UsageError, match="has no video_id"):
        exports.read_csv("start_s,end_s\n1,2\n")
