"""A run is planned without reading an encoder's weights, and other weights are found out where they are loaded."""

import json

import fsspec
import numpy as np
import pytest
import safetensors.torch
import torch

from halsted_ray.cli import main
from halsted_ray.errors import ModelError
from halsted_ray.model import encoder_identity as module
from halsted_ray.model.encoder import Encoder
from halsted_ray.model.encoder_identity import IDENTITY_FILE, EncoderIdentity, encoder_identity, keep_encoder


@pytest.fixture
def folder(tmp_path):
    Encoder.create("tiny", 0).save(str(tmp_path / "encoder"))
    return tmp_path / "encoder"


@pytest.fixture
def loads(monkeypatch):
    """The references of the encoders whose weights were read."""
    seen, load = [], Encoder.load
    monkeypatch.setattr(module.Encoder, "load", lambda ref, **options: seen.append(ref) or load(ref, **options))
    return seen


def test_weights_are_read_once(folder, loads):
    first, again = encoder_identity(str(folder)), encoder_identity(str(folder))
    assert first == again == EncoderIdentity.of(Encoder.load(str(folder)))
    assert loads == [str(folder)] * 2  # the second is this test's own
    steps = encoder_identity(f"{folder}#steps")
    assert steps == encoder_identity(f"{folder}#steps") and steps.fingerprint != first.fingerprint
    assert (steps.steps, steps.dim) == (8, 8 * first.dim) and encoder_identity(str(folder)) == first
    assert loads[2:] == [f"{folder}#steps"]


@pytest.mark.parametrize("name", ["config.json", "model.safetensors"])
def test_other_files_are_read_again(folder, loads, name):
    before = encoder_identity(str(folder))
    Encoder.create("tiny", 1).save(str(folder))
    (folder / name).write_bytes((folder / name).read_bytes() + b" ")
    if name == "config.json":
        assert encoder_identity(str(folder)).fingerprint != before.fingerprint
    else:
        with pytest.raises(ModelError, match="not a whole file"):
            encoder_identity(str(folder))
    assert len(loads) == 2


def test_weights_of_the_same_size_are_found_out_where_they_are_loaded(folder, loads):
    before = encoder_identity(str(folder))
    Encoder.create("tiny", 1).save(str(folder))
    assert encoder_identity(str(folder)) == before, "nothing but the weights tells"
    with pytest.raises(ModelError, match="model.safetensors has the sha256 .* accept them with `halsted encoder add`"):
        Encoder.load(str(folder))
    assert main(["encoder", "add", str(folder)]) == 0
    accepted = encoder_identity(str(folder)).fingerprint
    assert accepted == Encoder.load(str(folder)).fingerprint == Encoder.create("tiny", 1).fingerprint


@pytest.mark.parametrize(
    "content", ["", "[]", "{}", '{"files": {}, "identities": {}}', '{"files": 1, "identities": 2}']
)
def test_a_damaged_identity_is_made_again(folder, loads, content):
    (folder / IDENTITY_FILE).write_text(content)
    assert encoder_identity(str(folder)) == encoder_identity(str(folder)) and len(loads) == 1
    assert set(json.loads((folder / IDENTITY_FILE).read_text())) == {"files", "identities", "digests"}


def test_a_place_that_can_not_be_written_is_said_and_read_each_time(folder, loads, monkeypatch, caplog):
    from halsted_ray.errors import OutputError

    def refuse(*_):
        raise OutputError("read-only")

    monkeypatch.setattr("halsted_ray.model.identity_file.write_json", refuse)
    assert encoder_identity(str(folder)) == encoder_identity(str(folder)) and len(loads) == 2
    assert "weights are read at the start of every run" in caplog.text and str(folder) not in caplog.text


@pytest.fixture
def hashed(monkeypatch):
    """How often the weights were hashed for a fingerprint."""
    from halsted_ray.model import encoder

    seen, fingerprint = [], encoder._fingerprint
    monkeypatch.setattr(encoder, "_fingerprint", lambda *given: seen.append(1) or fingerprint(*given))
    return seen


def test_what_is_loaded_is_checked_by_its_digest_and_not_hashed_again(folder, hashed):
    stated = encoder_identity(str(folder))
    assert len(hashed) == 1
    assert Encoder.load(str(folder)).fingerprint == stated.fingerprint and len(hashed) == 1
    assert Encoder.load(f"{folder}#steps").fingerprint != stated.fingerprint and len(hashed) == 2, "not stated yet"


def test_an_identity_of_an_earlier_version_holds_and_the_weights_are_hashed(folder, hashed):
    stated = encoder_identity(str(folder))
    path = folder / IDENTITY_FILE
    content = json.loads(path.read_text())
    del content["digests"], content["identities"][""]["kept_in"]
    path.write_text(json.dumps(content))
    assert encoder_identity(str(folder)) == stated and len(hashed) == 1
    assert Encoder.load(str(folder)).fingerprint == stated.fingerprint and len(hashed) == 2


def test_shards_and_single_files_are_checked_too(tmp_path, folder):
    tensors = safetensors.torch.load_file(folder / "model.safetensors")
    names = sorted(tensors)
    shards = {"a.safetensors": names[:9], "b.safetensors": names[9:]}
    for shard, part in shards.items():
        safetensors.torch.save_file({name: tensors[name] for name in part}, folder / shard)
    (folder / "model.safetensors").unlink()
    index = {"weight_map": {name: shard for shard, part in shards.items() for name in part}}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))
    stated = encoder_identity(str(folder))
    assert Encoder.load(str(folder)).fingerprint == stated.fingerprint == Encoder.create("tiny", 0).fingerprint
    content = bytearray((folder / "b.safetensors").read_bytes())
    content[-1] ^= 1
    (folder / "b.safetensors").write_bytes(content)
    with pytest.raises(ModelError, match="b.safetensors"):
        Encoder.load(str(folder))


def test_weights_at_a_url_are_read_once_and_checked():
    Encoder.create("tiny", 0).save("memory://identities/own")
    fs = fsspec.filesystem("memory")
    try:
        stated = encoder_identity("memory://identities/own")
        assert Encoder.load("memory://identities/own").fingerprint == stated.fingerprint
        content = bytearray(fs.cat_file("/identities/own/model.safetensors"))
        content[-1] ^= 1
        fs.pipe_file("/identities/own/model.safetensors", bytes(content))
        with pytest.raises(ModelError, match="were replaced or damaged"):
            Encoder.load("memory://identities/own")
    finally:
        fs.rm("/identities", recursive=True)


@pytest.fixture
def copy(folder, tmp_path):
    """A copy of the encoder in bf16."""
    assert main(["encoder", "add", str(folder), "--out", str(tmp_path / "copy")]) == 0
    return tmp_path / "copy"


def clips(count=2):
    return np.random.default_rng(0).integers(0, 256, (count, 16, 112, 112, 3), dtype=np.uint8)


@pytest.mark.parametrize("precision", ["bf16", "fp8"])
@pytest.mark.parametrize("steps", ["", "#steps"])
def test_a_copy_in_bf16_gives_its_source_s_vectors_under_their_name_bit_for_bit(folder, copy, precision, steps):
    source = Encoder.load(f"{folder}{steps}", precision=precision)
    kept = Encoder.load(f"{copy}{steps}", precision=precision)
    assert kept.vectors_name == source.vectors_name == f"{source.fingerprint}-{precision}"
    assert (kept.encode(clips(1)) == source.encode(clips(1))).all()
    assert encoder_identity(f"{copy}{steps}").vectors_name(precision) == source.vectors_name


def test_a_copy_in_bf16_is_half_as_large_and_is_loaded_as_it_lies(folder, copy, hashed):
    sizes = [(place / "model.safetensors").stat().st_size for place in (folder, copy)]
    assert sizes[1] < 0.51 * sizes[0]
    stored = safetensors.torch.load_file(copy / "model.safetensors")
    source = safetensors.torch.load_file(folder / "model.safetensors")
    assert all(torch.equal(stored[name], source[name].to(torch.bfloat16)) for name in source)
    loaded = Encoder.load(str(copy))
    assert (loaded.precision, loaded.kept_in, hashed) == ("bf16", "bf16", []), "on a CPU too"
    identity = encoder_identity(str(copy))
    assert identity.kept_in == "bf16" and identity.precision("cpu") == identity.precision("cuda") == "bf16"


def test_a_copy_is_not_run_in_more_bits_than_it_has(folder, copy):
    for precision in ("fp32", "int8"):
        with pytest.raises(ModelError, match="kept in bf16, expected bf16 or fp8"):
            Encoder.load(str(copy), precision=precision)
        with pytest.raises(ModelError, match="kept in bf16"):
            encoder_identity(str(copy)).precision("cpu", precision)


def test_a_copy_without_its_identity_is_another_encoder(folder, copy):
    (copy / IDENTITY_FILE).unlink()
    assert Encoder.load(str(copy)).fingerprint != Encoder.load(str(folder)).fingerprint


def test_adding_a_copy_again_keeps_its_identity_and_copies_are_not_copied(folder, copy, tmp_path, capsys):
    assert main(["encoder", "add", str(copy)]) == 0
    assert encoder_identity(str(copy)).fingerprint == encoder_identity(str(folder)).fingerprint
    assert main(["encoder", "add", str(folder), "--out", str(copy)]) == 2
    assert "already holds an encoder" in capsys.readouterr().err
    assert main(["encoder", "add", str(copy), "--out", str(tmp_path / "third")]) == 2
    assert "is itself kept in bf16" in capsys.readouterr().err


def test_a_file_of_v2_weights_is_kept_as_a_folder_with_its_norm_in_full(tmp_path):
    from test_encoder import v2_checkpoint

    torch.save(v2_checkpoint(), tmp_path / "v2.pth")
    kept = keep_encoder(str(tmp_path / "v2.pth"), str(tmp_path / "kept"), "bf16")
    stored = safetensors.torch.load_file(tmp_path / "kept" / "model.safetensors")
    assert stored["fc_norm.weight"].dtype == torch.float32, "it is applied in float32"
    source = Encoder.load(str(tmp_path / "v2.pth"), precision="bf16")
    clip = np.random.default_rng(0).integers(0, 256, (1, 16, 224, 224, 3), dtype=np.uint8)
    assert (Encoder.load(kept.ref).encode(clip) == source.encode(clip)).all()


def test_encoder_add_says_what_it_is(folder, loads, capsys):
    assert main(["encoder", "add", str(folder)]) == 0 and len(loads) == 1
    assert encoder_identity(str(folder)).fingerprint in capsys.readouterr().out and len(loads) == 1
    assert main(["encoder", "add", str(folder / "nothing")]) == 2
