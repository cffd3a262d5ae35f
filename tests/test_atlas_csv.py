"""Import of the atlas's own CSV and JSON lines when a person wrote them."""

from pathlib import Path

import pytest
from annotations import CSV, write

from halsted_ray.atlas import read_atlas
from halsted_ray.atlas.formats import FORMATS, ImportSettings
from halsted_ray.atlas.imports import import_annotations
from halsted_ray.errors import AtlasError
from halsted_ray.taxonomy import load

HALSTED = load()


def test_a_csv_made_by_hand(clips_csv, tmp_path):
    import_annotations(str(tmp_path / "atlas"), clips_csv, "csv", annotator="ben")
    assert [
        (clip.start_s, clip.stop_s, clip.tags, clip.annotator) for clip in read_atlas(str(tmp_path / "atlas")).clips
    ] == [
        (0.0, 1.5, {"action": "Cold Cut", "instrument": "Scissors"}, "ben"),
        (2.0, 3.0, {"anatomy": "Bladder–Urethra"}, "ben"),
    ]


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("start_s", "begin", r"clips.csv:1: .*expected a header with start_s too"),
        ("video,", "clip,", r":1: .*expected a column video_id"),
        ("cold cut", "cold cutt", r":2: .*did you mean 'Cold Cut'"),
        ("0,1.5,micro,instrument", "0,1.5,mikro,instrument", r":3: .*did you mean 'micro'"),
        ("2,3,context", "3,2,context", r":4: got \(3.0, 2.0\); expected 0 <= start_s < stop_s"),
        ("2,3,context", "two,3,context", r":4: got 'two'; expected start_s as a number"),
        ("instrument,scissors", "action,Hook", r":3: .*expected one action per span; it is 'Cold Cut' too"),
        ("micro,action,cold cut", 'micro,action,"cold cut', r"expected RFC 4180|expected 6 fields"),
        ("micro,action,cold cut", "micro,action", r":2: .*expected 6 fields"),
    ],
)
def test_a_wrong_csv(clips_csv, tmp_path, old, new, message):
    with pytest.raises(AtlasError, match=message):
        import_annotations(str(tmp_path / "atlas"), write(clips_csv, CSV.replace(old, new)), "csv", strict=True)


def test_text_that_is_not_utf8(clips_csv, tmp_path):
    Path(clips_csv).write_bytes(CSV.replace("Bladder-Urethra", "Mül").encode("latin-1"))
    with pytest.raises(AtlasError, match=r"clips.csv:4: not UTF-8"):
        import_annotations(str(tmp_path / "atlas"), clips_csv, "csv", strict=True)


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("{", r":2: .*one JSON object per line"),
        ("[]", r":2: .*an object whose tags are an object"),
        ('{"video": "one.mp4", "tags": {"action": "Hook"}}', r":2: .*the keys start_s, stop_s, task too"),
        ('{"video": "one.mp4", "start_s": 0, "stop_s": 1, "task": "micro", "tags": {"action": "Nap"}}', r":2: .*'Nap'"),
        ('{"video": "one.mp4", "start_s": 0, "stop_s": 1, "task": "micro", "tags": {}}', r":2: .*at least one tag"),
        (
            '{"vidio": "x", "start_s": 0, "stop_s": 1, "task": "micro", "tags": {"action": "Hook"}}',
            r":2: got \['vidio'\]",
        ),
    ],
)
def test_wrong_json_lines(clips_csv, tmp_path, line, message):
    good = '{"video": "one.mp4", "start_s": 0, "stop_s": 1, "task": "micro", "tags": {"action": "hook"}}'
    file = write(tmp_path / "set/clips.jsonl", f"{good}\n{line}\n")
    with pytest.raises(AtlasError, match=message):
        import_annotations(str(tmp_path / "atlas"), file, "jsonl", strict=True)


MAP = (
    "video_id,start_s,end_s,task,tag,category,confidence,source,model_version\r\n"
    "VIDEO,0.0,2.0,micro,action,Cold Cut,0.97,ai,7\r\n"
    "VIDEO,0.0,2.0,micro,instrument,Scissors,0.9,ai,7\r\n"
    "VIDEO,2.0,3.0,micro,gap,corrupt,1.0,ai,7\r\n"
)


def test_an_exported_map_that_was_corrected(clips_csv, tmp_path):
    root = str(tmp_path / "atlas")
    import_annotations(root, clips_csv, "csv")
    name = read_atlas(root).videos[0].video_id
    file = write(tmp_path / "timeline.csv", MAP.replace("VIDEO", name))
    done = import_annotations(str(tmp_path / "ai"), file, "csv", videos=str(tmp_path / "set"))
    assert [(c.tags, c.source, c.annotator, c.confidence) for c in read_atlas(str(tmp_path / "ai")).clips] == [
        ({"action": "Cold Cut", "instrument": "Scissors"}, "ai", "7", 0.9)
    ]
    assert done.counts == {"gap": 1}
    import_annotations(
        str(tmp_path / "by"), file, "csv", videos=str(tmp_path / "set"), said_by="manual", annotator="ben"
    )
    assert [(c.source, c.annotator, c.confidence) for c in read_atlas(str(tmp_path / "by")).clips] == [
        ("manual", "ben", 1.0)
    ]
    lines = (
        '{"video_id": "NAME", "start_s": 0.0, "end_s": 2.0, "task": "micro", "tag": "action", "category": "Cold Cut", '
        '"confidence": 0.97, "source": "ai", "model_version": "7"}\n'
    )
    file = write(tmp_path / "timeline.jsonl", lines.replace("NAME", name))
    import_annotations(str(tmp_path / "json"), file, "jsonl", videos=str(tmp_path / "set"))
    assert [(c.tags, c.annotator) for c in read_atlas(str(tmp_path / "json")).clips] == [({"action": "Cold Cut"}, "7")]


def taken(tmp_path, data, name="clips.csv", format="csv", **settings):
    """([(start_s, stop_s, tags)], settings) of a table that is given as text or bytes."""
    file = tmp_path / name
    file.write_bytes(data if isinstance(data, bytes) else data.encode())
    options = ImportSettings(HALSTED, **settings)
    clips = [clip for recording in FORMATS[format].read(str(file), options) for clip in recording.clips]
    return [(clip.start_s, clip.stop_s, clip.tags) for clip in clips], options


RIGHT = [(5.0, 9.0, {"action": "Cold Cut"}), (10.5, 11.25, {"anatomy": "Bladder–Urethra"})]
SHEET = (
    "video;Start_s;end;note;task;TAG;Category\r\none.mp4;00:00:05;0:00:09,0;ä;micro;action;cold cut\r\n"
    "one.mp4;10,500;11,25;;context;anatomy;Bladder–Urethra\r\n;;;;;;\r\n"
)


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-16-le", "utf-16-be", "cp1252"])
def test_a_sheet_as_spreadsheets_save_it(tmp_path, encoding):
    for text in (SHEET, f"sep=;\r\n{SHEET}", SHEET.replace(";", "\t")):
        clips, settings = taken(tmp_path, text.encode(encoding))
        assert clips == RIGHT and settings.left_out == []
        assert bool(settings.notes) is (encoding == "cp1252")
    with pytest.raises(AtlasError, match=r"clips.csv:2: not UTF-8"):
        taken(tmp_path, SHEET.encode("cp1252"), strict=True)


def test_a_column_per_tag(tmp_path):
    head = "video,start,stop,Action,anatomy,specialty\n"
    text = f"{head}one.mp4,0:05,0:09,Cold Cut,,\none.mp4,10.5,11.25,,Bladder-Urethra,\n"
    clips, settings = taken(tmp_path, text + "one.mp4,12,13,,,\none.mp4,12,13,Nap,,\n")
    assert clips == RIGHT and [left.code for left in settings.left_out] == ["no-label", "unknown-label"]


def test_a_bad_row_is_left_out_with_its_line_and_the_rest_is_taken(clips_csv, tmp_path):
    bad = "one.mp4,2,1,micro,action,Hook\none.mp4,0,1,micro,action,Nap\none.mp4,0,1,micro\n,0,1,micro,action,Hook\n"
    rest = "one.mp4,3.25,3.5,micro,action,Hook\none.mp4,9,9.5,micro,action,Hook\ntwo.mp4,0,1,micro,action,Hook\n"
    file = write(clips_csv, CSV + bad + rest)
    done = import_annotations(str(tmp_path / "atlas"), file, "csv")
    assert done.samples == 3
    assert done.counts == {"no-video": 2, "no-span": 1, "unknown-label": 1, "malformed": 1, "outside-video": 1}
    found = [str(left) for left in done.left_out]
    for line in (5, 6, 7, 8, 10, 11):
        assert any(f"clips.csv:{line}: " in text for text in found), (line, found)
    with pytest.raises(AtlasError, match="clips.csv:5: "):
        import_annotations(str(tmp_path / "other"), file, "csv", strict=True)
    write(clips_csv, CSV + "two.mp4,0,1,micro,action,Hook\n")
    with pytest.raises(AtlasError, match=r"nothing was imported \(--strict\)"):
        import_annotations(str(tmp_path / "other"), file, "csv", strict=True)


def test_json_lines_may_hold_any_unicode(tmp_path):
    line = (
        '{"video": "one.mp4", "start_s": 0, "stop_s": "0:05", "task": "micro", "tags": {"action": "Hook"}, '
        '"caption": "a%sb"}'
    )
    text = "".join(
        line % mark + end for mark, end in zip("\u2028\u2029\x85\x1c", ("\n", "\r\n", "\n\n", "\n"), strict=True)
    )
    file = tmp_path / "clips.jsonl"
    file.write_bytes(text.replace("\x1c", "\\u001c").encode())
    settings = ImportSettings(HALSTED)
    captions = [c.caption for r in FORMATS["jsonl"].read(str(file), settings) for c in r.clips]
    assert captions == ["a\u2028b", "a\u2029b", "a\x85b", "a\x1cb"] and settings.left_out == []


def test_two_annotators_of_the_same_span(clips_csv, tmp_path):
    """An atlas holds one sample per span and task: what does not fit is said, and nothing is lost in silence."""
    head = "video,start_s,stop_s,task,tag,category,annotator\n"
    rows = "one.mp4,0,1,micro,action,Hook,ann\none.mp4,0,1,micro,action,Clip,ben\none.mp4,0,1,micro,action,Hook,eve\n"
    done = import_annotations(str(tmp_path / "atlas"), write(clips_csv, head + rows), "csv")
    assert [(c.tags, c.annotator) for c in read_atlas(str(tmp_path / "atlas")).clips] == [({"action": "Hook"}, "ann")]
    (left,) = done.left_out
    assert left.code == "contradiction" and "annotator 'ben' left out, because annotator 'ann'" in left.text


def test_quotes_that_are_not_closed_cost_one_line(tmp_path):
    rows = [
        'one.mp4,0,1,micro,action,"Hook" x,',
        'one.mp4,1,2,micro,action,Hook,"two\nlines"',
        'one.mp4,2,3,micro,action,"Hook,',
        "one.mp4,3,4,micro,action,Hook,",
        'one.mp4,4,5,micro,action,Hook,"said ""here"""',
    ]
    clips, settings = taken(tmp_path, "video,start_s,stop_s,task,tag,category,caption\n" + "\n".join(rows) + "\n")
    assert [clip[0] for clip in clips] == [1, 3, 4]
    assert [left.text.split(":")[1] for left in settings.left_out] == ["2", "5"]


def test_a_name_in_the_column_of_ids(tmp_path):
    text = "video_id,start_s,stop_s,task,tag,category\none.mp4,0,1,micro,action,Hook\n"
    (tmp_path / "clips.csv").write_text(text)
    (recording,) = FORMATS["csv"].read(str(tmp_path / "clips.csv"), ImportSettings(HALSTED))
    assert (recording.uri, recording.video_id) == (f"{tmp_path}/one.mp4", "")
