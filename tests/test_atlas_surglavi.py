"""Import of SurgLaVi-β's database, also from S3: what is imported, and how a wrong database is reported."""

import json
import sqlite3

import pytest
import small_video
from annotations import write

from halsted_ray.atlas import read_atlas
from halsted_ray.atlas.captions import captions_for_training, read_captions
from halsted_ray.atlas.imports import export_atlas, import_annotations
from halsted_ray.atlas.verify import verify
from halsted_ray.errors import AtlasError


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
    assert done.counts == {"outside-video": 2, "no-video": 1}  # "far too long", raw and enhanced
    assert atlas.taxonomy == "surglavi"


def test_surglavi_is_imported_whole(surglavi, tmp_path):
    with sqlite3.connect(surglavi) as base:
        base.executescript("""
            update captions set raw_narration = 'now we go to Calot' where caption_id = 1;
            update captions set duration = 3.0, video_name = 'xk3' where caption_id = 2;
            update captions set end_time = 5, duration = 900 where caption_id = 5;
            insert into captions values (7, 99, 'gone', 1, '…', 0.0, 2.0, 2.0, 1, 1, 'of no video');
            insert into transcriptions values (1, 7, 'text/xk2.txt', 'hello and welcome');
            insert into transcriptions values (2, 7, 'text/second.txt', ''), (3, 7, '../../secret.txt', '');
        """)
    write(surglavi.parent / "text/second.txt", "from a file")
    done = import_annotations(str(tmp_path / "atlas"), str(surglavi), "surglavi")
    captions = read_captions(read_atlas(str(tmp_path / "atlas")))
    said = {(c.level, c.kind, c.text): c.excluded for c in captions}
    assert said["coarse", "raw", "now we go to Calot"] == said["coarse", "enhanced", "Dissects Calot's triangle"] == ""
    assert said["fine", "enhanced", "greets the audience"] == "it is not surgical"
    assert said["fine", "enhanced", "here it is"] == "it is not descriptive"
    assert said["mid", "enhanced", "far too long"] == "its duration is not above 0 s and 500 s at most"
    assert said["video", "transcript", "hello and welcome"] == said["video", "transcript", "from a file"] == ""
    assert {c.source for c in captions} == {"SurgLaVi-β"}
    assert done.counts == {"no-video": 2, "malformed": 1}  # no file, no row of videos; a path that leads out
    assert [note.partition(": ")[2] for note in done.notes] == [
        "2 rows disagree: the duration is not end_time - start_time (the first: caption_id 5)",
        "1 rows disagree: video_name is not the name of the video_id (the first: caption_id 2)",
    ]
    kept = captions_for_training(read_atlas(str(tmp_path / "atlas")), ["enhanced"])
    assert {c.text for c in kept} == {"Dissects Calot's triangle", "Grasps the fundus, and retracts"}


SRT = "1\n00:00:00,500 --> 00:00:02,000\nnow we clip\nthe duct\n\n2\n00:00:03,000 --> 00:00:02,000\nbackwards\n"
VTT = "WEBVTT\n\n00:00.500 --> 00:02.000\nnow we clip\nthe <b>duct</b>\n\n00:03.000 --> 00:02.000\nbackwards\n"
SEGMENTS = [
    {"start": 0.5, "end": 2.0, "text": " now we clip the duct"},
    {"start": 3.0, "end": 2.0, "text": "backwards"},
]
CHUNKS = [{"timestamp": [0.5, 2.0], "text": "now we clip the duct"}, {"timestamp": [3.0, 2.0], "text": "backwards"}]


@pytest.mark.parametrize(
    "text",
    [SRT, VTT, json.dumps({"text": "…", "segments": SEGMENTS}), json.dumps({"chunks": CHUNKS})],
    ids=["srt", "vtt", "whisper", "transformers"],
)
def test_a_transcript_with_times_keeps_them(surglavi, tmp_path, text):
    write(surglavi.parent / "text/xk2", text)
    with sqlite3.connect(surglavi) as base:
        base.execute("insert into transcriptions values (1, 7, 'text/xk2', '')")
    done = import_annotations(str(tmp_path / "atlas"), str(surglavi), "surglavi")
    said = [c for c in read_captions(read_atlas(str(tmp_path / "atlas"))) if c.kind == "transcript"]
    assert [(c.start_s, c.stop_s, c.level, c.text) for c in said] == [(0.5, 2.0, "fine", "now we clip the duct")]
    assert done.counts["no-span"] == 1, "what ends before it begins is left out, and counted"


MARKED = "\ufeffWEBVTT\n\n00:00.500 --> 00:02.000\n<v Dr A><i>cut</i> &amp;amp; p < 5 mm\n"
BAD_PARTS = [None, {"start": 0.5, "end": 2.0, "text": "half \ud83d"}, {"start": 1.0, "end": 2.0, "text": "good"}]


@pytest.mark.parametrize(
    ("text", "kept", "left_out"),
    [
        (MARKED, "cut &amp; p < 5 mm", {}),
        (MARKED.removeprefix("\ufeffWEBVTT\n\n").replace("<v Dr A>", "{\\an8}"), "cut &amp; p < 5 mm", {}),
        (json.dumps({"segments": BAD_PARTS}), "good", {"malformed": 1, "no-caption": 1}),
    ],
    ids=["vtt", "srt", "whisper"],
)
def test_a_bad_part_of_a_transcript_takes_no_good_one_with_it_and_marks_are_not_said(
    surglavi, tmp_path, text, kept, left_out
):
    write(surglavi.parent / "text/xk2", text)
    with sqlite3.connect(surglavi) as base:
        base.execute("insert into transcriptions values (1, 7, 'text/xk2', '')")
    done = import_annotations(str(tmp_path / "atlas"), str(surglavi), "surglavi")
    said = [c for c in read_captions(read_atlas(str(tmp_path / "atlas"))) if c.kind == "transcript"]
    assert [c.text for c in said] == [kept]
    assert left_out.items() <= done.counts.items()


@pytest.mark.parametrize(
    ("text", "kept"),
    [
        ('{"segments": 3}', []),
        ('{"segments": [1]}', []),
        ("{half", []),
        ("at 00:01 --> we cut", []),
        ('{"a": ' * 9999, []),
        ('{"text": " we cut ", "segments": []}', ["we cut"]),
        ('{"text": "we cut"}', ["we cut"]),
        ("we cut {gently}", ["we cut {gently}"]),
    ],
)
def test_a_transcript_without_times_is_text_and_one_that_could_not_be_read_is_left_out(surglavi, tmp_path, text, kept):
    with sqlite3.connect(surglavi) as base:
        base.execute("insert into transcriptions values (1, 7, '', ?)", (text,))
    done = import_annotations(str(tmp_path / "atlas"), str(surglavi), "surglavi")
    said = [c for c in read_captions(read_atlas(str(tmp_path / "atlas"))) if c.kind == "transcript"]
    assert [(c.level, c.text) for c in said] == [("video", one) for one in kept]
    assert done.counts.get("no-caption", 0) == 1 - len(kept)


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
    (file,) = export_atlas(atlas, f"{root}/out", "jsonl")
    assert fs.cat_file(file.removeprefix("s3://")).count(b"\n") == 2


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            "update captions set start_time = 'soon' where caption_id = 2",
            "table captions, caption_id 2: got 'soon'; expected start_time as a number",
        ),
        (
            "update captions set end_time = 0 where caption_id = 2",
            "caption_id 2: .* expected 0 <= start_time < end_time",
        ),
        ("update captions set level_id = 9 where caption_id = 2", "caption_id 2: got None; expected a level_id"),
        ("alter table captions rename column caption to text", "table captions: .* expected the columns caption too"),
        ("drop table levels", "table levels: .* expected the columns level_id, name too"),
    ],
)
def test_a_wrong_surglavi(surglavi, tmp_path, change, message):
    with sqlite3.connect(surglavi) as base:
        base.execute(change)
    with pytest.raises(AtlasError, match=message):
        import_annotations(str(tmp_path / "atlas"), str(surglavi), "surglavi", strict=True)


def test_a_file_that_is_no_database(tmp_path):
    with pytest.raises(AtlasError, match="not a database; expected an SQLite database"):
        import_annotations(str(tmp_path), write(tmp_path / "x.db", "no database " * 200), "surglavi")
    with pytest.raises(AtlasError, match="no such file"):
        import_annotations(str(tmp_path), str(tmp_path / "y.db"), "surglavi")
