"""Conversations about clips: LLaVA's and ShareGPT's JSON, out by templates and back in."""

from __future__ import annotations

import json

import pytest

from halsted_ray import taxonomy as taxonomies
from halsted_ray.atlas.contents import Atlas
from halsted_ray.atlas.formats import FORMATS, ImportSettings
from halsted_ray.atlas.formats.conversations import conversations_of, filled, read_settings
from halsted_ray.errors import AtlasError, UsageError
from halsted_ray.records import Clip, Video

VIDEO = "ab" * 8
FORMAT = FORMATS["conversations"]
CLIPS = (
    Clip(VIDEO, 0.0, 4.5, "micro", {"action": "Cautery", "arm": "Left", "instrument": "Cautery Hook"}, annotator="eva"),
    Clip(VIDEO, 4.5, 9.0, "micro", {"action": "Push/Peel", "arm": "Left"}, annotator="eva"),
    Clip(VIDEO, 30.0, 34.0, "micro", {"action": "Tug"}, annotator="eva"),  # follows nothing: a pause lies before
    Clip(VIDEO, 20.0, 24.0, "proficiency", {"phase": "Driving", "proficiency": "High"}, "ai", "v1", 0.75),
    Clip(VIDEO, 20.0, 24.0, "context", {"anatomy": "Bladder–Urethra", "direction": "In"}, caption="A {phase} stitch"),
)


@pytest.fixture
def atlas():
    taxonomy = taxonomies.load()
    video = Video(VIDEO, "/archive/Jane Doe.mp4", 10, 60.0, 64, 64, 25.0, "h264", "op1")
    return Atlas(
        "/archive", "r1", 3, taxonomy.name, taxonomy.digest, json.dumps(taxonomy.to_dict()), {VIDEO: "train"},
        (video,), CLIPS,
    )  # fmt: skip


def read(path, mapping=""):
    settings = ImportSettings(taxonomies.load(), mapping=str(mapping))
    return FORMAT.read(str(path), settings), settings.left_out


@pytest.mark.parametrize("form", ["llava", "sharegpt"])
def test_what_is_written_comes_back_once_per_clip(atlas, tmp_path, form):
    FORMAT.write(atlas, str(tmp_path), False)
    recordings, left_out = read(tmp_path / f"{form}.json")
    assert not left_out and {recording.video_id for recording in recordings} == {VIDEO}
    found = [clip for recording in recordings for clip in recording.clips]

    def told(clip):
        return (
            clip.start_s,
            clip.stop_s,
            clip.task,
            clip.tags,
            clip.source,
            clip.annotator,
            clip.confidence,
            clip.caption,
        )

    assert sorted(map(told, found), key=str) == sorted(map(told, CLIPS), key=str)
    assert {recording.group for recording in recordings} == {"op1"}


def test_answers_are_made_of_labels_and_carry_where_they_come_from(atlas):
    entries = list(conversations_of(atlas))
    by_name = {(entry["template"], entry["start_s"]): entry for entry in entries}
    said = by_name["activity", 0.0]
    assert said["conversations"][1] == {"from": "gpt", "value": "Cautery, with Cautery Hook."}
    assert said["conversations"][0]["value"].startswith("<video>\n")
    assert (said["split"], said["source"], said["annotator"], said["atlas_release"]) == ("train", "manual", "eva", "r1")
    assert said["video"] == f"{VIDEO}#t=0,4.5"
    assert by_name["next action", 0.0]["conversations"][1]["value"] == "Push/Peel"
    assert ("next action", 4.5) not in by_name and ("activity", 4.5) not in by_name  # no label says it
    assert by_name["recognition phase", 20.0]["confidence"] == 0.75
    assert len({entry["id"] for entry in entries}) == len(entries)
    assert entries == list(conversations_of(atlas))


def test_nothing_in_a_label_is_read_as_a_place_of_a_template(atlas):
    captions = [entry for entry in conversations_of(atlas) if entry["template"] == "caption"]
    assert [entry["conversations"][1]["value"] for entry in captions] == ["A {phase} stitch"]
    assert filled("{a} {b}", {"a": "{b}", "b": "c"}) == "{b} c"


def test_every_template_can_be_filled_from_the_shipped_taxonomies():
    known = {tag.name for name in ("halsted", "cholec80", "sar_rarp50") for tag in taxonomies.load(name).tags}
    templates = read_settings()["templates"]
    assert {template["group"] for template in templates} == {"understanding", "reasoning", "planning", "generation"}
    for template in templates:
        for name in template.get("needs", ()):
            assert name == "caption" or name.removesuffix(".next") in known


def test_names_of_files_are_written_only_where_they_are_asked_for(atlas, tmp_path):
    for path in FORMAT.write(atlas, str(tmp_path), False):
        assert "Jane" not in open(path, encoding="utf-8").read()
    assert "Jane" in open(FORMAT.write(atlas, str(tmp_path), True)[0], encoding="utf-8").read()


def test_a_foreign_file_is_read_by_a_mapping_of_keys(tmp_path):
    entry = {
        "vid": "a.mp4", "clip": {"from": 1.5, "to": 4}, "kind": "proficiency",
        "messages": [
            {"role": "user", "content": "<video> Which Phase of suturing is it?"},
            {"role": "assistant", "content": "driving."},
        ],
    }  # fmt: skip
    wrong = entry | {"messages": []}
    (tmp_path / "a.mp4").write_bytes(b"")
    (tmp_path / "foreign.json").write_text(json.dumps([entry, wrong, 3, entry | {"clip": {}}]))
    (tmp_path / "own.yaml").write_text(
        "keys: {video: vid, start_s: clip.from, stop_s: clip.to, task: kind}\n"
        "answers: [{question: which phase, tag: phase}]\n"
    )
    (recording,), left_out = read(tmp_path / "foreign.json", tmp_path / "own.yaml")
    (clip,) = recording.clips
    assert (clip.start_s, clip.stop_s, clip.task, clip.tags) == (1.5, 4.0, "proficiency", {"phase": "Driving"})
    assert sorted(left.code for left in left_out) == ["malformed", "no-label", "no-span"]


def test_what_is_no_list_of_conversations_is_refused(tmp_path):
    for text in ("{", "{}", "7"):
        (tmp_path / "wrong.json").write_text(text)
        with pytest.raises(AtlasError, match="a list of conversations"):
            read(tmp_path / "wrong.json")
    (tmp_path / "own.yaml").write_text("keys: {film: vid}\n")
    with pytest.raises(UsageError, match="expected `keys` with some of video"):
        read(tmp_path / "wrong.json", tmp_path / "own.yaml")
    with pytest.raises(UsageError, match="can't be read"):
        read(tmp_path / "wrong.json", tmp_path / "none.yaml")
