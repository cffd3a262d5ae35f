"""From a row of a map back to the commit, the model, its training run and its atlas."""

import json

import maps
import models
import pytest
from registries import trained

from halsted_ray.cli import main
from halsted_ray.errors import UsageError
from halsted_ray.maps.exports import read_csv
from halsted_ray.maps.publishing import publish
from halsted_ray.maps.staging import MappingRun, SegmentResult, Staging
from halsted_ray.maps.table_schemas import Provenance
from halsted_ray.records import Segment
from halsted_ray.registry import lineage as lineages

pytest_plugins = ["registries"]


def test_lineage_from_a_row_to_the_commit_of_its_atlas(registry, archive, tmp_path, capsys):
    version = trained(registry, archive, "good")
    out = str(tmp_path / "maps")
    maps.write_maps(out)  # by a model that is not registered
    known = lineages.lineage(registry, out, f"{maps.WHOLE}:70:action")
    assert known["row"]["category"] == "Push/Peel" and known["version"] is None
    assert known["commit"] | {"timestamp": 0} == {
        "table_version": 0,
        "timestamp": 0,
        "run_id": "run",
        "recipe": "recipe",
        "code_version": "0.1.0",
        "model_version": "v1",
        "tasks": "macro,micro",
    }
    # the registered model maps one of the two videos again
    staging = Staging(out, "other")
    staging.begin(MappingRun("second", "other", ("macro",), 60.0, 0))
    segments = [Segment(f"s{n}", maps.WHOLE, maps.video(maps.WHOLE).uri, n, n + 60, 120.0) for n in (0, 60)]
    for segment in segments:
        tags = [tag for tag in maps.tags_of(segment) if tag.task == "macro"]
        staging.write(SegmentResult(segment, tags, [], "second"))
    origin = Provenance("second", "other", ("macro",), "halsted", "good", "hsa-v1", models.HALSTED.digest, "0.1.0")
    publish(out, staging, {maps.WHOLE: segments}, origin)

    known = lineages.lineage(registry, out, f"{maps.WHOLE[:4]}:70:step")
    assert (known["commit"]["table_version"], known["commit"]["run_id"]) == (1, "second")
    assert known["version"]["number"] == version.number and known["training"]["run_id"] == version.run_id
    assert known["atlas"]["release"] == "hsa-v1" and known["atlas"]["table_version"] == 0
    assert known["atlas"]["commit"]["why"] == "first annotated videos"
    assert lineages.lineage(registry, out, f"{maps.PARTIAL}:10:step")["commit"]["table_version"] == 0
    assert main(["lineage", out, "--row", f"{maps.WHOLE}:70:step", "--registry", registry.uri]) == 0
    shown = capsys.readouterr().out
    assert "atlas     hsa-v1, version 0 of" in shown and ": first annotated videos" in shown
    for row, said in (
        ("999", "there is no row 999"),
        (f"{maps.WHOLE}:70", "several rows fit"),
        ("aa", "expected the number"),
        ("zz:1", "no row is there"),
    ):
        with pytest.raises(UsageError, match=said):
            lineages.lineage(registry, out, row)


def test_a_row_is_numbered_as_in_the_exported_table(registry, tmp_path, capsys):
    out = str(tmp_path / "maps")
    maps.write_maps(out)
    assert main(["export", out, "--to", str(tmp_path / "to"), "--format", "csv"]) == 0
    capsys.readouterr()
    rows = read_csv((tmp_path / "to" / "timeline.csv").read_text())
    assert len({row["end_s"] for row in rows if row["start_s"] == 0}) > 1, "an order by start alone would differ"
    for number, row in enumerate(rows):
        assert main(["lineage", out, "--row", str(number), "--registry", registry.uri, "--json"]) == 0
        found = json.loads(capsys.readouterr().out)["row"]
        assert [found["stop_s" if name == "end_s" else name] for name in row] == list(row.values()), number
