"""Samples with the source ``synthetic``: learned from, counted, and never judged; and how clips of rare categories are
made."""

import json
from dataclasses import asdict, replace

import pytest

from halsted_ray.atlas import add_samples, read_atlas, release
from halsted_ray.atlas.census import census
from halsted_ray.atlas.commits import Change, history
from halsted_ray.atlas.formats import FORMATS, ImportSettings
from halsted_ray.atlas.imports import import_annotations
from halsted_ray.atlas.split import split_of
from halsted_ray.atlas.verify import verify
from halsted_ray.cli import main
from halsted_ray.errors import AtlasError, OutputError, UsageError
from halsted_ray.evaluation.folds import fold_splits, operation_of_video
from halsted_ray.phantom.catalogue import ACTIONS
from halsted_ray.phantom.motion import hands, tip_on, traits_of
from halsted_ray.records import Caption, Clip, Video, Window, WindowSpec
from halsted_ray.selflabel.labelling import videos_to_leave
from halsted_ray.sequences.action_sequences import sequences_of_atlas
from halsted_ray.synthesis.generators import load_generator
from halsted_ray.synthesis.phantom_generator import event_of
from halsted_ray.synthesis.synthesize import conditions_like_rare, synthesize
from halsted_ray.taxonomy import from_dict, load
from halsted_ray.training.atlas_samples import labelled_windows
from halsted_ray.training.clip_samples import clip_windows
from halsted_ray.training.recipe import PAPER, deciding
from halsted_ray.training.samples import label_windows

BY_ANNA = Change("anna", "test")
SMALL = {"width": 64, "height": 36, "fps": 5.0}
DRAWN = f"{99:016x}"


def video(name, root="/archive"):
    return Video(name, f"{root}/{name}.mp4", 1000, 60.0, 64, 36, 25.0, "h264")


def clip(name, action="Cautery", source="manual", **more):
    tags = {"action": action, "arm": "Left"}
    return Clip(name, 2.0, 9.0, "micro", tags, source, "anna", procedure="Prostatectomy", **more)


def grow(root, source="manual", names=tuple(f"{n:016x}" for n in range(10))):
    clips = [clip(name, ACTIONS[n % 3], source) for n, name in enumerate(names)]
    return add_samples(root, clips, BY_ANNA, videos=[video(name) for name in names])


@pytest.fixture
def root(tmp_path):
    """Ten videos that a person annotated, and one that is drawn."""
    place = str(tmp_path / "archive")
    grow(place)
    grow(place, "synthetic", (DRAWN,))
    return place


def test_what_is_drawn_never_validates_or_tests(root):
    for seed in range(3):
        made = release(root, f"r{seed}", validation=0.4, test=0.4, seed=seed)
        assert made.split[DRAWN] == "train" and {"validation", "test"} <= set(made.split.values())
    with pytest.raises(AtlasError, match="part never changes"):
        release(root, "r9", split={DRAWN: "test"})
    wrong = replace(made, split={**made.split, DRAWN: "test"})  # as another program may write it
    (found,) = verify(wrong, with_files=False)
    assert found.kind == "split" and "never judges a model" in found.text
    samples = labelled_windows(wrong, "test", wrong.split, load(), PAPER, WindowSpec())
    assert samples and DRAWN not in samples


def test_no_validation_is_carved_out_of_drawn_videos(tmp_path):
    """A split that was published without validation gets some from the training part: from videos of people alone."""
    place, people = str(tmp_path / "archive"), [f"{n:016x}" for n in range(4)]
    grow(place, names=people)
    drawn = [f"{n:016x}" for n in range(100, 112)]
    add_samples(
        place,
        [clip(name, source="synthetic") for name in drawn],
        BY_ANNA,
        videos=[video(name) for name in drawn],
        captions=[Caption(name, 2.0, 9.0, "fine", "a vessel is sealed") for name in drawn],
    )
    published = {**dict.fromkeys(people[:3], "train"), people[3]: "test"}
    made = release(place, "v1", split=published, validation=0.4)
    assert "validation" in made.split.values() and {made.split[name] for name in drawn} == {"train"}


def test_without_a_split_and_in_every_fold_what_is_drawn_is_learned_from(root):
    atlas = read_atlas(root, "head")
    assert split_of(atlas)[DRAWN] == "train" and "validation" in split_of(atlas).values()
    splits, _ = fold_splits(atlas, operation_of_video(atlas.clips), False, "test", 3, "global", 0)
    assert [split[DRAWN] for split in splits] == ["train"] * 3


def test_a_drawn_video_takes_samples_of_no_other_source(root):
    for source in ("manual", "ai"):
        with pytest.raises(AtlasError, match="has synthetic samples"):
            add_samples(root, [clip(DRAWN, "Hook", source)], BY_ANNA)
    with pytest.raises(AtlasError, match="drawn or it is not"):
        add_samples(root, [replace(clip(f"{0:016x}", "Hook", "synthetic"), start_s=20.0, stop_s=25.0)], BY_ANNA)


def test_what_is_drawn_is_counted_apart(root, capsys):
    assert (census(read_atlas(root, "head")).whole.synthetic, census(read_atlas(root, "head")).whole.manual) == (1, 10)
    assert [commit.synthetic for commit in history(root)] == [0, 1]
    assert main(["atlas", "show", root, "--release", "head"]) == 0
    shown = capsys.readouterr().out
    assert main(["atlas", "list", root]) == 0
    assert "synthetic" in shown and "synthetic" in capsys.readouterr().out
    assert main(["atlas", "release", root, "v1", "--test", "0.2"]) == 0
    assert "1 synthetic sample of 1 video only in the training part" in capsys.readouterr().err


def test_models_and_people_are_not_asked_about_what_is_drawn(root):
    atlas = read_atlas(root, "head")
    assert DRAWN in videos_to_leave(atlas, "macro")
    assert DRAWN not in {sequence.video_id for sequence in sequences_of_atlas(atlas).sequences}


@pytest.mark.parametrize("format", ["csv", "jsonl", "label-studio", "elan", "cvat", "via", "vtt", "conversations"])
def test_formats_keep_the_source(root, tmp_path, format):
    atlas = read_atlas(root, "head")
    out = str(tmp_path / "written")
    written = FORMATS[format].write(replace(atlas, clips=(clip(DRAWN, "Hook", "synthetic"),)), out, False)
    place = out if format in ("elan", "vtt") else written[0]
    read = FORMATS[format].read(place, ImportSettings(load()))
    found = [(one.source, one.annotator) for recording in read for one in recording.clips]
    assert set(found) == {("synthetic", "anna")}


def test_training_weights_what_is_drawn():
    clips, tasks = [clip(DRAWN, source="synthetic")], load().tasks
    (sample,) = clip_windows(clips, tasks, synthetic_weight=0.25)
    (window,) = label_windows([Window("fine", 2.5, 5.0)], clips, tasks, synthetic_weight=0.25)
    assert sample.weight == window.weight == 0.25
    assert "synthetic_weight" not in deciding(PAPER), "runs from before keep their names"
    assert deciding(replace(PAPER, synthetic_weight=0.5))["synthetic_weight"] == 0.5
    assert set(asdict(PAPER)) - set(deciding(PAPER)) == {"synthetic_weight"}
    with pytest.raises(UsageError, match="synthetic_weight"):
        replace(PAPER, synthetic_weight=0)


def test_the_rarest_are_counted_in_the_training_part_alone(root):
    atlas = release(root, "v1", validation=0.2, test=0.2)
    held_out = tuple(replace(c, tags={"action": "Tug"}) for c in atlas.clips if atlas.split[c.video_id] != "train")
    kept = tuple(c for c in atlas.clips if atlas.split[c.video_id] == "train")
    conditions = [
        [(c.category, c.tags, c.tip_path) for c in conditions_like_rare(one, "action", 19, 1, 0, **SMALL)]
        for one in (atlas, replace(atlas, clips=(*kept, *held_out)))
    ]
    assert conditions[0] == conditions[1]
    assert conditions[0][-1][0] in ACTIONS[:3], "those that have samples come last"
    with pytest.raises(AtlasError, match="make a release"):
        conditions_like_rare(replace(atlas, split={}), "action", 1, 1, 0)


def test_clips_are_the_same_for_the_same_seed_and_go_in_as_one_commit(root, tmp_path):
    release(root, "v1", validation=0.2, test=0.2)
    made = [synthesize(root, str(tmp_path / name), rarest=2, per_category=1, **SMALL) for name in "ab"]
    files = [sorted((tmp_path / name / "videos").iterdir()) for name in "ab"]
    assert [[file.read_bytes() for file in of] for of in files][0] == [file.read_bytes() for file in files[1]]
    assert made[0].clips == made[1].clips and sum(made[0].drawn.values()) == 2
    assert {one.source for one in made[0].clips} == {"synthetic"}
    stated = json.loads((tmp_path / "a" / "conditions.json").read_text())
    assert set(stated["clips"]) == {one.video_id for one in made[0].videos}
    before = len(history(root))
    import_annotations(root, made[0].annotations, "jsonl", videos=str(tmp_path / "a" / "videos"))
    after = release(root, "v2", validation=0.2, test=0.2)
    assert len(history(root)) == before + 2 and history(root)[-2].synthetic == 3
    assert {after.split[one.video_id] for one in made[0].videos} == {"train"}
    assert not verify(replace(after, videos=made[0].videos, clips=made[0].clips, split={}))
    with pytest.raises(OutputError, match="other file"):
        synthesize(root, str(tmp_path / "a"), rarest=1, per_category=1, seed=5, **SMALL)


def test_the_tip_goes_where_the_condition_says(root):
    atlas = release(root, "v1", validation=0.2)
    (condition,) = conditions_like_rare(atlas, "action", 1, 1, 0, **SMALL)
    event = event_of(dict(condition.tags), "micro", condition.procedure, condition.duration_s, condition.seed)
    for share in (0.2, 0.5, 0.8):
        found = hands(event, share * condition.duration_s, condition.tip_path)
        tip = next(hand.tip for hand in found if hand.side == traits_of(event).lead)
        assert tip == pytest.approx(tip_on(condition.tip_path, share))


def test_a_taxonomy_that_is_not_ours_needs_a_generator_of_ones_own(root, tmp_path, monkeypatch):
    theirs = from_dict(
        {
            "name": "theirs",
            "tasks": [
                {
                    "name": "tool",
                    "instruction": "Name the tool.",
                    "window": "fine",
                    "tags": [{"name": "tool", "categories": ["Laser", "Ruler"]}],
                }
            ],
        },
        "theirs",
    )
    place = str(tmp_path / "theirs")
    names = [f"{n:016x}" for n in range(3)]
    clips = [Clip(name, 0.0, 5.0, "tool", {"tool": "Laser"}) for name in names]
    add_samples(place, clips, BY_ANNA, videos=[video(name) for name in names], taxonomy=theirs)
    release(place, "v1")
    with pytest.raises(UsageError, match=r"can't draw Ruler, Laser .*--generator"):
        synthesize(place, str(tmp_path / "out"), tag="tool", per_category=1)
    code = tmp_path / "code"
    code.mkdir()
    (code / "hb_generator.py").write_text(
        "import numpy as np\n"
        "def grey(c): return np.full((c.frames, c.height, c.width, 3), 90, np.uint8)\n"
        "def short(c): return grey(c)[1:]\n"
        "def broken(c): raise RuntimeError('no weights')\n"
    )
    monkeypatch.syspath_prepend(str(code))
    common = {"tag": "tool", "per_category": 1, **SMALL}
    made = synthesize(place, str(tmp_path / "own"), generator="hb_generator:grey", **common)
    assert made.drawn == {"Ruler": 1, "Laser": 1} and made.clips[0].annotator == "hb_generator:grey"
    for name, problem in (("short", "expected .* frames"), ("broken", "RuntimeError: no weights")):
        with pytest.raises(UsageError, match=problem):
            synthesize(place, str(tmp_path / name), generator=f"hb_generator:{name}", **common)


def test_no_code_of_a_data_folder_is_run(tmp_path, monkeypatch):
    (tmp_path / "hb_among_data.py").write_text(f"open({str(tmp_path / 'ran')!r}, 'w')\ndef draw(c): return []\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    with pytest.raises(UsageError, match="among data"):
        load_generator("hb_among_data:draw", (str(tmp_path),))
    for name in ("../x.py:draw", "hb_among_data", str(tmp_path / "hb_among_data.py"), "no_such_package:draw"):
        with pytest.raises(UsageError, match="generator"):
            load_generator(name)
    assert not (tmp_path / "ran").exists()
