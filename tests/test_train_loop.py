"""The training loop on Ray Train and in one process. All tests share one Ray and its four runs of Ray Train, since each
run starts a process for the controller, for each worker and for each of Ray's helpers."""

import io
import json
import os
import signal
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from halsted_ray import taxonomy as taxonomies
from halsted_ray.compute.cluster import connected
from halsted_ray.errors import ResourceError, TrainingError
from halsted_ray.model.vocabulary import Vocabulary
from halsted_ray.records import Window
from halsted_ray.training import loop
from halsted_ray.training.epoch_display import EpochLine
from halsted_ray.training.recipe import Recipe
from halsted_ray.training.samples import LabelledWindow, Samples, build_samples

SMALL = taxonomies.from_dict(
    {
        "name": "small",
        "tasks": [
            {
                "name": "macro",
                "instruction": "map procedure type",
                "window": "coarse",
                "tags": [{"name": "step", "categories": ["Suturing", "Dissection"]}],
            },
            {
                "name": "micro",
                "instruction": "map dissection activity",
                "window": "fine",
                "when": {"step": "Dissection"},
                "tags": [
                    {"name": "action", "categories": ["Tug", "Hook", "Clip"]},
                    {"name": "arm", "categories": ["Left", "Right"]},
                ],
            },
        ],
    }
)
DIM = 24
EPOCHS = 24
RECIPE = Recipe(
    epochs=EPOCHS,
    batch_size=32,
    learning_rate=2e-3,
    warmup_epochs=1,
    heads=2,
    layers=1,
    noise=0.1,
    validate_every=4,
    checkpoint_every=4,
)
SHARED, LONGER = 12, 16
"""Epochs that three workers train, and that one worker goes on to."""
SIZES = {"dim": DIM, "width": DIM, "layers": 1, "heads": 2, "feedforward": 48, "dropout": 0.0}


@pytest.fixture(scope="module")
def cluster():
    with pytest.MonkeyPatch.context() as patch:
        # Ray Train's processes have an environment of their own, so none of those that Ray starts in advance is used.
        patch.setenv("RAY_prestart_worker_first_driver", "0")
        with connected() as (cpus, _, _):
            yield int(cpus)


@contextmanager
def in_time():
    """Ray waits where others fail, so a run that hangs ends here."""

    def stop(*_):
        raise TimeoutError("a run of the training loop took more than 480 s")

    before = signal.signal(signal.SIGALRM, stop)
    signal.alarm(480)
    try:
        yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)


def own_train_workers():
    """Process ids of Ray Train's workers below this very process."""
    parents = {}
    for status in Path("/proc").glob("[0-9]*/stat"):
        try:
            parents[int(status.parent.name)] = int(status.read_text().rsplit(")", 1)[1].split()[1])
        except (FileNotFoundError, ProcessLookupError):
            continue  # ended meanwhile
    found = []
    for pid in parents:
        ancestor = pid
        while ancestor in parents and ancestor != os.getpid():
            ancestor = parents[ancestor]
        with suppress(FileNotFoundError, ProcessLookupError):  # as above
            if ancestor == os.getpid() and b"RayTrainWorker" in Path(f"/proc/{pid}/cmdline").read_bytes():
                found.append(pid)
    return found


def samples(count, seed):
    """``count`` windows whose vectors tell their category, with noise; every window is a sample of both tasks."""
    rng = np.random.default_rng(seed)
    directions = np.random.default_rng(0).normal(size=(7, DIM))
    labelled, vectors = {"v": []}, {"v": {}}
    for n in range(count):
        window = Window("fine", n * 2.5, n * 2.5 + 2.5)
        step, action, arm = (int(rng.integers(k)) for k in (2, 3, 2))
        vector = directions[step] + directions[2 + action] + directions[5 + arm] + 0.3 * rng.normal(size=DIM)
        vectors["v"]["fine", window.start_s, window.stop_s] = vector.astype(np.float16)
        tags = [(tag.name, tag.categories[k]) for tag, k in zip(SMALL.tags, (step, action, arm), strict=True)]
        labelled["v"] += [
            LabelledWindow(window, "macro", (tags[0],), 0.8, True),
            LabelledWindow(window, "micro", tuple(tags[1:]), 1.0, True),
        ]
    return build_samples(labelled, vectors, Vocabulary(SMALL))


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    folder = tmp_path_factory.mktemp("samples")
    paths = {"train": str(folder / "train.safetensors"), "validation": str(folder / "validation.safetensors")}
    samples(310, 1).save(paths["train"])
    samples(60, 2).save(paths["validation"])
    return paths


def fit(data, tmp_path, recipe=RECIPE, **options):
    with in_time():
        return loop.fit(
            **data,
            decoder=SIZES,
            taxonomy=SMALL,
            recipe=recipe,
            storage=str(tmp_path),
            **{"name": "run", "workers": 1, **options},
        )


def losses(fitted):
    return [record["loss"] for record in fitted.progress.curve]


@contextmanager
def quick_checkpoints():
    """A checkpoint is a barrier that waits for Ray Train's next look at its workers: every 2 s by default, and every
    0.2 s here. Not for a run that a test disturbs, since it could be over by then."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RAY_TRAIN_HEALTH_CHECK_INTERVAL_S", "0.2")
        yield


def steady(epochs):
    """The learning rate never changes, so that a shorter run is the beginning of a longer one."""
    return replace(RECIPE, epochs=epochs, warmup_epochs=epochs, warmup_from=1.0)


def fit_here(train, validation, recipe):
    """The same training in this process, on one thread as a worker has."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        return loop.fit_in_process(train, validation, SIZES, SMALL, recipe)
    finally:
        torch.set_num_threads(threads)


@pytest.fixture(scope="module")
def alone(data):
    return fit_here(*map(Samples.load, data.values()), RECIPE)


@pytest.fixture(scope="module")
def alone_steady(data):
    return fit_here(*map(Samples.load, data.values()), steady(LONGER))


@pytest.fixture(scope="module")
def shared(cluster, data, tmp_path_factory):
    """(what three workers trained, the epochs that were told, the run's storage). Ray's list of the run's checkpoints
    was cut off before."""
    storage, seen = tmp_path_factory.mktemp("shared"), []
    listed = storage / "run" / loop.RAYS_LIST
    listed.parent.mkdir()
    listed.write_text('{"ray_version":"2.60.0","checkpoint_res')
    with quick_checkpoints():
        return fit(data, storage, steady(SHARED), workers=3, on_epoch=seen.append), seen, storage


@pytest.fixture(scope="module")
def gone_on(shared, data):
    """(what one worker trained from the checkpoint of three, the epochs that were told, those of the checkpoint)."""
    seen, restored = [], []
    with quick_checkpoints():
        fitted = fit(data, shared[2], steady(LONGER), on_epoch=seen.append, on_restored=restored.append)
    return fitted, seen, restored


@pytest.fixture(scope="module")
def disturbed(cluster, data, tmp_path_factory):
    """(what one worker trained that was killed on the way, the epochs that were told, those of its checkpoint)."""
    seen, restored, killed = [], [], []

    def kill_once(record):
        seen.append(record["epoch"])
        if record["epoch"] >= 9 and not killed:
            (worker,) = own_train_workers()
            killed.append(worker)
            os.kill(worker, signal.SIGKILL)

    storage = tmp_path_factory.mktemp("disturbed")
    fitted = fit(data, storage, on_epoch=kill_once, on_restored=restored.append)
    assert killed
    return fitted, seen, restored


def test_training_learns_and_keeps_the_decoder_by_its_worst_task(shared):
    fitted, seen, _ = shared
    curve = fitted.progress.curve
    assert seen == curve and [record["epoch"] for record in curve] == list(range(SHARED))
    assert curve[-1]["loss"] < 0.3 * curve[0]["loss"]
    measured = [record for record in curve if record["accuracy_of_task"]]
    assert [record["epoch"] + 1 for record in measured] == list(range(4, SHARED + 1, 4))
    assert measured[-1]["accuracy_of_task"]["micro"] > 0.9
    best = -1
    for record in measured:
        assert record["worst"] == min(record["accuracy_of_task"].values())
        assert record["saved"] == (record["worst"] > best)
        best = max(best, record["worst"])
    assert fitted.progress.best == best and curve[fitted.progress.best_epoch]["worst"] == best
    assert not torch.equal(fitted.tensors["feature_mean"], torch.zeros(DIM))


def test_a_recipe_may_keep_the_last_epoch_whatever_its_worst_task_says(data):
    """Labels of the validation part are shuffled, so that its best epoch is chance and hardly the last one."""
    train, validation = map(Samples.load, data.values())
    order = np.random.default_rng(0).permutation(len(validation))
    validation = replace(validation, truth_SG=validation.truth_SG[order])
    kept = {}
    for keep in ("best", "last"):
        recipe = replace(RECIPE, epochs=6, warmup_epochs=1.0, validate_every=1, keep=keep)
        kept[keep] = fit_here(train, validation, recipe).progress
    worst = [record["worst"] for record in kept["last"].curve]
    assert worst == [record["worst"] for record in kept["best"].curve], "only what is kept differs"
    assert kept["best"].best_epoch == worst.index(max(worst)) < 5 and kept["best"].best == max(worst)
    assert kept["last"].best_epoch == 5 and kept["last"].best == worst[-1]


def test_the_accuracy_of_the_commonest_category_stands_beside_the_decoders(shared, data):
    train, validation = map(Samples.load, data.values())
    expected = {}
    for k, task in enumerate(SMALL.tasks):
        shares = []
        for g in range(len(task.tags)):
            learned, judged = (of.truth_SG[of.task_S == k, g] for of in (train, validation))
            shares.append(np.mean(judged == np.bincount(learned).argmax()))
        expected[task.name] = np.mean(shares)
    assert shared[0].progress.commonest_of_task == pytest.approx(expected)


def test_worker_count_invariance(shared, alone_steady):
    # 620 samples in batches of 32, which split unevenly over 3
    of_three, of_one = shared[0], alone_steady
    assert losses(of_three)[:10] == pytest.approx(losses(of_one)[:10], rel=1e-4)
    assert of_three.progress.commonest_of_task == of_one.progress.commonest_of_task
    # rounding grows with the steps; 240 of them later the curve is still the same to the eye
    assert losses(of_three) == pytest.approx(losses(of_one)[:SHARED], rel=0.02)


def test_same_seed_same_result_even_after_a_killed_worker(disturbed, alone):
    fitted, seen, restored = disturbed
    assert 0 not in seen[1:], "it went on from a checkpoint, not from the start"
    assert len(seen) > EPOCHS, "the kill came too late to matter"
    assert restored and restored == fitted.progress.curve[: len(restored)], "what the checkpoint holds is told"
    assert losses(fitted) == losses(alone)
    for name, value in alone.tensors.items():
        assert torch.equal(value, fitted.tensors[name]), name


def test_a_loss_that_is_not_finite_stops_the_run_and_names_the_batch(cluster, data, tmp_path):
    wild = replace(RECIPE, learning_rate=1e30, warmup_epochs=0)
    with pytest.raises(TrainingError, match=r"not finite in epoch 0, batch [1-9].*learning rate 1e\+30"):
        fit(data, tmp_path, wild, workers=2)


def test_a_list_of_checkpoints_that_was_cut_off_starts_the_run_anew(shared):
    fitted, seen, storage = shared
    assert [record["epoch"] for record in seen] == list(range(SHARED)) and len(losses(fitted)) == SHARED
    assert json.loads((storage / "run" / loop.RAYS_LIST).read_text()), "Ray wrote its own"


def test_a_run_goes_on_with_another_number_of_workers(shared, gone_on, alone_steady):
    """One worker goes on from the checkpoint of three; the curve is that of one worker who trained it all."""
    fitted, seen, restored = gone_on
    assert [record["epoch"] for record in shared[1] + seen] == list(range(LONGER)), "each epoch was trained once"
    assert [record["epoch"] for record in restored] == list(range(SHARED))
    assert losses(fitted) == pytest.approx(losses(alone_steady), rel=1e-3)


def test_a_cluster_without_gpus_refuses_to_train_on_them(cluster, data, tmp_path):
    with pytest.raises(ResourceError, match=r"training on 1 workers needs 1 GPUs, the cluster has 0;.*gpus=0"):
        fit(data, tmp_path, use_gpu=True)


def test_more_workers_than_the_cluster_has(cluster, data, tmp_path):
    with pytest.raises(ResourceError, match=rf"needs {2 * cluster} CPUs, the cluster has {cluster};"):
        fit(data, tmp_path, workers=cluster, cores=2)


def test_the_line_of_progress():
    stream = io.StringIO()
    line = EpochLine(2, stream)
    record = {
        "epoch": 0,
        "loss": 1.25,
        "seconds": 2.0,
        "samples_per_s": 1234.5,
        "saved": True,
        "accuracy_of_task": {"macro": 0.5, "context": None},
    }
    line(record)
    assert stream.getvalue() == ""  # without a terminal, a line a minute and the last one
    line(record | {"epoch": 1, "accuracy_of_task": {}})
    assert stream.getvalue() == (
        "epoch 2/2 [####################] loss 1.250  macro 0.500  saved  1,234 samples/s  ETA 0:00\n"
    )


def test_a_fold_trains_as_a_run_of_one_worker_does(disturbed, alone):
    fitted = disturbed[0]
    assert losses(alone) == losses(fitted) and alone.progress.best_epoch == fitted.progress.best_epoch
    assert alone.tensors.keys() == fitted.tensors.keys()
    for name, value in fitted.tensors.items():
        assert torch.equal(value, alone.tensors[name]), name


def test_bf16_learns_alike(alone, data):
    rounded = fit_here(*map(Samples.load, data.values()), replace(RECIPE, precision="bf16"))
    assert losses(rounded)[:20] == pytest.approx(losses(alone)[:20], rel=0.05)
    assert losses(rounded) != losses(alone) and rounded.progress.best > 0.9
    assert all(value.dtype != torch.bfloat16 for value in rounded.tensors.values())
