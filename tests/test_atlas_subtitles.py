"""Import from and export to WebVTT and SubRip."""

import pyarrow as pa
import pytest
from annotations import write

from halsted_ray.atlas import read_atlas
from halsted_ray.atlas.formats import FORMATS, ImportSettings
from halsted_ray.atlas.imports import export_atlas, import_annotations
from halsted_ray.errors import AtlasError
from halsted_ray.maps import exports
from halsted_ray.maps.table_schemas import TIMELINE_SCHEMA
from halsted_ray.taxonomy import load

HALSTED = load()
VTT = """\ufeffWEBVTT - from a subtitle editor

STYLE
::cue { color: lime }

NOTE drawn up on Monday

first
00:00.500 --> 00:01.250 align:start position:10%
<v Ben>Cold Cut</v>
arm: left

1:00:02.000 --> 1:00:03.500
action: Hook
annotator: ben
confidence: 0.5

00:05.000 --> 00:06.000
anatomy

00:07.000 --> 00:06.000
Hook

00:08.0 --> 00:09.0
Hook
"""
SRT = "1\r\n00:00:00,500 --> 00:00:01,250\r\nHook\r\n\r\n2\r\n00:00:02,000 --> 00:00:03,500\r\nmüde\r\n"


def taken(path, **options):
    settings = ImportSettings(HALSTED, **options)
    (recording,) = FORMATS["vtt"].read(str(path), settings)
    return [(c.start_s, c.stop_s, c.tags, c.source, c.annotator, c.confidence) for c in recording.clips], settings


def test_a_file_of_a_subtitle_editor(tmp_path):
    clips, settings = taken(write(tmp_path / "one.vtt", VTT), annotator="eve")
    assert clips == [
        (500, 1250, {"action": "Cold Cut", "arm": "Left"}, "manual", "eve", 1.0),
        (3602000, 3603500, {"action": "Hook"}, "manual", "ben", 0.5),
    ]
    assert [(left.code, left.text.split(":")[1]) for left in settings.left_out] == [
        ("unknown-label", "18"), ("no-span", "21"), ("no-span", "24"),
    ]  # fmt: skip


def test_subrip_in_windows_1252(tmp_path):
    (tmp_path / "one.srt").write_bytes(SRT.encode("cp1252"))
    clips, settings = taken(tmp_path / "one.srt")
    assert clips == [(500, 1250, {"action": "Hook"}, "manual", "", 1.0)]
    assert [left.code for left in settings.left_out] == ["unknown-label"] and "'müde'" in settings.left_out[0].text
    with pytest.raises(AtlasError, match="one.txt:1: .*lines with -->"):
        FORMATS["srt"].read(write(tmp_path / "one.txt", "nothing\n"), ImportSettings(HALSTED))


@pytest.mark.parametrize("name", ["vtt", "metadata.vtt", "srt", "chapters.vtt"])
def test_the_exports_of_a_map(tmp_path, name):
    spans = [
        {"start_s": 0.5, "stop_s": 2.5, "task": "macro", "tag": "step", "category": "Suturing"},
        {"start_s": 3.0, "stop_s": 4.0, "task": "macro", "tag": "gap", "category": "corrupt"},
    ]
    common = dict.fromkeys(TIMELINE_SCHEMA.names[:-3], "") | {
        "confidence": 0.9,
        "video_id": "c" * 16,
        "source": "ai",
        "model_version": "7",
    }
    rows = pa.Table.from_pylist([{**common, **span} for span in spans], schema=TIMELINE_SCHEMA)
    exports.export(rows, str(tmp_path), name.split(".")[-1])
    clips, settings = taken(tmp_path / f"{'c' * 16}.{name}")
    assert [clip[:3] for clip in clips] == [(500, 2500, {"step": "Suturing"})]
    assert clips[0][3] == ("manual" if name == "chapters.vtt" else "ai")
    assert [left.code for left in settings.left_out] == ["gap"]


def test_an_export_comes_back_as_the_same_clips(clips_csv, tmp_path):
    root = str(tmp_path / "atlas")
    import_annotations(root, clips_csv, "csv", annotator="ben")
    for format in ("vtt", "srt"):
        export_atlas(read_atlas(root), str(tmp_path / format), format)
        assert import_annotations(root, str(tmp_path / format), format).version == 0


def test_a_file_is_named_after_its_video(clips_csv, tmp_path):
    file = write(tmp_path / "set/one.srt", SRT.replace("müde", "Clip"))
    assert import_annotations(str(tmp_path / "atlas"), file, "srt").samples == 2
