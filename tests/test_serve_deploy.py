"""serve/config.yaml: it says what the code says, and deploys onto a head that was started before and wants a token."""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path

import httpx2
import pytest
import yaml
from ray.serve.schema import ServeDeploySchema
from serving import save_model, upload, write_video

from halsted_ray.cli import main
from halsted_ray.service import deployments

ROOT = Path(__file__).parent.parent
sys.path.insert(0, str(ROOT / "cluster"))

from nodes import BIN, Nodes, descendants, free_port  # noqa: E402

CONFIG = ROOT / "serve" / "config.yaml"


def test_the_config_file_names_the_deployments_of_the_application():
    config = ServeDeploySchema.model_validate(yaml.safe_load(CONFIG.read_text()))
    (application,) = config.applications
    assert application.import_path == "serve.app:app" and application.name == deployments.APPLICATION
    assert config.http_options.host == "127.0.0.1"
    for deployment in application.deployments:
        assert getattr(deployments, deployment.name).name == deployment.name


def test_config_file_repeats_the_deployments():
    """``serve deploy`` and ``serve run`` start the same replicas with the same resources."""
    (application,) = yaml.safe_load(CONFIG.read_text())["applications"]
    in_file = {deployment.pop("name"): deployment for deployment in application["deployments"]}
    assert in_file == deployments.DEPLOYMENTS


def title_of(process: int) -> str:
    """The title of a process, '' where it has ended meanwhile."""
    try:
        return Path(f"/proc/{process}/cmdline").read_bytes().decode()
    except (FileNotFoundError, ProcessLookupError):
        return ""


def replicas(pid: int, name: str) -> int:
    """The number of replicas of a deployment among the processes below ``pid``."""
    titles = [title_of(process) for process in descendants(pid)]
    return sum(f"ServeReplica:halsted:{name}" in title for title in titles)


@pytest.mark.slow
def test_serve_deploy_runs_what_the_file_says(tmp_path, capsys):
    config = yaml.safe_load(CONFIG.read_text())
    port = config["http_options"]["port"] = free_port()
    (application,) = config["applications"]
    state = tmp_path / "state"
    application["runtime_env"] = {
        "env_vars": {
            "HALSTED_STATE": str(state),
            "HALSTED_MODEL": str(save_model(tmp_path / "model", 0)),
            "PYTHONPATH": str(ROOT),
        }
    }
    mappers = next(deployment for deployment in application["deployments"] if deployment["name"] == "Mapper")
    mappers["autoscaling_config"] |= {"min_replicas": 1, "max_replicas": 1}  # where the file that ships says 2 and 4
    (tmp_path / "config.yaml").write_text(yaml.safe_dump(config))

    with Nodes() as nodes:
        head = nodes.start_head(cpus=8)
        deploy = [BIN / "serve", "deploy", tmp_path / "config.yaml"]
        stranger = {**nodes.environment, "RAY_AUTH_TOKEN_PATH": str(tmp_path / "other")}
        (tmp_path / "other").write_text("0" * 64)
        assert subprocess.run(deploy, env=stranger, capture_output=True, timeout=60).returncode != 0
        done = subprocess.run(deploy, env=nodes.environment, capture_output=True, text=True, timeout=120)
        assert done.returncode == 0, done.stdout + done.stderr

        assert main(["serve", "key", "--state", str(state), "north", "ada", "surgeon"]) == 0
        key = capsys.readouterr().out.strip()
        with httpx2.Client(base_url=f"http://127.0.0.1:{port}", headers={"x-api-key": key}, timeout=60) as client:
            until_s = time.monotonic() + 120
            while not is_ready(client):
                assert time.monotonic() < until_s, (nodes.folder / "nodes.log").read_text()
                time.sleep(0.5)
            video_id = upload(client, write_video(tmp_path / "case.mp4", 12.0))["video_id"]
            job_id = client.post(f"/v1/videos/{video_id}/maps", json={}).json()["job_id"]
            until_s = time.monotonic() + 90
            while (job := client.get(f"/v1/jobs/{job_id}").json())["state"] != "done" and time.monotonic() < until_s:
                time.sleep(0.2)
        assert (job["state"], job["outcome"]) == ("done", "mapped"), job
        found = {name: replicas(nodes.processes[head].pid, name) for name in ("Gateway", "Tagger", "Mapper")}
        assert found == {"Gateway": 1, "Tagger": 1, "Mapper": 1}


def is_ready(client: httpx2.Client) -> bool:
    try:
        return client.get("/readyz").status_code == 200
    except httpx2.TransportError:
        return False
