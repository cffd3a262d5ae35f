"""Relations between taxonomies: what ships, what contradicts itself, and a timeline in another vocabulary."""

from __future__ import annotations

import csv
import io
from importlib import resources

import pyarrow as pa
import pytest
import yaml
from sutured import write_suturing

from halsted_ray import taxonomy as taxonomies
from halsted_ray.cli import main
from halsted_ray.errors import TaxonomyError
from halsted_ray.maps.reading import read_timeline
from halsted_ray.maps.table_schemas import TIMELINE_SCHEMA
from halsted_ray.maps.vocabulary import translated
from halsted_ray.taxonomy.relations import (
    EQUAL,
    KINDS,
    PART_OF,
    SHIPPED,
    load_relations,
    relations_between,
    relations_from_yaml,
)

SOURCE = """
name: small
tasks:
  - {name: act, instruction: map act, window: fine, tags: [{name: deed, categories: [Cut, Drive, Wait]}]}
"""
HEAD = "from: small\nto: halsted\nversion: 1\nauthor: a person\nrelations:\n"
CUT = "- {from: {deed: Cut}, relation: part of, to: {action: Cold Cut}, why: w}\n"
REST = "- {from: {deed: [Drive, Wait]}, relation: related, to: {phase: Driving}, why: w}\n"


@pytest.fixture(scope="module")
def small(tmp_path_factory):
    path = tmp_path_factory.mktemp("taxonomy") / "small.yaml"
    path.write_text(SOURCE)
    return taxonomies.load(str(path))


@pytest.mark.parametrize("name", SHIPPED)
def test_what_ships_holds_together_and_says_something_of_every_category(name):
    found = load_relations(name)
    assert {relation.kind for relation in found.relations} <= set(KINDS)
    assert all(relation.why for relation in found.relations) and "not reviewed by a surgeon" in found.author
    assert relations_between(found.second, found.first) == found


def test_equal_reads_both_ways_part_of_one_way_and_related_never():
    found = load_relations("sar_rarp50_halsted")
    there = found.reading(found.first)
    assert there["action", "Pushing the needle through the tissue"] == {
        "procedure": "Prostatectomy", "specialty": "Urology", "step": "Suturing", "phase": "Driving",
    }  # fmt: skip
    assert there["action", "Picking-up the needle"]["phase"] == "Needle Handling"
    assert "action" not in there["action", "Cutting the suture"]  # Cold Cut is only related
    back = found.reading(found.second)
    assert back == {
        ("phase", "Driving"): {"action": "Pushing the needle through the tissue"},
        ("phase", "Withdrawal"): {"action": "Pulling the needle out of the tissue"},
    }
    kinds = {relation.kind for relation in found.of("action", "Pulling the needle out of the tissue")}
    assert kinds == {EQUAL, PART_OF}
    with pytest.raises(TaxonomyError, match="got rows of 'cholec80'"):
        found.reading(taxonomies.load("cholec80"))


def test_autolaparos_phases_are_of_a_hysterectomy_and_one_is_a_step():
    found = load_relations("autolaparo_halsted")
    there, operation = found.reading(found.first), {"procedure": "Hysterectomy", "specialty": "Gynecology"}
    assert len(there) == 7 and there["phase", "Suturing"] == {**operation, "step": "Suturing"}
    assert all(said == operation for (_, phase), said in there.items() if phase != "Suturing")
    assert not found.reading(found.second)  # nothing is equal, so nothing of Halsted's reads as a phase


def test_cholect50s_hundred_triplets_are_made_of_its_parts_and_read_as_their_verbs_do():
    cholect50, found = taxonomies.load("cholect50"), load_relations("cholect50_halsted")
    parts = [triplet.split(", ") for triplet in cholect50.tag("triplet").categories]
    assert len(parts) == 100 and len(cholect50.tag("phase").categories) == 7
    for place, (tag, count) in enumerate({"instrument": 6, "verb": 10, "target": 15}.items()):
        assert {own[place] for own in parts} == set(cholect50.tag(tag).categories)  # each occurs, and no other
        assert len(cholect50.tag(tag).categories) == count
    # Rows 1 and 94 of the authors' table of numbers (CAMMA-public/rendezvous): 0,2,0 and 0,9,14.
    assert parts[1] == ["grasper", "dissect", "gallbladder"] and parts[94] == ["grasper", "null_verb", "null_target"]
    reading = found.reading(cholect50)
    for instrument, verb, target in parts:
        assert reading.get(("triplet", f"{instrument}, {verb}, {target}")) == reading.get(("verb", verb))
    assert reading["triplet", "hook, dissect, gallbladder"] == {"step": "Dissection"}
    assert ("verb", "cut") not in reading  # cold or hot, the name does not say
    for category in ("scissors, cut, liver", "hook, cut, peritoneum"):
        said = {relation.target[1] for relation in found.of("triplet", category)}
        assert {"Cold Cut", "Hot Cut"} <= said
    assert {relation.target[1] for relation in found.of("target", "gut")} == {"Small Intestine", "Colon"}
    assert reading["phase", "carlot-triangle-dissection"] == {
        "procedure": "Laparoscopic Cholecystectomy", "specialty": "General", "step": "Dissection",
    }  # fmt: skip
    assert found.reading(found.second) == {
        ("action", "Retraction"): {"verb": "retract"},
        ("action", "Clip"): {"verb": "clip"},
    }


TOOLS = (
    "bipolar forceps",
    "prograsp forceps",
    "large needle driver",
    "monopolar curved scissors",
    "suction instrument",
    "clip applier",
    "laparoscopic grasper",
)


def test_grasps_phases_are_of_a_prostatectomy_and_its_steps_of_suturing_are_halsteds_step():
    grasp, found = taxonomies.load("grasp"), load_relations("grasp_halsted")
    assert {tag.name: len(tag.categories) for tag in grasp.tags} == {
        "phase": 11, "step": 21, **dict.fromkeys(TOOLS, 2), "instrument": 7, "action": 14,
    }  # fmt: skip
    reading, operation = found.reading(grasp), {"procedure": "Prostatectomy", "specialty": "Urology"}
    assert all(operation.items() <= reading["phase", phase].items() for phase in grasp.tag("phase").categories)
    assert {step for tag, step in reading if tag == "step" and reading[tag, step] == {"step": "Suturing"}} == {
        "Pass_Suture_Urethra", "Pass_Suture_Neck", "Pull_Suture", "Tie_Suture",
    }  # fmt: skip
    assert not [category for tag, category in reading if tag == "instrument"]  # in the picture is not acting
    assert not found.reading(found.second)
    described = grasp.canonical("phase", "phase", "bladder neck reconstruction")  # as the annotation files describe it
    assert described == ("phase", "Bladder_Neck_Rec")


@pytest.mark.parametrize("name", ["cholect50_halsted", "grasp_halsted"])
def test_a_shipped_file_that_is_changed_to_contradict_itself_is_refused(name):
    text = resources.files("halsted_ray.taxonomy").joinpath(f"related/{name}.yaml").read_text("utf-8")
    tag, category = {"cholect50_halsted": ("verb", "clip"), "grasp_halsted": ("action", "Cauterize")}[name]
    with pytest.raises(TaxonomyError, match="said to have no counterpart"):
        relations_from_yaml(f"{text}  - from: {{{tag}: {category}}}\n    why: w\n", "own.yaml")
    both = f"  - from: {{{tag}: {category}}}\n    relation: part of\n    to: {{action: Idle}}\n    why: w\n"
    with pytest.raises(TaxonomyError, match="which exclude each other"):
        relations_from_yaml(text.replace("no_counterpart:", f"{both}no_counterpart:"), "own.yaml")
    without = yaml.safe_load(text)
    without["no_counterpart"] = without["no_counterpart"][1:]
    with pytest.raises(TaxonomyError, match="nothing is said of"):
        relations_from_yaml(yaml.safe_dump(without), "own.yaml")


def test_the_ten_basic_actions_and_what_they_are_in_halsted():
    bsa = taxonomies.load("bsa")
    assert len(bsa.tag("action").categories) == 10 and bsa.stitch.driving == ("Needle Puncture",)
    back = load_relations("bsa_halsted").reading(taxonomies.load())
    assert back == {
        ("action", "Clip"): {"action": "Clipping"},
        ("action", "Retraction"): {"action": "Tissue Retraction"},
        ("phase", "Driving"): {"action": "Needle Puncture"},
    }


@pytest.mark.parametrize(
    "text, said",
    [
        (HEAD + CUT, "nothing is said of deed 'Drive'"),
        (HEAD + CUT.replace("Cold Cut", "Cold Cutt") + REST, "did you mean 'Cold Cut'"),
        (HEAD + CUT.replace("deed", "dede") + REST, "did you mean 'deed'"),
        (HEAD + CUT.replace("part of", "like") + REST, "'like'; expected one of equal, part of, related"),
        (HEAD + CUT + CUT.replace("part of", "equal") + REST, "is 'part of' and 'equal' of action 'Cold Cut'"),
        (HEAD + CUT + CUT.replace("Cold Cut", "Hot Cut") + REST, "'Cold Cut' and 'Hot Cut' of 'action', which exclude"),
        (
            HEAD + CUT.replace("part of", "equal").replace("Cut}", "[Cut, Wait]}", 1) + REST,
            "action 'Cold Cut' is equal to 'Cut' and 'Wait' of 'deed'",
        ),
        (
            HEAD + CUT.replace("action: Cold Cut", "specialty: Urology, procedure: Hysterectomy") + REST,
            "which its other relations rule out",
        ),
        (HEAD + CUT + REST + "no_counterpart: [{from: {deed: Cut}, why: w}]\n", "said to have no counterpart"),
        (HEAD + CUT.replace("why: w", "why: ''") + REST, "expected a reason"),
        (HEAD + CUT.replace(", why: w", "") + REST, "entry 1: expected a mapping with from, relation, to, why"),
        (HEAD.replace("author: a person\n", "") + CUT + REST, "expected a mapping with from, to, version, author"),
        (HEAD.replace("halsted", "halsteed") + CUT + REST, "did you mean 'halsted'"),
        ("a: [", "not well-formed"),
        ("a: &x [1]\nb: *x\n", "a YAML alias"),
    ],
)
def test_a_file_that_contradicts_itself_says_where(text, said, small):
    with pytest.raises(TaxonomyError) as caught:
        relations_from_yaml(text, "own.yaml", [small])
    assert said in str(caught.value) and "own.yaml" in str(caught.value) or "no taxonomy" in str(caught.value)


def test_taxonomies_without_relations_say_what_ships():
    with pytest.raises(
        TaxonomyError,
        match="shipped: cholec80_halsted, sar_rarp50_halsted, bsa_halsted, autolaparo_halsted, cholect50_",
    ):
        relations_between(taxonomies.load("cholec80"), taxonomies.load("sar_rarp50"))
    with pytest.raises(TaxonomyError, match="did you mean 'cholec80_halsted'"):
        load_relations("cholec80_halstd")


def row(start_s, stop_s, category, confidence=0.5, tag="phase", source="ai"):
    values = dict.fromkeys(TIMELINE_SCHEMA.names) | {
        "video_id": "v", "uri": "", "start_s": float(start_s), "stop_s": float(stop_s), "task": "phase", "tag": tag,
        "category": category, "confidence": confidence, "source": source, "model_version": "v1",
        "taxonomy_digest": taxonomies.load("cholec80").digest,
    }  # fmt: skip
    return values


def test_a_timeline_reads_in_another_vocabulary_with_its_gaps_and_says_what_has_no_counterpart():
    rows = [
        row(0, 10, "CalotTriangleDissection"),
        row(10, 40, "GallbladderDissection", 0.9),
        row(40, 50, "corrupt", 0.0, "gap", "gap"),
        row(50, 60, "Preparation"),
    ]
    timeline = pa.Table.from_pylist(rows, schema=TIMELINE_SCHEMA)
    found = translated(timeline, "halsted")
    told = [(r["start_s"], r["stop_s"], r["task"], r["tag"], r["category"]) for r in found.rows.to_pylist()]
    assert (0, 40, "macro", "step", "Dissection") in told  # two phases, one step
    assert [r[:2] for r in told if r[3] == "step"] == [(0, 40)]
    assert (40, 50, "macro", "gap", "corrupt") in told
    assert [r[:2] for r in told if r[3] == "procedure"] == [(0, 40), (50, 60)]
    (step,) = (r for r in found.rows.to_pylist() if r["tag"] == "step")
    assert step["confidence"] == pytest.approx(0.8) and step["taxonomy_digest"] == taxonomies.load().digest
    assert not found.without
    assert translated(timeline, "cholec80").rows == timeline


def test_an_export_in_another_vocabulary(tmp_path, capsys):
    write_suturing(str(tmp_path / "out"))
    to = str(tmp_path / "csv")
    command = ["export", str(tmp_path / "out"), "--format", "csv", "--to", to, "--vocabulary", "sar_rarp50"]
    assert main(command) == 0
    rows = list(csv.DictReader(io.StringIO((tmp_path / "csv/timeline.csv").read_text())))
    said = {(row["start_s"], row["category"]) for row in rows if row["source"] == "ai"}
    assert said == {
        ("5.0", "Pushing the needle through the tissue"),
        ("15.0", "Pulling the needle out of the tissue"),
        ("25.0", "Pushing the needle through the tissue"),
    }
    assert "without a counterpart in sar_rarp50" in capsys.readouterr().err
    assert len(read_timeline(str(tmp_path / "out"))) > len(rows)
    assert main([*command[:-1], "surglavi"]) == 2
    assert "no relations between 'halsted'" in capsys.readouterr().err
