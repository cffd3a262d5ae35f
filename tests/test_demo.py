"""The demo's script on a few short videos: every step runs, finished steps are kept, the page is written."""

import importlib.util
import re
from pathlib import Path

import pytest

from halsted_ray.compute.cluster import connected
from halsted_ray.phantom import foreign


@pytest.fixture
def demo():
    path = Path(__file__).parent.parent / "jobs" / "demo.py"
    spec = importlib.util.spec_from_file_location("demo", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def ray(monkeypatch):
    """One Ray for both runs."""
    monkeypatch.setenv("RAY_prestart_worker_first_driver", "0")
    with connected():
        yield


@pytest.mark.slow
def test_demo_from_nothing_and_again(demo, ray, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(demo, "VIDEOS", 2)
    monkeypatch.setattr(demo, "HELD_OUT", 1)
    monkeypatch.setattr(demo, "MINUTES", 0.5)
    monkeypatch.setattr(demo, "PACE", ())
    monkeypatch.setattr(demo, "SUTURING", ())
    monkeypatch.setattr(demo, "FOREIGN_S", 2.0)  # one video that holds an action, as its seed draws it
    monkeypatch.setattr(demo, "ANNOTATED", 1)
    monkeypatch.setattr(foreign, "FOREIGN", dict(list(foreign.FOREIGN.items())[:3]))
    assert demo.demo(tmp_path) == 0
    first = capsys.readouterr().out
    assert "step, exact match per window" in first
    assert re.search(r"^tag +halsted +95% interval +v1 +chance +majority +linear$", first, re.M)
    assert re.search(r"^tag +Halsted +linear probe +chance$", first, re.M)
    assert re.search(r"^held-out videos +measured +95% interval +by span +chance +bar", first, re.M)
    assert "keep v1: the 95% interval of v2's gain on " in first, "one annotated video is not enough for the gate"
    report = (tmp_path / "report.html").read_text()
    assert "4 of 4 videos mapped" in report and "1 video compared" in first
    assert "Agreement with the truth" in report and len(report) < 2_000_000
    assert "<p>v1 is kept, v2 is not.</p>" in (tmp_path / "loop" / "report.html").read_text()
    assert {path.name for path in tmp_path.iterdir()} == {
        *("archive", "model", "maps", "registry", "report.html", "loop")
    }
    assert re.search(r"^unknown: [\d.]+% of the time of foreign pictures", first, re.M)

    kept = (tmp_path / "model" / "training.json").stat().st_mtime_ns
    assert demo.demo(tmp_path) == 0
    again = capsys.readouterr().out
    assert "4 segments done before, 0 decoded, 0 from stored vectors" in again
    assert (tmp_path / "model" / "training.json").stat().st_mtime_ns == kept
    assert (
        first[first.index("held-out videos") : first.index("seconds:")]
        == (again[again.index("held-out videos") : again.index("seconds:")])
    )
