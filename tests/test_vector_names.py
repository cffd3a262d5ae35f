"""Vectors of two precisions are never mixed, and stored ones are used where nobody asks for others."""

import numpy as np
import pytest

from halsted_ray.embedding import vector_names
from halsted_ray.embedding.vector_names import open_vectors, run_precision
from halsted_ray.errors import ModelError
from halsted_ray.model.encoder_identity import encoder_identity

TINY = encoder_identity("random:tiny:0")
KEY = ("fine", 0.0, 2.5)


def store(place, precision):
    open_vectors(str(place), TINY, "x", precision).put("video", 0.0, 2.5, {KEY: np.ones(TINY.dim)})


@pytest.mark.parametrize(
    "stored, gpus, expected",
    [
        ((), 0, "fp32"),
        ((), 2, "bf16"),
        (("bf16",), 0, "bf16"),
        (("fp32",), 2, "fp32"),
        (("bf16", "fp32"), 0, "fp32"),
        (("bf16", "fp32"), 1, "bf16"),
        (("fp8",), 1, "fp8"),
    ],
)
def test_stored_vectors_decide_and_else_the_device(tmp_path, monkeypatch, stored, gpus, expected):
    for precision in stored:
        store(tmp_path, precision)
    monkeypatch.setattr(vector_names, "gpus_at_hand", lambda: gpus)
    assert run_precision(str(tmp_path), TINY) == expected
    assert run_precision(str(tmp_path), TINY, "bf16") == "bf16", "who asks gets it"
    with pytest.raises(ModelError, match="expected one of: fp32, bf16, fp8, int8"):
        run_precision(str(tmp_path), TINY, "fp16")


def test_vectors_of_one_precision_are_not_seen_in_another(tmp_path):
    store(tmp_path, "bf16")
    assert KEY in open_vectors(str(tmp_path), TINY, "x", "bf16").get("video", 0.0, 2.5)
    assert not open_vectors(str(tmp_path), TINY, "x", "fp32").get("video", 0.0, 2.5)
    assert (tmp_path / f"{TINY.fingerprint}-bf16").is_dir(), "and what was stored before there were precisions is fp32"
    assert TINY.vectors_name("fp32") == TINY.fingerprint
