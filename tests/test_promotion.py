"""The gate and who may become champion: promotion, refusal, two at once, and the way back."""

import json
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import models
import pytest
import yaml
from registries import ROOT, trained

from halsted_ray.atlas import read_atlas, write_atlas
from halsted_ray.cli import main
from halsted_ray.errors import RegistryError, TaxonomyError, UsageError
from halsted_ray.model.halsted import Halsted
from halsted_ray.registry import promotion
from halsted_ray.registry.gate import read_thresholds
from halsted_ray.registry.model_registry import CHALLENGER, CHAMPION, PREVIOUS
from halsted_ray.registry.promotion import EXPERIMENT, promote, rollback
from halsted_ray.registry.references import registered_name
from halsted_ray.registry.tracking import register

pytest_plugins = ["registries"]


def test_promotion_from_the_first_to_the_way_back(registry, archive, gate, capsys):
    good, better, _ = (trained(registry, archive, name) for name in ("good", "better", "bad"))
    first = promote(registry, "1", archive, gate=gate, deploy=True)
    assert first.verdict.passed and first.champion is None
    assert registry.aliased(CHAMPION).number == good.number and registry.aliased(PREVIOUS) is None

    refused = promote(registry, "3", archive, gate=gate, deploy=True)
    failed = {check.name for check in refused.verdict.checks if not check.passed}
    assert not refused.verdict.passed and {"worst_task_fall", "mean_p_worse"} <= failed
    assert registry.aliased(CHAMPION).number == good.number and registry.aliased(CHALLENGER) is None

    waits = promote(registry, "2", archive, gate=gate)
    assert waits.alias == CHALLENGER and registry.aliased(CHALLENGER).number == better.number
    assert registry.aliased(CHAMPION).number == good.number
    deployed = promote(registry, "challenger", archive, gate=gate, deploy=True)
    assert deployed.alias == CHAMPION
    assert {
        alias: registry.aliased(alias) and registry.aliased(alias).number for alias in (CHAMPION, PREVIOUS, CHALLENGER)
    } == {CHAMPION: 2, PREVIOUS: 1, CHALLENGER: None}
    with pytest.raises(RegistryError, match="version 2 is the champion already"):
        promote(registry, "2", archive, gate=gate)

    now, before = rollback(registry, "a surgeon saw worse maps")
    assert (now.number, before.number) == (1, 2) and registry.aliased(PREVIOUS).number == 2
    runs = registry.client.search_runs([registry.experiment(EXPERIMENT)], order_by=["attributes.start_time"])
    assert [run.data.tags["verdict"] for run in runs] == ["passed", "refused", "passed", "passed", "rollback"]
    table = json.loads(Path(registry.client.download_artifacts(refused.run_id, "verdict.json")).read_text())
    assert len(table["data"]) == len(refused.verdict.checks) and "reason" in table["columns"]
    assert runs[1].data.metrics["champion_accuracy/step"] > runs[1].data.metrics["accuracy/step"]


def test_promote_in_the_terminal(registry, archive, gate, capsys):
    uri = registry.uri
    for name in ("good", "bad"):
        trained(registry, archive, name)
    assert main(["registry", "promote", "1", "--atlas", archive, "--deploy", "--gate", gate, "--registry", uri]) == 0
    assert "version 1 against no champion: passed, it is champion now" in capsys.readouterr().out
    assert main(["registry", "promote", "2", "--atlas", archive, "--gate", gate, "--registry", uri]) == 3
    shown = capsys.readouterr().out
    assert "version 2 against champion 1: refused, nothing was changed" in shown and "worst task" in shown
    assert main(["registry", "list", "--registry", uri]) == 0
    listed = capsys.readouterr().out.splitlines()
    assert listed[0] == f"registry {uri}"
    assert listed[2].split()[:3] == ["2", "bad", "hsa-v1"] and listed[3].endswith("champion")
    assert main(["registry", "show", "champion", "--registry", uri, "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["tags"]["model_version"] == "good"
    assert main(["registry", "rollback", "--registry", uri]) == 2
    assert "no previous champion" in capsys.readouterr().err


def test_a_model_of_another_taxonomy_needs_a_migration(registry, archive, gate, tmp_path):
    """The champion knows the action Tug by another name; with its migration it is judged as it deserves."""
    trained(registry, archive, "better")
    described = models.HALSTED.to_dict()
    for task in described["tasks"]:
        for tag in task["tags"]:
            if tag["name"] == "action":
                tag["categories"][tag["categories"].index("Tug")] = "Pull"
    old = models.taxonomies.from_dict(described)
    champion = Halsted.load(f"{archive}/models/good")
    weights = champion.decoder.state_dict()
    champion = Halsted(champion.config, old)
    champion.decoder.load_state_dict(weights)
    champion.configure(version="old")
    champion.save(str(tmp_path / "old"))
    version = register(registry, str(tmp_path / "old"))
    registry.move({CHAMPION: version.number})
    with pytest.raises(TaxonomyError, match=f"{old.digest}.*name a migration"):
        promote(registry, "1", archive, gate=gate)
    bridge = tmp_path / "bridge.yaml"
    stated = {"from": old.digest, "to": models.HALSTED.digest, "reason": "renamed", "categories": {}}
    figures = []
    for categories in ({}, {"action": {"Pull": "Tug"}}):
        bridge.write_text(yaml.safe_dump(stated | {"categories": categories}))
        came_to = promote(registry, "1", archive, gate=gate, migration=str(bridge))
        figures.append(registry.client.get_run(came_to.run_id).data.metrics["champion_accuracy/action"])
    assert figures[0] < figures[1] and came_to.alias == CHALLENGER
    fitting = bridge.read_text()
    stated["from"] = "0" * 16
    bridge.write_text(yaml.safe_dump(stated))
    with pytest.raises(TaxonomyError, match="the migration leads from 0000"):
        promote(registry, "1", archive, gate=gate, migration=str(bridge))
    bridge.write_text(fitting)
    versions = len(registry.versions())
    for aliases, said in (({CHAMPION: None}, "there is no champion"), ({CHAMPION: 1}, "version 1 has the taxonomy of")):
        registry.move(aliases)
        with pytest.raises(RegistryError, match=f"a champion of another taxonomy, and {said}.*leave --migration out"):
            promote(registry, f"{archive}/models/bad", archive, gate=gate, migration=str(bridge))
    assert len(registry.versions()) == versions, "refused before a version is made"


def test_a_model_that_learned_from_a_test_video_does_not_pass(registry, archive, gate, tmp_path):
    trained(registry, archive, "good")
    atlas = read_atlas(archive)
    write_atlas(
        str(tmp_path),
        list(atlas.videos),
        list(atlas.clips),
        "resplit",
        split=atlas.split | {"0" * 16: "test", "4" * 16: "train"},
    )
    store = f"{archive}/embeddings"
    came_to = promote(registry, "1", str(tmp_path), gate=gate, embeddings=store)
    (check,) = [check for check in came_to.verdict.checks if not check.passed]
    assert check.name == "learned_test_videos" and check.said == "0" * 16
    unknown = promote(registry, f"{archive}/models/better", archive, gate=gate)
    assert [check.name for check in unknown.verdict.checks if not check.passed] == ["learned_test_videos"]
    said = Halsted.load(f"{archive}/models/better")
    said.configure(version="said", learned_from={"train": ["0" * 16], "validation": ["1" * 16]})
    said.save(str(tmp_path / "said"))
    assert promote(registry, str(tmp_path / "said"), archive, gate=gate, deploy=True).verdict.passed
    # The champion in its turn has learned from a video that judges elsewhere.
    said.configure(version="new", learned_from={"train": ["4" * 16], "validation": ["1" * 16]})
    said.save(str(tmp_path / "new"))
    came_to = promote(registry, str(tmp_path / "new"), str(tmp_path), gate=gate, embeddings=store)
    (check,) = [check for check in came_to.verdict.checks if not check.passed]
    assert check.name == "learned_test_videos/champion" and f"learned from {'0' * 16}" in check.said


PROMOTER = """
    import sys, time
    from pathlib import Path
    from halsted_ray.cli import main
    from halsted_ray.registry import promotion

    sys.path.insert(0, sys.argv[1])
    from test_promotion import meeting

    promotion.record = meeting(Path(sys.argv[2]), Path(sys.argv[3]), promotion.record)
    sys.exit(main(sys.argv[4:]))
"""


def meeting(mine, other, record):
    """``record``, and then a wait for the other process: nothing else is changed, so that the two really meet."""

    def both_are_here(*arguments):
        run_id = record(*arguments)
        mine.touch()
        until_s = time.monotonic() + 120
        while not other.exists() and time.monotonic() < until_s:
            time.sleep(0.01)
        return run_id

    return both_are_here


@pytest.mark.slow
def test_of_two_that_promote_at_once_one_wins(registry, archive, gate, tmp_path, monkeypatch, capsys):
    """One of the two is this very process, since another start of Python and PyTorch is most of the time."""
    numbers = [trained(registry, archive, name).number for name in ("good", "better")]
    script = tmp_path / "promoter.py"
    script.write_text(textwrap.dedent(PROMOTER))
    here, there = tmp_path / "here", tmp_path / "there"
    words = [
        ["registry", "promote", str(number), "--atlas", archive, "--deploy", "--gate", gate, "--registry", registry.uri]
        for number in numbers
    ]
    other = subprocess.Popen(
        [sys.executable, script, ROOT / "tests", there, here, *words[1]],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    monkeypatch.setattr(promotion, "record", meeting(here, there, promotion.record))
    codes, complaints = [main(words[0])], [capsys.readouterr().err]
    complaints.append(other.communicate(timeout=120)[1])
    codes.append(other.returncode)
    assert sorted(codes) == [0, 2], complaints
    winner, loser = codes.index(0), codes.index(2)
    assert registry.aliased(CHAMPION).number == numbers[winner] and registry.aliased(PREVIOUS) is None
    said = complaints[loser]
    assert "another one was quicker" in said or "somebody else is changing" in said or "has just finished" in said
    assert "nothing was changed" in said and "Traceback" not in said
    with registry.locked("after"):  # nothing is left behind
        pass


@pytest.mark.parametrize(
    "text, said",
    [
        ("- 1", "expected"),
        ("mean_p_worse: {at_most: 1}", "expected"),
        (": :", "YAML"),
    ],
)
def test_a_gate_that_is_not_whole_is_refused(tmp_path, text, said):
    file = tmp_path / "gate.yaml"
    file.write_text(text)
    with pytest.raises(UsageError, match=said):
        read_thresholds(str(file))
    stated = yaml.safe_load((ROOT / "halsted_ray" / "registry" / "gate.yaml").read_text())
    del stated["calibration_error"]["reason"]
    file.write_text(yaml.safe_dump(stated))
    with pytest.raises(UsageError, match="calibration_error needs a number 'at_most' and a 'reason'"):
        read_thresholds(str(file))


def sutures_archive(archive, tmp_path):
    """The archive annotated in a taxonomy of its own, named ``sutures``, and a model of it."""
    own = models.HALSTED.to_dict() | {"name": "sutures"}
    taxonomy = models.taxonomies.from_dict(own)
    source = read_atlas(archive)
    place = str(tmp_path / "sutures")
    write_atlas(place, source.videos, source.clips, "v1", taxonomy=taxonomy, split=source.split)
    model = Halsted.load(f"{archive}/models/good")
    weights = model.decoder.state_dict()
    model = Halsted(model.config, taxonomy)
    model.decoder.load_state_dict(weights)
    taught = [video.video_id for video in source.videos_of("train")]
    model.configure(version="sutures-1", learned_from={"train": taught, "validation": []})
    model.save(str(tmp_path / "sutures-model"))
    return place, str(tmp_path / "sutures-model")


def test_each_taxonomy_has_a_registered_model_of_its_own(registry, archive, gate, tmp_path, capsys):
    place, folder = sutures_archive(archive, tmp_path)
    halsted = trained(registry, archive, "good")
    registry.move({CHAMPION: halsted.number})
    made = promote(registry, folder, place, gate=gate, deploy=True, embeddings=f"{archive}/embeddings")
    assert made.champion is None and (made.candidate.name, made.candidate.number) == ("halsted-sutures", 1)
    assert registry.find("registry:halsted-sutures@champion").tags["taxonomy"] == "sutures"
    assert registry.aliased(CHAMPION).number == halsted.number, "the champion of the other taxonomy stays"
    assert registry.names() == ["halsted", "halsted-sutures"]
    assert [version.name for version in registry.versions()] == ["halsted-sutures", "halsted"]
    assert registry.made_by("sutures-1").name == "halsted-sutures"
    with pytest.raises(RegistryError, match="version 1 of 'halsted' can't become a model of the taxonomy 'sutures'"):
        promote(registry, "registry:halsted/1", place, gate=gate)
    with pytest.raises(RegistryError, match="version 1 is the champion already"):
        promote(registry, "1", place, gate=gate)  # a number alone means the taxonomy of the atlas
    with pytest.raises(RegistryError, match="no previous champion"):
        rollback(registry, name="halsted-sutures")
    with pytest.raises(RegistryError, match="no halsted-sutures/9; it has 1 @champion: name a version by its number"):
        registry.find("registry:halsted-sutures/9")
    with pytest.raises(RegistryError, match="its models are halsted, halsted-sutures"):
        registry.find("registry:halsted-other/1")
    assert main(["registry", "list", "--registry", registry.uri]) == 0
    assert "halsted-sutures" in capsys.readouterr().out


def test_the_registered_model_of_a_taxonomy_has_a_name_that_mlflow_takes():
    assert registered_name("halsted") == "halsted" and registered_name("cholec80") == "halsted-cholec80"
    assert registered_name("our suturing/v2") == "halsted-our-suturing-v2"
