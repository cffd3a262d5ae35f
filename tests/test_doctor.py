"""``halsted doctor`` names what stands in the way of a run and what to do; ``halsted completion`` completes words."""

from __future__ import annotations

import json
import shutil
import subprocess

import pytest

from halsted_ray.cli import main
from halsted_ray.compute import doctor


@pytest.fixture
def no_credentials(monkeypatch, tmp_path):
    """A machine without credentials of AWS, and without a role that would be asked for over the network."""
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_PROFILE", "AWS_SESSION_TOKEN"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "none"))
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "none"))
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")


def found(capsys, *places: str) -> dict[str, dict[str, str]]:
    """Findings of ``halsted doctor --json`` by their name."""
    main(["doctor", "--json", *places])
    return {finding["name"]: finding for finding in json.loads(capsys.readouterr().out)}


def test_a_sound_machine_has_no_problem_and_exit_code_0(capsys, monkeypatch):
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    assert main(["doctor"]) == 0
    said = capsys.readouterr().out
    assert "STOP" not in said and all(len(line) <= 80 for line in said.splitlines())
    for name in ("Python", "Ray", "Decoders", "Decoding", "GPU", "NVDEC", "S3 credentials", "Disk"):
        assert name in said


def test_a_video_is_really_decoded_in_the_process_without_network(capsys):
    assert found(capsys)["Decoding"]["state"] == "ok"


def test_a_cluster_that_does_not_answer_is_a_problem(capsys, monkeypatch):
    monkeypatch.setenv("RAY_ADDRESS", "127.0.0.1:1")
    ray = found(capsys)["Ray"]
    assert ray["state"] == "problem" and "127.0.0.1:1" in ray["found"] and "ray start --head" in ray["advice"]
    assert main(["doctor"]) == 3


def test_missing_credentials_say_which_variables(capsys, no_credentials):
    credentials = found(capsys)["S3 credentials"]
    assert credentials["state"] == "note" and "AWS_ACCESS_KEY_ID" in credentials["advice"]


def test_credentials_in_the_environment_are_found(capsys, no_credentials, monkeypatch):
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "key")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "very-secret")
    credentials = found(capsys)["S3 credentials"]
    assert credentials["state"] == "ok" and "very-secret" not in json.dumps(credentials)


def test_a_place_that_can_not_be_listed_is_a_problem(capsys, tmp_path):
    assert found(capsys, str(tmp_path))["Place"]["state"] == "ok"
    assert found(capsys, str(tmp_path / "nothing"))["Place"]["state"] == "problem"


def test_a_full_disk_is_told(capsys, monkeypatch):
    monkeypatch.setattr(doctor, "LEAST_FREE_GB", 10**9)
    disk = found(capsys)["Disk"]
    assert disk["state"] == "note" and "Ray spills to disk" in disk["advice"]


def test_a_missing_codec_is_named(capsys, monkeypatch):
    monkeypatch.setattr(doctor, "CODECS", ("h264", "no_such_codec"))
    decoders = found(capsys)["Decoders"]
    assert decoders["state"] == "note" and "without no_such_codec" in decoders["found"]


@pytest.mark.parametrize("shell", ["bash", "zsh", "tcsh"])
def test_completion_is_a_script_of_the_shell(capsys, shell):
    assert main(["completion", shell]) == 0
    assert "halsted" in capsys.readouterr().out


def test_bash_completes_the_commands_and_their_options(capsys, tmp_path):
    bash = shutil.which("bash")
    assert bash
    main(["completion", "bash"])
    script = tmp_path / "completion"
    script.write_text(capsys.readouterr().out)
    code = f"""
    source {script}
    complete_words() {{ COMP_WORDS=("$@"); COMP_CWORD=$(($# - 1)); _shtab_halsted; echo "${{COMPREPLY[@]}}"; }}
    complete_words halsted ma
    complete_words halsted map --ou
    """
    told = subprocess.run([bash, "-c", code], capture_output=True, text=True, timeout=30).stdout.split("\n")
    assert told[0].strip() == "map" and told[1].strip() == "--out"
