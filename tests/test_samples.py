from dataclasses import replace

import numpy as np
import pytest
import torch

from halsted_ray import taxonomy as taxonomies
from halsted_ray.errors import AtlasError
from halsted_ray.model.vocabulary import Vocabulary
from halsted_ray.records import Clip, Window, WindowSpec
from halsted_ray.training.batch_loader import BatchLoader
from halsted_ray.training.recipe import Recipe
from halsted_ray.training.samples import (
    LabelledWindow,
    Samples,
    build_samples,
    label_windows,
    tasks_to_learn,
    training_windows,
)
from halsted_ray.video.windows import windows as plan_windows

HALSTED = taxonomies.load()
VIDEO = "a" * 16


def macro(start_s, stop_s, step):
    return Clip(VIDEO, start_s, stop_s, "macro", {"specialty": "Urology", "procedure": "Prostatectomy", "step": step})


def micro(start_s, stop_s, action):
    return Clip(VIDEO, start_s, stop_s, "micro", {"action": action, "arm": "Left", "instrument": "Shears"})


def test_unshifted_windows_are_the_maps_own():
    for duration_s in (0.4, 30.0, 61.7, 180.04):
        coarse, fine = plan_windows(duration_s, WindowSpec())
        assert training_windows(duration_s, WindowSpec()) == coarse + fine


def test_shifted_windows_are_whole_and_distinct():
    spec = WindowSpec(coarse_s=5.0, fine_s=2.5)
    shifted = set(training_windows(11.0, spec, (0.0, 1.25, 2.5))) - set(training_windows(11.0, spec))
    assert {w for w in shifted if w.kind == "fine"} == {Window("fine", s, s + 2.5) for s in (1.25, 3.75, 6.25)}
    assert {w for w in shifted if w.kind == "coarse"} == {
        Window("coarse", 1.25, 6.25),
        Window("coarse", 2.5, 7.5),
    }
    assert training_windows(11.0, spec, (0.0, 1.25, 1.25)) == training_windows(11.0, spec, (0.0, 1.25))


def test_a_mixed_window_gives_a_weighted_sample_of_each_step():
    samples = label_windows(
        [Window("coarse", 0.0, 30.0)], [macro(0.0, 21.0, "Suturing"), macro(21.0, 60.0, "Dissection")], HALSTED.tasks
    )
    assert [(dict(s.tags)["step"], pytest.approx(s.weight), s.judged) for s in samples] == [
        ("Suturing", 0.7, True),
        ("Dissection", 0.3, False),
    ]


def test_macro_has_samples_of_fine_windows_too_and_fine_tasks_of_fine_windows_only():
    clips = [macro(0.0, 30.0, "Dissection"), micro(0.0, 30.0, "Tug")]
    coarse, fine = plan_windows(30.0, WindowSpec())
    samples = label_windows(coarse + fine, clips, HALSTED.tasks)
    kinds = [(s.task, s.window.kind) for s in samples]
    assert kinds.count(("macro", "coarse")) == 1 and kinds.count(("macro", "fine")) == 12
    assert kinds.count(("micro", "fine")) == 12 and ("micro", "coarse") not in kinds


def test_a_fine_window_takes_the_clip_that_covers_half_of_it():
    clips = [micro(0.0, 3.75, "Tug"), micro(3.75, 4.6, "Hook"), micro(4.6, 10.0, "Clip")]
    _, fine = plan_windows(10.0, WindowSpec())
    samples = label_windows(fine, clips, HALSTED.tasks)
    assert [(s.window.start_s, dict(s.tags)["action"], s.judged) for s in samples] == [
        (0.0, "Tug", True),
        (2.5, "Tug", True),
        (5.0, "Clip", True),
        (7.5, "Clip", True),
    ]
    assert samples[1].weight == pytest.approx(0.5)
    # 0.85 of 2.5 s is not half, and nothing else is there
    assert label_windows([Window("fine", 2.5, 5.0)], clips[1:2], HALSTED.tasks) == []


def test_a_stricter_share_leaves_windows_of_two_clips_out():
    clips = [micro(0.0, 3.75, "Tug"), micro(3.75, 10.0, "Clip"), macro(0.0, 10.0, "Dissection")]
    _, fine = plan_windows(10.0, WindowSpec())
    strict = label_windows(fine, clips, HALSTED.tasks, least_share=0.8)
    assert [s.window.start_s for s in strict if s.task == "micro"] == [0.0, 5.0, 7.5]
    assert [s.window.start_s for s in strict if s.task == "macro"] == [0.0, 2.5, 5.0, 7.5]


def test_clips_with_the_same_tags_count_together():
    clips = [micro(0.0, 1.0, "Tug"), micro(1.0, 2.5, "Tug")]
    (sample,) = label_windows([Window("fine", 0.0, 2.5)], clips, HALSTED.tasks)
    assert sample.weight == 1.0


def test_what_a_model_labelled_weighs_less_and_is_judged_the_same():
    clips = [macro(0.0, 15.0, "Suturing"), replace(macro(15.0, 30.0, "Dissection"), source="ai")]
    samples = label_windows([Window("coarse", 0.0, 30.0)], clips, HALSTED.tasks, ai_weight=0.2)
    assert [(dict(s.tags)["step"], pytest.approx(s.weight)) for s in samples] == [
        ("Dissection", 0.1),
        ("Suturing", 0.5),
    ]
    (sample,) = label_windows(
        [Window("fine", 0.0, 2.5)], [replace(clips[1], start_s=0.0)], HALSTED.tasks, ai_weight=0.2
    )
    assert sample.judged and sample.weight == pytest.approx(0.2)


def test_a_short_last_window_is_judged_by_its_own_length():
    (sample,) = label_windows([Window("fine", 10.0, 11.0)], [micro(10.2, 11.0, "Tug")], HALSTED.tasks)
    assert sample.weight == pytest.approx(0.8)


def test_arrays_point_to_vectors_and_truth(tmp_path):
    vocabulary = Vocabulary(HALSTED)
    window, other = Window("fine", 0.0, 2.5), Window("coarse", 0.0, 30.0)
    tags = (("action", "Tug"), ("instrument", "Shears"))
    labelled = {
        VIDEO: [
            LabelledWindow(window, "micro", tags, 1.0, True),
            LabelledWindow(window, "macro", (("step", "Dissection"),), 0.6, True),
            LabelledWindow(other, "macro", (("step", "Suturing"),), 0.4, False),
        ]
    }
    vectors = {VIDEO: {("fine", 0.0, 2.5): np.full(4, 1, np.float16), ("coarse", 0.0, 30.0): np.full(4, 2, np.float16)}}
    samples = build_samples(labelled, vectors, vocabulary)
    assert samples.embeddings_WD[:, 0].tolist() == [1, 2] and samples.window_S.tolist() == [0, 0, 1]
    actions, instruments = HALSTED.tag("action").categories, HALSTED.tag("instrument").categories
    tug = [actions.index("Tug"), -1, instruments.index("Shears")]
    assert samples.truth_SG.tolist() == [tug, [-1, -1, 1], [-1, -1, 0]]
    assert vocabulary.text(samples.tokens_SL[0].tolist()) == (
        "BOS <action> Tug </action> <instrument> Shears </instrument> EOS"
    )
    samples.save(str(tmp_path / "deep" / "samples.safetensors"))
    again = Samples.load(str(tmp_path / "deep" / "samples.safetensors"))
    for name, value in vars(samples).items():
        assert np.array_equal(getattr(again, name), value), name
    vectors[VIDEO]["coarse", 0.0, 30.0][2] = np.nan
    with pytest.raises(AtlasError, match=rf"video {VIDEO}: the embedding of its coarse window .* not finite"):
        build_samples(labelled, vectors, vocabulary)
    del vectors[VIDEO]["coarse", 0.0, 30.0]
    with pytest.raises(AtlasError, match=rf"video {VIDEO}: no embedding of its coarse window \[0.0, 30.0\)"):
        build_samples(labelled, vectors, vocabulary)
    with pytest.raises(AtlasError, match="no sample"):
        build_samples({VIDEO: []}, vectors, vocabulary)


def test_tasks_by_name_keep_the_taxonomys_order():
    assert [task.name for task in tasks_to_learn(HALSTED, ("context", "macro"))] == ["macro", "context"]
    assert tasks_to_learn(HALSTED, ()) == HALSTED.tasks
    with pytest.raises(ValueError, match="contxt"):
        tasks_to_learn(HALSTED, ("contxt",))


def test_the_order_of_clips_does_not_matter():
    clips = [macro(0.0, 14.0, "Suturing"), macro(14.0, 60.0, "Dissection"), micro(14.0, 60.0, "Tug")]
    coarse, fine = plan_windows(60.0, WindowSpec())
    assert label_windows(coarse + fine, clips, HALSTED.tasks) == label_windows(
        coarse + fine, clips[::-1], HALSTED.tasks
    )


def test_hidden_tags_and_noise_do_not_depend_on_the_number_of_workers():
    vocabulary = Vocabulary(HALSTED)
    tags = (("action", "Tug"), ("arm", "Left"), ("instrument", "Shears"))
    rng = np.random.default_rng(0)
    windows = [Window("fine", 2.5 * n, 2.5 * n + 2.5) for n in range(21)]
    vectors = {VIDEO: {("fine", w.start_s, w.stop_s): rng.normal(size=8).astype(np.float16) for w in windows}}
    samples = build_samples(
        {VIDEO: [LabelledWindow(w, "micro", tags, 1.0, True) for w in windows]}, vectors, vocabulary
    )
    recipe = Recipe(batch_size=10, noise=0.5, hide_tags=0.5)
    cpu = torch.device("cpu")
    whole = list(BatchLoader(samples, recipe, 0, 1, cpu).batches(3))
    shared = [list(BatchLoader(samples, recipe, rank, 3, cpu).batches(3)) for rank in range(3)]
    assert [len(batch[0]) for batch in whole] == [10, 10, 1]
    for number, (embeddings, _, shown, asked, weights) in enumerate(whole):
        parts = [shared[rank][number] for rank in range(3) if rank < len(weights)]
        for rank, part in enumerate(parts):
            assert torch.equal(part[0], embeddings[rank::3]) and torch.equal(part[2], shown[rank::3])
        assert sum(float(shared[rank][number][4].sum()) for rank in range(3)) == pytest.approx(1)
        changed = shown != asked
        assert set(changed.nonzero()[:, 1].tolist()) <= {2, 5, 8} and (shown[changed] == 0).all()
    assert 5 < sum(int((batch[2] != batch[3]).sum()) for batch in whole) < 58


def test_balanced_sampling_shows_each_task_as_often():
    """Of 400 samples of one task and 8 of another an epoch shows half each, for every number of workers."""
    count = 408
    samples = Samples(
        embeddings_WD=np.zeros((count, 2), np.float16),
        video_W=np.zeros(count, np.int32),
        start_s_W=np.arange(count, dtype=float),
        stop_s_W=np.arange(count, dtype=float) + 1,
        of_clip_W=np.zeros(count, bool),
        window_S=np.arange(count),
        task_S=np.array([0] * 400 + [2] * 8),
        tokens_SL=np.ones((count, 5), np.int32),
        truth_SG=np.zeros((count, 1), np.int32),
        weight_S=np.ones(count, np.float32),
        judged_S=np.ones(count, bool),
        video_ids=("v",),
    )
    recipe = Recipe(epochs=2, warmup_epochs=1, batch_size=64, sampling="balanced")
    alone = BatchLoader(samples, recipe, 0, 1, torch.device("cpu"))
    tasks = torch.cat([tasks for _, tasks, _, _, _ in alone.batches(0)])
    assert len(tasks) == count and 0.4 < (tasks == 2).float().mean() < 0.6
    shared = [BatchLoader(samples, recipe, rank, 3, torch.device("cpu")).batches(0) for rank in range(3)]
    for whole, *parts in zip(alone.batches(0), *shared, strict=True):
        assert sorted(whole[1].tolist()) == sorted(torch.cat([part[1] for part in parts]).tolist())
    as_is = BatchLoader(samples, replace(recipe, sampling="as_is"), 0, 1, torch.device("cpu"))
    assert sorted(torch.cat([tasks for _, tasks, _, _, _ in as_is.batches(0)]).tolist()) == samples.task_S.tolist()
