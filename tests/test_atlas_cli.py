"""`halsted atlas` from import to export, and its exit codes."""

import json
import re
from pathlib import Path

import pytest
import small_video

from halsted_ray.atlas import read_atlas
from halsted_ray.cli import main

CSV = "video,start_s,stop_s,task,tag,category\n" + "".join(
    f"{n}.mp4,0,2,macro,procedure,Prostatectomy\n{n}.mp4,0,2,macro,specialty,Urology\n"
    f"{n}.mp4,0.5,1.5,micro,action,Cold Cut\n"
    for n in range(4)
)


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    root = tmp_path_factory.mktemp("data")
    for n in range(5):
        small_video.write(root / f"{n}.mp4", 2, look=n)
    (root / "clips.csv").write_text(CSV)
    return root


@pytest.fixture
def atlas(data, tmp_path, capsys):
    assert main(["atlas", "import", str(tmp_path), str(data / "clips.csv"), "--format", "csv", "--why", "a start"]) == 0
    capsys.readouterr()
    return str(tmp_path)


def run(capsys, *arguments):
    """(exit code, stdout, stderr)"""
    code = main(["atlas", *map(str, arguments)])
    return code, *capsys.readouterr()


def test_from_import_to_export(data, atlas, tmp_path, capsys):
    code, out, _ = run(capsys, "release", atlas, "v1", "--validation", "0.25", "--why", "frozen")
    assert code == 0 and out == "v1: version 1, 8 samples of 4 videos (3 train, 1 validation, 0 test)\n"
    more = data / "more.jsonl"
    more.write_text('{"video": "4.mp4", "start_s": 0, "stop_s": 1, "task": "micro", "tags": {"action": "Hook"}}\n')
    assert run(capsys, "import", atlas, more, "--format", "jsonl")[0] == 0

    code, out, _ = run(capsys, "list", atlas)
    assert code == 0 and re.findall(r"^ +(\d+)  (\S+)", out, re.M) == [("0", "–"), ("1", "v1"), ("2", "–")]
    assert "a start" in out and "frozen" in out
    code, out, _ = run(capsys, "list", atlas, "--json")
    assert [(commit["version"], commit["added"]) for commit in json.loads(out)] == [(0, 8), (1, 0), (2, 1)]

    code, out, _ = run(capsys, "show", atlas)
    assert code == 0 and "Prostatectomy       4      4      4" in out and "v1 (version 1)" in out and "100.0%" in out
    code, out, _ = run(capsys, "show", atlas, "--release", "head", "--json")
    assert json.loads(out)["rows"][-1] == {
        "specialty": "",
        "procedure": "",
        "videos": 5,
        "samples": {"macro": 4, "micro": 5},
        "manual": 9,
        "synthetic": 0,
        "total": 9,
        "manual_share": 1.0,
    }

    code, out, _ = run(capsys, "diff", atlas, "v1", "head")
    assert code == 0 and "v1 → version 2: 1 sample added, 0 removed, 8 unchanged; 1 video added" in out
    assert "action=Hook" in out
    code, out, _ = run(capsys, "diff", atlas, "2", "0", "--json")
    assert json.loads(out)["by"]["task"] == {"micro": [1, 0]}

    assert run(capsys, "verify", atlas)[:2] == (0, "v1: 8 samples of 4 videos, no fault found\n")
    code, out, _ = run(capsys, "export", atlas, "--format", "csv", "--to", tmp_path / "out")
    assert code == 0 and out == f"{tmp_path}/out/samples.csv\n"
    assert len(Path(out.strip()).read_text().splitlines()) == 13


def test_each_fault_is_a_line_and_exit_code_3(atlas, data, tmp_path, capsys):
    moved = data / "3.mp4"
    moved.rename(data / "3.moved")
    try:
        code, out, _ = run(capsys, "verify", atlas)
        assert code == 3
        first, last = out.splitlines()
        assert first.startswith("file: video ") and last == "version 0: 8 samples of 4 videos, 1 fault found"
        assert run(capsys, "verify", atlas, "--tables-only")[0] == 0
        code, _, err = run(capsys, "import", tmp_path / "other", data / "clips.csv", "--format", "csv")
        assert code == 3 and "clips.csv:11: 2 samples left out" in err
    finally:
        (data / "3.moved").rename(moved)


def test_a_split_from_a_file(atlas, tmp_path, capsys):
    names = [video.video_id for video in read_atlas(atlas).videos]
    split = tmp_path / "split.csv"
    split.write_text("video_id,part\n" + "".join(f"{name},test\n" for name in names[:2]))
    assert run(capsys, "release", atlas, "v1", "--split", split, "--test", "0.5", "--validation", "0")[0] == 0
    assert [name for name, part in read_atlas(atlas).split.items() if part == "test"] == names[:2]
    split.write_text("video,part\n")
    code, _, err = run(capsys, "release", atlas, "v2", "--split", split)
    assert code == 2 and "split.csv:1: " in err and "a header with video_id and part" in err
    split.write_text(f"video_id,part\n{names[0]},test\n{names[1]},test\n{names[0]},train\n")
    code, _, err = run(capsys, "release", atlas, "v2", "--split", split)
    assert code == 2 and "split.csv:4: got 'train'; expected 'test' as in a line before" in err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["show", "ATLAS", "--release", "v9"], "it has none yet"),
        (["show", "ATLAS", "--release", "7"], "versions are 0 to 0"),
        (["show", "NOWHERE"], "no atlas at"),
        (["diff", "ATLAS", "0", "v1"], "no release 'v1'"),
        (["release", "ATLAS", "v 1"], "expected a letter"),
        (
            ["export", "ATLAS", "--format", "eaf", "--to", "out"],
            "one of label-studio, elan, cvat, via, vtt, srt, csv, jsonl",
        ),
        (["import", "ATLAS", "x", "--format", "cholec"], "did you mean 'cholec80'"),
        (["import", "ATLAS", "nowhere.csv", "--format", "csv"], "nowhere.csv: can't be read"),
        (["import", "ATLAS", "nowhere.xml", "--format", "cvat"], "nowhere.xml: can't be read"),
        (["import", "ATLAS", "nowhere.eaf", "--format", "elan"], "nowhere.eaf: no .eaf file here"),
        (["import", "ATLAS", "nowhere.csv", "--format", "csv", "--taxonomy", "halstedt"], "did you mean 'halsted'"),
    ],
)
def test_wrong_use_is_one_message_and_exit_code_2(atlas, tmp_path, capsys, arguments, message):
    places = {"ATLAS": atlas, "NOWHERE": str(tmp_path / "nowhere")}
    code, out, err = run(capsys, *(places.get(word, word) for word in arguments))
    assert (code, out) == (2, "") and message in err and len(err.splitlines()) == 1


def test_hsa_says_that_its_mapping_is_unverified(data, tmp_path, capsys):
    (tmp_path / "set").mkdir()
    (tmp_path / "set/clips.csv").write_text("video_id,start,end,action\n0,0,1,Hook\n")
    (tmp_path / "set/videos").symlink_to(data)
    code, _, err = run(capsys, "import", tmp_path / "atlas", tmp_path / "set", "--format", "hsa-27k")
    assert code == 0 and "unverified" in err


def test_what_is_left_out_is_counted_per_reason_and_ends_with_exit_code_3(data, tmp_path, capsys):
    rows = (
        "0.mp4,0,1,micro,action,Nap\n0.mp4,1,0,micro,action,Hook\n9.mp4,0,1,micro,action,Hook\n"
        "0.mp4,0:01,0:02,micro,action,Hook\n"
    )
    sheet = data / "sheet.csv"
    sheet.write_text("video,start_s,end_s,task,tag,category\n" + rows * 2)
    code, out, err = run(capsys, "import", tmp_path / "a", sheet, "--format", "csv")
    assert code == 3 and out.startswith("1 sample of 1 video")
    assert "left out: 2 unknown-label, 2 no-span, 1 no-video\n" in err
    for line in (2, 3, 4, 6, 7):
        assert f"sheet.csv:{line}: " in err
    code, out, err = run(capsys, "import", tmp_path / "b", sheet, "--format", "csv", "--strict")
    assert (code, out) == (2, "") and "sheet.csv:2: " in err and not (tmp_path / "b").exists()
    sheet.write_text("video,start_s,end_s,task,tag,category\n0.mp4,00:00:01:00,00:00:01:24,micro,action,Hook\n")
    code, _, err = run(capsys, "import", tmp_path / "c", sheet, "--format", "csv")
    assert code == 2 and "--fps" in err
    assert run(capsys, "import", tmp_path / "c", sheet, "--format", "csv", "--fps", "25", "--said-by", "ai")[0] == 0
    (clip,) = read_atlas(str(tmp_path / "c")).clips
    assert (clip.start_s, clip.stop_s, clip.source) == (1.0, 1.96, "ai")


@pytest.mark.parametrize("fps", ["0", "fast", "-25", "1/0", "9999"])
def test_a_wrong_frame_rate(tmp_path, capsys, fps):
    with pytest.raises(SystemExit) as ended:
        main(["atlas", "import", str(tmp_path), "x.csv", "--format", "csv", f"--fps={fps}"])
    assert ended.value.code == 2 and "such as 25 or 30000/1001, or video" in capsys.readouterr().err
