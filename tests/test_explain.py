"""What a map says of one moment: statements that rest on rows, and "not known" where there are none."""

from __future__ import annotations

import json

import pytest
from maps import PARTIAL, WHOLE, write_maps
from sutured import write_suturing

from halsted_ray import taxonomy as taxonomies
from halsted_ray.cli import main
from halsted_ray.cli.explain import video_and_second
from halsted_ray.errors import UsageError
from halsted_ray.maps.reading import read_timeline
from halsted_ray.sequences.explanation import explain, explanation_text


def row(task, tag, category, start_s=0.0, stop_s=30.0, confidence=0.5, source="ai"):
    return {
        "video_id": "v", "task": task, "tag": tag, "category": category, "start_s": start_s, "stop_s": stop_s,
        "confidence": confidence, "source": source, "model_version": "v1",
    }  # fmt: skip


DISSECTION = [
    row("macro", "step", "Dissection", stop_s=60.0, confidence=0.9),
    row("micro", "action", "Retraction", confidence=0.7),
    row("micro", "instrument", "Grasper", confidence=0.6),
    row("micro", "arm", "Left", confidence=0.8),
    row("micro", "action", "Cautery", 30.0, 40.0),
    row("macro", "step", "Suturing", 60.0, 90.0),
]


def of(rows, at_s):
    found = explain("v", rows, at_s, taxonomies.load())
    return {(one.level, one.about): one for one in found.statements}


def test_each_statement_names_its_rows_and_the_least_sure_of_them():
    found = of(reversed(DISSECTION), 10)
    acts = found["relation", "acts"]
    assert acts.said == "Grasper (arm: Left): Retraction" and acts.confidence == 0.6
    assert {(one.tag, one.category) for one in acts.rests_on} == {
        ("action", "Retraction"), ("instrument", "Grasper"), ("arm", "Left"),
    }  # fmt: skip
    assert found["perception", "instrument"].said == "Grasper"
    assert found["context", "step"].said == "Dissection" and found["context", "step"].confidence == 0.9
    assert found["context", "action next"].said == "Cautery, begins in 20.0 s"
    assert found["context", "step next"].said == "Suturing, begins in 50.0 s"
    assert of(DISSECTION, 45)["context", "action before"].said == "Cautery, ended 5.0 s ago"


def test_nothing_is_said_that_is_in_no_row():
    rows = DISSECTION + [row("micro", "action", "Tug", 40.0, 60.0, 0.3)]
    categories, taxonomy = {one["category"] for one in rows}, taxonomies.load()
    for at_s in range(0, 90, 7):
        for one in explain("v", rows, at_s, taxonomy).statements:
            assert (one.said is None) == (one.confidence is None) == bool(one.reason)
            if one.said is not None:
                assert one.rests_on and all(row.category in one.said for row in one.rests_on)
                named = {c for tag in taxonomy.tags for c in tag.categories if c in one.said.split(": ")}
                assert named <= categories
                assert one.confidence == min(row.confidence for row in one.rests_on)


def test_what_is_not_known_says_why():
    rows = [
        *DISSECTION,
        row("micro", "gap", "corrupt", 40.0, 50.0, 0.0, "gap"),
        row("micro", "unknown", "unknown", 50.0, 60.0, 0.0, "unknown"),
    ]
    assert of(rows, 45)["perception", "instrument"].reason == "not mapped: corrupt"
    assert of(rows, 55)["perception", "instrument"].reason == "outside of what the model has learned"
    assert of(rows, 10)["context", "phase"].reason == "asked where step is Suturing, and it is Dissection"
    assert of(rows, 70)["context", "phase"].reason == "the map has no row here"
    assert of(rows, 70)["relation", "acts"].said is None
    assert of(rows, 35)["relation", "acts"].said == "Cautery; not known: arm, instrument"


def test_a_needle_that_is_driven_goes_through_something():
    rows = [
        row("proficiency", "phase", "Driving", confidence=0.9),
        row("context", "anatomy", "Bladder", confidence=0.8),
        row("context", "direction", "In", confidence=0.7),
    ]
    acts = of(rows, 1)["relation", "acts"]
    assert acts.said == "Driving, anatomy Bladder, direction In; not known: extent" and acts.confidence == 0.7


def test_tools_that_are_there_or_not_are_perception():
    rows = [row("tools", "hook", "Present"), row("phase", "phase", "Preparation")]
    found = explain("v", rows, 1, taxonomies.load("cholec80"))
    seen = {one.about: one.said for one in found.statements if one.level == "perception"}
    assert seen["hook"] == "Present" and seen["clipper"] is None
    assert "hook: Present  [0.50, row 2]" in explanation_text(found)  # rows in the order of exports


def test_the_command_numbers_rows_as_an_export_lists_them(tmp_path, capsys):
    out = str(tmp_path)
    write_suturing(out)
    assert main(["explain", out, f"{WHOLE[:6]}:0:10", "--json"]) == 0
    said = json.loads(capsys.readouterr().out)
    assert said["at_s"] == 10 and said["video_id"] == WHOLE
    rows = [one for one in read_timeline(out).to_pylist() if one["video_id"] == WHOLE]
    for statement in said["statements"]:
        for one in statement["rests_on"]:
            assert {name: rows[one["row"] - 1][name] for name in one if name != "row"} == {
                name: value for name, value in one.items() if name != "row"
            }
    assert main(["explain", out, f"{PARTIAL}:80"]) == 0
    assert "not known (not mapped: corrupt)" in capsys.readouterr().out
    assert main(["explain", out, f"{WHOLE}:500"]) == 2
    assert "lasts 120 s; got 500 s" in capsys.readouterr().err


def test_a_moment_without_a_second_is_refused_and_no_name_is_repeated(tmp_path, capsys):
    assert video_and_second("3f2a:95") == ("3f2a", 95)
    assert video_and_second("a:b.mp4:1:02:03.5") == ("a:b.mp4", 3723.5)
    for wrong in ("3f2a", "3f2a:", "Jane Doe:soon"):
        with pytest.raises(UsageError, match="expected VIDEO:SECOND") as caught:
            video_and_second(wrong)
        assert "Jane" not in str(caught.value)
    write_maps(str(tmp_path))
    assert main(["explain", str(tmp_path), "Jane Doe"]) == 2
    assert "Jane" not in capsys.readouterr().err
