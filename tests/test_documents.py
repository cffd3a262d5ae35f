"""What documents say is so: numbers as measured, links that lead somewhere, examples that run, README short."""

from __future__ import annotations

import importlib.util
import json
import re
from pathlib import Path

import pytest

from halsted_ray.cli import main

ROOT = Path(__file__).parent.parent
PAGES = [
    *sorted((ROOT / "docs").rglob("*.md")),
    *(ROOT / name for name in ("README.md", "CONTRIBUTING.md", "SECURITY.md", "CHANGELOG.md", "cluster/README.md")),
]
NAMED = re.compile(r"`((?:halsted_ray|tests|benchmarks|jobs|serve|cluster|mlflow)/[\w./-]*\w)`")
GENERATED = {"codes.md", "command.md", "http.md", "rights.md", "tables.md"}
"""Pages of the reference that exist in the site alone."""
spec = importlib.util.spec_from_file_location("figures", ROOT / "benchmarks" / "figures.py")
figures = importlib.util.module_from_spec(spec)
spec.loader.exec_module(figures)


def test_readme_has_at_most_700_words():
    assert len((ROOT / "README.md").read_text(encoding="utf-8").split()) <= 700


def test_figures_are_those_of_the_result_files():
    assert json.loads(figures.FIGURES.read_text(encoding="utf-8")) == figures.collect()


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_marked_numbers_are_those_of_the_figures(page):
    text = page.read_text(encoding="utf-8")
    assert figures.quoted(text, figures.collect()) == text, "run python benchmarks/figures.py"


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_lead_somewhere(page):
    for target in re.findall(r"\]\((?!https?:|#)([^)#\s]+)(?:#[^)]*)?\)", page.read_text(encoding="utf-8")):
        if Path(target).name not in GENERATED:
            assert (page.parent / target).exists(), f"{page.relative_to(ROOT)} links to {target}"


def test_tests_that_pages_name_exist():
    written = "\n".join(path.read_text("utf-8") for path in (ROOT / "tests").glob("test_*.py"))
    missing = [
        f"{page.relative_to(ROOT)}: {name}"
        for page in PAGES
        for name in re.findall(r"`(test_\w+)`", page.read_text("utf-8"))
        if page.name != "CHANGELOG.md" and f"def {name}(" not in written
    ]
    assert not missing, "\n".join(missing)


def test_files_that_pages_name_exist():
    missing = []
    for page in PAGES:
        if page.name == "CHANGELOG.md":
            continue
        for named in re.findall(
            r"`((?:halsted_ray|tests|benchmarks|jobs|serve|cluster|mlflow)/[\w./-]*\w)`", page.read_text("utf-8")
        ):
            if not (ROOT / named).exists():
                missing.append(f"{page.relative_to(ROOT)}: {named}")
    assert not missing, "\n".join(missing)


def test_every_page_is_in_the_navigation():
    listed = (ROOT / "mkdocs.yml").read_text(encoding="utf-8")
    for page in (ROOT / "docs").rglob("*.md"):
        name = str(page.relative_to(ROOT / "docs"))
        assert name in listed or page.parent.name == "decisions", f"{name} is not in mkdocs.yml"
    index = (ROOT / "docs/decisions/index.md").read_text(encoding="utf-8")
    decisions = {page.name for page in (ROOT / "docs/decisions").glob("*.md")} - {"index.md"}
    assert not [name for name in decisions if f"({name})" not in index]


def blocks(page: Path) -> list[str]:
    """The page's Python blocks."""
    return re.findall(r"```python\n(.*?)```", page.read_text(encoding="utf-8"), re.DOTALL)


WITH_EXAMPLES = [page for page in PAGES if blocks(page)]


@pytest.fixture(scope="module")
def first_map(tmp_path_factory):
    """A folder as the quickstart leaves it: ``first/archive`` and ``first/maps``."""
    folder = tmp_path_factory.mktemp("quickstart")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RAY_prestart_worker_first_driver", "0")
        patch.chdir(folder)
        assert main("phantom first/archive --videos 2 --minutes 0.5 --size 192x108 --fps 8".split()) == 0
        assert main("map first/archive --out first/maps".split()) == 0
    return folder


@pytest.mark.slow
@pytest.mark.parametrize("page", WITH_EXAMPLES, ids=lambda page: str(page.relative_to(ROOT)))
def test_python_examples_run(page, first_map, monkeypatch):
    """All blocks of a page together: a later block may use the names of an earlier one."""
    monkeypatch.chdir(first_map)
    exec(compile("\n".join(blocks(page)), str(page), "exec"), {"__name__": "example"})


def test_every_setting_of_the_service_stands_in_the_reference():
    read = set(re.findall(r'"(HALSTED_[A-Z_]+)"', (ROOT / "halsted_ray/service/settings.py").read_text()))
    told = set(re.findall(r"`(HALSTED_[A-Z_]+)`", (ROOT / "docs/reference/settings.md").read_text()))
    assert "HALSTED_FRONT_SECRET" in read and read == told
