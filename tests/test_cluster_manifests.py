"""What cluster/ gives to Kubernetes, to Docker and to `ray up`: it fits their schemas, and keeps our promises."""

import copy
import json
import lzma
import re
import subprocess
import tomllib
from pathlib import Path
from zipfile import ZipFile

import jsonschema
import pytest
import yaml

import halsted_ray

ROOT = Path(__file__).parents[1]
KUBERNETES = ROOT / "cluster" / "kubernetes"
MANIFESTS = ("raycluster.yaml", "rayjob-map.yaml", "rayjob-train.yaml", "rayservice.yaml")
CONSTRAINTS = dict(line.split("==") for line in (ROOT / "constraints.txt").read_text().splitlines() if "==" in line)
PROBES = {"/api/gcs_healthz": 8265, "/api/local_raylet_healthz": 52365, "/-/healthz": 8000}


def read(name):
    return yaml.safe_load((KUBERNETES / name).read_text(encoding="utf-8"))


def closed(schema):
    """The schema with unknown fields forbidden, as `kubectl apply --validate=strict` does."""
    if isinstance(schema, list):
        return [closed(part) for part in schema]
    if not isinstance(schema, dict):
        return schema
    schema = {key: closed(part) for key, part in schema.items()}
    if schema.get("type") == "object" and "properties" in schema:
        schema.setdefault("additionalProperties", False)
    return schema


@pytest.fixture(scope="module")
def schemas():
    with lzma.open(ROOT / "tests" / "kuberay" / "schemas.json.xz") as file:
        return closed(json.load(file))


def check(manifest, schemas):
    jsonschema.Draft7Validator(schemas[manifest["kind"]]).validate(manifest)


@pytest.mark.parametrize("name", MANIFESTS)
def test_manifests_fit_kuberays_schema(name, schemas):
    check(read(name), schemas)


@pytest.mark.parametrize(
    "spoil",
    [
        lambda spec: spec.update(headGroupSpecs={}),
        lambda spec: spec["headGroupSpec"]["rayStartParams"].update({"num-cpus": 0}),
        lambda spec: spec["workerGroupSpecs"][0].pop("groupName"),
        lambda spec: spec["headGroupSpec"]["template"]["spec"]["containers"][0].update(imagePullPolice="Always"),
        lambda spec: spec["authOptions"].update(mode="password"),
    ],
)
def test_the_schema_finds_a_slip(spoil, schemas):
    manifest = copy.deepcopy(read("raycluster.yaml"))
    spoil(manifest["spec"])
    with pytest.raises(jsonschema.ValidationError):
        check(manifest, schemas)


def cluster_of(manifest):
    spec = manifest["spec"]
    return spec.get("rayClusterSpec") or spec.get("rayClusterConfig") or spec


def groups_of(manifest):
    cluster = cluster_of(manifest)
    return [cluster["headGroupSpec"], *cluster["workerGroupSpecs"]]


@pytest.mark.parametrize("name", MANIFESTS)
def test_versions_are_those_of_the_package(name):
    cluster = cluster_of(read(name))
    assert cluster["rayVersion"] == CONSTRAINTS["ray"]
    for group in groups_of(read(name)):
        for container in group["template"]["spec"]["containers"]:
            assert container["image"] == f"halsted-ray:{halsted_ray.__version__}"


@pytest.mark.parametrize("name", MANIFESTS)
def test_the_head_computes_nothing_and_the_token_is_asked(name):
    cluster = cluster_of(read(name))
    assert cluster["headGroupSpec"]["rayStartParams"]["num-cpus"] == "0"
    assert cluster["authOptions"] == {"mode": "token", "secretName": "halsted-ray-token"}
    for group in cluster["workerGroupSpecs"]:
        assert 0 <= group["minReplicas"] <= group["replicas"] <= group["maxReplicas"] > 0


@pytest.mark.parametrize("name", MANIFESTS)
def test_every_pod_is_confined(name):
    manifest = read(name)
    for group in groups_of(manifest):
        template = group["template"]
        pod, (container,) = template["spec"], template["spec"]["containers"]
        assert template["metadata"]["labels"]["app.kubernetes.io/part-of"] == "halsted", "the network policy's label"
        assert pod["securityContext"]["runAsNonRoot"] and pod["securityContext"]["runAsUser"] == 1000
        assert pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
        assert pod["terminationGracePeriodSeconds"] >= 60
        is_autoscaled_head = group is cluster_of(manifest)["headGroupSpec"] and manifest["kind"] == "RayCluster"
        assert is_autoscaled_head or pod["automountServiceAccountToken"] is False
        assert container["securityContext"] == {
            "allowPrivilegeEscalation": False,
            "readOnlyRootFilesystem": True,
            "capabilities": {"drop": ["ALL"]},
        }
        mounted = {mount["mountPath"]: mount["name"] for mount in container["volumeMounts"]}
        assert {"/tmp", "/home/halsted", "/spill"} <= set(mounted), "what Ray writes to"
        assert set(mounted.values()) == {volume["name"] for volume in pod["volumes"] if "emptyDir" in volume}
        assert group["rayStartParams"]["object-spilling-directory"] in mounted
        env = {variable["name"]: variable["value"] for variable in container["env"]}
        assert env["RAY_USAGE_STATS_ENABLED"] == "0" and env["HF_HUB_OFFLINE"] == "1"
        assert {"secretRef": {"name": "halsted-object-store"}} in container["envFrom"]
        assert container["resources"]["requests"] == container["resources"]["limits"]
        for probe in ("readinessProbe", "livenessProbe"):
            asked = container[probe]["httpGet"]
            assert PROBES[asked["path"]] == asked["port"]


def test_decoding_and_encoding_have_groups_of_their_own():
    for name in ("raycluster.yaml", "rayjob-map.yaml"):
        groups = {group["groupName"]: group for group in cluster_of(read(name))["workerGroupSpecs"]}
        gpus = {
            group: [
                container["resources"]["limits"].get("nvidia.com/gpu")
                for container in groups[group]["template"]["spec"]["containers"]
            ]
            for group in groups
        }
        assert gpus == {"decode": [None], "encode": ["1"]}
    autoscaled = read("raycluster.yaml")["spec"]
    assert autoscaled["enableInTreeAutoscaling"]
    assert autoscaled["autoscalerOptions"]["securityContext"]["readOnlyRootFilesystem"]


def test_the_jobs_call_what_is_there():
    for name, options in (("rayjob-map.yaml", "map"), ("rayjob-train.yaml", "train")):
        python, script, *words = read(name)["spec"]["entrypoint"].split()
        assert python == "python" and (ROOT / Path(script).relative_to("/opt/halsted")).is_file()
        from halsted_ray.cli.parser import build_parser

        build_parser().parse_args([options, *words])


def test_the_service_serves_the_app():
    """What serve/config.yaml says, on all interfaces of the pod; deployments stand there only."""
    ours = yaml.safe_load(read("rayservice.yaml")["spec"]["serveConfigV2"])
    local = yaml.safe_load((ROOT / "serve" / "config.yaml").read_text(encoding="utf-8"))
    assert ours.pop("http_options") == {**local.pop("http_options"), "host": "0.0.0.0"}
    for application in local["applications"]:
        del application["deployments"]
    assert ours == local


def test_the_network_is_closed():
    policies = list(yaml.safe_load_all((KUBERNETES / "networkpolicy.yaml").read_text(encoding="utf-8")))
    closed_policy = policies[0]["spec"]
    ours = {"app.kubernetes.io/part-of": "halsted"}
    assert closed_policy["podSelector"]["matchLabels"] == ours
    assert set(closed_policy["policyTypes"]) == {"Ingress", "Egress"}
    for policy in policies:
        for rule in policy["spec"].get("egress", []):
            assert rule["to"], "an empty list of targets would be everywhere"
            for target in rule["to"]:
                if "ipBlock" in target:
                    assert target["ipBlock"]["cidr"].endswith("/32") and rule["ports"]
                else:
                    assert target.get("podSelector", {}).get("matchLabels"), target
        for rule in policy["spec"].get("ingress", []):
            assert rule["from"] and (rule.get("ports") or rule["from"] == [{"podSelector": {"matchLabels": ours}}])


def test_clients_reach_the_service_through_its_front_alone():
    policies = list(yaml.safe_load_all((KUBERNETES / "networkpolicy.yaml").read_text(encoding="utf-8")))
    front, service = yaml.safe_load_all((KUBERNETES / "front.yaml").read_text(encoding="utf-8"))
    reached = [
        policy["spec"]["podSelector"]["matchLabels"]
        for policy in policies
        for rule in policy["spec"].get("ingress", [])
        if 8000 in [port["port"] for port in rule.get("ports", [])]
    ]
    labels = front["spec"]["template"]["metadata"]["labels"]
    assert reached == [labels] and service["spec"]["selector"].items() <= labels.items()
    page = (ROOT / "docs" / "how-to" / "cluster.md").read_text(encoding="utf-8")
    for variable in front["spec"]["template"]["spec"]["containers"][0]["env"]:
        if "valueFrom" in variable:
            assert f"--from-literal={variable['valueFrom']['secretKeyRef']['key']}=" in page
    for group in groups_of(read("rayservice.yaml")):
        names = [variable["name"] for variable in group["template"]["spec"]["containers"][0]["env"]]
        assert "HALSTED_PUBLIC_URL" in names, "otherwise the service refuses the host by which clients ask for it"


INSTRUCTIONS = {"FROM", "ARG", "ENV", "RUN", "WORKDIR", "COPY", "USER", "CMD"}


def dockerfile():
    """(instruction, its words) in order, lines joined, comments dropped."""
    text = (ROOT / "cluster" / "Dockerfile").read_text(encoding="utf-8")
    text = re.sub(r"^#.*\n", "", text, flags=re.MULTILINE).replace("\\\n", " ")
    return [tuple(line.split(None, 1)) for line in text.splitlines() if line.strip()]


def test_the_image_installs_as_the_makefile_does():
    lines = dockerfile()
    assert {instruction for instruction, _ in lines} <= INSTRUCTIONS and lines[0][0] == "FROM"
    assert "3.11" in lines[0][1]
    installs = [words for instruction, words in lines if instruction == "RUN" and "pip install" in words]
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    torch, package = [
        line.split("pip install", 1)[1].split()
        for line in makefile.splitlines()
        if "pip install" in line and "nodejs" not in line
    ]
    assert len(installs) == 2, "torch, then everything else"
    assert torch[-1] in installs[0].split() and torch[-1] == f"torch=={CONSTRAINTS['torch']}"
    assert {"-c", "constraints.txt", "-e", "."} <= set(installs[1].split())
    assert {"-c", "constraints.txt", "-e", "'.[test,check,docs]'"} <= set(package)


def test_the_image_runs_as_nobody_special_and_reports_to_nobody():
    lines = dockerfile()
    assert [words for instruction, words in lines if instruction == "USER"] == ["1000"]
    assert [instruction for instruction, _ in lines].index("USER") > max(
        place for place, (instruction, _) in enumerate(lines) if instruction in ("RUN", "COPY")
    )
    env = dict(word.split("=", 1) for instruction, words in lines if instruction == "ENV" for word in words.split())
    assert (env["RAY_USAGE_STATS_ENABLED"], env["RAY_AUTH_MODE"], env["HF_HUB_OFFLINE"]) == ("0", "token", "1")


def test_only_what_runs_enters_the_image():
    for instruction, words in dockerfile():
        if instruction == "COPY":
            *sources, _ = words.split()
            assert all((ROOT / source).exists() for source in sources), words
    first, *rest = [line for line in (ROOT / ".dockerignore").read_text().splitlines() if line and line[0] != "#"]
    assert first == "*"
    let_in = {line[1:] for line in rest if line.startswith("!")}
    assert {"pyproject.toml", "constraints.txt", "README.md", "LICENSE", "halsted_ray", "jobs"} <= let_in
    metadata = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert {metadata["readme"], *metadata["license-files"]} <= let_in, "setuptools reads them"
    assert not let_in & {"tests", "demo", ".git", ".venv", "benchmarks"}


@pytest.mark.parametrize("name", ["onprem.yaml", "aws.yaml"])
def test_ray_up_takes_the_file(name):
    """By Ray's own check of what `ray up` is given."""
    from ray.autoscaler._private.util import prepare_config, validate_config

    config = yaml.safe_load((ROOT / "cluster" / name).read_text(encoding="utf-8"))
    validate_config(prepare_config(copy.deepcopy(config)))
    assert config["docker"]["image"] == f"halsted-ray:{halsted_ray.__version__}"
    assert "--env=RAY_AUTH_MODE=token" in config["docker"]["run_options"]
    head, worker = (" ".join(config[f"{kind}_start_ray_commands"]) for kind in ("head", "worker"))
    assert "--dashboard-host=127.0.0.1" in head and "--address=$RAY_HEAD_IP:6379" in worker
    head_type = config.get("available_node_types", {}).get(config.get("head_node_type"), {})
    assert "--num-cpus=0" in head or head_type["resources"] == {"CPU": 0}
    broken = {**config, "head_start_ray_comands": []}
    with pytest.raises(jsonschema.ValidationError):
        validate_config(prepare_config(broken))


@pytest.mark.skipif(not (ROOT / ".git").exists(), reason="not a checkout")
def test_a_submitted_job_carries_the_code_and_nothing_else(tmp_path):
    """What `--working-dir .` packs, with a demo, a video and an environment lying about."""
    from ray._private.runtime_env.packaging import create_package

    tracked = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=True).stdout.split()
    for name in tracked:
        (tmp_path / "checkout" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "checkout" / name).write_bytes((ROOT / name).read_bytes())
    for name in ("demo/archive/videos/Jane Doe.mp4", ".venv/lib/torch.so", "mlflow.db", "mlruns/0/meta.yaml"):
        (tmp_path / "checkout" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "checkout" / name).write_text("left at home")
    create_package(str(tmp_path / "checkout"), tmp_path / "package.zip", include_gitignore=True)
    packed = set(ZipFile(tmp_path / "package.zip").namelist())
    assert {"jobs/map_archive.py", "halsted_ray/cli/__init__.py", "halsted_ray/taxonomy/halsted.yaml"} <= packed
    assert {name.split("/")[0] for name in packed if "/" in name} <= {"halsted_ray", "jobs", "serve", "mlflow"}
    assert "mlflow.db" not in packed
    assert (tmp_path / "package.zip").stat().st_size < 20e6
