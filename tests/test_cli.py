"""The command: every documented line parses, wrong use is one message and exit code 2, help is quick."""

import argparse
import json
import re
import resource
import shlex
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import maps
import pytest

from halsted_ray.atlas import write_atlas
from halsted_ray.cli import main
from halsted_ray.cli.parser import build_parser
from halsted_ray.cli.text_tables import FAILURES_AT_MOST, counted, failures
from halsted_ray.errors import ArchiveError
from halsted_ray.hospital.exports import WRITERS as REPORTS
from halsted_ray.hospital.identities import Identities, Identity
from halsted_ray.hospital.subject import Subject
from halsted_ray.mapping import pipeline
from halsted_ray.mapping.pipeline import Summary
from halsted_ray.maps.exports import WRITERS

ROOT = Path(__file__).parent.parent
DOCUMENTS = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").rglob("*.md"))]


def documented_commands():
    """Lines of the documents' sh blocks that are typed, not printed."""
    for document in DOCUMENTS:
        for block in re.findall(r"```sh\n(.*?)```", document.read_text(encoding="utf-8"), re.DOTALL):
            for line in block.replace("\\\n", " ").splitlines():
                line = line.removeprefix("$ ").split("  #")[0].strip()
                if line:
                    yield document.name, line


def test_documented_halsted_lines_parse():
    lines = [line for _, line in documented_commands() if line.startswith("halsted ")]
    assert {shlex.split(line)[1] for line in lines} >= {"phantom", "train", "map", "status", "show", "export", "report"}
    for line in lines:
        build_parser().parse_args(shlex.split(line)[1:])


def test_documented_make_targets_exist():
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    targets = {line.split()[1] for _, line in documented_commands() if line.startswith("make ")}
    assert {"demo", "test"} <= targets
    assert not [target for target in targets if not re.search(rf"^{target}:", makefile, re.MULTILINE)]


def test_documented_files_exist():
    words = {word for _, line in documented_commands() for word in line.split()}
    named = {word for word in words if word.startswith(("jobs/", "benchmarks/", "cluster/", "examples/"))}
    assert not [word for word in named if not (ROOT / word).exists()]


@pytest.mark.parametrize("number, code, how", [(2, 130, "interrupted"), (15, 143, "stopped by SIGTERM")])
def test_a_signal_while_ray_waits_is_told_by_its_name(monkeypatch, capsys, number, code, how):
    """While Ray's core waits, it raises a KeyboardInterrupt of its own instead of what a signal's handler raised."""

    def wait_as_ray_does(_out):
        try:
            signal.raise_signal(number)
        except KeyboardInterrupt:
            raise KeyboardInterrupt from None

    monkeypatch.setattr("halsted_ray.maps.status.status_of", wait_as_ray_does)
    before = signal.getsignal(signal.SIGTERM)
    on_interrupt = signal.signal(signal.SIGINT, signal.default_int_handler)  # ignored in a shell's background
    try:
        assert main(["status", "maps"]) == code
    finally:
        signal.signal(signal.SIGINT, on_interrupt)
    assert capsys.readouterr().err.startswith(f"halsted status: {how}; ")
    assert signal.getsignal(signal.SIGTERM) is before


def test_help_answers_at_once():
    """Measured 0.15 s of a core, however busy the machine is; any heavy import breaks the bound (torch: 3 s)."""
    best_s = min(timed([sys.executable, "-m", "halsted_ray.cli", "--help"]) for _ in range(3))
    assert best_s < 1.0


def test_the_parser_imports_nothing_heavy():
    code = "import sys; from halsted_ray.cli.parser import build_parser; build_parser(); print(*sys.modules)"
    loaded = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    assert not {"numpy", "pyarrow", "torch", "ray", "mlflow", "fsspec", "fastapi", "sqlalchemy"} & set(loaded.split())


def timed(command):
    before_s = children_s()
    shown = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    assert all(len(line) <= 80 for line in shown.stdout.splitlines())
    return children_s() - before_s


def children_s() -> float:
    """For how long the child processes that have ended kept a core busy."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def all_parsers(parser):
    """``parser`` and the parsers of its commands and their actions."""
    yield parser
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            for other in action.choices.values():
                yield from all_parsers(other)


def exit_of(arguments):
    """The code with which a command line ends before its command runs."""
    with pytest.raises(SystemExit) as left:
        main(arguments)
    return left.value.code


def test_the_help_of_every_command_explains_each_word_shows_an_example_and_fits_a_terminal(monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")
    parsers = list(all_parsers(build_parser()))
    assert len(parsers) > 20
    for parser in parsers:
        shown = parser.format_help()
        assert all(len(line) <= 80 for line in shown.splitlines()), parser.prog
        unexplained = [
            action.dest
            for action in parser._actions
            if not action.help and not isinstance(action, argparse._SubParsersAction)
        ]
        assert not unexplained, parser.prog
        runs = "do" in parser._defaults
        assert not runs or "example:\n  " in shown, parser.prog


def test_version(capsys):
    assert exit_of(["--version"]) == 0
    assert capsys.readouterr().out.startswith("halsted_ray ")


@pytest.mark.parametrize("words, of", [([], ""), (["atlas"], " atlas"), (["registry"], " registry")])
def test_a_command_without_its_next_word_prints_its_help(capsys, words, of):
    assert exit_of(words) == 2
    shown = capsys.readouterr().err
    assert shown.startswith(f"usage: halsted{of} [-h]") and ("    map " if not of else "    list ") in shown
    assert "error" not in shown


@pytest.mark.parametrize("words, of", [("help", ""), ("help map", " map"), ("atlas help import", " atlas import")])
def test_help_as_a_word_is_understood(capsys, words, of):
    assert exit_of(words.split()) == 0
    assert capsys.readouterr().out.startswith(f"usage: halsted{of} [-h]")


@pytest.mark.parametrize(
    "line, said",
    [
        ("maps archive", "there is no 'maps'; did you mean 'map'? `halsted --help` lists all"),
        ("evalaute --out o", "there is no 'evalaute'; did you mean 'evaluate'?"),
        ("frobnicate", "there is no 'frobnicate'; `halsted --help` lists all"),
        ("atlas exprot a", "there is no 'exprot'; did you mean 'export'?"),
        ("map a --out b --modle d", "unrecognized arguments: --modle d; did you mean '--model'?"),
        ("completion fish", "'fish'; expected one of bash, zsh, tcsh"),
    ],
)
def test_a_mistyped_word_is_answered_with_the_nearest(capsys, line, said):
    assert exit_of(line.split()) == 2
    assert said in capsys.readouterr().err


@pytest.mark.parametrize(
    "line, said",
    [
        ("plan --hours -3", "--hours: '-3'; expected a number above 0"),
        ("embed a --encoder e --every 0", "--every: '0'; expected a number above 0"),
        ("plan --hours 0", "--hours: '0'; expected a number above 0"),
        ("plan --hours nan", "--hours: 'nan'; expected a number above 0"),
        ("plan --hours 9 --cores 0", "--cores: '0'; expected a whole number above 0"),
        ("plan --hours 9 --gpus -1", "--gpus: '-1'; expected a whole number, 0 or more"),
        ("plan --hours 9 --price-per-gpu-hour -1", "--price-per-gpu-hour: '-1'; expected a number, 0 or more"),
        ("plan --hours 9 --looked-at 1.5", "--looked-at: '1.5'; expected a share of 0 to 1"),
        ("show maps 3f2a --rows -3", "--rows: '-3'; expected a whole number, 0 or more"),
        ("phantom out --videos 2.5", "--videos: '2.5'; expected a whole number above 0"),
        ("phantom out --size 0x90", "--size: '0x90'; expected width x height, such as 640x360"),
        ("evaluate --atlas a --out b --folds 0", "--folds: '0'; expected a whole number above 0"),
        ("atlas import a b --format multibypass140 --fold 5", "--fold: '5'; expected a fold, 0 to 4"),
        ("review --atlas a --out b --clips -1", "--clips: '-1'; expected a whole number above 0"),
        ("atlas release a v1 --test 1", "--test: '1'; expected a share of 0 to less than 1"),
    ],
)
def test_a_number_that_makes_no_sense_is_wrong_use(capsys, line, said):
    with pytest.raises(SystemExit) as left:
        main(line.split())
    assert left.value.code == 2 and f"error: argument {said}\n" in capsys.readouterr().err


def test_every_number_of_the_command_line_has_bounds():
    loose = [
        (parser.prog, action.dest)
        for parser in all_parsers(build_parser())
        for action in parser._actions
        if action.type in (int, float)
    ]
    assert not loose


@pytest.mark.parametrize(
    "line, usage",
    [
        ("map a --out b --model c --modle d", "usage: halsted map [-h] --out OUT"),
        ("atlas list hospital --all", "usage: halsted atlas list [-h]"),
        ("--quiet status maps", "usage: halsted [-h] [--version] COMMAND"),
    ],
)
def test_a_wrong_flag_is_told_with_the_usage_of_its_command(capsys, line, usage):
    with pytest.raises(SystemExit) as left:
        main(line.split())
    complaint = capsys.readouterr().err
    assert left.value.code == 2 and complaint.startswith(usage) and "unrecognized arguments: --" in complaint


JUDGED = "evaluate --out o --atlas a"
BENCHMARK = "evaluate --out o --benchmark rarp50 d"


@pytest.mark.parametrize(
    "line, option, needs",
    [
        ("phantom d --videos 1 --test 0.2", "--test", "--videos 2 or more"),
        ("map a --out o --model folder --registry sqlite:///r.db", "--registry", "a model of the registry"),
        ("plan --hours 9 --sample 10", "--sample", "an ARCHIVE"),
        ("plan --hours 9 --gpus 0 --gpu H100", "--gpu", "--gpus 1 or more"),
        ("plan --hours 9 --gpus 0 --cores-per-gpu 4", "--cores-per-gpu", "--gpus 1 or more"),
        ("plan --hours 9 --gpus 0 --share-of-peak 0.4", "--share-of-peak", "--gpus 1 or more"),
        ("plan --hours 9 --gpus 0 --price-per-gpu-hour 0", "--price-per-gpu-hour", "--gpus 1 or more"),
        ("plan --hours 9 --cores 8 --cores-per-gpu 4", "--cores", "a plan without --cores-per-gpu"),
        ("embed a --model folder --registry r", "--registry", "a model of the registry"),
        ("embed a --encoder e --every 15 --windows coarse", "--windows", "to stand alone"),
        ("embed a --model m --every 15", "--every", "--encoder"),
        ("report o --json --to page.html", "--to", "a page, and --json writes none"),
        ("atlas import a f --format csv --mapping m.yaml", "--mapping", "--format hsa-27k"),
        ("self-label --atlas a --archive b --out o --model m --registry r", "--registry", "a model of the registry"),
        (f"{BENCHMARK} --release v1", "--release", "--atlas"),
        (f"{BENCHMARK} --model m", "--model", "--atlas"),
        (f"{BENCHMARK} --against m", "--against", "--atlas"),
        (f"{BENCHMARK} --registry r", "--registry", "a model of the registry"),
        (f"{BENCHMARK} --part test", "--part", "--model"),
        (f"{BENCHMARK} --test-on d", "--test-on", "--atlas"),
        (f"{BENCHMARK} --learn-from 3", "--learn-from", "--atlas"),
        (f"{BENCHMARK} --folds 5", "--folds", "folds to draw"),
        (f"{BENCHMARK} --strategy global", "--strategy", "folds to draw"),
        (f"{BENCHMARK} --self-label d", "--self-label", "--atlas"),
        (f"{BENCHMARK} --precision 0.9", "--precision", "--self-label"),
        (f"{BENCHMARK} --gate 0.8", "--gate", "--self-label"),
        (f"{BENCHMARK} --labels d", "--labels", "two models"),
        (f"{JUDGED} --part validation", "--part", "--model"),
        (f"{JUDGED} --pa test", "--part", "--model"),
        (f"{JUDGED} --model m --test-on d --part test", "--part", "an evaluation without --test-on"),
        (f"{JUDGED} --against m", "--against", "--model"),
        (f"{JUDGED} --model m --labels d", "--labels", "two models"),
        (f"{JUDGED} --model m --registry r", "--registry", "a model of the registry"),
        (f"{JUDGED} --model m --folds 5", "--folds", "folds to draw"),
        (f"{JUDGED} --model m --strategy global", "--strategy", "folds to draw"),
        (f"{JUDGED} --test-on d --folds 5", "--folds", "folds to draw"),
        (f"{JUDGED} --model m --seed 0", "--seed", "something to draw"),
        (f"{JUDGED} --test-on d --seed 1", "--seed", "something to draw"),
        (f"{JUDGED} --model m --part all --baselines linear", "--baselines", "videos to learn from"),
        (f"{JUDGED} --model m --baselines none --learn-from 3", "--learn-from", "something that learns"),
        (f"{JUDGED} --precision 0.9", "--precision", "--self-label"),
        (f"{JUDGED} --gate=0.8", "--gate", "--self-label"),
        (f"{JUDGED} --self-label d --model m", "--model", "an evaluation without --self-label"),
        (f"{JUDGED} --self-label d --against m", "--against", "an evaluation without --self-label"),
        (f"{JUDGED} --self-label d --part all", "--part", "--model"),
    ],
)
def test_an_option_without_effect_is_refused_and_says_what_it_needs(capsys, line, option, needs):
    with pytest.raises(SystemExit) as left:
        main(line.split())
    complaint = capsys.readouterr().err
    command = " ".join(line.split()[: 2 if line.startswith("atlas") else 1])
    assert left.value.code == 2 and complaint.startswith(f"usage: halsted {command} ")
    assert complaint.splitlines()[-1].startswith(f"halsted {command}: error: argument {option}: it needs {needs}")


@pytest.mark.parametrize(
    "line",
    [
        "phantom d --videos 2 --test 0.5",
        "map a --out o --model registry:halsted@champion --registry r",
        "plan a --sample 10 --gpus 2 --gpu H100 --cores-per-gpu 4 --share-of-peak 0.3 --price-per-gpu-hour 3",
        "plan --hours 9 --gpus 0 --cores 8",
        "plan --hours 9 --gpus 2 --cores 8",
        "embed a --encoder e --embeddings d --every 15 --fidelity exact --eye right --settle 0",
        "embed a --model registry:halsted@champion --registry r --embeddings d --windows coarse --priority low",
        "report o --to page.html",
        "atlas import a f --format hsa-27k --mapping m.yaml",
        "self-label --atlas a --archive b --out o --model models:/halsted/7 --registry r --precision 0.8 --gate 0.5",
        f"{BENCHMARK} --seed 1 --set layers=10 --recipe demo --baselines linear --encoder e --embeddings d --clips 3",
        f"{JUDGED} --release v1 --folds 3 --strategy global --seed 1 --learn-from 4 --baselines none",
        f"{JUDGED} --model m --part all --baselines chance",
        f"{JUDGED} --model m --learn-from 3 --seed 1",
        f"{JUDGED} --model m --against registry:halsted/7 --registry r --labels d --part validation",
        f"{JUDGED} --test-on d --learn-from 3 --seed 1 --self-label d --precision 0.8 --gate 0.5",
    ],
)
def test_options_that_belong_together_are_taken(line):
    build_parser().parse_args(line.split())


@pytest.fixture(scope="module")
def places(tmp_path_factory):
    """(maps, truth): what ``tests/maps.py`` says."""
    root = tmp_path_factory.mktemp("cli")
    maps.write_maps(str(root / "maps"))
    write_atlas(str(root / "truth"), [maps.video(maps.WHOLE), maps.video(maps.PARTIAL)], maps.CLIPS, "truth-1")
    return str(root / "maps"), str(root / "truth")


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    """An untrained model on the encoder that ships."""
    from halsted_ray import taxonomy as taxonomies
    from halsted_ray.model.encoder import Encoder
    from halsted_ray.model.halsted import Halsted

    place, encoder = str(tmp_path_factory.mktemp("model")), Encoder.load("tiny")
    Halsted.create(
        taxonomies.load(), encoder.dim, encoder_ref="tiny", encoder_fingerprint=encoder.fingerprint, width=64
    ).save(place)
    return place


def run(capsys, *arguments):
    """(exit code, stdout, stderr)"""
    code = main([*map(str, arguments)])
    shown = capsys.readouterr()
    assert all(len(line) <= 80 for line in shown.out.splitlines() if "/" not in line and '"how"' not in line), (
        "wider than a terminal"
    )
    return code, shown.out, shown.err


def test_status_says_which_and_why(capsys, places):
    code, shown, _ = run(capsys, "status", places[0])
    assert code == 3
    lines = {line.split()[0]: line for line in shown.splitlines() if line}
    assert lines[maps.WHOLE].split()[1:] == ["mapped", "2:00", "2/2", "–", "–"]
    assert lines[maps.PARTIAL].split()[1:5] == ["partial", "2:00", "1/2", "1:00"]
    assert "no frame decodes" in lines[maps.PARTIAL]
    assert "failed" in lines[maps.FAILED] and "no container" in lines[maps.FAILED]
    assert "Jane Doe" not in shown
    assert "Jane Doe aa.mp4" in run(capsys, "status", places[0], "--files")[1]


def test_status_as_json(capsys, places):
    code, shown, _ = run(capsys, "status", places[0], "--json")
    videos = {video["video_id"]: video for video in json.loads(shown)}
    assert code == 3
    assert {video_id: video["status"] for video_id, video in videos.items()} == {
        maps.WHOLE: "mapped",
        maps.PARTIAL: "partial",
        maps.FAILED: "failed",
    }
    assert videos[maps.PARTIAL]["segments_failed"] == 1
    assert [videos[name]["missing_s"] for name in (maps.WHOLE, maps.PARTIAL, maps.FAILED)] == [0.0, 60.0, None]
    figures = json.loads(run(capsys, "report", places[0], "--json")[1])
    assert {name: entry["missing_s"] for name, entry in figures["per_video"].items()} == {
        name: video["missing_s"] for name, video in videos.items()
    }, "status and report agree"


def test_the_share_of_a_window_that_must_have_a_picture_is_an_option(capsys, monkeypatch):
    asked = []

    def stop(*_, least_present, **__):
        asked.append(least_present)
        raise ArchiveError("enough seen")

    monkeypatch.setattr(pipeline, "map_archive", stop)
    for words in ([], ["--least-present", "0.9"]):
        assert run(capsys, "map", "archive", "--out", "out", "--model", "model", *words)[0] == 2
    assert asked == [0.75, 0.9]
    with pytest.raises(SystemExit):
        run(capsys, "map", "archive", "--out", "out", "--least-present", "1.5")
    assert "--least-present: '1.5'; expected a share of 0 to 1" in capsys.readouterr().err


def test_show_draws_a_video_found_by_its_beginning_or_its_file(capsys, places):
    code, shown, _ = run(capsys, "show", places[0], "aa", "--truth", places[1])
    assert code == 0
    assert shown.startswith(f"{maps.WHOLE}  mapped  2:00\n")
    assert f"step        {'S' * 34}{'D' * 34}\n" in shown
    assert "Push/Peel" in shown
    assert run(capsys, "show", places[0], "Jane Doe aa.mp4", "--truth", places[1])[1] == shown
    assert "no container" in run(capsys, "show", places[0], maps.FAILED)[1]


@pytest.mark.parametrize(
    "video_s, said", [(0.0, None), (36.0, "0.01 video-hours in 9 s, 4.0 video-hours per hour")], ids=["nothing", "some"]
)
def test_a_run_that_had_nothing_to_do_has_no_rate(capsys, monkeypatch, video_s, said):
    done = dict.fromkeys(("segments", "segments_before", "segments_decoded", "segments_from_vectors"), 0)
    summary = Summary(
        "run", "recipe", [], segments_failed=0, video_s=video_s, wall_s=9.0, timeline_version=None, stages={}, **done
    )
    monkeypatch.setattr(pipeline, "map_archive", lambda *_, **__: summary)
    _, shown, _ = run(capsys, "map", "archive", "--out", "out", "--model", "model")
    assert shown.splitlines()[2:] == ([said] if said else [])


def test_export_leaves_out_what_is_not_mapped_and_says_so(capsys, places, tmp_path):
    code, shown, complaint = run(capsys, "export", places[0], "--format", "csv", "--to", tmp_path / "csv")
    assert code == 0
    assert sorted(path.stem for path in (tmp_path / "csv").iterdir()) == [maps.WHOLE, maps.PARTIAL, "timeline"]
    assert maps.FAILED in complaint


def test_report_as_json_and_as_a_page(capsys, places, tmp_path):
    _, shown, _ = run(capsys, "report", places[0], "--truth", places[1], "--json")
    figures = json.loads(shown)
    assert figures["videos"] | {"video_s": 0} == {
        "total": 3,
        "mapped": 1,
        "partial": 1,
        "failed": 1,
        "pending": 0,
        "video_s": 0,
        "gap_s": 60.0,
        "missing_s": 60.0,
        "unknown_s": 0,
    }
    assert figures["accuracy"]["tags"]["step"]["accuracy"] == 0.75
    page = tmp_path / "report.html"
    code, shown, _ = run(capsys, "report", places[0], "--truth", places[1], "--to", page)
    assert code == 0 and shown.splitlines()[-1] == str(page)
    assert re.search(r"^step +75\.0% +50\.0%", shown, re.MULTILINE)
    assert maps.PARTIAL in page.read_text() and "Jane Doe" not in page.read_text()


def test_the_truth_of_other_videos_is_refused(capsys, places, tmp_path):
    others = [replace(maps.video(maps.WHOLE), video_id=digit * 16) for digit in "bcd"]
    clips = [replace(maps.CLIPS[0], video_id=video.video_id) for video in others]
    write_atlas(str(tmp_path), others, clips, "others")
    for words in (["report", places[0], "--json"], ["show", places[0], "aa"]):
        code, shown, complaint = run(capsys, *words, "--truth", tmp_path)
        assert code == 2 and shown == ""
        assert "annotates other videos: of the 3 at" in complaint and "0 are among its 3" in complaint


def test_what_is_not_compared_with_the_truth_is_said(capsys, places, tmp_path):
    """The truth of a video that could not be mapped, and that of one video of two."""
    to = ["--to", str(tmp_path / "report.html")]
    for video_id, said in (
        (
            maps.FAILED,
            "0 videos compared (not compared: 2 mapped without truth, 1 annotated but not mapped): no annotated",
        ),
        (maps.WHOLE, "1 video compared (not compared: 1 mapped without truth)"),
    ):
        clips = [replace(maps.CLIPS[0], video_id=video_id)]
        write_atlas(str(tmp_path / video_id), [replace(maps.video(maps.WHOLE), video_id=video_id)], clips, "truth-1")
        truth = ["--truth", tmp_path / video_id]
        shown = run(capsys, "report", places[0], *truth, *to)[1]
        assert said in " ".join(shown.split()) and ("accuracy" in shown) is (video_id == maps.WHOLE)
        assert "annotates other videos, and not this one" in run(capsys, "show", places[0], maps.PARTIAL, *truth)[2]
        assert run(capsys, "show", places[0], video_id, *truth)[2] == ""


@pytest.mark.parametrize("count", [3, 300])
def test_what_is_not_mapped_whole_is_a_line_each_and_the_rest_is_counted(count):
    videos = [
        {
            "video_id": f"{n:016x}",
            "status": "partial" if n % 3 else "mapped",
            "segments": 2,
            "duration_s": 60,
            "reason": "asked for the frame at 18.438 s, but after 17.400 s nothing decodes; copy the file again",
        }
        for n in range(count)
    ]
    told = failures(videos).splitlines()
    assert len(told) == min(FAILURES_AT_MOST + 1, 2 * count // 3)
    assert all(len(line) <= 80 for line in told) and told[0].startswith(f"{1:016x} partial: asked for the frame")
    assert failures(videos[:1]) == "" and (count == 3 or told[-1] == "and 150 more")


def test_a_place_without_permission_is_one_message_and_code_2(capsys, monkeypatch):
    def refuse(_):
        raise PermissionError(13, "Permission denied", "/locked/maps")

    monkeypatch.setattr("halsted_ray.maps.status.status_of", refuse)
    code, shown, complaint = run(capsys, "status", "/locked/maps")
    assert (code, shown) == (2, "")
    assert complaint == "halsted status: no permission for '/locked/maps'; ask for it, or name another place\n"


@pytest.mark.parametrize(
    "arguments, said",
    [
        (["status", "{empty}"], "holds no maps"),
        (["show", "{maps}", "zz"], "no video has the id or file name 'zz'"),
        (["show", "{maps}", "a"], "several videos fit 'a'"),
        (["export", "{maps}", "--format", "docx", "--to", "{empty}"], "unknown export format 'docx'"),
        (["report", "{maps}", "--truth", "{empty}"], "no atlas at"),
        (["report", "{maps}", "--to", "{file}/report.html"], "can't write"),
        (["train", "--atlas", "{empty}", "--out", "{empty}", "--recipe", "thesis"], "expected one of paper, best"),
        (["train", "--atlas", "{empty}", "--out", "{empty}"], "no atlas at"),
        (["map", "{videos}", "--out", "{new}", "--model", "{empty}"], "no model at"),
        (["map", "{videos}", "--out", "{new}", "--model", "{model}", "--task", "makro"], "did you mean 'macro'"),
        (
            ["map", "{videos}", "--out", "{new}", "--model", "{model}", "--instruction", "map suturing"],
            "no instruction",
        ),
        (["map", "{videos}", "--out", "{file}", "--model", "{model}"], "file"),
        (["map", "{empty}", "--out", "{new}", "--model", "{model}"], "got no file at all"),
        (["map", "{empty}/archive", "--out", "{new}", "--model", "{model}"], "got nothing of this name"),
        (["map", "{videos}", "--out", "{videos}", "--model", "{model}"], "place of their own"),
        (["map", "{videos}", "--out", "{new}%20maps", "--model", "{model}"], "can't lie under a name with '%20'"),
        (["map", "{videos}", "--out", "{new}", "--model", "{model}", "--fidelity", "good"], "expected one of exact"),
        (
            ["map", "{videos}", "--out", "{new}", "--model", "{model}", "--priority", "low"],
            "--priority needs a cluster",
        ),
        (
            ["map", "{videos}", "--out", "{new}", "--model", "{model}", "--wait-for-gpus", "2"],
            "--wait-for-gpus needs a cluster",
        ),
        (["embed", "{videos}", "--encoder", "tiny"], "name one with --embeddings DIR"),
        (["embed", "{videos}", "--encoder", "tiny", "--embeddings", "{new}", "--release", "v1"], "holds no atlas"),
        (["embed", "{videos}", "--model", "{empty}", "--embeddings", "{new}"], "no model at"),
        (["embed", "{videos}", "--encoder", "{new}", "--embeddings", "{new}"], "new"),
        (["embed", "{videos}", "--encoder", "tiny", "--embeddings", "{new}", "--every", "0.3"], "multiple of 1/32"),
        (["embed", "{videos}", "--encoder", "tiny", "--embeddings", "{new}", "--priority", "low"], "needs a cluster"),
        (["embed", "{empty}", "--encoder", "tiny", "--embeddings", "{new}"], "got no file at all"),
        (
            ["evaluate", "--atlas", "{empty}", "--out", "{new}", "--model", "{model}", "--set", "layers=10"],
            "--set layers=10 needs a model to train",
        ),
    ],
)
def test_wrong_use_is_one_message_and_code_2(capsys, places, model, tmp_path, arguments, said):
    file = tmp_path / "file"
    file.write_text("")
    for name in ("empty", "videos"):
        (tmp_path / name).mkdir()
    (tmp_path / "videos" / "a.mp4").write_bytes(b"")
    named = {name: tmp_path / name for name in ("empty", "videos", "new", "file")}
    code, shown, complaint = run(capsys, *(word.format(**named, maps=places[0], model=model) for word in arguments))
    assert code == 2 and shown == ""
    assert complaint.startswith(f"halsted {arguments[0]}: ") and said in complaint
    assert complaint.count("\n") == 1 and "Traceback" not in complaint
    assert not list(tmp_path.glob("new*")), "nothing is left where nothing was mapped"


@pytest.mark.parametrize(
    "arguments",
    [
        ["map", "{videos}", "--out", "{file}", "--model", "{model}"],
        ["export", "{maps}", "--format", "csv", "--to", "{file}"],
        ["export", "{maps}", "--format", "fhir-r4", "--to", "{file}/deeper"],
        ["phantom", "{file}", "--videos", "1", "--minutes", "1"],
        ["deidentify", "{videos}", "--out", "{file}", "--no-text"],
        ["deidentify", "{videos}", "--out", "{new}", "--review", "{file}", "--no-text"],
        ["dicom", "import", "{videos}", "--out", "{file}", "--identities", "{new}.db"],
        ["dicom", "receive", "--out", "{file}", "--identities", "{new}.db", "--port", "11999"],
        ["dicom", "import", "{videos}", "--out", "{new}", "--identities", "{file}/ids.db"],
        ["serve", "key", "north", "ada", "admin", "--state", "{file}"],
    ],
    ids=lambda words: " ".join(words[:2]),
)
def test_a_file_where_a_folder_is_expected_is_called_a_file(capsys, places, model, tmp_path, arguments):
    file = tmp_path / "file"
    file.write_text("mine")
    (tmp_path / "videos").mkdir()
    (tmp_path / "videos" / "a.mp4").write_bytes(b"")
    named = {name: tmp_path / name for name in ("videos", "new", "file")}
    code, _, complaint = run(capsys, *(word.format(**named, maps=places[0], model=model) for word in arguments))
    assert code == 2 and f"expected a folder, got a file at '{file}'" in complaint and "room" not in complaint
    assert file.read_text() == "mine"


def test_one_of_something_is_said_in_the_singular():
    assert [counted(number, "video") for number in (0, 1, 1234)] == ["0 videos", "1 video", "1,234 videos"]
    assert counted(1, "study", "studies") == "1 study" and counted(2, "study", "studies") == "2 studies"
    plural = re.compile(r"\{[^{}]*\} (videos|files|clips|studies|instances|segments|folds|rows|refusals)\b")
    for source in (ROOT / "halsted_ray/cli").glob("*.py"):
        lines = [line for line in source.read_text().splitlines() if plural.search(line) and "_s:" not in line]
        assert all("{BATCH}" in line for line in lines), (source.name, lines)


def test_the_help_of_export_names_every_format():
    options = next(parser for parser in all_parsers(build_parser()) if parser.prog == "halsted export")
    (format,) = (action for action in options._actions if "--format" in action.option_strings)
    assert format.help.split(", ") == [*WRITERS, *REPORTS]


def test_a_format_that_is_none_is_answered_with_all_of_them(capsys, places, tmp_path):
    complaint = run(capsys, "export", places[0], "--format", "dicom", "--to", tmp_path / "to")[2]
    assert f"expected one of {', '.join((*WRITERS, *REPORTS))}" in complaint


def test_reports_without_a_row_in_the_table_of_identities_are_said_and_end_with_code_3(capsys, places, tmp_path):
    table = tmp_path / "private/ids.db"
    identities = Identities(table)
    words = ["export", places[0], "--format", "fhir-r4", "--to", tmp_path / "to", "--identities", table]
    code, _, complaint = run(capsys, *words)
    assert code == 3 and "reports that name nobody" in complaint and maps.WHOLE in complaint
    for video_id in (maps.WHOLE, maps.PARTIAL):
        identities.add(Identity(video_id, Subject("1.2", "1.3", "1.4", "P-4711"), {}))
    code, _, complaint = run(capsys, *words)
    assert code == 0 and "nobody" not in complaint


def test_a_file_that_is_no_table_of_identities_keeps_its_content_and_mode(capsys, tmp_path):
    video = tmp_path / "text.mp4"
    video.write_bytes(b"a text")
    video.chmod(0o644)
    (tmp_path / "pacs").mkdir()
    for words in (
        ["dicom", "import", tmp_path / "pacs", "--out", tmp_path / "out", "--identities", video],
        ["dicom", "studies", "--identities", video],
    ):
        code, _, complaint = run(capsys, *words)
        assert code == 2 and "expected a table of identities (a SQLite file)" in complaint
    assert video.read_bytes() == b"a text" and video.stat().st_mode & 0o777 == 0o644
