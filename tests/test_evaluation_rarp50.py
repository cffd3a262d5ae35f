"""`halsted evaluate --benchmark rarp50` on a small folder in SAR-RARP50's layout, with real video files."""

import json

import pytest

from halsted_ray.cli import main
from halsted_ray.errors import OutputError
from halsted_ray.evaluation.rarp50 import evaluate_rarp50, operation
from halsted_ray.phantom.script import make_script
from halsted_ray.phantom.write import write_video
from halsted_ray.training.recipe import BEST

VIDEOS = (
    "train1/video_01",
    "train1/video_02_1",
    "train1/video_02_2",
    "train2/video_03",
    "test/video_41",
    "test/video_42",
)
SEGMENTS = 6
FRAMES = 60
"""Of a segment: a second."""


@pytest.fixture(autouse=True, scope="module")
def coarse_maps():
    """The maps of features (UMAP) take seconds each, and no test here looks at where their points lie."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("halsted_ray.evaluation.umap.EPOCHS", 20)
        yield


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    root = tmp_path_factory.mktemp("sar-rarp50")
    for n, name in enumerate(VIDEOS):
        (root / name).mkdir(parents=True)
        write_video(root / name / "video_left.avi", make_script(n, float(SEGMENTS)), 128, 72, 10)
        lines = [f"{k * FRAMES} {(k + 1) * FRAMES - 1} {(k + n) % 3}" for k in range(SEGMENTS)]
        (root / name / "action_continues.txt").write_text("\n".join(lines) + "\n")
    return root


def test_the_papers_protocol_on_a_small_copy(folder, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr("halsted_ray.embedding.embed.LOCALLY_AT_MOST", len(VIDEOS))  # needs no Ray
    out = tmp_path / "out"
    command = [
        "evaluate",
        "--benchmark",
        "rarp50",
        str(folder),
        "--out",
        str(out),
        "--encoder",
        "random:tiny:0",
        "--recipe",
        "best",
        "--set",
        "least_steps=0",
        "--baselines",
        "chance,majority,linear",
        "--clips",
        "2",
    ]
    assert main(command) == 0
    shown = capsys.readouterr().out
    assert "paper, Halsted, 2 layers" in shown and shown.splitlines()[-1] == f"{out}/report.html"
    assert all(len(line) <= 80 for line in shown.splitlines() if "/" not in line)
    figures = json.loads((out / "evaluation.json").read_text())
    benchmark = figures["benchmark"]
    assert benchmark["chance"] == 0.125
    assert benchmark["methods"]["chance"]["relative_improvement"] == pytest.approx(1)
    published = {row["method"]: row for row in benchmark["published"]}
    assert {name: round(row["relative_improvement"], 1) for name, row in published.items()} == {
        "MA-TCN": 3.1,
        "SAIS": 4.2,
        "Halsted, 2 layers": 5.3,
        "Halsted, 10 layers": 5.5,
    }
    assert all(row["source"] in shown for row in published.values())
    own = benchmark["methods"]["halsted"]
    assert own["segments"] == 2 * SEGMENTS and own["relative_improvement"] == pytest.approx(8 * own["micro"])
    assert own["micro"] == figures["clips"]["methods"]["halsted"]["tags"]["action"]["accuracy"]["value"]
    fold = figures["folds"][0]
    assert len(fold["test"]) == 2 and len(fold["validation"]) + fold["train"] == 4
    counts = figures["clips"]["confusion"]["action"]["counts"]
    assert own["macro"] == pytest.approx(sum(counts[k][k] / sum(counts[k]) for k in range(3)) / 3)
    page = (out / "report.html").read_text()
    if figures["mistakes"]:
        assert page.count('src="data:image/jpeg;base64,') == min(2, len(figures["mistakes"]))
    assert str(folder) not in page


def test_fragments_of_one_operation_stay_together():
    assert operation("/data/train1/video_02_1/video_left.avi") == "video_02"
    assert operation("s3://x/train1/video_02_2/video_left.avi") == "video_02"
    assert operation("/data/test/video_41/video_left.avi") == "video_41"


def test_a_place_that_can_not_be_written_is_said_before_any_video_is_looked_at(folder, monkeypatch):
    monkeypatch.setattr("halsted_ray.evaluation.rarp50.import_annotations", lambda *_, **__: pytest.fail("it began"))
    with pytest.raises(OutputError, match="/proc/self.*name a folder that can be written"):
        evaluate_rarp50(str(folder), "/proc/self", BEST)  # nobody, root neither, can write there


@pytest.mark.parametrize(
    "arguments, said",
    [
        (["--benchmark", "cholec80", "{folder}"], "unknown benchmark 'cholec80'; expected rarp50, sais or llama"),
        (["--benchmark", "rarp50", "{empty}"], "no sar-rarp50 here"),
        (["--atlas", "{empty}"], "no atlas at"),
        (["--atlas", "{empty}", "--recipe", "thesis"], "expected one of paper, best"),
        (["--atlas", "{empty}", "--baselines", "linear,cnn"], "unknown baseline 'cnn'"),
    ],
)
def test_wrong_use_is_one_message_and_code_2(folder, tmp_path, capsys, arguments, said):
    (tmp_path / "empty").mkdir()
    words = [word.format(folder=folder, empty=tmp_path / "empty") for word in arguments]
    assert main(["evaluate", *words, "--out", str(tmp_path / "out")]) == 2
    shown = capsys.readouterr()
    assert shown.out == "" and said in shown.err and shown.err.startswith("halsted evaluate: ")
