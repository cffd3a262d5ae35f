"""torchvision's ViTs and EfficientNets: the names and shapes of their published weights, and what torchvision gives.

The digests and numbers were made once with torchvision 0.28: ``golden_names`` of the state of its own models, and
vectors of its own models with the weights of ``drawn`` on the pictures of ``pictures``.
"""

import hashlib
import json
import zlib

import numpy as np
import pytest
import torch

from halsted_ray.errors import ModelError
from halsted_ray.model.encoder import STEPS, Encoder
from halsted_ray.model.encoder_identity import identify_encoder, keep_encoder
from halsted_ray.model.encoders import torchvision_vit
from halsted_ray.model.encoders.efficientnet import EFFICIENTNETS, EfficientNet
from halsted_ray.model.encoders.families import ARCHITECTURES, TORCHVISION_VITS
from halsted_ray.model.encoders.published_shapes import shapes_of
from halsted_ray.model.encoders.torchvision_vit import VITS, VitSizes, vit_shapes

EFFICIENTNET_NAMES = {
    "efficientnet_b0": "cf7279057dc94386",
    "efficientnet_b1": "9492d016bb668ad6",
    "efficientnet_b2": "d38d918849b18448",
    "efficientnet_b3": "9c7462b2520a3e70",
}
VIT_NAMES = {
    "vit_b_16": (197, "57ded83325e3d91b"),
    "vit_b_32": (50, "692957bcadfebd78"),
    "vit_l_16": (197, "58e875c9caa299af"),
    "vit_l_32": (50, "5ba0297171ade118"),
}
EFFICIENTNET_VECTORS = {
    "efficientnet_b0": [-0.16358, -0.09735, -0.05176, 0.04615, 0.06113],
    "efficientnet_b1": [0.07165, -0.17645, -0.10967, 0.02362, 0.0164],
    "efficientnet_b2": [0.13546, -0.06771, -0.17977, 0.01372, 0.05871],
    "efficientnet_b3": [0.06568, -0.07456, 0.0955, 0.4586, 0.31616],
}
VIT_VECTORS = {
    "class": [-0.96523, -0.22953, 0.38674, -0.95763, 0.87796],
    "mean": [-0.8706, -0.5619, -0.26612, -0.78738, 0.9268],
}
SMALL = VitSizes(patch=16, width=128, layers=2, heads=2)
"""The sizes of the ViT whose vectors torchvision gave, for pictures of 32×32."""


def golden_names(shapes):
    return hashlib.sha256(";".join(f"{name} {shape}" for name, shape in sorted(shapes.items())).encode()).hexdigest()[
        :16
    ]


def drawn(name, shape):
    """The weights of a tensor, the same on every machine."""
    generator = np.random.RandomState(zlib.crc32(name.encode()))
    if name.endswith("num_batches_tracked"):
        return torch.tensor(0)
    if name.endswith("running_var"):
        return torch.from_numpy(generator.uniform(0.5, 1.5, shape).astype("f4"))
    if len(shape) == 1:
        centre = 1.0 if name.endswith("weight") else 0.0
        return torch.from_numpy((generator.standard_normal(shape) * 0.1 + centre).astype("f4"))
    fan_in = int(np.prod(shape[1:]))
    return torch.from_numpy((generator.standard_normal(shape) * (1.5 / fan_in) ** 0.5).astype("f4"))


def drawn_state(shapes):
    return {name: drawn(name, shape) for name, shape in shapes.items()}


def pictures(side):
    values = np.arange(2 * 3 * side * side) * 37 % 251 / 251
    return torch.from_numpy(values.astype("f4").reshape(2, 3, side, side) - 0.5)


def write_weights(folder, architecture, tensors, **settings):
    folder.mkdir()
    torch.save(tensors, folder / "weights.pth")
    (folder / "encoder.json").write_text(json.dumps({"architecture": architecture, **settings}))
    return str(folder)


@pytest.fixture
def small_vit(monkeypatch):
    """``vit_b_16`` at small sizes: its published layout with fewer and thinner layers."""
    monkeypatch.setitem(torchvision_vit.VITS, "vit_b_16", SMALL)
    head = {"heads.head.weight": torch.zeros(1000, 128), "heads.head.bias": torch.zeros(1000)}
    return drawn_state(vit_shapes(SMALL, 5)) | head


def test_every_architecture_that_is_named_can_be_made():
    assert set(TORCHVISION_VITS) == set(VITS) == set(VIT_NAMES)
    assert {name for name in ARCHITECTURES if "_b" in name} == set(EFFICIENTNETS) == set(EFFICIENTNET_NAMES)


@pytest.mark.parametrize("architecture", sorted(EFFICIENTNETS))
def test_an_efficientnet_has_the_tensors_and_vectors_of_torchvision_s(tmp_path, architecture):
    with torch.device("meta"):
        empty = EfficientNet(*EFFICIENTNETS[architecture])
    shapes = shapes_of(empty.state_dict())
    assert golden_names(shapes) == EFFICIENTNET_NAMES[architecture]
    classifier = {"classifier.1.weight": torch.zeros(1000, empty.width), "classifier.1.bias": torch.zeros(1000)}
    folder = write_weights(tmp_path / "m", architecture, drawn_state(shapes) | classifier, size=72, crop_size=64)
    encoder = Encoder.load(folder)
    assert (encoder.dim, encoder.model_size, encoder.frames) == (empty.width, (64, 64), 16)
    with torch.inference_mode():
        found = encoder.network.picture_vectors(pictures(64))[1, :5]
    np.testing.assert_allclose(found, EFFICIENTNET_VECTORS[architecture], atol=2e-4)


@pytest.mark.parametrize("architecture", sorted(VITS))
def test_a_vit_has_the_tensors_of_torchvision_s(architecture):
    positions, names = VIT_NAMES[architecture]
    assert golden_names(vit_shapes(VITS[architecture], positions)) == names


@pytest.mark.parametrize("pooling", ["class", "mean"])
def test_a_vit_gives_the_vectors_of_torchvision_s(tmp_path, small_vit, pooling):
    folder = write_weights(tmp_path / "m", "vit_b_16", small_vit, size=40, crop_size=32, halsted_pooling=pooling)
    encoder = Encoder.load(folder)
    assert (encoder.family, encoder.dim, encoder.model_size) == ("vit", 128, (32, 32))
    with torch.inference_mode():
        found = encoder.network.picture_vectors(pictures(32))[1, :5]
    np.testing.assert_allclose(found, VIT_VECTORS[pooling], atol=2e-4)


def test_a_vit_under_the_names_before_torchvision_0_13_is_the_same_encoder(tmp_path, small_vit):
    older = {
        name.replace("mlp.0.", "mlp.linear_1.").replace("mlp.3.", "mlp.linear_2."): value
        for name, value in small_vit.items()
    }
    assert older.keys() != small_vit.keys()
    first, second = (
        Encoder.load(write_weights(tmp_path / name, "vit_b_16", tensors, size=32))
        for name, tensors in (("new", small_vit), ("old", older))
    )
    assert first.fingerprint == second.fingerprint
    clips = np.random.default_rng(0).integers(0, 256, (1, *first.clip_shape), dtype=np.uint8)
    np.testing.assert_array_equal(first.encode(clips), second.encode(clips))


def test_a_vit_is_identified_kept_and_asked_for_its_steps(tmp_path, small_vit):
    folder = write_weights(tmp_path / "m", "vit_b_16", small_vit, size=32)
    encoder, steps = Encoder.load(folder), Encoder.load(folder + STEPS)
    clips = np.random.default_rng(0).integers(0, 256, (1, *encoder.clip_shape), dtype=np.uint8)
    of_steps = steps.encode(clips).reshape(16, 128).astype(np.float32)
    np.testing.assert_allclose(of_steps.mean(0), encoder.encode(clips)[0], atol=2e-3)
    kept = keep_encoder(folder, str(tmp_path / "copy"), "fp32")
    assert kept.fingerprint == identify_encoder(folder).fingerprint == encoder.fingerprint
    np.testing.assert_array_equal(Encoder.load(str(tmp_path / "copy")).encode(clips), encoder.encode(clips))


def test_weights_or_pictures_that_do_not_fit_a_vit_are_refused(tmp_path, small_vit):
    with pytest.raises(ModelError, match=r"not those of vit_l_16: class_token is \(1, 1, 128\), expected \(1, 1, 1024"):
        Encoder.load(write_weights(tmp_path / "a", "vit_l_16", small_vit, size=32))
    with pytest.raises(ModelError, match=r"pictures of 48×48, its weights have 4 positions .* those of 32×32"):
        Encoder.load(write_weights(tmp_path / "b", "vit_b_16", small_vit, size=48))
    del small_vit["conv_proj.bias"]
    with pytest.raises(ModelError, match="conv_proj.bias is missing"):
        Encoder.load(write_weights(tmp_path / "c", "vit_b_16", small_vit, size=32))
    with pytest.raises(ModelError, match="'vit_h_14', expected one of .*vit_b_16"):
        Encoder.load(write_weights(tmp_path / "d", "vit_h_14", small_vit, size=32))


def test_an_efficientnet_of_another_size_is_refused(tmp_path):
    shapes = shapes_of(EfficientNet(*EFFICIENTNETS["efficientnet_b0"]).state_dict())
    with pytest.raises(ModelError, match=r"not those of efficientnet_b2: .* and \d+ more"):
        Encoder.load(write_weights(tmp_path / "m", "efficientnet_b2", drawn_state(shapes), size=64))
