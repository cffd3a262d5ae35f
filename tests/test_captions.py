"""Captions of an atlas: versions and releases, import and export, phantoms that write them, and bad rows."""

import json

import pytest
import small_video
from annotations import write

from halsted_ray.atlas import read_atlas, release, withdraw_samples
from halsted_ray.atlas.atlas_table import add_samples, write_atlas
from halsted_ray.atlas.captions import captions_count, captions_for_training, read_captions
from halsted_ray.atlas.commits import Change
from halsted_ray.atlas.imports import export_atlas, import_annotations
from halsted_ray.errors import AtlasError
from halsted_ray.phantom.captions import captions_of
from halsted_ray.phantom.script import make_script
from halsted_ray.records import Caption, Clip, Video

WHO = Change("a person", "by hand")


def video(number=1):
    return Video(f"{number:016x}", f"videos/{number}.mp4", 10, 60.0, 64, 48, 25.0, "h264")


def caption(text, start_s=0.0, stop_s=5.0, level="fine", number=1, **more):
    return Caption(f"{number:016x}", start_s, stop_s, level, text, **more)


def sample(number=1):
    return Clip(f"{number:016x}", 0.0, 5.0, "micro", {"action": "Clip"}, annotator="me")


@pytest.fixture
def captioned(tmp_path):
    root = str(tmp_path)
    videos = [video(n) for n in range(1, 7)]
    clips = [sample(n) for n in range(1, 7)]
    write_atlas(root, videos, clips, "v1", captions=[caption("A clip is placed.", number=n) for n in range(1, 7)])
    return root


def test_a_release_keeps_its_captions(captioned):
    add_samples(captioned, [], WHO, captions=[caption("The duct is cut.")])
    assert len(read_captions(read_atlas(captioned, "v1"))) == 6
    head = read_atlas(captioned, "head")
    assert [c.text for c in read_captions(head) if c.video_id == video().video_id] == [
        "A clip is placed.",
        "The duct is cut.",
    ]
    assert add_samples(captioned, [], WHO, captions=[caption("The duct is cut.")]) == head.version  # nothing changes
    release(captioned, "v2", validation=0.2)
    assert read_captions(read_atlas(captioned, "v2")) == read_captions(head)
    assert read_atlas(captioned, "v1").content_digest == read_atlas(captioned, "v1").content_digest


def test_an_atlas_without_captions_says_how_to_add_some(tmp_path):
    write_atlas(str(tmp_path), [video()], [sample()], "v1")
    atlas = read_atlas(str(tmp_path))
    assert read_captions(atlas) == () and atlas.captions_version is None
    with pytest.raises(AtlasError, match="'v1' has no captions; add some with `halsted atlas import"):
        captions_for_training(atlas)


def test_captions_alone_make_an_atlas_with_a_split(tmp_path):
    root = str(tmp_path)
    captions = [caption("A clip.", number=n) for n in range(1, 6)]
    add_samples(root, [], WHO, videos=[video(n) for n in range(1, 6)], captions=captions)
    parts = release(root, "v1", validation=0.2, test=0.2).split
    assert sorted(parts.values()) == ["test", "train", "train", "train", "validation"]


def test_a_withdrawn_video_loses_its_captions(captioned):
    gone = video(2).video_id
    withdraw_samples(captioned, lambda clip: clip.video_id == gone, WHO)
    assert {c.video_id for c in read_captions(read_atlas(captioned, "head"))} == {
        video(n).video_id for n in (1, 3, 4, 5, 6)
    }


def test_what_the_filters_of_a_source_leave_out_is_not_for_training(captioned):
    more = [
        caption("Greets the audience.", excluded="it is not surgical"),
        caption("all that was said", 0.0, 60.0, "video", kind="transcript"),
        caption("Dissection.", 0.0, 60.0, "coarse", kind="enhanced"),
    ]
    add_samples(captioned, [], WHO, captions=more)
    atlas = read_atlas(captioned, "head")
    assert {c.text for c in captions_for_training(atlas)} == {"A clip is placed.", "Dissection."}
    assert captions_count(read_captions(atlas)) == {"coarse enhanced": 1, "fine raw": 6, "video transcript": 1}
    assert [c.text for c in captions_for_training(atlas, ["enhanced"])] == ["Dissection."]


@pytest.mark.parametrize(
    ("bad", "message"),
    [
        (caption("x", 0.0, 61.0), "expected 0 <= start < stop <= duration 60.0 s"),
        (caption("x", level="long"), "level 'long'; expected one of coarse, mid, fine, video"),
        (caption("x", kind="loud"), "kind 'loud'; expected one of raw"),
        (caption(" "), "an empty text"),
        (caption("x", number=9), "the atlas has no such video"),
    ],
)
def test_a_bad_caption_is_refused(captioned, bad, message):
    with pytest.raises(AtlasError, match=message):
        add_samples(captioned, [], WHO, captions=[bad])
    assert len(read_captions(read_atlas(captioned, "head"))) == 6


@pytest.mark.parametrize("kind", ["csv", "jsonl"])
def test_captions_come_from_tables(tmp_path, kind):
    name = small_video.write(tmp_path / "videos/one.mp4", 4)
    rows = [
        {"video": "one.mp4", "start_s": 0, "stop_s": 2, "level": "fine", "text": "A clip, placed."},
        {"video": "one.mp4", "start_s": 0, "stop_s": 4, "level": "Phase", "text": "Dissection.", "kind": "enhanced"},
        {"video": "one.mp4", "start_s": 3, "stop_s": 9, "level": "fine", "text": "too late"},
        {"video": "one.mp4", "start_s": 3, "stop_s": 2, "level": "fine", "text": "backwards"},
        {"video": "one.mp4", "start_s": 1, "stop_s": 2, "level": "huge", "text": "no level"},
        {"video": "two.mp4", "start_s": 1, "stop_s": 2, "level": "fine", "text": "no video"},
    ]
    if kind == "csv":
        names = ["video", "start_s", "stop_s", "level", "text", "kind"]
        lines = [names, *([f'"{row.get(name, "")}"' for name in names] for row in rows)]
        text = "\n".join(",".join(line) for line in lines)
    else:
        text = "\n".join(json.dumps(row) for row in rows)
    root = str(tmp_path / "atlas")
    source = write(tmp_path / f"captions.{kind}", text)
    done = import_annotations(root, source, "captions", videos=str(tmp_path / "videos"))
    assert (done.captions, done.samples, done.videos) == (2, 0, 1) and name
    assert sorted(done.counts) == ["no-caption", "no-span", "no-video", "outside-video"]
    found = read_captions(read_atlas(root))
    assert [(c.level, c.text, c.kind) for c in found] == [
        ("fine", "A clip, placed.", "raw"),
        ("coarse", "Dissection.", "enhanced"),
    ]
    (file,) = export_atlas(read_atlas(root), str(tmp_path / "out"), "captions")
    again = str(tmp_path / "again")
    import_annotations(again, file, "captions", videos=str(tmp_path / "videos"))
    assert read_captions(read_atlas(again)) == found


def test_captions_join_an_atlas_of_any_taxonomy(tmp_path):
    from halsted_ray import taxonomy

    small_video.write(tmp_path / "videos/one.mp4", 4)
    text = json.dumps({"video": "one.mp4", "start_s": 0, "stop_s": 2, "level": "fine", "text": "A clip."})
    source = write(tmp_path / "captions.jsonl", text)
    cholec80 = taxonomy.load("cholec80")
    write_atlas(str(tmp_path), [video()], [], "v1", taxonomy=cholec80)
    import_annotations(str(tmp_path), source, "captions", videos=str(tmp_path / "videos"))
    atlas = read_atlas(str(tmp_path), "head")
    assert atlas.taxonomy == "cholec80" and len(read_captions(atlas)) == 1


def test_a_phantom_says_what_its_script_says():
    script = make_script(3, 240.0, "Prostatectomy", 2.0)
    captions = captions_of(script, "v" * 16)
    assert captions == captions_of(script, "v" * 16)
    fine = [c for c in captions if c.level == "fine"]
    assert [(c.start_s, c.stop_s) for c in fine] == [(e.start_s, e.stop_s) for e in script.events]
    for event, said in zip(script.events, fine, strict=True):
        if event.step == "Dissection" and "instrument is" in said.text:
            assert event.tags["instrument"].lower().replace("–", " with the ") in said.text
    coarse = [c for c in captions if c.level == "coarse"]
    assert len(coarse) == len(script.steps) and all("prostatectomy" in c.text.lower() for c in coarse)
    assert {c.level for c in captions} == {"coarse", "mid", "fine"}


def test_a_phantom_words_one_action_in_several_ways():
    wordings = set()
    for seed in range(8):
        script = make_script(seed, 240.0, pace=2.0)
        fine = [c for c in captions_of(script, "v" * 16) if c.level == "fine"]
        wordings |= {c.text.split()[0] for c, e in zip(fine, script.events, strict=True) if e.name == "Retraction"}
    assert len(wordings) >= 3
