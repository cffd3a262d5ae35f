"""Economy of motion: figures of a map, the regression against given scores, and the command."""

from __future__ import annotations

import csv
import io
import json
import re

import numpy as np
import pyarrow as pa
import pytest
from maps import PARTIAL, WHOLE
from sklearn.linear_model import Ridge
from sutured import write_suturing

from halsted_ray import open_maps
from halsted_ray import taxonomy as taxonomies
from halsted_ray.cli import main
from halsted_ray.errors import UsageError
from halsted_ray.reporting import write_html
from halsted_ray.reporting.economy_section import economy_section
from halsted_ray.sequences.economy import ECONOMY_SCHEMA, economy_of, economy_rows, read_economy
from halsted_ray.sequences.economy_regression import ProficiencyLabel, fit_ridge, read_labels, regress


def row(start_s, stop_s, category, tag="action", task="micro", source="ai", confidence=0.5):
    return {
        "start_s": float(start_s), "stop_s": float(stop_s), "task": task, "tag": tag, "category": category,
        "confidence": confidence, "source": source,
    }  # fmt: skip


def phase(start_s, stop_s, category):
    return row(start_s, stop_s, category, "phase", "proficiency")


def test_counts_durations_transitions_and_idle_share():
    rows = [
        row(0, 10, "Cautery"), row(10, 16, "Idle"), row(16, 20, "Cautery"),
        row(20, 22, "corrupt", "gap", source="gap"), row(22, 32, "Retraction", confidence=1.0),
    ]  # fmt: skip
    found = economy_of("v", rows, taxonomies.load())
    assert (found.acting_s, found.actions, found.kinds, found.median_action_s) == (30, 4, 3, 8)
    assert (found.transitions, found.transition_kinds) == (2, 2)  # none over the gap
    assert (found.idle_share, found.actions_per_min) == (0.2, 8)
    assert found.mean_confidence == pytest.approx(2 / 3, abs=1e-4)
    assert found.stitches is None and found.repeated_attempts is None and found.direct_path_share is None


def test_a_needle_that_is_driven_again_within_a_stitch_is_a_repeated_attempt():
    straight = [phase(0, 5, "Needle Handling"), phase(5, 15, "Driving"), phase(15, 20, "Withdrawal")]
    again = [
        phase(20, 25, "Needle Handling"), phase(25, 30, "Driving"), phase(30, 33, "Needle Handling"),
        phase(33, 40, "Driving"), phase(40, 45, "Withdrawal"),
    ]  # fmt: skip
    once, twice = (economy_of("v", rows, taxonomies.load()) for rows in (straight, straight + again))
    assert (once.stitches, once.repeated_attempts, once.direct_path_share, once.stitch_s) == (1, 0, 1, 20)
    assert (twice.stitches, twice.repeated_attempts, twice.stitch_s) == (2, 1, 22.5)
    assert twice.direct_path_share == pytest.approx(6 / 7, abs=1e-4)  # driving → handling leads back


def test_what_a_taxonomy_cannot_say_is_none_and_an_empty_map_has_no_figures():
    cholec = taxonomies.load("cholec80")
    found = economy_of("v", [row(0, 60, "Preparation", "phase", "phase")], cholec, ("phase",))
    assert found.idle_share is None and found.stitches is None and found.actions == 1
    nothing = economy_of("v", [], taxonomies.load())
    assert (nothing.actions, nothing.acting_s, nothing.median_action_s, nothing.actions_per_min) == (0, 0, None, None)


def test_the_ridge_is_that_of_scikit_learn():
    rng = np.random.default_rng(0)
    table_VF, score_V = rng.normal(size=(12, 4)), rng.normal(size=12)
    weights_F, base = fit_ridge(table_VF, score_V, 0.7)
    theirs = Ridge(alpha=0.7).fit(table_VF, score_V)
    assert weights_F == pytest.approx(theirs.coef_) and base == pytest.approx(theirs.intercept_)


def videos_of(count):
    """Videos with ever more idle time."""
    return [
        economy_of(f"v{n}", [row(0, 10 + 3 * (n % 5), "Cautery"), row(40, 41 + n, "Idle")], taxonomies.load())
        for n in range(count)
    ]


def test_a_score_that_follows_a_figure_is_found_and_one_that_follows_nothing_is_not():
    videos = videos_of(16)
    follows = {f"v{n}": ProficiencyLabel(-float(videos[n].idle_share)) for n in range(16)}
    found = regress(videos, follows, draws=200)
    assert found["spearman"][0] > 0.9 and found["spearman"][1] > 0.5 and found["r2"][0] > 0.5
    assert found["weights"]["idle_share"][2] < 0 and "credentialing" in found["warning"]
    rng = np.random.default_rng(3)
    drawn = {f"v{n}": ProficiencyLabel(float(rng.normal())) for n in range(16)}
    assert regress(videos, drawn, draws=200)["r2"][0] < 0.3
    assert found == regress(videos, follows, draws=200)


def test_nobody_is_predicted_by_his_own_videos():
    """Two people with scores of their own: learned from the other alone, each is predicted the wrong way."""
    videos = videos_of(12)
    labels = {f"v{n}": ProficiencyLabel(float(n // 2), f"p{n // 2}") for n in range(12)}
    assert regress(videos, labels, draws=50)["groups"] == 6
    few = {f"v{n}": ProficiencyLabel(float(n), f"p{n % 5}") for n in range(12)}
    with pytest.raises(UsageError, match="12 mapped videos of 5 people or videos have a label; expected at least 6"):
        regress(videos, few)
    with pytest.raises(UsageError, match="the same score"):
        regress(videos, {f"v{n}": ProficiencyLabel(1.0) for n in range(12)})


@pytest.mark.parametrize(
    "text, said",
    [
        ("video,score\na,1\n", "no column 'video_id'"),
        ("video_id,score\n", "no row"),
        ("video_id,score\na,good\n", ":2: got no score 'good'; expected a number, or low or high"),
        ("video_id,score\na,nan\n", "got no score"),
        ("video_id,score\na,1\na,2\n", ":3: a video stands twice"),
    ],
)
def test_labels_that_are_none_are_refused(text, said, tmp_path):
    (tmp_path / "labels.csv").write_text(text)
    with pytest.raises(UsageError, match=said.replace("'", ".")):
        read_labels(str(tmp_path / "labels.csv"))
    with pytest.raises(UsageError, match="can't be read"):
        read_labels(str(tmp_path / "none.csv"))


def test_labels_may_be_words(tmp_path):
    (tmp_path / "labels.csv").write_text("video_id,score,group\na,High,p1\nb,low,\n")
    found = read_labels(str(tmp_path / "labels.csv"))
    assert found == {"a": ProficiencyLabel(1.0, "p1"), "b": ProficiencyLabel(0.0)}


def test_the_command_and_python_say_the_same_and_the_warning_stands_beside_it(tmp_path, capsys):
    out = str(tmp_path / "out")
    write_suturing(out)
    rows = economy_rows(read_economy(out))
    assert pa.Table.from_pylist(rows, schema=ECONOMY_SCHEMA).to_pylist() == rows
    assert open_maps(out).economy.to_arrow().to_pylist() == rows
    assert [(one["video_id"], one["actions"], one["stitches"]) for one in rows] == [(WHOLE, 5, 2), (PARTIAL, 0, None)]
    assert main(["economy", out]) == 0
    assert "Do not use them for credentialing" in capsys.readouterr().out.replace("\n", " ")
    assert main(["economy", out, "--format", "csv"]) == 0
    told = capsys.readouterr()
    assert next(csv.DictReader(io.StringIO(told.out)))["stitches"] == "2" and "credentialing" in told.err
    assert main(["economy", out, "--format", "json", "--video", WHOLE[:4]]) == 0
    assert json.loads(capsys.readouterr().out)["videos"] == rows[:1]
    (tmp_path / "labels.csv").write_text(f"video_id,score\n{WHOLE},1\n")
    assert main(["economy", out, "--against", str(tmp_path / "labels.csv")]) == 2
    assert "expected at least 6" in capsys.readouterr().err


def test_the_report_of_an_archive_shows_it_folded_under_its_warning(tmp_path):
    out = str(tmp_path)
    write_suturing(out)
    write_html(out, str(tmp_path / "report.html"))
    html = (tmp_path / "report.html").read_text()
    part = html[html.index("<h2>Economy of motion</h2>") : html.index("<h2>Videos</h2>")]
    assert part.index("Do not use them for credentialing, to rank surgeons, or to judge a person.") < part.index(
        "<details"
    )
    (figures,) = [video for video in read_economy(out) if video.actions]
    assert "Figures of 1 video</summary>" in part and figures.video_id in part
    cells = re.findall("<td[^>]*>(?:<[^>]*>)?([^<]*)", part)
    assert cells[2] == str(figures.actions) and f"{figures.median_action_s:.1f}" in cells
    assert economy_section([]) == ""
