"""Training of video and text: batches, the loss over workers, and that sentences find their clips."""

import os
from dataclasses import replace
from datetime import timedelta

import numpy as np
import pytest
import torch
import torch.multiprocessing

from halsted_ray.errors import UsageError
from halsted_ray.language.captioned_clips import CaptionedClips, windows_of_span
from halsted_ray.language.contrast_loss import contrast_loss, gathered, shared
from halsted_ray.language.contrast_model import VideoTextConfig
from halsted_ray.language.contrast_recipe import ContrastRecipe
from halsted_ray.language.contrast_trainer import ContrastTrainer, epoch_batches, new_model
from halsted_ray.language.retrieval import text_to_clip
from halsted_ray.records import WindowSpec
from halsted_ray.training.loop import WorkerPlace

CPU = torch.device("cpu")
ALONE = WorkerPlace(0, 1, CPU, lambda module: module)
RECIPE = ContrastRecipe(epochs=30, batch_size=32, dim=16, hidden=32, noise=0.05, warmup_epochs=1, validate_every=10)
CONFIG = VideoTextConfig("tiny", "e" * 16, 12, "", "f" * 16, 10, dim=16, hidden=32)
MEANINGS = 24


def captioned(seed, videos=10, per_video=20):
    """Captions of 24 meanings: a window's vector and a sentence's vector are two fixed maps of the meaning, plus noise
    of each, and a shift of each video."""
    maps = np.random.default_rng(99)
    to_window, to_text = maps.normal(size=(MEANINGS, 12)), maps.normal(size=(MEANINGS, 10))
    rng = np.random.default_rng(seed)
    meaning_C = rng.integers(MEANINGS, size=videos * per_video)
    video_C = np.repeat(np.arange(videos), per_video)
    count_C = rng.integers(1, 5, size=len(meaning_C))
    first_C = np.concatenate([[0], np.cumsum(count_C)[:-1]])
    shift = 0.3 * rng.normal(size=(videos, 12))[np.repeat(video_C, count_C)]
    vectors = to_window[np.repeat(meaning_C, count_C)] + shift + 0.1 * rng.normal(size=(count_C.sum(), 12))
    texts = to_text[meaning_C] + 0.05 * rng.normal(size=(len(meaning_C), 10))
    start_C = np.tile(np.arange(per_video) * 10.0, videos)
    return CaptionedClips(
        vectors.astype(np.float16),
        first_C,
        count_C,
        start_C,
        start_C + 5.0,
        np.arange(len(meaning_C)),
        video_C,
        np.full(len(meaning_C), 2),
        (texts / np.linalg.norm(texts, axis=1, keepdims=True)).astype(np.float32),
        tuple(f"sentence {n}" for n in range(len(meaning_C))),
        tuple(f"{n:016x}" for n in range(videos)),
    )


def trained(recipe=RECIPE):
    train = captioned(0)
    trainer = ContrastTrainer(new_model(CONFIG, train, 0), train, captioned(1, 2), recipe, ALONE)
    while not trainer.is_done:
        assert trainer.run_epoch() is None
    return trainer


def test_sentences_find_clips_of_videos_that_were_held_out():
    trainer = trained()
    found = text_to_clip(trainer.decoder, captioned(2, 3))
    assert found.recall_at_5 > 5 * found.chance, found
    curve = trainer.progress.curve
    assert curve[-1]["loss"] < 0.5 * curve[0]["loss"]
    assert trainer.progress.best == max(record["worst"] for record in curve if record["worst"] is not None)


def test_the_same_recipe_gives_the_same_model():
    recipe = replace(RECIPE, epochs=2, validate_every=1)
    one, two = trained(recipe), trained(recipe)
    assert all(torch.equal(a, b) for a, b in zip(one.best.values(), two.best.values(), strict=True))
    other = trained(replace(recipe, seed=1))
    assert not torch.equal(one.best["video.1.weight"], other.best["video.1.weight"])


def test_a_batch_holds_hard_negatives_of_its_videos():
    clips = captioned(0, videos=30)
    batches = epoch_batches(clips, RECIPE, 0)
    assert sorted(np.concatenate(batches)) == list(range(len(clips)))  # each caption once
    mates = [(clips.video_C[rows][:, None] == clips.video_C[rows][None]).sum(1) - 1 for rows in batches]
    assert np.concatenate(mates).mean() > 4  # in a random order about 1
    assert [list(b) for b in epoch_batches(clips, RECIPE, 1)] != [list(b) for b in batches]


def test_what_is_true_of_a_clip_is_no_negative():
    clips = captioned(0, 1, 4)
    stop_C = clips.stop_C.copy()
    stop_C[0] = 16.0  # a step that contains the second clip
    clips = replace(clips, stop_C=stop_C, text_C=np.array([0, 1, 2, 2]))
    assert clips.not_negative(np.arange(4)).tolist() == [
        [False, True, False, False],
        [True, False, False, False],
        [False, False, False, True],
        [False, False, True, False],
    ]


def test_the_loss_is_the_published_one():
    """Golden: CLIP's pseudo-code (Radford et al. 2021, figure 3), computed by hand for two pairs."""
    clips, texts = torch.eye(2), torch.tensor([[0.6, 0.8], [0.0, 1.0]])
    logits = np.array([[0.6, 0.0], [0.8, 1.0]]) / 0.5
    expected = [-np.log(np.exp(m[i, i]) / np.exp(m[i]).sum()) for m in (logits, logits.T) for i in range(2)]
    found = contrast_loss(clips, texts, torch.tensor(0.5), torch.zeros(2, 2, dtype=torch.bool))
    assert float(found) == pytest.approx(np.mean(expected), abs=1e-6)


def gradients(rank, workers, folder):
    """Writes the gradients of two towers and a temperature on one worker, averaged as DDP averages them."""
    os.environ.setdefault("GLOO_SOCKET_IFNAME", "lo")
    torch.manual_seed(0)
    towers = torch.nn.ModuleList([torch.nn.Linear(4, 3), torch.nn.Linear(5, 3)])
    log_temperature = torch.nn.Parameter(torch.tensor(-1.0))
    clips, texts = torch.randn(7, 4), torch.randn(7, 5)
    if workers > 1:
        torch.distributed.init_process_group(
            "gloo", init_method=f"file://{folder}/meet", rank=rank, world_size=workers, timeout=timedelta(seconds=60)
        )
    shares = np.array_split(np.arange(7), workers)
    sizes, own = [len(share) for share in shares], shares[rank]
    parts = [gathered(tower(x[own]), rank, sizes) for tower, x in zip(towers, (clips, texts), strict=True)]
    loss = contrast_loss(*parts, shared(log_temperature.exp(), workers), torch.zeros(7, 7, dtype=torch.bool))
    (loss * workers).backward()
    found = [parameter.grad for parameter in (*towers.parameters(), log_temperature)]
    if workers > 1:
        for gradient in found:
            torch.distributed.all_reduce(gradient)
            gradient /= workers
        torch.distributed.destroy_process_group()
    if rank == 0:
        torch.save(found, f"{folder}/{workers}.pt")


def test_two_workers_have_the_gradients_of_one(tmp_path):
    gradients(0, 1, tmp_path)
    other = torch.multiprocessing.get_context("spawn").Process(target=gradients, args=(1, 2, str(tmp_path)))
    other.start()
    gradients(0, 2, str(tmp_path))  # one of the two is this very process, which has imported torch already
    other.join(100)
    assert other.exitcode == 0
    for one, two in zip(torch.load(tmp_path / "1.pt"), torch.load(tmp_path / "2.pt"), strict=True):
        assert torch.allclose(one, two, atol=1e-6)


def test_a_span_has_the_windows_that_it_covers():
    spec = WindowSpec()
    assert [w.start_s for w in windows_of_span(1.3, 7.6, 60.0, spec)] == [2.5, 5.0]
    assert [w.start_s for w in windows_of_span(1.2, 7.6, 60.0, spec)] == [0.0, 2.5, 5.0]
    assert [w.start_s for w in windows_of_span(2.4, 3.0, 60.0, spec)] == [2.5]  # shorter than half a window
    assert [(w.start_s, w.stop_s) for w in windows_of_span(58.0, 59.0, 59.0, spec)] == [(57.5, 59.0)]


def test_captions_come_back_from_their_file(tmp_path):
    clips = captioned(0)
    clips.save(str(tmp_path / "clips.safetensors"))
    loaded = CaptionedClips.load(str(tmp_path / "clips.safetensors"))
    assert loaded.texts == clips.texts and loaded.video_ids == clips.video_ids
    assert np.array_equal(loaded.vectors_WD, clips.vectors_WD) and np.array_equal(loaded.start_C, clips.start_C)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"batch_size": 1}, "expected 2 or more, for there must be negatives"),
        ({"levels": ("fine", "video")}, "expected some of coarse, mid, fine"),
        ({"dropout": 1.0}, "dropout=1.0"),
        ({"epochs": 0}, "epochs=0; expected at least 1"),
        ({"warmup_epochs": 100.0}, "warmup_epochs"),
    ],
)
def test_a_recipe_that_no_run_can_have(change, message):
    with pytest.raises(UsageError, match=message):
        ContrastRecipe(**change)
