"""How the package hangs together: imports in one direction, one importer a framework, nothing in the wrong place."""

import ast
import subprocess
import tomllib
from fnmatch import fnmatch
from functools import cache
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parent.parent
PACKAGE = ROOT / "halsted_ray"
ROOMS = (
    "errors",
    "records",
    "profiling",
    "gpu_waits",
    "storage",
    "processes",
    "taxonomy",
    "video",
    "phantom",
    "model",
    "atlas",
    "synthesis",
    "deidentify",
    "maps",
    "compute",
    "embedding",
    "refining",
    "mapping",
    "planning",
    "training",
    "evaluation",
    "language",
    "benchmarks",
    "sequences",
    "selflabel",
    "registry",
    "reporting",
    "search",
    "hospital",
    "service",
    "cli",
)
"""Each may import those before it."""
SOLE_IMPORTERS = {
    "ray.data": {"embedding/streaming.py", "embedding/segment_source.py", "reporting/mapped_archive.py"},
    "ray.train": {"training/loop.py"},
    "ray.serve": {"service/deployments.py"},
    "mlflow": {
        "registry/model_registry.py",
        "registry/pyfunc.py",
        "registry/language_pyfunc.py",
        "registry/tracking.py",
        "registry/language_tracking.py",
        "registry/promotion.py",
    },
}
WITHOUT_RAY = {
    "errors",
    "records",
    "profiling",
    "gpu_waits",
    "storage",
    "processes",
    "taxonomy",
    "video",
    "phantom",
    "model",
    "deidentify",
    "atlas",
    "synthesis",
    "maps",
    "evaluation",
    "sequences",
    "reporting",
}
HANDS_OVER_TO_RAY = {"reporting/mapped_archive.py"}
"""Where a table becomes a Ray Dataset for whoever asks for that: imported inside the one function."""
FILES = sorted(PACKAGE.rglob("*.py"))


@cache
def imported_names(path):
    """(full dotted name, line) of each: ``from a import b`` gives ``a`` and ``a.b``; ``import a; a.b.c`` also gives
    ``a.b`` uses."""
    return tuple(_imported_names(path))


def _imported_names(path):
    tree = ast.parse(path.read_text(encoding="utf-8"))
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from ((alias.name, node.lineno) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert not node.level, f"{path}:{node.lineno}: relative import; say where from"
            yield node.module, node.lineno
            yield from ((f"{node.module}.{alias.name}", node.lineno) for alias in node.names)
        elif isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id == "ray":
            yield f"ray.{node.attr}", node.lineno


def room(path):
    return path.relative_to(PACKAGE).parts[0].removesuffix(".py")


def is_of(name, package):
    return name == package or name.startswith(package + ".")


def test_every_room_is_known():
    found = {room(path) for path in FILES} - {"__init__"}
    assert found <= set(ROOMS), f"rooms without a place in the direction: {sorted(found - set(ROOMS))}"


def test_imports_go_one_way():
    wrong = []
    for path in FILES:
        here = room(path)
        if here == "__init__":
            continue
        for name, line in imported_names(path):
            there = name.split(".")[1] if name.startswith("halsted_ray.") else None
            if there in ROOMS and ROOMS.index(there) > ROOMS.index(here):
                wrong.append(f"{path.relative_to(ROOT)}:{line} imports {name}")
    assert not wrong, "\n".join(wrong)


@pytest.mark.parametrize("framework", SOLE_IMPORTERS)
def test_one_importer_a_framework(framework):
    importers = {
        path.relative_to(PACKAGE).as_posix()
        for path in FILES
        if any(is_of(name, framework) for name, _ in imported_names(path))
    }
    assert importers <= SOLE_IMPORTERS[framework]


def test_what_needs_no_ray_imports_none():
    wrong = [
        f"{path.relative_to(ROOT)}:{line} imports {name}"
        for path in FILES
        if room(path) in WITHOUT_RAY and path.relative_to(PACKAGE).as_posix() not in HANDS_OVER_TO_RAY
        for name, line in imported_names(path)
        if is_of(name, "ray")
    ]
    assert not wrong, "\n".join(wrong)


def test_the_package_imports_nothing_that_stands_on_it():
    wrong = [
        f"{path.relative_to(ROOT)}:{line} imports {name}"
        for path in FILES
        for name, line in imported_names(path)
        if name.split(".")[0] in ("jobs", "serve", "tests", "benchmarks")
    ]
    assert not wrong, "\n".join(wrong)


def tracked(*patterns):
    listed = subprocess.run(["git", "ls-files", "--", *patterns], cwd=ROOT, capture_output=True, text=True, check=True)
    return listed.stdout.splitlines()


@pytest.mark.skipif(not (ROOT / ".git").exists(), reason="not a checkout")
def test_nothing_shadows_mlflow():
    assert not tracked("mlflow/*.py")
    assert not {path for path in tracked("tests/*") if path.split("/")[1] in ("ray", "serve", "mlflow")}


@pytest.mark.skipif(not (ROOT / ".git").exists(), reason="not a checkout")
def test_every_data_file_is_packaged():
    """An editable install would hide a missing one."""
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    patterns = settings["tool"]["setuptools"]["package-data"]["halsted_ray"]
    data = {path.removeprefix("halsted_ray/") for path in tracked("halsted_ray/*") if not path.endswith((".py", ".md"))}
    assert {"taxonomy/halsted.yaml", "reporting/page.html", "hospital/value_set.yaml"} <= data
    assert not {path for path in data if not any(fnmatch(path, pattern) for pattern in patterns)}


def test_versions_are_pinned_within_the_ranges():
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    lines = (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines()
    pinned = dict(line.split("==") for line in lines if line and not line.startswith("#"))
    pinned = {canonicalize_name(name): version for name, version in pinned.items()}
    wanted = settings["project"]["dependencies"] + settings["project"]["optional-dependencies"]["test"]
    for requirement in map(Requirement, wanted):
        assert pinned[canonicalize_name(requirement.name)] in requirement.specifier, requirement


def test_no_dumping_grounds():
    names = {"util", "utils", "helper", "helpers", "common", "misc"}
    paths = [*FILES, *(ROOT / "jobs").rglob("*.py"), *(ROOT / "serve").rglob("*.py"), *(ROOT / "tests").rglob("*.py")]
    assert not [path for path in paths if path.stem in names or names & set(path.relative_to(ROOT).parts)]
