"""Groups of videos: the clips of one source video, operation or patient never lie in two parts of a split."""

import shutil
from dataclasses import replace

import pytest
import small_video
from annotations import write
from deltalake import write_deltalake

from halsted_ray.atlas import add_samples, read_atlas, release, write_atlas
from halsted_ray.atlas.census import without_validation
from halsted_ray.atlas.clip_files import source_of_clip_file
from halsted_ray.atlas.commits import Change, history
from halsted_ray.atlas.contents import content_digest, video_rows
from halsted_ray.atlas.groups import group_id, groups_of, joined_groups
from halsted_ray.atlas.imports import import_annotations
from halsted_ray.atlas.split import split_by_video
from halsted_ray.atlas.verify import verify
from halsted_ray.cli import main
from halsted_ray.errors import AtlasError, UsageError
from halsted_ray.evaluation.folds import draw_folds
from halsted_ray.records import VIDEO_SCHEMA, Clip, Video
from halsted_ray.storage.delta import table_uri

BY_ANNA = Change("anna", "list 1")


def video(n, group="", name=None):
    return Video(f"{n:016x}", f"/archive/videos/{name or n}.mp4", 1000 + n, 4.0, 640, 360, 25.0, "h264", group)


def action(n, category="Cautery", source="manual"):
    return Clip(f"{n:016x}", 0.0, 4.0, "micro", {"action": category}, source)


def clip_atlas(root, group=True):
    """Eight source videos of three clip files each, as HSA-27k publishes them."""
    videos = [video(n, f"s{n // 3}" if group else "", f"v{n // 3}_{n % 3:04d}") for n in range(24)]
    add_samples(root, [action(n) for n in range(24)], BY_ANNA, videos=videos)
    return root


def parts_of_sources(split):
    return [{split[f"{n:016x}"] for n in range(3 * source, 3 * source + 3)} for source in range(8)]


def test_clip_files_of_one_source_video_get_one_part(tmp_path):
    made = release(clip_atlas(str(tmp_path)), "v1", validation=0.25, test=0.25)
    assert all(len(parts) == 1 for parts in parts_of_sources(made.split))
    assert sorted(made.split.values()) == ["test"] * 6 + ["train"] * 12 + ["validation"] * 6
    assert not verify(made, with_files=False)


def test_verify_says_that_an_older_release_of_clip_files_leaks(tmp_path):
    """A release from before groups: each clip file was a video of its own."""
    root = clip_atlas(str(tmp_path), group=False)
    made = release(root, "v1", validation=0.25, test=0.25)
    assert any(len(parts) > 1 for parts in parts_of_sources(made.split))
    findings = verify(made, with_files=False)
    assert findings and {finding.kind for finding in findings} == {"split"}
    assert "by the names of their files they are clips of one source video" in findings[0].text


def test_verify_names_the_videos_of_a_group_in_two_parts(tmp_path):
    root = clip_atlas(str(tmp_path))
    split = {f"{n:016x}": "test" if n == 4 else "train" for n in range(24)}
    made = release(root, "v1", validation=0.0, split=split)
    (finding,) = verify(made, with_files=False)
    assert finding.text.startswith(f"videos {3:016x} {5:016x} (train), {4:016x} (test): they are of one group")


def test_an_atlas_from_before_groups_reads_as_videos_that_stand_alone(tmp_path):
    root = str(tmp_path)
    videos = [video(n) for n in range(3)]
    version = write_atlas(root, videos, [action(n) for n in range(3)], "v1")
    written = read_atlas(root)
    shutil.rmtree(tmp_path / "atlas" / "videos")
    import pyarrow as pa

    rows = [{name: row[name] for name in VIDEO_SCHEMA.names} for row in video_rows(root, videos)]
    write_deltalake(table_uri(root, "atlas", "videos"), pa.Table.from_pylist(rows, VIDEO_SCHEMA))
    assert read_atlas(root) == written and groups_of(written.videos) == {v.video_id: v.video_id for v in videos}
    add_samples(root, [action(0)], BY_ANNA, videos=[replace(videos[0], group="aa")])
    assert [v.group for v in read_atlas(root, "head").videos] == ["aa", "", ""]
    assert read_atlas(root, version=version) == written, "the older version reads as before"
    add_samples(root, [action(0)], BY_ANNA, videos=[videos[0]])
    assert read_atlas(root, "head").videos[0].group == "aa", "who names no group takes none away"


def test_videos_without_group_keep_the_content_digest_of_older_atlases():
    """A finished run and a release are recognised by this digest."""
    found = content_digest("/archive", [video(1)], [action(1)], {}, "t")
    assert found == "c678de4d889f65fa"
    assert found != content_digest("/archive", [video(1, "g")], [action(1)], {}, "t")


@pytest.mark.parametrize(
    ("name", "source"),
    [
        ("v1_0007.mp4", "v1"),
        ("Xy3k_12.5_14.0.mp4", "xy3k"),
        ("prostatectomy_clip_12.mp4", "prostatectomy"),
        ("a1-clip-3.mp4", "a1"),
        ("video_07.mp4", None),
        ("case.mp4", None),
        ("0007.mp4", None),
    ],
)
def test_the_name_of_a_clip_file_names_its_source_where_it_has_one(name, source):
    assert source_of_clip_file(f"/set/clips/{name}") == (f"/set/clips/{source}" if source else "")


def test_hsa_style_clip_files_do_not_leak(tmp_path):
    pa = pytest.importorskip("pyarrow")

    names = [f"v{source}_{n:03d}" for source in range(4) for n in range(2)]
    for n, name in enumerate(names):
        small_video.write(tmp_path / f"set/clips/{name}.mp4", 1 + n % 2, look=n)
    rows = {"file": names, "label": ["push/peel"] * 8, "of": [name[:2] for name in names]}
    pa.parquet.write_table(pa.table(rows), tmp_path / "set/m.parquet")
    text = 'table: "*.parquet"\nvideo: "clips/{file}.mp4"\ntags: {action: label}\n'
    for name, mapping in (("by-name", text), ("by-column", text + 'group: "{of}"\n')):
        place = str(tmp_path / name)
        given = write(tmp_path / f"{name}.yaml", mapping)
        done = import_annotations(place, str(tmp_path / "set"), "hsa-27k", mapping=given)
        made = release(place, "v1", validation=0.25, test=0.25)
        part_of = {v.uri.rsplit("/", 1)[1]: made.split[v.video_id] for v in made.videos}
        assert all(part_of[f"v{s}_000.mp4"] == part_of[f"v{s}_001.mp4"] for s in range(4)), name
        assert not [finding for finding in verify(made, with_files=False) if finding.kind == "split"]
        assert bool(done.notes) == (name == "by-name")
    assert (
        "8 of 8 files are clips of 4 source videos"
        in import_annotations(
            str(tmp_path / "again"), str(tmp_path / "set"), "hsa-27k", mapping=str(tmp_path / "by-name.yaml")
        ).notes[0]
    )
    given = write(tmp_path / "bad.yaml", text + 'group: "{patient}"\n')
    with pytest.raises(AtlasError, match="expected a column 'patient' .the mapping's `group` names it"):
        import_annotations(str(tmp_path / "bad"), str(tmp_path / "set"), "hsa-27k", mapping=given)


def test_a_table_names_the_group_and_no_name_is_kept(tmp_path):
    for name in ("a", "b", "op-part1", "op-part2"):
        small_video.write(tmp_path / f"videos/{name}.mp4", 2, look=len(name) + ord(name[-1]))
    lines = ["video,start,stop,action,patient"] + [f"{n},0,2,Cautery,Mrs Smith" for n in ("a.mp4", "b.mp4")]
    lines += [f"{n},0,2,Cautery," for n in ("op-part1.mp4", "op-part2.mp4")]
    table = write(tmp_path / "t.csv", "\n".join(lines) + "\n")
    root = str(tmp_path / "atlas")
    import_annotations(root, table, "csv", videos=str(tmp_path / "videos"))
    group = {v.uri.rsplit("/", 1)[1]: v.group for v in read_atlas(root).videos}
    assert group["a.mp4"] == group["b.mp4"] == group_id("Mrs Smith") != ""
    assert group["op-part1.mp4"] == group["op-part2.mp4"] != "", "chapters of one recording, by their names"
    assert main(["atlas", "export", root, "--format", "csv", "--to", str(tmp_path / "out")]) == 0
    assert main(["atlas", "export", root, "--format", "jsonl", "--to", str(tmp_path / "out")]) == 0
    for file, kind in (("samples.csv", "csv"), ("samples.jsonl", "jsonl")):
        again = str(tmp_path / f"again-{kind}")
        assert "Smith" not in (tmp_path / "out" / file).read_text()
        import_annotations(again, str(tmp_path / "out" / file), kind, videos=str(tmp_path / "videos"), group_by="none")
        assert {v.video_id: v.group for v in read_atlas(again).videos} == {
            v.video_id: v.group for v in read_atlas(root).videos
        }


def test_a_video_of_two_groups_is_told_without_the_names(tmp_path):
    small_video.write(tmp_path / "videos/a.mp4", 2)
    lines = ("video,start,stop,action,patient", "a.mp4,0,1,Cautery,Mrs Smith", "a.mp4,1,2,Cautery,Mrs Jones")
    table = write(tmp_path / "t.csv", "\n".join(lines) + "\n")
    done = import_annotations(str(tmp_path / "atlas"), table, "csv", videos=str(tmp_path / "videos"))
    (note,) = done.notes
    assert "t.csv:3: video" in note and "two groups" in note and "Smith" not in note and "Jones" not in note
    (video,) = read_atlas(str(tmp_path / "atlas")).videos
    assert video.group == group_id("Mrs Smith")


def test_groups_that_share_a_video_are_one():
    found = joined_groups({"a": "g", "b": "g", "c": "c"}, {"b": "case", "c": "case"}, {"d": "d"})
    assert found == {"a": "a", "b": "a", "c": "a", "d": "d"}


def test_a_fold_keeps_groups_whole():
    procedures = {f"v{n}": "p" for n in range(12)}
    groups = {f"v{n}": f"g{n // 3}" for n in range(12)}
    drawn = draw_folds(procedures, 4, "global", group_of=groups)
    for split in drawn:
        assert all(len({split[f"v{n}"] for n in range(3 * g, 3 * g + 3)}) == 1 for g in range(4))
        assert sorted(split.values()) == ["test"] * 3 + ["train"] * 6 + ["validation"] * 3
    assert len({tuple(v for v in split if split[v] == "test") for split in drawn}) == 4
    with pytest.raises(AtlasError):
        draw_folds(procedures, 1, "global", group_of=dict.fromkeys(procedures, "one"))


def test_a_group_of_which_a_person_labelled_a_held_out_video_teaches_nothing(tmp_path):
    """What a model labelled in such a group has no part: it would teach what judges."""
    root = str(tmp_path)
    videos = [video(n, f"g{n // 2}") for n in range(12)]
    clips = [action(n, source="manual" if n % 2 else "ai") for n in range(12)]
    add_samples(root, clips, BY_ANNA, videos=videos)
    made = release(root, "v1", validation=0.34)
    held_out = {v.group for v in made.videos if made.split.get(v.video_id) == "validation"}
    assert len(held_out) == 2
    for v in made.videos:
        assert v.group not in held_out or made.split.get(v.video_id) in ("validation", None)


def test_a_release_is_stratified_by_task_and_category():
    """Of 20 videos two have the rare task and four the rare category: each held-out part gets its share of them."""
    clips = [Clip(f"v{n}", 0.0, 1.0, "micro", {"action": "Cautery"}) for n in range(20)]
    clips += [Clip(f"v{n}", 1.0, 2.0, "context", {"anatomy": "Bladder"}) for n in (3, 11)]
    clips += [Clip(f"v{n}", 2.0, 3.0, "micro", {"action": "Hook"}) for n in (0, 5, 9, 14, 17)]
    for seed in range(20):
        split = split_by_video([f"v{n}" for n in range(20)], clips, validation=0.2, seed=seed)
        parts = {task: {split[clip.video_id] for clip in clips if clip.task == task} for task in ("micro", "context")}
        assert parts["context"] == {"train", "validation"}, seed
        hooks = [split[clip.video_id] for clip in clips if clip.tags.get("action") == "Hook"]
        assert hooks.count("validation") == 1, seed
    assert len({str(split_by_video([f"v{n}" for n in range(20)], clips, seed=seed)) for seed in range(9)}) > 1


def published(root, parts=("train",) * 8 + ("test",) * 4):
    """A data set with a training and a test part, and a rare category in two of its training videos."""
    videos = [video(n) for n in range(len(parts))]
    clips = [action(n, "Hook" if n in (1, 6) else "Cautery") for n in range(len(parts))]
    split = {f"{n:016x}": part for n, part in enumerate(parts)}
    add_samples(root, clips, BY_ANNA, videos=videos, split=split)
    return split


def test_validation_is_carved_out_of_a_published_training_part(tmp_path, capsys):
    split = published(str(tmp_path))
    assert main(["atlas", "release", str(tmp_path), "v1", "--validation", "0.25"]) == 0
    said = capsys.readouterr().err
    assert "2 of the 8 videos that the data set publishes for training validate now" in said
    made = read_atlas(str(tmp_path), "v1")
    assert sorted(made.split.values()) == ["test"] * 4 + ["train"] * 6 + ["validation"] * 2
    assert {v for v, part in made.split.items() if part == "test"} == {v for v, p in split.items() if p == "test"}
    assert without_validation(made) == {} and "without validation" not in said
    again = release(str(tmp_path), "v2")
    assert again.split == made.split, "what was carved once stays"


def test_a_group_of_a_published_training_part_is_carved_whole(tmp_path):
    videos = [video(n, f"g{n // 2}") for n in range(8)]
    split = {v.video_id: "train" for v in videos}
    add_samples(str(tmp_path), [action(n) for n in range(8)], BY_ANNA, videos=videos, split=split)
    made = release(str(tmp_path), "v1", validation=0.25)
    assert len({v.group for v in made.videos if made.split[v.video_id] == "validation"}) == 1
    assert list(made.split.values()).count("validation") == 2


def test_sar_rarp50_is_carved_by_operation_and_comes_in_again(tmp_path):
    folders = ("train1/video_01_1", "train1/video_01_2", "train2/video_02", "train2/video_03", "test/video_41")
    for n, folder in enumerate(folders):
        small_video.write(tmp_path / f"set/{folder}/video_left.avi", 1, look=n)
        write(tmp_path / f"set/{folder}/action_continues.txt", "0 29 0\n30 59 1\n")
    root = str(tmp_path / "atlas")
    import_annotations(root, str(tmp_path / "set"), "sar-rarp50")
    for seed in range(4):
        place = str(tmp_path / f"copy{seed}")
        shutil.copytree(tmp_path / "atlas/atlas", f"{place}/atlas")
        made = release(place, "v1", validation=0.34, seed=seed)
        part_of = {v.uri.split("/set/")[1].rsplit("/", 1)[0]: made.split[v.video_id] for v in made.videos}
        assert part_of["test/video_41"] == "test"
        assert part_of["train1/video_01_1"] == part_of["train1/video_01_2"]
        assert len({f[:15] for f, part in part_of.items() if part == "validation"}) == 1
        import_annotations(place, str(tmp_path / "set"), "sar-rarp50")  # published for training, and carved since
        assert read_atlas(place, "head").split == made.split


def test_a_split_given_by_hand_carves_a_published_training_part_too(tmp_path):
    published(str(tmp_path))
    made = release(str(tmp_path), "v1", split={f"{2:016x}": "validation"})
    assert [v for v, part in made.split.items() if part == "validation"] == [f"{2:016x}"]
    with pytest.raises(AtlasError, match="a part never changes"):
        release(str(tmp_path), "v2", split={f"{3:016x}": "validation"})
    with pytest.raises(AtlasError, match="a part never changes"):
        release(str(tmp_path), "v2", split={f"{9:016x}": "validation"})


def test_a_release_says_what_stays_without_validation(tmp_path, capsys):
    clips = [*(action(n) for n in range(6)), action(0, "Hook"), action(6, "Spread")]
    clips[6] = replace(clips[6], start_s=0.5, stop_s=2.0)
    clips.append(Clip(f"{1:016x}", 0.0, 4.0, "context", {"anatomy": "Bladder"}))
    add_samples(str(tmp_path), clips, BY_ANNA, videos=[video(n) for n in range(7)])
    main(["atlas", "release", str(tmp_path), "v1"])
    said = capsys.readouterr().err
    assert "task 'context' is learned without validation" in said
    assert "task 'micro': these categories are learned without validation: action Hook, action Spread" in said
    published(str(tmp_path / "c"))
    main(["atlas", "release", str(tmp_path / "c"), "v1", "--validation", "0"])
    assert "no validation videos, so no model can be trained on it" in capsys.readouterr().err


def test_training_without_validation_videos_names_the_command_that_mends_it(tmp_path):
    from halsted_ray import train

    published(str(tmp_path / "a"))
    with pytest.raises(AtlasError, match=r"no validation video.*`halsted atlas release .* NAME --validation 0.2`"):
        train(str(tmp_path / "a"), str(tmp_path / "run"))
    assert len(history(str(tmp_path / "a"))) == 1


def test_groups_that_are_too_few_are_refused():
    with pytest.raises(UsageError, match="4 videos of 1 groups can't be split"):
        split_by_video(["a", "b", "c", "d"], [], group_of=dict.fromkeys("abcd", "g"))
