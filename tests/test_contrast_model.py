"""The model of video and text: lengths of clips, files, and what is refused."""

import json
from dataclasses import replace

import numpy as np
import pytest
import torch

from halsted_ray.errors import ModelError
from halsted_ray.language.contrast_model import VideoTextConfig, VideoTextModel, load_video_text

CONFIG = VideoTextConfig("tiny", "e" * 16, 24, "minilm", "f" * 16, 12, dim=8, hidden=16)


@pytest.fixture
def model():
    torch.manual_seed(0)
    return VideoTextModel(CONFIG).eval()


def clips(*lengths):
    rng = np.random.default_rng(0)
    return [rng.normal(size=(n, 24)).astype(np.float16) for n in lengths]


def test_a_clip_of_any_length_has_one_unit_vector(model):
    given = clips(1, 7, 200, 3)
    found = model.embed_clips(given)
    assert found.shape == (4, 8) and found.dtype == np.float32
    assert np.allclose(np.linalg.norm(found, axis=1), 1, atol=1e-5)
    for own, vector in zip(given, found, strict=True):
        assert np.abs(model.embed_clips([own])[0] - vector).max() < 1e-5  # the others' padding changes nothing
    assert model.embed_clips([]).shape == (0, 8)
    assert model.embed_text(np.ones((2, 12))).shape == (2, 8)


def test_a_saved_model_gives_the_same_vectors(model, tmp_path):
    model.save(str(tmp_path))
    loaded = load_video_text(str(tmp_path), "e" * 16, "f" * 16)
    assert loaded.config == CONFIG and loaded.temperature == pytest.approx(0.07) and loaded.digest == model.digest
    assert np.array_equal(loaded.embed_clips(clips(3)), model.embed_clips(clips(3)))


def test_another_encoder_is_refused(model, tmp_path):
    model.save(str(tmp_path))
    with pytest.raises(ModelError, match="got vectors of an encoder with fingerprint aaaa; .* 'tiny' with eeee"):
        load_video_text(str(tmp_path), "aaaa")
    with pytest.raises(ModelError, match="got a text encoder with fingerprint bbbb; .* 'minilm' with ffff"):
        load_video_text(str(tmp_path), text_fingerprint="bbbb")


def test_vectors_of_another_width_are_refused(model):
    with pytest.raises(ModelError, match=r"shape \(2, 9\); this model expects rows of 12 numbers"):
        model.embed_text(np.ones((2, 9)))
    with pytest.raises(ModelError, match=r"shape \(0, 24\); this model expects one row or more of 24"):
        model.embed_clips(clips(3, 0))


def test_files_that_do_not_belong_together_are_refused(model, tmp_path):
    with pytest.raises(ModelError, match="video_text.json and video_text.safetensors missing"):
        load_video_text(str(tmp_path))
    model.save(str(tmp_path))
    torch.manual_seed(1)
    VideoTextModel(CONFIG).save(str(tmp_path / "other"))
    (tmp_path / "video_text.safetensors").write_bytes((tmp_path / "other/video_text.safetensors").read_bytes())
    with pytest.raises(ModelError, match="has digest .* says .*; copy both again"):
        load_video_text(str(tmp_path))


def test_a_claimed_size_allocates_nothing(model, tmp_path):
    model.save(str(tmp_path))
    stated = json.loads((tmp_path / "video_text.json").read_text())
    stated["config"] = {**stated["config"], "hidden": 1 << 40}
    (tmp_path / "video_text.json").write_text(json.dumps(stated))
    with pytest.raises(ModelError, match="its weights do not fit"):
        load_video_text(str(tmp_path))
    assert replace(CONFIG, dim=9) != CONFIG
