"""The encoder reads every form of VideoMAE weights and refuses all others; a vector depends on its clip alone."""

import json
import pickle
import subprocess
import sys
from importlib import resources
from pathlib import Path

import fsspec
import numpy as np
import pytest
import safetensors.torch
import torch
from torch import nn
from transformers import VideoMAEConfig, VideoMAEForPreTraining, VideoMAEForVideoClassification, VideoMAEModel
from transformers.models.videomae.modeling_videomae import get_sinusoid_encoding_table

import halsted_ray
from halsted_ray.errors import ModelError
from halsted_ray.model.checkpoint import IMAGENET_MEAN, IMAGENET_STD, read_checkpoint
from halsted_ray.model.encoder import PLAIN_PIXELS, PRESETS, Encoder
from halsted_ray.model.videomae import VideoMAE, VideoMAESizes, sine_positions

SMALL = {
    "image_size": 32,
    "patch_size": 16,
    "hidden_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 1,
    "intermediate_size": 96,
    "num_frames": 16,
    "tubelet_size": 2,
    "decoder_hidden_size": 32,
    "decoder_num_hidden_layers": 1,
    "decoder_num_attention_heads": 2,
    "decoder_intermediate_size": 32,
}


@pytest.fixture(autouse=True, scope="module")
def one_thread():
    """Several tests run at the same time, and with two threads each they would wait for each other all the time."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def tiny():
    return Encoder.create("tiny", seed=0)


def clips(count, size=112, seed=0):
    return np.random.default_rng(seed).integers(0, 256, (count, 16, size, size, 3), dtype=np.uint8)


def randomise(model):
    """Makes every weight non-zero, biases too. Hugging Face starts biases at 0, so a lost bias would go unnoticed."""
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.normal_(std=0.05, generator=generator)
    return model.eval()


def hugging_face_vectors(model, clips_NTHWC, mean, std):
    pixels = (torch.from_numpy(clips_NTHWC).float() / 255 - torch.tensor(mean)) / torch.tensor(std)
    with torch.inference_mode():
        tokens = model(pixel_values=pixels.permute(0, 1, 4, 2, 3)).last_hidden_state
    return tokens.mean(1)


def write_folder(folder, model, tensors=None, **preprocessing):
    folder.mkdir()
    (folder / "config.json").write_text(json.dumps(model.config.to_dict()))
    safetensors.torch.save_file(
        {k: v.contiguous() for k, v in (tensors or model.state_dict()).items()}, folder / "model.safetensors"
    )
    if preprocessing:
        (folder / "preprocessor_config.json").write_text(json.dumps(preprocessing))
    return str(folder)


def v2_checkpoint(width=64, layers=2, seed=0, fc_norm=True):
    """Makes a small state dict with VideoMAE V2's names and random tensors."""
    generator = torch.Generator().manual_seed(seed)
    shapes = {
        "patch_embed.proj.weight": (width, 3, 2, 14, 14),
        "patch_embed.proj.bias": (width,),
        "head.weight": (10, width),
        "head.bias": (10,),
    }
    norm = "fc_norm" if fc_norm else "norm"
    shapes |= {f"{norm}.weight": (width,), f"{norm}.bias": (width,)}
    for i in range(layers):
        for part, shape in {
            "norm1.weight": (width,),
            "norm1.bias": (width,),
            "norm2.weight": (width,),
            "norm2.bias": (width,),
            "attn.q_bias": (width,),
            "attn.v_bias": (width,),
            "attn.qkv.weight": (3 * width, width),
            "attn.proj.weight": (width, width),
            "attn.proj.bias": (width,),
            "mlp.fc1.weight": (96, width),
            "mlp.fc1.bias": (96,),
            "mlp.fc2.weight": (width, 96),
            "mlp.fc2.bias": (width,),
        }.items():
            shapes[f"blocks.{i}.{part}"] = shape
    return {name: torch.empty(shape).normal_(std=0.05, generator=generator) for name, shape in shapes.items()}


def v2_forward(tensors, clip_THWC, layers=2, heads=1):
    """VideoMAE V2's forward pass for one clip, written from its own definition: what the renamed tensors must give."""
    width = tensors["patch_embed.proj.bias"].shape[0]
    pixels = torch.from_numpy(clip_THWC).float().permute(3, 0, 1, 2)[None] / 255
    tokens = (
        nn.functional.conv3d(
            pixels, tensors["patch_embed.proj.weight"], tensors["patch_embed.proj.bias"], stride=(2, 14, 14)
        )
        .flatten(2)
        .transpose(1, 2)
    )
    position = np.arange(tokens.shape[1])[:, None] / np.power(10000, 2 * (np.arange(width) // 2) / width)
    position[:, 0::2], position[:, 1::2] = np.sin(position[:, 0::2]), np.cos(position[:, 1::2])
    x = tokens + torch.tensor(position, dtype=torch.float32)
    for i in range(layers):
        part = {k.removeprefix(f"blocks.{i}."): v for k, v in tensors.items() if k.startswith(f"blocks.{i}.")}
        y = nn.functional.layer_norm(x, (width,), part["norm1.weight"], part["norm1.bias"], 1e-6)
        bias = torch.cat([part["attn.q_bias"], torch.zeros(width), part["attn.v_bias"]])
        qkv = nn.functional.linear(y, part["attn.qkv.weight"], bias).view(1, -1, 3, heads, width // heads)
        q, k, v = qkv.permute(2, 0, 3, 1, 4)
        y = ((q * (width // heads) ** -0.5) @ k.transpose(-2, -1)).softmax(-1) @ v
        x = x + nn.functional.linear(
            y.transpose(1, 2).reshape(1, -1, width), part["attn.proj.weight"], part["attn.proj.bias"]
        )
        y = nn.functional.layer_norm(x, (width,), part["norm2.weight"], part["norm2.bias"], 1e-6)
        y = nn.functional.gelu(nn.functional.linear(y, part["mlp.fc1.weight"], part["mlp.fc1.bias"]))
        x = x + nn.functional.linear(y, part["mlp.fc2.weight"], part["mlp.fc2.bias"])
    if "norm.weight" in tensors:
        return nn.functional.layer_norm(x, (width,), tensors["norm.weight"], tensors["norm.bias"], 1e-6).mean(1)
    return nn.functional.layer_norm(x.mean(1), (width,), tensors["fc_norm.weight"], tensors["fc_norm.bias"], 1e-6)


def test_presets():
    assert {name: (p["hidden_size"], p["num_hidden_layers"], p["patch_size"]) for name, p in PRESETS.items()} == {
        "tiny": (192, 4, 16),
        "base": (768, 12, 16),
        "large": (1024, 24, 16),
        "giant": (1408, 40, 14),
    }
    assert PRESETS["giant"]["intermediate_size"] == 6144 and PRESETS["giant"]["num_attention_heads"] == 16


def test_giant_costs_what_the_paper_s_model_costs():
    config = VideoMAEConfig(**PRESETS["giant"], num_frames=16, tubelet_size=2)
    with torch.device("meta"):
        model = VideoMAEModel(config)
    matmuls = sum(p.numel() for p in model.parameters() if p.dim() > 1)
    tokens = model.embeddings.num_patches
    assert tokens == 2048
    assert 2 * tokens * matmuls + 4 * tokens**2 * 1408 * 40 == pytest.approx(5.09e12, rel=0.005)


def test_shape_and_type(tiny):
    vectors = tiny.encode(clips(3))
    assert vectors.shape == (3, tiny.dim) == (3, 192) and vectors.dtype == np.float16
    assert tiny.encode(clips(0)).shape == (0, 192)
    with pytest.raises(ModelError, match=r"got clips uint8 \(1, 16, 96, 96, 3\), expected uint8 \('N', 16, 112, 112"):
        tiny.encode(clips(1, size=96))


@pytest.mark.parametrize("micro_batch", [1, 3, 4])
def test_a_row_depends_on_its_clip_alone(micro_batch):
    encoder = Encoder.create("tiny", seed=0, micro_batch=micro_batch)
    batch = clips(5)
    together = encoder.encode(batch)
    order = np.random.default_rng(1).permutation(5)
    assert (encoder.encode(batch[order]) == together[order]).all()
    assert (np.concatenate([encoder.encode(batch[i : i + 1]) for i in range(5)]) == together).all()


def test_thread_count_invariance(tiny):
    before = torch.get_num_threads()
    try:
        vectors = []
        for threads in (1, 2):
            torch.set_num_threads(threads)
            vectors.append(tiny.encode(clips(3)))
    finally:
        torch.set_num_threads(before)
    assert (vectors[0] == vectors[1]).all()


@pytest.mark.parametrize("pooled", [True, False])
def test_equals_hugging_face(tmp_path, pooled):
    model = randomise(VideoMAEModel(VideoMAEConfig(**SMALL, use_mean_pooling=pooled)))
    encoder = Encoder.load(write_folder(tmp_path / "hf", model))
    expected = hugging_face_vectors(model, clips(2, 32), IMAGENET_MEAN, IMAGENET_STD)
    np.testing.assert_allclose(encoder.encode(clips(2, 32)), expected, rtol=2e-3, atol=2e-3)


@pytest.mark.parametrize("pooled", [True, False])
def test_layers_equal_hugging_face_s_bit_for_bit(pooled):
    sizes = {**SMALL, "num_attention_heads": 4, "use_mean_pooling": pooled}
    theirs = randomise(VideoMAEModel(VideoMAEConfig(**sizes)))
    ours = VideoMAE(VideoMAESizes.from_dict(sizes)).eval()
    assert list(ours.state_dict()) == list(theirs.state_dict())
    ours.load_state_dict(theirs.state_dict())
    tokens_NTD = torch.randn(3, 32, 64, generator=torch.Generator().manual_seed(1))
    with torch.inference_mode():
        for dtype in (torch.float32, torch.bfloat16):
            expected = theirs.to(dtype).encoder(tokens_NTD.to(dtype)).last_hidden_state
            assert torch.equal(ours.to(dtype).encoder(tokens_NTD.to(dtype)), expected)
    assert VideoMAESizes.from_dict(sizes).patches == 32
    for count, width in ((32, 64), (392, 192), (1568, 768)):
        assert torch.equal(sine_positions(count, width), get_sinusoid_encoding_table(count, width))


def test_sizes_that_no_model_has_are_refused():
    with pytest.raises(ModelError, match="hidden_act is 'mish', expected one of: gelu,"):
        VideoMAESizes.from_dict(SMALL | {"hidden_act": "mish"})
    with pytest.raises(ModelError, match="hidden_size is 64, expected a multiple of the 5 heads"):
        VideoMAESizes.from_dict(SMALL | {"num_attention_heads": 5})


def test_no_process_that_maps_or_trains_waits_for_transformers():
    """Its models take 2.6 s of processor time to import, in every process that maps, trains or serves."""
    program = (
        "import sys, halsted_ray.mapping.pipeline, halsted_ray.training.train, halsted_ray.embedding.embed; "
        "assert 'transformers' not in sys.modules, 'transformers was imported'"
    )
    environment = {"PYTHONPATH": str(Path(halsted_ray.__file__).parents[1])}
    done = subprocess.run([sys.executable, "-c", program], env=environment, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr


def test_classifier_s_fc_norm_follows_the_mean(tmp_path):
    model = randomise(VideoMAEForVideoClassification(VideoMAEConfig(**SMALL)))
    encoder = Encoder.load(write_folder(tmp_path / "hf", model))
    mean = hugging_face_vectors(model.videomae, clips(2, 32), IMAGENET_MEAN, IMAGENET_STD)
    expected = nn.functional.layer_norm(mean, (64,), model.fc_norm.weight, model.fc_norm.bias, 1e-6)
    np.testing.assert_allclose(encoder.encode(clips(2, 32)), expected.detach(), rtol=2e-3, atol=2e-3)


def old_names(tensors):
    return {
        name.replace("query.bias", "q_bias").replace("value.bias", "v_bias"): value for name, value in tensors.items()
    }


def test_old_names_of_biases_are_read_here_and_by_the_library(tmp_path):
    """transformers 5.10 and 5.14 left these biases at zero without a warning."""
    model = randomise(VideoMAEForPreTraining(VideoMAEConfig(**SMALL, use_mean_pooling=False)))
    old = old_names(model.state_dict())
    assert "videomae.encoder.layer.1.attention.attention.q_bias" in old
    folder = write_folder(tmp_path / "old", model, old)
    for loaded in (Encoder.load(folder).model, VideoMAEModel.from_pretrained(folder)):
        for layer, origin in zip(loaded.encoder.layer, model.videomae.encoder.layer, strict=True):
            for part in ("query", "value"):
                bias = getattr(layer.attention.attention, part).bias
                assert bias.abs().min() > 0
                assert (bias == getattr(origin.attention.attention, part).bias).all()


def test_zero_biases_are_refused(tmp_path):
    model = randomise(VideoMAEModel(VideoMAEConfig(**SMALL)))
    tensors = {k: torch.zeros_like(v) if k.endswith("value.bias") else v for k, v in model.state_dict().items()}
    with pytest.raises(ModelError, match="every value bias is zero"):
        Encoder.load(write_folder(tmp_path / "zero", model, tensors))


@pytest.mark.parametrize("form", ["safetensors", "pth", "pretraining"])
def test_v2_checkpoint(tmp_path, form):
    tensors = v2_checkpoint(fc_norm=form != "pretraining")
    if form == "safetensors":
        path = tmp_path / "v2.safetensors"
        safetensors.torch.save_file({f"model.{k}": v for k, v in tensors.items()}, path)
    elif form == "pth":
        path = tmp_path / "v2.pth"
        torch.save({"module": tensors}, path)
    else:
        path = tmp_path / "v2_pretrained.pth"
        named = {f"encoder.{k}": v for k, v in tensors.items()} | {"decoder.blocks.0.norm1.weight": torch.ones(4)}
        torch.save({"model": named, "epoch": 3}, path)
    encoder = Encoder.load(str(path))
    assert (encoder.mean, encoder.std) == ((0, 0, 0), (1, 1, 1))
    assert encoder.config.layer_norm_eps == 1e-6
    clip = clips(1, 224)
    np.testing.assert_allclose(encoder.encode(clip)[0], v2_forward(tensors, clip[0])[0], rtol=2e-3, atol=2e-3)


def test_v2_round_trip(tmp_path):
    torch.save(v2_checkpoint(), tmp_path / "v2.pth")
    encoder = Encoder.load(str(tmp_path / "v2.pth"))
    encoder.save(str(tmp_path / "saved"))
    again = Encoder.load(str(tmp_path / "saved"))
    assert again.fingerprint == encoder.fingerprint
    assert (again.encode(clips(1, 224)) == encoder.encode(clips(1, 224))).all()


def test_save_and_load_an_encoder_by_url():
    encoder = Encoder.create("tiny", seed=3)
    encoder.save("memory://encoders/own")
    again = Encoder.load("memory://encoders/own")
    assert again.fingerprint == encoder.fingerprint == Encoder.load("random:tiny:3").fingerprint
    assert (again.encode(clips(1)) == encoder.encode(clips(1))).all()
    fsspec.filesystem("memory").rm("/encoders", recursive=True)


def test_fingerprint_changes_with_weights_and_preprocessing(tmp_path):
    model = randomise(VideoMAEModel(VideoMAEConfig(**SMALL)))
    base = Encoder.load(write_folder(tmp_path / "a", model)).fingerprint
    assert Encoder.load(write_folder(tmp_path / "same", model), micro_batch=2).fingerprint == base
    assert Encoder.load(write_folder(tmp_path / "b", model, do_normalize=False)).fingerprint != base
    with torch.no_grad():
        model.encoder.layer[1].output.dense.bias[5] += 1e-3
    assert Encoder.load(write_folder(tmp_path / "c", model)).fingerprint != base


def test_preprocessing_is_the_checkpoint_s_own(tmp_path):
    """VideoMAE V2's feature extraction scales to [0, 1] only; Hugging Face's normalises by ImageNet or as stated."""
    assert PLAIN_PIXELS == ("giant",)
    model = randomise(VideoMAEModel(VideoMAEConfig(**SMALL)))
    assert Encoder.load(write_folder(tmp_path / "silent", model)).mean == IMAGENET_MEAN
    stated = write_folder(tmp_path / "stated", model, image_mean=[0.5, 0.5, 0.5], image_std=[0.25, 0.25, 0.25])
    encoder = Encoder.load(stated)
    expected = hugging_face_vectors(model, clips(1, 32), (0.5,) * 3, (0.25,) * 3)
    np.testing.assert_allclose(encoder.encode(clips(1, 32)), expected, rtol=2e-3, atol=2e-3)
    plain = Encoder.load(write_folder(tmp_path / "plain", model, do_normalize=False))
    expected = hugging_face_vectors(model, clips(1, 32), (0.0,) * 3, (1.0,) * 3)
    np.testing.assert_allclose(plain.encode(clips(1, 32)), expected, rtol=2e-3, atol=2e-3)


def test_the_shipped_encoder():
    folder = resources.files("halsted_ray.model") / "weights" / "tiny"
    if not (folder / "model.safetensors").is_file():
        pytest.skip("no weights of encoder 'tiny' in this checkout yet")
    assert (folder / "model.safetensors").stat().st_size <= 8e6
    encoder = Encoder.load("tiny")
    assert encoder.frames == 16
    for layer in encoder.model.encoder.layer:
        assert layer.attention.attention.query.bias.any() and layer.attention.attention.value.bias.any()
    vectors = encoder.encode(clips(2, encoder.image_size[0])).astype(np.float32)
    assert np.abs(vectors[0] - vectors[1]).max() > 1e-3


class Harm:
    def __reduce__(self):
        return print, ("code of a checkpoint ran",)


def test_a_pickle_with_code_is_refused(tmp_path, capsys):
    torch.save({"model": v2_checkpoint(), "extra": Harm()}, tmp_path / "harm.pth")
    (tmp_path / "plain.pth").write_bytes(pickle.dumps({"model": Harm()}, protocol=2))
    for name in ("harm.pth", "plain.pth"):
        with pytest.raises(ModelError, match="hold more than tensors and are not loaded"):
            Encoder.load(str(tmp_path / name))
    assert "ran" not in capsys.readouterr().out


def test_a_place_without_an_encoder_is_reported(tmp_path):
    with pytest.raises(ModelError, match="no encoder at .*expected 'tiny', a folder with config.json"):
        Encoder.load(str(tmp_path / "none"))
    with pytest.raises(ModelError, match="weights of encoder 'giant' do not ship"):
        Encoder.load("giant")
    with pytest.raises(ModelError, match="no encoder preset 'huge'; known: tiny, base, large, giant"):
        Encoder.create("huge", 0)
    (tmp_path / "notes.txt").write_text("no weights")
    with pytest.raises(ModelError, match="expected a folder, or a file ending in .safetensors"):
        Encoder.load(str(tmp_path / "notes.txt"))
    with pytest.raises(ModelError, match="no config.json; found notes.txt"):
        Encoder.load(str(tmp_path))
    safetensors.torch.save_file({"a": torch.ones(1)}, tmp_path / "other.safetensors")
    with pytest.raises(ModelError, match="not VideoMAE V2's tensor names .* found a"):
        Encoder.load(str(tmp_path / "other.safetensors"))
    (tmp_path / "cut.safetensors").write_bytes((tmp_path / "other.safetensors").read_bytes()[:-2])
    with pytest.raises(ModelError, match="not a whole file of tensors"):
        Encoder.load(str(tmp_path / "cut.safetensors"))
    for content in (b"", b"hello"):
        (tmp_path / "odd.pth").write_bytes(content)
        with pytest.raises(ModelError, match="not a whole file of tensors"):
            Encoder.load(str(tmp_path / "odd.pth"))


def test_a_missing_tensor_is_reported(tmp_path):
    model = randomise(VideoMAEModel(VideoMAEConfig(**SMALL)))
    tensors = {k: v for k, v in model.state_dict().items() if k != "encoder.layer.1.output.dense.bias"}
    with pytest.raises(ModelError, match="encoder.layer.1.output.dense.bias is missing, expected"):
        Encoder.load(write_folder(tmp_path / "hf", model, tensors))


def test_unknown_v2_tensors_are_reported(tmp_path):
    torch.save(v2_checkpoint() | {"blocks.0.gamma_1": torch.ones(64)}, tmp_path / "v2.pth")
    with pytest.raises(ModelError, match="that VideoMAE V2 does not have: blocks.0.gamma_1"):
        read_checkpoint(str(tmp_path / "v2.pth"))


@pytest.mark.parametrize("crop", [None, (96, 96)])
def test_pixels_reach_the_first_layer_with_the_values_of_the_formula_bit_by_bit(crop):
    """Bytes are put in order before they become floats, and a vector must not change by it."""
    encoder = Encoder.load("tiny")
    clips_NTHWC = np.random.default_rng(0).integers(0, 256, (2, *encoder.clip_shape), np.uint8)
    if crop is not None:
        encoder.crop = crop
    seen = encoder._seen(torch.from_numpy(clips_NTHWC))
    projection = encoder.model.embeddings.patch_embeddings.projection
    _, channels, tube, high, wide = projection.weight.shape
    count, frames, height, width, _ = seen.shape
    floats = seen.float() * encoder.scale + encoder.shift
    patches = floats.reshape(count, frames // tube, tube, height // high, high, width // wide, wide, channels)
    patches = patches.permute(0, 1, 3, 5, 7, 2, 4, 6).reshape(count, -1, channels * tube * high * wide)
    expected = nn.functional.linear(patches, projection.weight.flatten(1), projection.bias)
    with torch.inference_mode():
        assert torch.equal(encoder._patches(seen), expected)
