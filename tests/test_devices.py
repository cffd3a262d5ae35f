"""Which device work runs on, and what is refused because no machine could ever run it. No Ray is started."""

from types import SimpleNamespace

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from halsted_ray import taxonomy as taxonomies
from halsted_ray.compute import devices
from halsted_ray.compute.devices import WorkerRequest, processes_that_fit, torch_device
from halsted_ray.compute.parallel import share_of_gpu
from halsted_ray.errors import ResourceError, UsageError
from halsted_ray.evaluation.fold_resources import decoder_weights, gpu_share_of_fold
from halsted_ray.model.decoder import build_decoder
from halsted_ray.model.vocabulary import Vocabulary
from halsted_ray.training import train
from halsted_ray.training.recipe import BEST, PAPER, Recipe, on_device, precision_on
from halsted_ray.training.train import with_precision
from halsted_ray.training.vector_placement import RESIDENT_SHARE, fits_on_device, free_device_bytes, is_resident

GIB = 1 << 30


@pytest.mark.parametrize(
    ("workers", "gpus", "cluster", "expected"),
    [
        (None, None, (0, 0), (1, False)),
        (3, None, (0, 0), (3, False)),
        (None, None, (4, 4), (4, True)),
        (None, None, (4, 3), (3, True)),  # one is taken
        (None, None, (4, 0), (1, True)),  # all are taken: the run waits for one of them
        (2, None, (4, 4), (2, True)),
        (None, 2, (4, 4), (2, True)),
        (2, 2, (4, 4), (2, True)),
        (None, 0, (4, 4), (1, False)),
        (2, 0, (4, 4), (2, False)),
        (None, 1, (0, 0), (1, True)),  # what the cluster lacks is refused by require_fit, not ignored
    ],
)
def test_one_worker_per_free_gpu_unless_told_otherwise(workers, gpus, cluster, expected):
    assert WorkerRequest(workers, gpus).on(*cluster) == expected


@pytest.mark.parametrize(
    ("workers", "gpus", "words"),
    [(3, 2, "3 workers on 2 GPUs; expected one worker per GPU"), (0, None, "at least 1"), (None, -1, "at least 0")],
)
def test_a_contradicting_request_is_refused_in_words(workers, gpus, words):
    with pytest.raises(UsageError, match=words):
        WorkerRequest(workers, gpus)


def test_a_process_needs_all_its_resources_on_one_machine():
    machines = [{"CPU": 16.0, "memory": 1.0}, {"CPU": 2.0, "GPU": 4.0}, {"GPU": 1.0}]
    assert processes_that_fit(machines, {"CPU": 1, "GPU": 1}) == 2
    assert processes_that_fit(machines, {"CPU": 4, "GPU": 1}) == 0
    assert processes_that_fit(machines, {"CPU": 4}) == 4
    assert processes_that_fit(machines, {"CPU": 0.25, "GPU": 0.2}) == 8


class FakeRay:
    """A cluster of which only the machines are known."""

    def __init__(self, *machines):
        self.machines = machines

    def nodes(self):
        return [
            {"NodeID": str(n), "Alive": True, "Resources": resources} for n, resources in enumerate(self.machines)
        ] + [{"NodeID": "gone", "Alive": False, "Resources": {"CPU": 99.0, "GPU": 99.0}}]

    def cluster_resources(self):
        names = {name for machine in self.machines for name in machine}
        return {name: sum(machine.get(name, 0.0) for machine in self.machines) for name in names}

    def get_runtime_context(self):
        return self

    def get_node_id(self):
        return "0"


def test_gpus_that_no_machine_can_give_are_refused_in_words(monkeypatch):
    monkeypatch.setattr(devices, "ray", FakeRay({"CPU": 16.0}, {"CPU": 1.0, "GPU": 4.0}))
    devices.require_fit("training on 1 workers", 1, {"GPU": 1, "CPU": 1})
    with pytest.raises(ResourceError, match=r"needs 5 GPUs, the cluster has 4; ask for at most 4 workers, or for none"):
        devices.require_fit("training on 5 workers", 5, {"GPU": 1, "CPU": 1})
    with pytest.raises(ResourceError, match=r"1 GPUs and 1 CPUs on one machine for each of 2 processes.*room for 1;"):
        devices.require_fit("training on 2 workers", 2, {"GPU": 1, "CPU": 1})


def test_a_gpu_that_torch_does_not_see_on_this_machine_alone_does_not_count(monkeypatch):
    """Ray counts cards. With a torch for CPUs this machine trains on its CPU, as it did before."""
    monkeypatch.setattr(devices, "ray", FakeRay({"CPU": 4.0, "GPU": 1.0}))
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert devices.cluster_gpus() == 0
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    assert devices.cluster_gpus() == 1
    # Of a larger cluster this machine says nothing: a head without a GPU starts work on machines with GPUs.
    monkeypatch.setattr(devices, "ray", FakeRay({"CPU": 4.0}, {"CPU": 4.0, "GPU": 2.0}))
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert devices.cluster_gpus() == 2


def test_a_gpu_without_a_torch_for_it_is_an_error_in_words(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert torch_device("cpu") == torch.device("cpu")
    with pytest.raises(ResourceError, match="torch .* sees none; install torch for CUDA"):
        torch_device("cuda")


@given(st.sampled_from([0.25, 0.5, 1.0]), st.integers(1, 40), st.integers(1, 16))
def test_jobs_share_gpus_no_more_than_they_must_and_can(least, jobs, gpus):
    share = share_of_gpu(least, jobs, gpus)
    at_once = int(1 / share) * gpus
    assert least - 1e-4 <= share <= 1 and round(share * 10_000) == pytest.approx(share * 10_000)
    assert at_once >= jobs or share == pytest.approx(least, abs=1e-4), "all run at once, or as many as fit"
    assert share == 1 or (1 / share - 1) * gpus < jobs, "one job less per GPU would not do"


def test_vectors_lie_on_the_device_where_they_take_half_of_its_free_memory():
    assert fits_on_device(4 * GIB, 8 * GIB) and not fits_on_device(4 * GIB + 1, 8 * GIB)
    assert RESIDENT_SHARE == 0.5 and is_resident(1 << 60, torch.device("cpu"))


@pytest.mark.parametrize(
    ("free", "fraction", "reserved", "expected"),
    [(70, 1.0, 2, 70), (10, 1.0, 2, 10), (70, 0.25, 2, 18), (70, 0.25, 30, 0)],
)
def test_a_process_that_shares_a_gpu_counts_its_own_share_of_the_memory(
    monkeypatch, free, fraction, reserved, expected
):
    def of_numbered(device):
        """As torch's own: it refuses ``cuda`` without a number."""
        assert torch.cuda._utils._get_device_index(device) == 0
        return fraction

    monkeypatch.setattr(torch.cuda, "current_device", lambda: 0)
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda device: (free * GIB, 80 * GIB))
    monkeypatch.setattr(torch.cuda, "get_per_process_memory_fraction", of_numbered)
    monkeypatch.setattr(torch.cuda, "memory_reserved", lambda device: reserved * GIB)
    device = torch.device("cuda")
    assert free_device_bytes(device) == expected * GIB
    assert is_resident(expected * GIB // 2, device) and not is_resident(expected * GIB // 2 + 1, device)


def test_bf16_on_gpus_and_fp32_on_cpus_unless_the_recipe_says_which():
    assert [precision_on(device, PAPER) for device in ("cpu", "cuda")] == ["fp32", "bf16"]
    for chosen in ("fp32", "bf16"):
        assert {precision_on(device, Recipe(precision=chosen)) for device in ("cpu", "cuda")} == {chosen}
    assert on_device(PAPER, "cuda") == Recipe(precision="bf16")
    with pytest.raises(UsageError, match="expected one of auto, fp32, bf16"):
        Recipe(precision="fp16")


@pytest.mark.parametrize(
    ("recipe", "vectors_gb", "share"),
    [
        (PAPER, 0.3, 0.25),
        (PAPER, 4, 0.5),
        (PAPER, 10, 1.0),
        (Recipe(layers=16, width=2048, feedforward=8192), 0.3, 1.0),  # a billion weights
    ],
)
def test_a_fold_takes_the_share_of_a_gpu_that_its_memory_needs(recipe, vectors_gb, share):
    side = SimpleNamespace(embeddings_WD=SimpleNamespace(nbytes=vectors_gb * 1e9 / 2))
    data = SimpleNamespace(
        training=side,
        testing=side,
        recipe=recipe,
        config=SimpleNamespace(encoder_dim=1408, steps=1),
        llama="",
        taxonomy=taxonomies.load().to_dict(),
    )
    assert gpu_share_of_fold(data) == share


def test_a_run_goes_on_in_the_precision_it_began_in_on_whatever_device(tmp_path, monkeypatch):
    def run_id_of(recipe):
        return f"id-{recipe.precision}"

    def on_machine_with(gpus, out, recipe=PAPER, asked=None):
        monkeypatch.setattr(train, "gpus_at_hand", lambda: gpus)
        return with_precision(recipe, str(tmp_path / out), run_id_of, asked).precision

    assert [on_machine_with(gpus, "new") for gpus in (0, 2)] == ["fp32", "bf16"]
    assert on_machine_with(2, "new", asked=0) == "fp32" and on_machine_with(0, "new", asked=1) == "bf16"
    (tmp_path / "killed/checkpoints/id-bf16").mkdir(parents=True)
    assert on_machine_with(0, "killed") == "bf16"
    assert on_machine_with(0, "killed", Recipe(precision="fp32")) == "fp32", "what the recipe says holds"
    (tmp_path / "finished").mkdir()
    (tmp_path / "finished/training.json").write_text('{"run_id": "id-fp32"}')
    assert on_machine_with(2, "finished") == "fp32"


@pytest.mark.parametrize(("recipe", "dim"), [(PAPER, 1408), (BEST, 192), (Recipe(width=64, layers=3), 192)])
def test_a_folds_memory_is_reckoned_from_about_the_decoders_weights(recipe, dim):
    vocabulary, width = Vocabulary(taxonomies.load()), recipe.width or dim
    sizes = {
        "dim": dim,
        "width": width,
        "layers": recipe.layers,
        "heads": recipe.heads,
        "feedforward": recipe.feedforward or width * 7 // 2,
        "dropout": 0.0,
    }
    with torch.device("meta"):
        true = sum(parameter.numel() for parameter in build_decoder(vocabulary, sizes).parameters())
    assert decoder_weights(recipe, dim, len(vocabulary)) == pytest.approx(true, rel=0.12)
