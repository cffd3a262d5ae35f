"""The batches of an epoch: the same ones wherever the vectors lie, and the same ones as ever."""

import hashlib
import threading
import time
from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from halsted_ray.training.batch_loader import BatchLoader
from halsted_ray.training.prefetch import copied_ahead, prefetched
from halsted_ray.training.recipe import Recipe
from halsted_ray.training.samples import Samples

CPU = torch.device("cpu")


def samples(count=70, windows=40, dim=6, length=11):
    """Samples of three tasks whose values are made by arithmetic, the same on every machine."""
    n = np.arange
    return Samples(
        embeddings_WD=((n(windows * dim) * 37 % 101 - 50) / 16).reshape(windows, dim).astype(np.float16),
        video_W=np.zeros(windows, np.int32),
        start_s_W=n(windows, dtype=float),
        stop_s_W=n(windows, dtype=float) + 1,
        of_clip_W=np.zeros(windows, bool),
        window_S=n(count) * 7 % windows,
        task_S=n(count) % 7 // 3,
        tokens_SL=(1 + n(count * length) * 13 % 17).reshape(count, length).astype(np.int32),
        truth_SG=np.zeros((count, 1), np.int32),
        weight_S=((1 + n(count) % 8) / 8).astype(np.float32),
        judged_S=np.ones(count, bool),
        video_ids=("v",),
    )


def loader(recipe, rank=0, workers=1, **options):
    return BatchLoader(samples(), recipe, rank, workers, CPU, **options)


def digest(batches):
    """Over shapes, types and every bit of all tensors, in order."""
    found = hashlib.sha256()
    for batch in batches:
        for tensor in batch:
            found.update(str((tensor.dtype, tuple(tensor.shape))).encode())
            found.update(tensor.contiguous().numpy().tobytes())
    return found.hexdigest()[:16]


@pytest.mark.parametrize(
    ("recipe", "expected"),
    [
        (Recipe(batch_size=16), ["fad112ebf945ab03", "9c6bdc902e855242"]),
        (
            Recipe(batch_size=16, sampling="balanced", hide_tags=0.5, seed=3),
            ["c57ff436c13ab29b", "f24682a8cb833a83"],
        ),
    ],
    ids=["as_is", "balanced"],
)
def test_batches_are_bit_for_bit_those_of_earlier_versions(recipe, expected):
    """The digests are those of the loader that knew the CPU only. Others would make other models of old recipes."""
    for is_on_device in (True, False):
        found = [digest(loader(recipe, rank, 2, keep_on_device=is_on_device).batches(1)) for rank in range(2)]
        assert found == expected


@settings(max_examples=40)
@given(
    batch_size=st.integers(1, 90),
    noise=st.sampled_from([0.0, 0.4]),
    hide_tags=st.sampled_from([0.0, 0.7]),
    sampling=st.sampled_from(["as_is", "balanced"]),
    workers=st.integers(1, 4),
    epoch=st.integers(0, 50),
)
def test_streamed_vectors_give_the_same_batches_in_the_same_order_as_resident_ones(
    batch_size, noise, hide_tags, sampling, workers, epoch
):
    recipe = Recipe(batch_size=batch_size, noise=noise, hide_tags=hide_tags, sampling=sampling)
    for rank in range(workers):
        resident, streamed = (loader(recipe, rank, workers, keep_on_device=where) for where in (True, False))
        assert resident.is_resident and not streamed.is_resident
        pairs = list(zip(resident.batches(epoch), streamed.batches(epoch), strict=True))
        assert len(pairs) == len(resident)
        for one, other in pairs:
            for name in one._fields:
                ours, theirs = getattr(one, name), getattr(other, name)
                assert ours.dtype == theirs.dtype and torch.equal(ours, theirs), name


def test_a_streamed_batch_carries_its_vectors_as_they_are_stored():
    """Half the bytes of float32 cross to the device; resident vectors cross as positions."""
    recipe = Recipe(batch_size=16)
    batch = next(loader(recipe, keep_on_device=False).host_batches(0))
    assert batch.vectors.dtype == torch.float16 and batch.vectors.shape == (16, 6) and batch.noise_ND is None
    batch = next(loader(recipe, keep_on_device=True).host_batches(0))
    assert batch.vectors.dtype == torch.int64 and batch.vectors.shape == (16,)


def prefetch_threads():
    return [thread for thread in threading.enumerate() if thread.name.startswith("prefetch")]


@given(st.lists(st.integers(), max_size=30), st.integers(1, 8))
def test_prefetched_items_keep_their_order(items, ahead):
    assert list(prefetched(items, ahead)) == items


def test_items_are_drawn_while_the_one_before_is_used_and_not_without_bound():
    drawn = []

    def items():
        for n in range(20):
            drawn.append(n)
            yield n

    ahead = prefetched(items(), ahead=3)
    assert next(ahead) == 0
    until_s = time.monotonic() + 120
    while len(drawn) < 4 and time.monotonic() < until_s:
        time.sleep(0.01)
    time.sleep(0.1)
    assert drawn == [0, 1, 2, 3], "the first, and three more that nobody asked for"
    assert list(ahead) == list(range(1, 20))


def test_an_error_comes_in_its_items_place():
    def items():
        yield from (0, 1)
        raise KeyError("broken")

    ahead = prefetched(items())
    assert [next(ahead), next(ahead)] == [0, 1]
    with pytest.raises(KeyError, match="broken"):
        next(ahead)
    assert not prefetch_threads()


def test_an_epoch_that_is_left_early_leaves_no_thread():
    batches = loader(Recipe(batch_size=4), keep_on_device=False).batches(0)
    next(batches)
    assert prefetch_threads()
    batches.close()
    assert not prefetch_threads()
    copied = copied_ahead(loader(Recipe(batch_size=4)).host_batches(0), CPU)
    next(copied)
    copied.close()
    assert not prefetch_threads()


def test_vectors_in_the_cpus_own_memory_need_no_thread():
    batches = loader(Recipe(batch_size=4)).batches(0)
    next(batches)
    assert not prefetch_threads()


def test_an_epoch_of_several_passes_holds_the_passes_one_after_another():
    once = Recipe(batch_size=16, epochs=2)
    thrice = replace(once, least_steps=5 * len(loader(once)))
    assert len(loader(thrice)) == 3 * len(loader(once))
    passes = [digest(loader(once).batches(number)) for number in range(6)]
    assert len(set(passes)) == 6
    batches, each = list(loader(thrice).batches(1)), len(loader(once))
    assert [digest(batches[n * each : (n + 1) * each]) for n in range(3)] == passes[3:]
