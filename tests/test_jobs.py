"""The entry points of Ray jobs: each is one command of `halsted`, with the command's own options and exit code."""

import importlib.util
import runpy
import sys
from pathlib import Path

import pytest

JOBS = Path(__file__).parent.parent / "jobs"
COMMANDS = {
    "map_archive": ["map"],
    "embed": ["embed"],
    "train": ["train"],
    "evaluate": ["evaluate"],
    "self_label": ["self-label"],
    "promote": ["registry", "promote"],
}


@pytest.mark.parametrize("job", COMMANDS)
def test_a_job_is_its_command_with_the_same_options(job, monkeypatch):
    given = []
    monkeypatch.setattr("halsted_ray.cli.main", lambda words: given.append(words) or 3)
    monkeypatch.setattr(sys, "argv", [f"jobs/{job}.py", "--atlas", "s3://hospital/archive"])
    with pytest.raises(SystemExit) as ended:
        runpy.run_path(str(JOBS / f"{job}.py"), run_name="__main__")
    assert given == [[*COMMANDS[job], "--atlas", "s3://hospital/archive"]]
    assert ended.value.code == 3


@pytest.mark.parametrize("job", ["evaluate", "self_label"])
def test_a_wrong_option_ends_the_job_with_the_code_of_wrong_use(job, monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", [f"jobs/{job}.py", "--nonsense"])
    with pytest.raises(SystemExit) as ended:
        runpy.run_path(str(JOBS / f"{job}.py"), run_name="__main__")
    assert ended.value.code == 2
    assert "halsted" in capsys.readouterr().err


def test_every_job_that_can_be_submitted_exists():
    spec = importlib.util.spec_from_file_location("submit", JOBS / "submit.py")
    submit = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(submit)
    assert {"evaluate", "self_label", "train", "map_archive", "embed"} <= set(submit.JOBS)
    assert all((JOBS / f"{job}.py").exists() for job in submit.JOBS)
