"""Importers on small files in the published layouts, wrong files, and what is exported coming back."""

import csv
import json
import re
import shutil
import sqlite3
import xml.etree.ElementTree as ElementTree
from dataclasses import replace
from pathlib import Path

import pytest
import small_video
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from halsted_ray.atlas import read_atlas, write_atlas
from halsted_ray.atlas.commits import history
from halsted_ray.atlas.formats import FORMATS, Settings
from halsted_ray.atlas.imports import export_atlas, import_annotations
from halsted_ray.atlas.verify import verify
from halsted_ray.errors import AtlasError, HalstedError, TaxonomyError, UsageError
from halsted_ray.records import Clip, Video
from halsted_ray.taxonomy import load

HALSTED = load()


def spans(atlas, task, tag=None):
    found = [clip for clip in atlas.clips if clip.task == task]
    return [(clip.start_s, clip.stop_s, clip.tags[tag] if tag else clip.tags) for clip in found]


def write(path, text):
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    Path(path).write_text(text, encoding="utf-8")
    return str(path)


# SAR-RARP50


@pytest.fixture
def rarp50(tmp_path):
    root = tmp_path / "rarp50"
    for look, (folder, seconds, text) in enumerate([
        ("train1/video_01", 3, "0 59 0\n60 149 3\n150 179 0\n"), ("train2/video_11_1", 2, "0 119 5\n"),
        ("test/video_41", 2, "0 59 1\n60 119 2\n"),
    ]):
        write(root / folder / "action_continues.txt", text)
        small_video.write(root / folder / "video_left.avi", seconds, fps=60, look=look)
    return root


def test_sar_rarp50(rarp50, tmp_path):
    done = import_annotations(str(tmp_path / "atlas"), str(rarp50), "sar-rarp50", why="external test")
    atlas = read_atlas(str(tmp_path / "atlas"))
    assert (done.videos, done.samples, done.left_out, atlas.taxonomy) == (3, 6, (), "sar_rarp50")
    by_uri = {video.uri.split("/")[-2]: video.video_id for video in atlas.videos}
    first = replace(atlas, clips=tuple(clip for clip in atlas.clips if clip.video_id == by_uri["video_01"]))
    assert spans(first, "action", "action") == [
        (0.0, 1.0, "Other"), (1.0, 2.5, "Pushing the needle through the tissue"), (2.5, 3.0, "Other")]
    assert atlas.split == {by_uri["video_01"]: "train", by_uri["video_11_1"]: "train", by_uri["video_41"]: "test"}
    assert {(clip.specialty, clip.procedure) for clip in atlas.clips} == {("Urology", "Prostatectomy")}
    assert history(atlas.root)[0].source == f"sar-rarp50 {rarp50}"


def test_sar_rarp50_at_ten_a_second(rarp50, tmp_path):
    for file in rarp50.rglob("action_continues.txt"):
        file.unlink()
    classes = [0] * 10 + [3] * 15 + [0] * 5
    write(rarp50 / "train1/video_01/action_discrete.txt", "".join(f"{6 * n},{c}\n" for n, c in enumerate(classes)))
    import_annotations(str(tmp_path / "atlas"), str(rarp50), "sar-rarp50")
    assert spans(read_atlas(str(tmp_path / "atlas")), "action", "action") == [
        (0.0, 1.0, "Other"), (1.0, 2.5, "Pushing the needle through the tissue"), (2.5, 3.0, "Other")]


@pytest.mark.parametrize(("text", "message"), [
    ("0 59 0\n60 149\n", r"action_continues.txt:2: got '60 149'; expected three numbers"),
    ("0 59 0\n60 149 9\n", r":2: got 9; expected a class of 0 to 7"),
    ("0 59 0\n\n30 149 3\n", r":3: got '30 149 3'; expected first <= last, and a first frame of 60 on"),
    ("0 5x 0\n", r":1: got '5x'; expected the last frame as a whole number"),
])
def test_a_wrong_sar_rarp50(rarp50, tmp_path, text, message):
    write(rarp50 / "train1/video_01/action_continues.txt", text)
    with pytest.raises(AtlasError, match=message):
        import_annotations(str(tmp_path / "atlas"), str(rarp50), "sar-rarp50")
    assert not (tmp_path / "atlas").exists()


# Cholec80


@pytest.fixture
def cholec80(tmp_path):
    root = tmp_path / "cholec80"
    tools = "Frame\tGrasper\tBipolar\tHook\tScissors\tClipper\tIrrigator\tSpecimenBag\n"
    for n in (1, 41):
        small_video.write(root / f"videos/video{n:02d}.mp4", 4, look=n)
        phases = ["Preparation"] * 50 + ["CalotTriangleDissection"] * 50
        write(root / f"phase_annotations/video{n:02d}-phase.txt",
              "Frame\tPhase\n" + "".join(f"{k}\t{phase}\n" for k, phase in enumerate(phases)))
        rows = ["0 1 0 0 0 0 0 0", "25 1 0 0 0 0 0 0", "50 1 0 1 0 0 0 0", "75 0 0 0 0 0 0 0", ""]
        write(root / f"tool_annotations/video{n:02d}-tool.txt", tools + "\n".join(rows).replace(" ", "\t"))
    return root


def test_cholec80(cholec80, tmp_path):
    done = import_annotations(str(tmp_path / "atlas"), str(cholec80), "cholec80")
    atlas = read_atlas(str(tmp_path / "atlas"))
    assert (done.videos, done.samples, done.left_out) == (2, 10, ())
    name = next(video.video_id for video in atlas.videos if video.uri.endswith("video01.mp4"))
    one = replace(atlas, clips=tuple(clip for clip in atlas.clips if clip.video_id == name))
    assert spans(one, "phase", "phase") == [(0.0, 2.0, "Preparation"), (2.0, 4.0, "CalotTriangleDissection")]
    present = [(start_s, stop_s, sorted(tool for tool, there in tags.items() if there == "Present"))
               for start_s, stop_s, tags in spans(one, "tools")]
    assert present == [(0.0, 2.0, ["grasper"]), (2.0, 3.0, ["grasper", "hook"]), (3.0, 4.0, [])]
    assert all(len(tags) == 7 for *_, tags in spans(one, "tools"))
    assert atlas.split[name] == "train" and sorted(atlas.split.values()) == ["test", "train"]


@pytest.mark.parametrize(("file", "line", "text", "message"), [
    ("phase_annotations/video01-phase.txt", 1, "Frame,Phase", "phase.txt:1: got 'Frame,Phase'; expected the header"),
    ("phase_annotations/video01-phase.txt", 4, "7\tPreparation", "phase.txt:4: got 7; expected frame 2"),
    ("phase_annotations/video01-phase.txt", 9, "7\tNap", "phase.txt:9: got 'Nap'; expected a phase of Preparation, "),
    ("tool_annotations/video41-tool.txt", 3, "25\t1\t0\t2\t0\t0\t0\t0", "video41-tool.txt:3: got '2'; expected 0 or 1"),
    ("tool_annotations/video41-tool.txt", 3, "25\t1", "tool.txt:3: got .* expected 8 fields"),
])
def test_a_wrong_cholec80(cholec80, tmp_path, file, line, text, message):
    lines = (cholec80 / file).read_text().splitlines()
    lines[line - 1] = text
    write(cholec80 / file, "\n".join(lines))
    with pytest.raises(AtlasError, match=message):
        import_annotations(str(tmp_path / "atlas"), str(cholec80), "cholec80")


def test_a_video_that_is_not_there_is_reported_and_the_others_go_on(cholec80, tmp_path):
    (cholec80 / "videos/video41.mp4").unlink()
    (cholec80 / "tool_annotations/video01-tool.txt").unlink()
    done = import_annotations(str(tmp_path / "atlas"), str(cholec80), "cholec80")
    assert (done.videos, done.samples) == (1, 2)
    line, = done.left_out
    assert "video41-phase.txt: 5 samples left out" in line and "moved or deleted" in line
    (cholec80 / "videos/video01.mp4").unlink()
    with pytest.raises(AtlasError, match=r"nothing to import; .*\(2 such\)"):
        import_annotations(str(tmp_path / "other"), str(cholec80), "cholec80")


def test_one_video_in_two_official_parts_is_refused(cholec80, tmp_path):
    """By content: the file was renamed on its way into the other part."""
    shutil.copy(cholec80 / "videos/video01.mp4", cholec80 / "videos/video41.mp4")
    with pytest.raises(AtlasError, match="is 'train' .*and 'test' is asked"):
        import_annotations(str(tmp_path / "atlas"), str(cholec80), "cholec80")


def test_clips_beyond_the_end_are_reported_and_frames_of_rounding_are_cut(cholec80, tmp_path):
    file = cholec80 / "phase_annotations/video01-phase.txt"
    with open(file, "a") as more:
        more.writelines(f"{k}\tClippingCutting\n" for k in range(100, 110))
    done = import_annotations(str(tmp_path / "a"), str(cholec80), "cholec80")
    assert "phase sample [4, 4.4) s left out" in done.left_out[0] and "ends at 4 s" in done.left_out[0]
    with open(file, "a") as more:
        more.writelines(f"{k}\tCalotTriangleDissection\n" for k in range(110, 115))
    text = file.read_text().replace("ClippingCutting", "CalotTriangleDissection")
    write(file, text)  # one phase of 2.0 to 4.6 s
    assert not import_annotations(str(tmp_path / "b"), str(cholec80), "cholec80").left_out
    assert max(clip.stop_s for clip in read_atlas(str(tmp_path / "b")).clips) == 4.0


@pytest.mark.parametrize("format", ["sar-rarp50", "cholec80", "hsa-27k"])
def test_a_folder_of_something_else(tmp_path, format):
    with pytest.raises(AtlasError, match="name the folder"):
        import_annotations(str(tmp_path / "atlas"), str(tmp_path), format)


# SurgLaVi-β


@pytest.fixture
def surglavi(tmp_path):
    root = tmp_path / "data"
    small_video.write(root / "videos/xk2/xk2.mp4", 5)
    base = sqlite3.connect(root / "surglavi_beta.db")
    base.executescript("""
        create table videos(video_id integer primary key, title, name, url, runtime, year, fps, duration, frame_count,
            width, height, youtube_id, description, procedure_modality, procedure_type, specialty, subject,
            total_caption_count);
        create table levels(level_id integer primary key, name);
        create table captions(caption_id integer primary key, video_id, video_name, level_id, raw_narration, start_time,
            end_time, duration, is_surgical_content, is_descriptive, caption);
        create table transcriptions(transcription_id integer primary key, video_id, file_path, text);
        insert into levels values (1, 'task'), (2, 'step'), (3, 'phase');
        insert into videos(video_id, name, procedure_type, specialty) values
            (7, 'xk2', 'Cholecystectomy', 'General'), (8, 'not-downloaded', 'Sleeve', 'Bariatric');
        insert into captions values
            (1, 7, 'xk2', 3, '…', 0.0, 4.0, 4.0, 1, 1, 'Dissects Calot''s triangle'),
            (2, 7, 'xk2', 1, '…', 0.5, 2.0, 1.5, 1, 1, 'Grasps the fundus, and retracts'),
            (3, 7, 'xk2', 1, '…', 2.0, 3.0, 1.0, 0, 1, 'greets the audience'),
            (4, 7, 'xk2', 1, '…', 2.0, 3.0, 1.0, 1, 0, 'here it is'),
            (5, 7, 'xk2', 2, '…', 0.0, 900.0, 900.0, 1, 1, 'far too long'),
            (6, 8, 'not-downloaded', 1, '…', 0.0, 2.0, 2.0, 1, 1, 'Staples the stomach');
    """)
    base.commit()
    base.close()
    return root / "surglavi_beta.db"


def test_surglavi_keeps_captions_and_levels(surglavi, tmp_path):
    done = import_annotations(str(tmp_path / "atlas"), str(surglavi), "surglavi")
    atlas = read_atlas(str(tmp_path / "atlas"))
    assert [(clip.start_s, clip.stop_s, clip.tags, clip.caption) for clip in atlas.clips] == [
        (0.0, 4.0, {"level": "Phase"}, "Dissects Calot's triangle"),
        (0.5, 2.0, {"level": "Task"}, "Grasps the fundus, and retracts"),
    ]
    assert {(clip.specialty, clip.procedure) for clip in atlas.clips} == {("General", "Cholecystectomy")}
    assert len(done.left_out) == 1 and "1 samples left out" in done.left_out[0]
    assert atlas.taxonomy == "surglavi"


def test_surglavi_on_s3(surglavi, tmp_path, s3_server):
    import s3fs

    fs = s3fs.S3FileSystem()
    fs.put_file(str(surglavi), "archive/surglavi/surglavi_beta.db")
    fs.put_file(str(surglavi.parent / "videos/xk2/xk2.mp4"), "archive/surglavi/videos/xk2/xk2.mp4")
    root = f"{s3_server.bucket}/surglavi"
    import_annotations(root, f"{root}/surglavi_beta.db", "surglavi")
    atlas = read_atlas(root)
    assert len(atlas.clips) == 2 and atlas.videos[0].uri == f"{root}/videos/xk2/xk2.mp4"
    assert verify(atlas) == []
    file, = export_atlas(atlas, f"{root}/out", "jsonl")
    assert fs.cat_file(file.removeprefix("s3://")).count(b"\n") == 2


@pytest.mark.parametrize(("change", "message"), [
    ("update captions set start_time = 'soon' where caption_id = 2",
     "table captions, caption_id 2: got 'soon'; expected start_time as a number"),
    ("update captions set end_time = 0 where caption_id = 2", "caption_id 2: .* expected 0 <= start_time < end_time"),
    ("update captions set level_id = 9 where caption_id = 2", "caption_id 2: got None; expected a level_id"),
    ("alter table captions rename column caption to text", "table captions: .* expected the columns caption too"),
    ("drop table levels", "table levels: .* expected the columns level_id, name too"),
])
def test_a_wrong_surglavi(surglavi, tmp_path, change, message):
    with sqlite3.connect(surglavi) as base:
        base.execute(change)
    with pytest.raises(AtlasError, match=message):
        import_annotations(str(tmp_path / "atlas"), str(surglavi), "surglavi")


def test_a_file_that_is_no_database(tmp_path):
    with pytest.raises(AtlasError, match="not a database; expected an SQLite database"):
        import_annotations(str(tmp_path), write(tmp_path / "x.db", "no database " * 200), "surglavi")
    with pytest.raises(AtlasError, match="no such file"):
        import_annotations(str(tmp_path), str(tmp_path / "y.db"), "surglavi")


# HSA-27k and other tables


HSA = ("video_id,start,end,specialty,procedure,step,action,arm,instrument,source,confidence\n"
       "v1,0.0,2.0,Urology,Prostatectomy,Dissection,Cold Cut,Left,Scissors,human,\n"
       "v1,2.0,4.0,Urology,Prostatectomy,Suturing,,,,model,0.8\n")


@pytest.fixture
def hsa(tmp_path):
    small_video.write(tmp_path / "hsa/videos/v1.mp4", 4)
    write(tmp_path / "hsa/clips.csv", HSA)
    return tmp_path / "hsa"


def test_hsa_27k_by_the_mapping_that_ships(hsa, tmp_path):
    import_annotations(str(tmp_path / "atlas"), str(hsa), "hsa-27k")
    atlas = read_atlas(str(tmp_path / "atlas"))
    assert [(clip.task, clip.start_s, clip.source, clip.confidence, clip.tags) for clip in atlas.clips] == [
        ("macro", 0.0, "manual", 1.0, {"specialty": "Urology", "procedure": "Prostatectomy", "step": "Dissection"}),
        ("micro", 0.0, "manual", 1.0, {"action": "Cold Cut", "arm": "Left", "instrument": "Scissors"}),
        ("macro", 2.0, "ai", 0.8, {"specialty": "Urology", "procedure": "Prostatectomy", "step": "Suturing"}),
    ]
    text = Path(import_annotations.__code__.co_filename).parent.joinpath("formats/hsa27k.yaml").read_text()
    assert "verified: false" in text and "UNVERIFIED" in text


def test_clip_files_by_a_mapping_of_ones_own(tmp_path):
    """Parquet, other names, and a clip that is a whole file."""
    import pyarrow as pa
    import pyarrow.parquet

    small_video.write(tmp_path / "set/clips/one.mp4", 2)
    pa.parquet.write_table(pa.table({"file": ["one"], "label": ["push/peel"]}), tmp_path / "set/m.parquet")
    mapping = write(tmp_path / "own.yaml", 'table: "*.parquet"\nvideo: "clips/{file}.mp4"\ntags: {action: label}\n')
    import_annotations(str(tmp_path / "atlas"), str(tmp_path / "set"), "hsa-27k", mapping=mapping)
    clip, = read_atlas(str(tmp_path / "atlas")).clips
    assert (clip.start_s, clip.stop_s, clip.tags) == (0.0, 2.0, {"action": "Push/Peel"})


@pytest.mark.parametrize(("old", "new", "message"), [
    ("v1,2.0,4.0", "v1,4.0,2.0", r"clips.csv:3: got \(4.0, 2.0\); expected 0 <= start < end"),
    ("Cold Cut", "Cold Cutt", r"csv:2: got 'Cold Cutt'; expected a category of 'action': .*did you mean 'Cold Cut'"),
    ("model,0.8", "robot,0.8", r":3: got 'robot'; expected a source of manual, human"),
    ("model,0.8", "model,high", r":3: got 'high'; expected the confidence as a number"),
    (",confidence", "", r":2: .*expected 10 fields"),
    ("video_id", "case", r":2: got .* expected a column 'video_id'"),
    ("start,end", "begin,end", r":2: got .* expected a column 'start'"),
])
def test_a_wrong_table(hsa, tmp_path, old, new, message):
    write(hsa / "clips.csv", HSA.replace(old, new))
    with pytest.raises(AtlasError, match=message):
        import_annotations(str(tmp_path / "atlas"), str(hsa), "hsa-27k")


@pytest.mark.parametrize(("text", "message"), [
    ("tags: {action: a}", "expected the keys table, video and tags"),
    ("table: x\nvideo: y\ntags:\n  aktion: a", "m.yaml:4: got 'aktion'; expected a tag: .*did you mean 'action'"),
    ("table: x\nvideo: y\ntags: {}\ncolumns: z", r"got \['columns'\]; expected keys of"),
    ("table: [", "not well-formed YAML"),
])
def test_a_wrong_mapping(hsa, tmp_path, text, message):
    with pytest.raises(HalstedError, match=message):
        import_annotations(str(tmp_path / "a"), str(hsa), "hsa-27k", mapping=write(tmp_path / "m.yaml", text))


# CSV and JSON lines


CSV = ("video,start_s,stop_s,task,tag,category\n"
       'one.mp4,0,1.5,micro,action,cold cut\none.mp4,0,1.5,micro,instrument,scissors\n'
       'one.mp4,2,3,context,anatomy,Bladder-Urethra\n')


@pytest.fixture
def table(tmp_path):
    small_video.write(tmp_path / "set/one.mp4", 4)
    return write(tmp_path / "set/clips.csv", CSV)


def test_a_csv_made_by_hand(table, tmp_path):
    import_annotations(str(tmp_path / "atlas"), table, "csv", annotator="ben")
    assert [(clip.start_s, clip.stop_s, clip.tags, clip.annotator) for clip in read_atlas(str(tmp_path / "atlas")).clips
            ] == [(0.0, 1.5, {"action": "Cold Cut", "instrument": "Scissors"}, "ben"),
                  (2.0, 3.0, {"anatomy": "Bladder–Urethra"}, "ben")]


@pytest.mark.parametrize(("old", "new", "message"), [
    ("start_s", "start", r"clips.csv:1: .*expected a header with start_s too"),
    ("video,", "clip,", r":1: .*expected a column video_id"),
    ("cold cut", "cold cutt", r":2: .*did you mean 'Cold Cut'"),
    ("0,1.5,micro,instrument", "0,1.5,mikro,instrument", r":3: .*did you mean 'micro'"),
    ("2,3,context", "3,2,context", r":4: got \(3.0, 2.0\); expected 0 <= start_s < stop_s"),
    ("2,3,context", "two,3,context", r":4: got 'two'; expected start_s as a number"),
    ("instrument,scissors", "action,Hook", r":3: got 'Hook'; expected one action a sample; it is 'Cold Cut' above"),
    ("micro,action,cold cut", 'micro,action,"cold cut', r"expected RFC 4180|expected 6 fields"),
    ("micro,action,cold cut", "micro,action", r":2: .*expected 6 fields"),
])
def test_a_wrong_csv(table, tmp_path, old, new, message):
    with pytest.raises(AtlasError, match=message):
        import_annotations(str(tmp_path / "atlas"), write(table, CSV.replace(old, new)), "csv")


def test_text_that_is_not_utf8(table, tmp_path):
    Path(table).write_bytes(CSV.replace("Bladder-Urethra", "Mül").encode("latin-1"))
    with pytest.raises(AtlasError, match=r"clips.csv:4: not UTF-8"):
        import_annotations(str(tmp_path / "atlas"), table, "csv")


@pytest.mark.parametrize(("line", "message"), [
    ("{", r":2: .*one JSON object a line"),
    ("[]", r":2: .*an object whose tags are an object"),
    ('{"video": "one.mp4", "tags": {"action": "Hook"}}', r":2: .*the keys start_s, stop_s, task too"),
    ('{"video": "one.mp4", "start_s": 0, "stop_s": 1, "task": "micro", "tags": {"action": "Nap"}}', r":2: .*'Nap'"),
    ('{"video": "one.mp4", "start_s": 0, "stop_s": 1, "task": "micro", "tags": {}}', r":2: .*at least one tag"),
    ('{"vidio": "x", "start_s": 0, "stop_s": 1, "task": "micro", "tags": {"action": "Hook"}}', r":2: got \['vidio'\]"),
])
def test_wrong_json_lines(table, tmp_path, line, message):
    good = '{"video": "one.mp4", "start_s": 0, "stop_s": 1, "task": "micro", "tags": {"action": "hook"}}'
    file = write(tmp_path / "set/clips.jsonl", f"{good}\n{line}\n")
    with pytest.raises(AtlasError, match=message):
        import_annotations(str(tmp_path / "atlas"), file, "jsonl")


# Label Studio


def studio(results, **data):
    return [{"id": 1, "data": {"video": "/data/upload/1/one.mp4", "fps": 25, **data},
             "annotations": [{"id": 3, "completed_by": {"id": 5, "email": "ben@hospital.example"}, "result": results}]}]


def region(start, end, label, name="tricks"):
    return {"id": "x", "type": "timelinelabels", "from_name": name, "to_name": "video",
            "value": {"ranges": [{"start": start, "end": end}], "timelinelabels": [label]}}


def test_a_label_studio_export(table, tmp_path):
    file = write(tmp_path / "project.json", json.dumps(studio([
        region(1, 25, "Cold Cut"), region(1, 25, "Left", "arm"), region(51, 75, "Cadiere Forceps"),
        {"type": "choices", "value": {"choices": ["Good"]}}])))
    import_annotations(str(tmp_path / "atlas"), file, "label-studio", videos=str(tmp_path / "set"))
    atlas = read_atlas(str(tmp_path / "atlas"))
    assert [(clip.start_s, clip.stop_s, clip.tags) for clip in atlas.clips] == [
        (0.0, 1.0, {"action": "Cold Cut", "arm": "Left"}), (2.0, 3.0, {"instrument": "Cadiere Forceps"})]
    assert {clip.annotator for clip in atlas.clips} == {"5"}


@pytest.mark.parametrize(("tasks", "message"), [
    (studio([region(0, 25, "Cold Cut")]), "line 1, task 1, annotations 0, result 0: got .*frames with 1 <= start"),
    (studio([region(1, 25, "Nap")]), "result 0: got 'Nap'; expected a category of taxonomy 'halsted'"),
    (studio([region(1, 25, "Nap", "action")]), "'halsted' has no category of 'action' 'Nap'"),
    (studio([region(1, 25, "Stapler")]), "expected a control named after its tag, since action, instrument all"),
    (studio([region(1, 25, "Hook", "action"), region(1, 25, "Clip", "action")]), "result 1: .*one action a span"),
    (studio([region(1, 25, "Hook")], fps="fast"), "task 1: got 'fast'; expected data.fps as a number"),
    (studio([region(1, 25, "Hook")], video=""), r"task 1: got .*expected data.video"),
    ([{"video": "a.mp4", "tricks": []}], "task 1: got .*expected an object with data and annotations"),
    ({"data": {}}, "expected a list of tasks"),
])
def test_a_wrong_label_studio_export(table, tmp_path, tasks, message):
    file = write(tmp_path / "project.json", json.dumps(tasks))
    with pytest.raises((AtlasError, TaxonomyError), match=message):
        import_annotations(str(tmp_path / "atlas"), file, "label-studio", videos=str(tmp_path / "set"))


def test_the_line_of_a_wrong_task_is_named(table, tmp_path):
    two = studio([region(1, 25, "Hook", "action")]) + studio([region(9, 2, "Hook", "action")])
    with pytest.raises(AtlasError, match=r"project.json, line \d+, task 2, annotations 0, result 0") as caught:
        import_annotations(str(tmp_path / "a"), write(tmp_path / "project.json", json.dumps(two, indent=1)),
                           "label-studio", videos=str(tmp_path / "set"))
    line = int(re.search(r"line (\d+)", str(caught.value))[1])
    lines = (tmp_path / "project.json").read_text().splitlines()
    assert line == [n for n, text in enumerate(lines, 1) if text == " {"][1]
    with pytest.raises(AtlasError, match=r"project.json:3: .*expected JSON"):
        import_annotations(str(tmp_path / "a"), write(tmp_path / "project.json", "[\n1,\nno]"), "label-studio")


def test_the_interface_has_a_lane_a_tag(table, tmp_path):
    import_annotations(str(tmp_path / "atlas"), table, "csv")
    *_, file = export_atlas(read_atlas(str(tmp_path / "atlas")), str(tmp_path / "out"), "label-studio")
    lanes = ElementTree.parse(file).getroot().findall("TimelineLabels")
    assert [lane.get("name") for lane in lanes] == [tag.name for tag in HALSTED.tags]
    assert [label.get("value") for label in lanes[1]] == list(HALSTED.tag("procedure").categories)


def test_what_was_exported_for_review_comes_back_as_the_same_clips(table, tmp_path):
    root = str(tmp_path / "atlas")
    write(table, CSV.replace("0,1.5", "0.123,1.507"))
    import_annotations(root, table, "csv", annotator="ben")
    before = read_atlas(root)
    file, _ = export_atlas(before, str(tmp_path / "out"), "label-studio")
    assert import_annotations(root, file, "label-studio").version == before.version


# there and back


@pytest.mark.parametrize("format", ["csv", "jsonl", "label-studio"])
def test_files_name_videos_by_content_only(table, tmp_path, format):
    root = str(tmp_path / "atlas")
    import_annotations(root, table, "csv")
    atlas = read_atlas(root)
    for with_files in (False, True):
        written = export_atlas(atlas, str(tmp_path / f"{with_files}"), format, with_files)
        assert ("one.mp4" in Path(written[0]).read_text()) is with_files
        assert atlas.videos[0].video_id in Path(written[0]).read_text()


def samples():
    """Samples of two videos at 25 and 29.97 frames a second, at least a frame long and not two in one span."""
    task = st.sampled_from(HALSTED.tasks)

    def tags(task):
        chosen = st.lists(st.sampled_from(task.tags), min_size=1, unique=True)
        return chosen.flatmap(lambda some: st.fixed_dictionaries(
            {tag.name: st.sampled_from(tag.categories) for tag in some}))

    names = st.text(st.characters(codec="utf-8", exclude_categories=("Cc", "Cs", "Zl", "Zp")), max_size=12)
    clip = task.flatmap(lambda task: st.builds(
        lambda video, start, length, tags, source, annotator, confidence, caption: Clip(
            video, start, start + length, task.name, tags, source, annotator, confidence, caption=caption),
        st.sampled_from(["a" * 16, "b" * 16]), st.floats(0, 7000), st.floats(0.05, 60), tags(task),
        st.sampled_from(["manual", "ai"]), names.map(str.strip), st.floats(0, 1), names.map(str.strip),
    ))
    return st.lists(clip, max_size=8, unique_by=lambda clip: (clip.video_id, clip.task, round(clip.start_s)))


def written(root, clips):
    videos = [Video("a" * 16, "/x/a.mp4", 1, 7300.0, 8, 8, 25.0, "h264"),
              Video("b" * 16, "/x/b.mp4", 1, 7300.0, 8, 8, 30000 / 1001, "h264")]
    write_atlas(root, videos, clips, "v1")
    return read_atlas(root)


def sorted_clips(recordings):
    clips = [replace(clip, video_id=recording.video_id, start_s=clip.start_s / recording.rate,
                     stop_s=clip.stop_s / recording.rate) for recording in recordings for clip in recording.clips]
    return sorted(clips, key=lambda clip: (clip.video_id, clip.start_s, clip.stop_s, clip.task))


@given(clips=samples())
@settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_round_trip(tmp_path_factory, clips):
    place = tmp_path_factory.mktemp("trip")
    atlas = written(str(place), clips)
    for format in ("csv", "jsonl", "label-studio"):
        file = export_atlas(atlas, str(place / "out"), format)[0]
        back = sorted_clips(FORMATS[format].read(file, Settings(HALSTED)))
        if format == "label-studio":
            fps = {video.video_id: video.fps for video in atlas.videos}
            assert len(back) == len(atlas.clips)
            for clip in back:
                near = [other for other in atlas.clips if other.video_id == clip.video_id and other.tags == clip.tags
                        and abs(other.start_s - clip.start_s) <= 1 / fps[clip.video_id]
                        and abs(other.stop_s - clip.stop_s) <= 1 / fps[clip.video_id]]
                assert any((other.task, other.source, other.annotator, other.caption, other.confidence)
                           == (clip.task, clip.source, clip.annotator, clip.caption, clip.confidence)
                           for other in near), clip
        else:
            assert [replace(clip, tags=dict(sorted(clip.tags.items()))) for clip in back] == list(atlas.clips)


def test_a_large_csv_is_rfc_4180(tmp_path):
    odd = Clip("a" * 16, 3700.5, 3701.25, "context", {"anatomy": "Bladder–Urethra"}, caption='says "here", and\nleaves')
    file, = export_atlas(written(str(tmp_path / "atlas"), [odd]), str(tmp_path), "csv")
    with open(file, newline="", encoding="utf-8") as text:
        row, = csv.DictReader(text)
    assert row["caption"] == odd.caption and row["category"] == "Bladder–Urethra"
    assert sorted_clips(FORMATS["csv"].read(file, Settings(HALSTED)))[0].caption == odd.caption


def test_unknown_formats_are_answered_with_the_nearest(table, tmp_path):
    with pytest.raises(UsageError, match="did you mean 'cholec80'"):
        import_annotations(str(tmp_path), table, "cholec-80")
    import_annotations(str(tmp_path / "atlas"), table, "csv")
    with pytest.raises(UsageError, match="one of label-studio, csv, jsonl"):
        export_atlas(read_atlas(str(tmp_path / "atlas")), str(tmp_path), "eaf")


def test_importing_again_commits_nothing(table, tmp_path):
    root = str(tmp_path / "atlas")
    assert [import_annotations(root, table, "csv").version for _ in range(2)] == [0, 0]


def test_a_data_set_that_was_moved_is_imported_again(table, tmp_path):
    root, moved = str(tmp_path / "atlas"), tmp_path / "moved"
    import_annotations(root, table, "csv")
    shutil.move(tmp_path / "set", moved)
    import_annotations(root, str(moved / "clips.csv"), "csv")
    atlas = read_atlas(root)
    assert [video.uri for video in atlas.videos] == [str(moved / "one.mp4")] and len(atlas.clips) == 2
    assert verify(atlas) == []


def test_a_corrected_boundary_replaces_the_old_one(table, tmp_path):
    root = str(tmp_path / "atlas")
    import_annotations(root, table, "csv")
    import_annotations(root, write(table, CSV.replace("0,1.5", "0,1.75")), "csv", replace_earlier=True)
    assert spans(read_atlas(root), "micro", "action") == [(0.0, 1.75, "Cold Cut")]
