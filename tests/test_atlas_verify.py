"""Verification finds each kind of fault once, and nothing in a sound atlas."""

import shutil
from dataclasses import replace
from pathlib import Path

import pytest
import small_video

from halsted_ray.atlas import read_atlas, write_atlas
from halsted_ray.atlas.verify import verify
from halsted_ray.records import Clip, Video
from halsted_ray.storage.locations import filesystem
from halsted_ray.video.identity import video_id
from halsted_ray.video.probe import probe


def described(path):
    facts = probe(path)
    return Video(
        video_id(*filesystem(path)),
        path,
        facts.size_bytes,
        facts.duration_s,
        facts.width,
        facts.height,
        facts.fps,
        facts.codec,
    )


@pytest.fixture(scope="module")
def atlas(tmp_path_factory):
    """Three annotated videos of one procedure and one length."""
    root = tmp_path_factory.mktemp("sound")
    videos = [described(small_video.write(root / f"videos/{n}.mp4", 4.0, look=n)) for n in range(3)]
    clips = [
        clip
        for video in videos
        for clip in (
            Clip(video.video_id, 0.0, 2.0, "macro", {"procedure": "Prostatectomy", "step": "Suturing"}),
            Clip(video.video_id, 2.0, 4.0, "macro", {"procedure": "Prostatectomy", "step": "Dissection"}),
            Clip(video.video_id, 2.0, 3.0, "micro", {"action": "Cautery"}),
        )
    ]
    split = dict(zip((video.video_id for video in videos), ("train", "train", "validation"), strict=True))
    write_atlas(str(root), videos, clips, "v1", split=split)
    return read_atlas(str(root))


def kinds(findings):
    return [finding.kind for finding in findings]


def with_clip(atlas, clip):
    return replace(atlas, clips=(*atlas.clips, clip))


def test_a_sound_atlas(atlas):
    assert verify(atlas) == []


def test_clips_past_the_end_or_without_length_are_found(atlas):
    name = atlas.videos[0].video_id
    late = Clip(name, 3.5, 4.5, "proficiency", {"phase": "Driving"})
    (finding,) = verify(with_clip(atlas, late), with_files=False)
    assert finding.kind == "end" and finding.text == (
        f"video {name}, proficiency, manual clip [3.5, 4.5) s: expected 0 <= start < stop <= duration 4.0 s"
    )
    assert kinds(verify(with_clip(atlas, replace(late, start_s=3.5, stop_s=3.5)), with_files=False)) == ["end"]
    assert kinds(verify(with_clip(atlas, replace(late, start_s=-1, stop_s=3.5)), with_files=False)) == ["end"]


@pytest.mark.parametrize(
    "change",
    [
        {"task": "proficiency", "tags": {"phase": "Diving"}},
        {"task": "proficiency", "tags": {"action": "Cautery"}},
        {"task": "mikro"},
    ],
)
def test_categories_outside_the_taxonomy_are_found(atlas, change):
    clip = replace(Clip(atlas.videos[0].video_id, 0.0, 1.0, "micro", {"action": "Cautery"}), **change)
    (finding,) = verify(with_clip(atlas, clip), with_files=False)
    assert finding.kind == "taxonomy" and "'halsted'" in finding.text and atlas.videos[0].video_id in finding.text


def test_overlaps_within_one_lane_are_found(atlas):
    name = atlas.videos[0].video_id
    (finding,) = verify(with_clip(atlas, Clip(name, 2.5, 3.5, "micro", {"action": "Spread"}, "ai")), with_files=False)
    assert finding.kind == "overlap" and "overlaps the manual clip [2, 3) s" in finding.text
    beside = Clip(name, 3.0, 3.5, "micro", {"action": "Spread"})
    other_task = Clip(name, 2.0, 3.5, "proficiency", {"phase": "Driving"})
    assert verify(with_clip(with_clip(atlas, beside), other_task), with_files=False) == []
    # one long clip over two later ones that don't touch each other
    long = Clip(name, 0.0, 4.0, "micro", {"action": "Spread"})
    assert kinds(verify(with_clip(with_clip(atlas, beside), long), with_files=False)) == ["overlap", "overlap"]


def test_captions_of_different_levels_may_overlap(atlas):
    import json

    from halsted_ray.taxonomy import load

    terms = load("surglavi")
    name = atlas.videos[0].video_id
    captions = tuple(
        Clip(name, start_s, stop_s, "caption", {"level": level}, caption="…")
        for level, start_s, stop_s in (("Phase", 0.0, 4.0), ("Step", 0.0, 2.0), ("Step", 2.0, 4.0))
    )
    nested = replace(atlas, clips=captions, taxonomy_json=json.dumps(terms.to_dict()), taxonomy_digest=terms.digest)
    assert verify(nested, with_files=False) == []
    twice = replace(nested, clips=(*captions, replace(captions[1], start_s=1.0, stop_s=3.0)))
    assert "overlap" in kinds(verify(twice, with_files=False))


def test_rows_without_their_counterpart_are_found(atlas):
    assert kinds(verify(with_clip(atlas, Clip("f" * 16, 0.0, 1.0, "micro", {"action": "Hook"})), False)) == ["row"]
    strange = replace(atlas.clips[0], task="proficiency", tags={}, source="guess")
    assert kinds(verify(with_clip(atlas, strange), False)) == ["row"]
    assert kinds(verify(replace(atlas, split={**atlas.split, "f" * 16: "train"}), False)) == ["split"]
    assert kinds(verify(replace(atlas, split={**atlas.split, atlas.videos[0].video_id: "trial"}), False)) == ["split"]
    assert kinds(verify(replace(atlas, videos=(*atlas.videos, atlas.videos[0])), False)) == ["row"]


def test_a_renamed_copy_in_another_part_is_found(atlas, tmp_path):
    """Rows written by hand can name the same content twice; the bytes show it."""
    trained = next(video for video in atlas.videos if atlas.split[video.video_id] == "train")
    judged = next(video for video in atlas.videos if atlas.split[video.video_id] == "validation")
    copy = shutil.copy(trained.uri, tmp_path / "Doe^Jane.mp4")
    videos = tuple(replace(video, uri=str(copy)) if video == judged else video for video in atlas.videos)
    findings = verify(replace(atlas, videos=videos))
    assert kinds(findings) == ["split", "file"]
    assert "hold the same bytes" in findings[0].text and "tested on its own training data" in findings[0].text
    assert trained.video_id in findings[0].text and judged.video_id in findings[0].text
    assert "other content" in findings[1].text and "Doe" not in "".join(finding.text for finding in findings)


def test_a_reencoded_copy_in_another_part_is_found(atlas, tmp_path):
    trained = next(video for video in atlas.videos if atlas.split[video.video_id] == "train")
    look = int(Path(trained.uri).stem)
    smaller = described(
        small_video.write(tmp_path / "copy.mkv", 4.0, look=look, size=(32, 48), codec="libx264", options={"crf": "32"})
    )
    assert smaller.video_id != trained.video_id and smaller.size_bytes < trained.size_bytes
    leaking = replace(atlas, videos=(*atlas.videos, smaller), split={**atlas.split, smaller.video_id: "test"})
    (finding,) = verify(leaking)
    assert finding.kind == "split" and "re-encoded copy" in finding.text
    assert {trained.video_id, smaller.video_id} <= set(finding.text.replace(",", " ").split())
    assert verify(leaking, with_files=False) == []
    same_part = replace(leaking, split={**atlas.split, smaller.video_id: "train"})
    assert verify(same_part) == []


def test_a_missing_file_is_found(atlas, tmp_path):
    videos = (replace(atlas.videos[0], uri=str(tmp_path / "Doe^Jane.mp4")), *atlas.videos[1:])
    (finding,) = verify(replace(atlas, videos=videos))
    assert finding.kind == "file" and "moved or deleted" in finding.text and "Doe" not in finding.text


def test_the_gravest_finding_comes_first(atlas):
    name = atlas.videos[0].video_id
    wrong = replace(
        atlas,
        split={**atlas.split, "f" * 16: "train"},
        clips=(*atlas.clips, Clip(name, 2.5, 9.0, "micro", {"action": "Nap"})),
    )
    assert kinds(verify(wrong, with_files=False)) == ["split", "end", "taxonomy", "overlap"]
