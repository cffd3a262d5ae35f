"""A run is planned without reading an encoder's weights, and other weights are found out where they are loaded."""

import json

import pytest

from halsted_ray.cli import main
from halsted_ray.errors import ModelError
from halsted_ray.model import encoder_identity as module
from halsted_ray.model.encoder import Encoder
from halsted_ray.model.encoder_identity import IDENTITY_FILE, EncoderIdentity, encoder_identity


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
    assert loads[2:] == [f"{folder}#steps", str(folder)], "the reference with #steps loads the folder"


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
    assert Encoder.load(str(folder)).fingerprint != before.fingerprint


@pytest.mark.parametrize(
    "content", ["", "[]", "{}", '{"files": {}, "identities": {}}', '{"files": 1, "identities": 2}']
)
def test_a_damaged_identity_is_made_again(folder, loads, content):
    (folder / IDENTITY_FILE).write_text(content)
    assert encoder_identity(str(folder)) == encoder_identity(str(folder)) and len(loads) == 1
    assert set(json.loads((folder / IDENTITY_FILE).read_text())) == {"files", "identities"}


def test_a_place_that_can_not_be_written_is_said_and_read_each_time(folder, loads, monkeypatch, caplog):
    from halsted_ray.errors import OutputError

    def refuse(*_):
        raise OutputError("read-only")

    monkeypatch.setattr(module, "write_json", refuse)
    assert encoder_identity(str(folder)) == encoder_identity(str(folder)) and len(loads) == 2
    assert "weights are read at the start of every run" in caplog.text and str(folder) not in caplog.text


def test_encoder_add_says_what_it_is(folder, loads, capsys):
    assert main(["encoder", "add", str(folder)]) == 0 and len(loads) == 1
    assert encoder_identity(str(folder)).fingerprint in capsys.readouterr().out and len(loads) == 1
    assert main(["encoder", "add", str(folder / "nothing")]) == 2
