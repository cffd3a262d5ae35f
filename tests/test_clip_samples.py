"""Annotated clips are samples over their own spans, of any length, and none is lost without a word."""

from __future__ import annotations

import logging
from collections import Counter
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from halsted_ray import taxonomy as taxonomies
from halsted_ray.atlas import Atlas, read_atlas, write_atlas
from halsted_ray.records import Clip, Video, Window, WindowSpec
from halsted_ray.training.atlas_samples import (
    JUDGED,
    as_judged,
    labelled_windows,
    learned_and_judged_windows,
    samples_of_videos,
)
from halsted_ray.training.clip_samples import (
    LEAST_CLIP_S,
    MOST_CLIP_S,
    Jitter,
    clip_windows,
    clips_without_sample,
    pieces,
)
from halsted_ray.training.recipe import BEST, PAPER, Recipe, changed

HALSTED = taxonomies.load()
SPEC = WindowSpec()
VIDEO = "a" * 16
LENGTHS_S = (1.0, 1.5, 2.0, 10.0, 90.0)
OPERATION = {"specialty": "Urology", "procedure": "Prostatectomy"}
TAGS = {
    "macro": OPERATION | {"step": "Dissection"},
    "micro": {"action": "Tug", "arm": "Left"},
    "proficiency": {"phase": "Driving", "proficiency": "High"},
    "context": {"anatomy": "Bladder–Urethra"},
}


def micro(start_s, stop_s, action="Tug", **more):
    return Clip(VIDEO, start_s, stop_s, "micro", {"action": action}, **more)


@pytest.fixture
def imported(tmp_path) -> Atlas:
    """Clips of 1, 1.5, 2, 10 and 90 s of every task, each in a place of its own that no grid knows."""
    clips, start_s = [], 0.7
    for length_s in LENGTHS_S:
        for task in HALSTED.tasks:
            tags = {name: value for name, value in TAGS[task.name].items() if name != "anatomy"}
            if task.name == "context":
                tags = {"anatomy": HALSTED.tag("anatomy").categories[0]}
            clips.append(Clip(VIDEO, start_s, start_s + length_s, task.name, tags))
        start_s += length_s + 1.3
    videos = [Video(VIDEO, f"{tmp_path}/a.mp4", 1, 200.0, 64, 64, 10.0, "h264")]
    write_atlas(str(tmp_path), videos, clips, "hsa-27k", split={VIDEO: "train"})
    return read_atlas(str(tmp_path))


def test_every_clip_of_an_imported_atlas_is_a_sample_of_its_task(imported):
    """The gap that this closes: of such clips of 1 s the grid gave micro none, and a clip of 10 s became four."""
    samples = labelled_windows(imported, "train", imported.split, HALSTED, PAPER, SPEC)[VIDEO]
    assert Counter(sample.task for sample in samples) == dict.fromkeys(("macro", "micro", "proficiency", "context"), 6)
    lengths_s = sorted(round(s.window.stop_s - s.window.start_s, 6) for s in samples if s.task == "micro")
    assert lengths_s == [1.0, 1.5, 2.0, 10.0, 45.0, 45.0], "90 s become two equal pieces"
    assert {sample.window.kind for sample in samples} == {"clip"}
    assert all(sample.judged and sample.weight == 1 for sample in samples)


def test_what_the_grid_can_not_show_is_said(imported, caplog):
    recipe = replace(PAPER, units=("grid",))
    with caplog.at_level(logging.WARNING):
        labelled_windows(imported, "train", imported.split, HALSTED, recipe, SPEC)
    assert "of 20 clips of the train part give no sample (" in caplog.text and "of micro" in caplog.text
    assert "units=[clips,grid]" in caplog.text


def test_a_clip_too_short_to_learn_from_is_counted_and_said(tmp_path, caplog):
    videos = [Video(VIDEO, f"{tmp_path}/a.mp4", 1, 20.0, 64, 64, 10.0, "h264")]
    clips = [micro(3.0, 3.2), micro(5.0, 5.3), micro(7.0, 8.0)]
    with caplog.at_level(logging.WARNING):
        samples = samples_of_videos(videos, clips, HALSTED, PAPER, SPEC, "train")[VIDEO]
    assert [sample.window for sample in samples] == [Window("clip", 5.0, 5.3), Window("clip", 7.0, 8.0)]
    assert "1 of 3 clips of the train part give no sample (1 of micro): they are shorter than 0.3 s" in caplog.text
    caplog.clear()
    samples_of_videos(videos, clips[1:], HALSTED, PAPER, SPEC, "train")
    assert not caplog.records, "nothing is lost, so nothing is said"


@given(st.floats(0, 100).map(lambda s: round(s, 3)))
def test_a_label_of_one_second_anywhere_reaches_micro_training(start_s):
    """Self-labelling's labels last 1 s; on the grid none of them gave a sample."""
    clip = Clip(VIDEO, start_s, start_s + 1.0, "micro", {"action": "Tug"}, source="ai", confidence=0.9)
    video = Video(VIDEO, "a.mp4", 1, 200.0, 64, 64, 10.0, "h264")
    (sample,) = samples_of_videos([video], [clip], HALSTED, replace(PAPER, ai_weight=0.5), SPEC)[VIDEO]
    assert sample.window == Window("clip", start_s, start_s + 1.0) and sample.weight == 0.5


@given(st.floats(0.01, 500))
def test_pieces_cover_a_clip_and_none_is_too_long(length_s):
    found = pieces(micro(2.0, 2.0 + length_s))
    if length_s < LEAST_CLIP_S - 1e-5:
        assert not found
    elif length_s > LEAST_CLIP_S + 1e-5:
        assert found[0].start_s == 2.0 and found[-1].stop_s == 2.0 + length_s
        assert all(a.stop_s == b.start_s for a, b in zip(found, found[1:], strict=False))
        assert all(window.stop_s - window.start_s <= MOST_CLIP_S + 1e-5 for window in found)


def test_a_clip_of_two_sources_is_one_sample_and_of_two_tags_two():
    clips = [micro(1.0, 2.0, source="ai"), micro(1.0, 2.0), micro(1.0, 2.0, "Hook"), micro(1.0, 2.5, source="ai")]
    samples = clip_windows(clips, HALSTED.tasks, ai_weight=0.2)
    assert [(s.window.stop_s, dict(s.tags)["action"], s.weight) for s in samples] == [
        (2.0, "Hook", 1.0),
        (2.0, "Tug", 1.0),
        (2.5, "Tug", 0.2),
    ]
    assert samples == clip_windows(clips[::-1], HALSTED.tasks, ai_weight=0.2), "the order of clips does not matter"


def test_moved_copies_are_drawn_from_the_seed_and_stay_near_the_clip_and_in_the_video():
    clips = [micro(0.0, 4.0), micro(16.0, 20.0, "Hook"), micro(8.0, 12.0)]
    jitter = Jitter(copies=3, share=0.25, seed=7)
    samples = clip_windows(clips, HALSTED.tasks, 20.0, jitter=jitter)
    assert len(samples) == 3 * (1 + 3) and {s.window.kind for s in samples} == {"clip"}
    assert set(clip_windows(clips, HALSTED.tasks, 20.0)) < set(samples)
    for sample in samples:
        own = min(clips, key=lambda clip: abs(clip.start_s - sample.window.start_s))
        assert dict(sample.tags) == own.tags
        assert abs(sample.window.start_s - own.start_s) <= 1.0 and abs(sample.window.stop_s - own.stop_s) <= 1.0
        assert sample.window.start_s >= 0 and sample.window.stop_s <= 20.0
    assert set(clip_windows(clips[1:], HALSTED.tasks, 20.0, jitter=jitter)) < set(samples), "other clips change nothing"
    assert set(clip_windows(clips, HALSTED.tasks, 20.0, jitter=replace(jitter, seed=8))) != set(samples)


def test_recipes_say_which_units_they_learn():
    assert PAPER.units == ("clips",) and set(BEST.units) == {"clips", "grid"}
    assert changed(PAPER, ["units=[clips, grid]"]).units == ("clips", "grid")
    assert changed(PAPER, ["units=grid"]).units == ("grid",)
    for bad in ("units=windows", "units=[]", "units=[clips, clips]", "clip_copies=-1", "clip_jitter=0.5"):
        with pytest.raises(ValueError, match=bad.split("=")[0]):
            changed(PAPER, [bad])


def test_a_part_that_judges_has_the_recipes_units_and_none_of_its_copies():
    recipe = Recipe(units=("clips", "grid"), clip_copies=4, shifts_s=(0.0, 1.25), ai_weight=0.1, tasks=("micro",))
    assert as_judged(recipe) == Recipe(units=("clips", "grid"), tasks=("micro",)) == replace(JUDGED, tasks=("micro",))


def test_embedding_beforehand_covers_the_moved_copies_and_both_units(imported):
    recipe = replace(BEST, clip_copies=2)
    windows = set(learned_and_judged_windows(imported, HALSTED, recipe, SPEC)[VIDEO])
    for of in (recipe, JUDGED, PAPER):
        learned = samples_of_videos(imported.videos, imported.clips, HALSTED, of, SPEC)[VIDEO]
        assert {sample.window for sample in learned} <= windows


def test_a_clip_is_counted_as_lost_only_where_nothing_learns_from_it():
    near = clip_windows([micro(0.0, 2.0)], HALSTED.tasks)
    lost = clips_without_sample(
        [micro(0.0, 2.0), micro(1.9, 2.1), micro(2.0, 3.0), micro(0.0, 2.0, "Hook")], HALSTED.tasks, near
    )
    assert lost == {"micro": 2}, "a clip that touches no sample, and one with other tags"
