"""Jobs side by side on a cluster that says it has GPUs. Ray takes their number on trust, so no GPU is needed: what is
tested is who gets which, and when."""

import os
import sys
import time

import pytest
import ray
import torch

from halsted_ray.compute.cluster import connected
from halsted_ray.compute.parallel import run_parallel
from halsted_ray.errors import ResourceError
from halsted_ray.evaluation.folds import Fold, run_fold

ray.cloudpickle.register_pickle_by_value(sys.modules[__name__])  # Ray's workers can't import the tests


@pytest.fixture(scope="module")
def two_gpus():
    """A cluster of 8 CPUs and 2 GPUs, as this process sees it."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(torch.cuda, "is_available", lambda: True)
        ray.init(address="local", num_cpus=8, num_gpus=2, include_dashboard=False, log_to_driver=False)
        yield
        ray.shutdown()


def meet(job, waits_for, device):
    """Waits until ``waits_for`` jobs are here at once; gives who came, and the GPUs that this one may use."""
    folder, count = waits_for
    open(f"{folder}/{job}", "w").close()
    until_s = time.monotonic() + 240
    while len(os.listdir(folder)) < count and time.monotonic() < until_s:
        time.sleep(0.05)
    return len(os.listdir(folder)), device, os.environ.get("CUDA_VISIBLE_DEVICES"), os.getpid()


def test_jobs_on_gpus_run_at_once_each_on_one_of_its_own(two_gpus, tmp_path):
    seen = []
    found = run_parallel(meet, [0, 1], (str(tmp_path), 2), lambda *done: seen.append(done), gpu_share=1.0)
    assert [here for here, *_ in found] == [2, 2], "both were there at the same time"
    assert [device for _, device, _, _ in found] == ["cuda", "cuda"]
    assert {gpu for _, _, gpu, _ in found} == {"0", "1"}
    assert seen == [(0, 2), (1, 2), (2, 2)]


def test_small_jobs_share_a_gpu(two_gpus, tmp_path):
    found = run_parallel(meet, range(6), (str(tmp_path), 6), gpu_share=0.25)
    assert [here for here, *_ in found] == [6] * 6, "all were there at the same time"
    assert sorted(gpu for _, _, gpu, _ in found) == ["0", "0", "0", "1", "1", "1"]


def test_a_process_ends_with_its_job_so_that_the_gpus_memory_is_free(two_gpus, tmp_path):
    found = run_parallel(meet, range(3), (str(tmp_path), 1), gpu_share=1.0)
    assert len({pid for *_, pid in found}) == 3


def test_a_single_job_gets_a_gpu_too(two_gpus, tmp_path):
    ((_, device, gpu, pid),) = run_parallel(meet, [0], (str(tmp_path), 1), gpu_share=0.5)
    assert device == "cuda" and gpu in ("0", "1") and pid != os.getpid()


def test_jobs_that_want_no_gpu_run_on_cpus(two_gpus, tmp_path):
    found = run_parallel(meet, [0, 1], (str(tmp_path), 2))
    assert [(here, device) for here, device, *_ in found] == [(2, "cpu"), (2, "cpu")]
    ((_, device, _, pid),) = run_parallel(meet, [2], (str(tmp_path), 1))
    assert device == "cpu" and pid == os.getpid(), "a single job needs no other process"


def test_a_fold_on_a_machine_whose_torch_knows_no_gpu_says_so(two_gpus):
    folds = [Fold(0, {}, "nowhere", False), Fold(1, {}, "nowhere", False)]
    with pytest.raises(ResourceError, match="was given a GPU, and torch .* sees none"):
        run_parallel(run_fold, folds, None, gpu_share=1.0)


def test_gpus_without_a_cpu_beside_them_are_refused_in_words():
    ray.shutdown()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(torch.cuda, "is_available", lambda: True)
        ray.init(address="local", num_cpus=0, num_gpus=2, include_dashboard=False, log_to_driver=False)
        try:
            with connected(), pytest.raises(ResourceError, match="a job on a GPU needs 1 CPUs, the cluster has 0"):
                run_parallel(meet, [0, 1], ("", 0), gpu_share=1.0)
        finally:
            ray.shutdown()
