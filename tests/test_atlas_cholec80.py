"""Import of Cholec80: what is imported, what is left out, and how a wrong file is reported."""

import shutil
from dataclasses import replace

import pytest
import small_video
from annotations import spans, write

from halsted_ray.atlas import read_atlas
from halsted_ray.atlas.imports import import_annotations
from halsted_ray.errors import AtlasError


@pytest.fixture
def cholec80(tmp_path):
    root = tmp_path / "cholec80"
    tools = "Frame\tGrasper\tBipolar\tHook\tScissors\tClipper\tIrrigator\tSpecimenBag\n"
    for n in (1, 41):
        small_video.write(root / f"videos/video{n:02d}.mp4", 4, look=n)
        phases = ["Preparation"] * 50 + ["CalotTriangleDissection"] * 50
        write(
            root / f"phase_annotations/video{n:02d}-phase.txt",
            "Frame\tPhase\n" + "".join(f"{k}\t{phase}\n" for k, phase in enumerate(phases)),
        )
        rows = ["0 1 0 0 0 0 0 0", "25 1 0 0 0 0 0 0", "50 1 0 1 0 0 0 0", "75 0 0 0 0 0 0 0", ""]
        write(root / f"tool_annotations/video{n:02d}-tool.txt", tools + "\n".join(rows).replace(" ", "\t"))
    return root


def test_import_of_cholec80(cholec80, tmp_path):
    done = import_annotations(str(tmp_path / "atlas"), str(cholec80), "cholec80")
    atlas = read_atlas(str(tmp_path / "atlas"))
    assert (done.videos, done.samples, done.left_out) == (2, 10, ())
    name = next(video.video_id for video in atlas.videos if video.uri.endswith("video01.mp4"))
    one = replace(atlas, clips=tuple(clip for clip in atlas.clips if clip.video_id == name))
    assert spans(one, "phase", "phase") == [(0.0, 2.0, "Preparation"), (2.0, 4.0, "CalotTriangleDissection")]
    present = [
        (start_s, stop_s, sorted(tool for tool, there in tags.items() if there == "Present"))
        for start_s, stop_s, tags in spans(one, "tools")
    ]
    assert present == [(0.0, 2.0, ["grasper"]), (2.0, 3.0, ["grasper", "hook"]), (3.0, 4.0, [])]
    assert all(len(tags) == 7 for *_, tags in spans(one, "tools"))
    assert atlas.split[name] == "train" and sorted(atlas.split.values()) == ["test", "train"]


@pytest.mark.parametrize(
    ("file", "line", "text", "message"),
    [
        (
            "phase_annotations/video01-phase.txt",
            1,
            "Frame,Phase",
            "phase.txt:1: got 'Frame,Phase'; expected the header",
        ),
        ("phase_annotations/video01-phase.txt", 4, "7\tPreparation", "phase.txt:4: got 7; expected frame 2"),
        (
            "phase_annotations/video01-phase.txt",
            9,
            "7\tNap",
            "phase.txt:9: got 'Nap'; expected a phase of Preparation, ",
        ),
        (
            "tool_annotations/video41-tool.txt",
            3,
            "25\t1\t0\t2\t0\t0\t0\t0",
            "video41-tool.txt:3: got '2'; expected 0 or 1",
        ),
        ("tool_annotations/video41-tool.txt", 3, "25\t1", "tool.txt:3: got .* expected 8 fields"),
    ],
)
def test_a_wrong_cholec80(cholec80, tmp_path, file, line, text, message):
    lines = (cholec80 / file).read_text().splitlines()
    lines[line - 1] = text
    write(cholec80 / file, "\n".join(lines))
    with pytest.raises(AtlasError, match=message):
        import_annotations(str(tmp_path / "atlas"), str(cholec80), "cholec80", strict=True)
    done = import_annotations(str(tmp_path / "atlas"), str(cholec80), "cholec80")
    assert len(done.left_out) == 1 and done.samples > 0


def test_a_video_that_is_not_there_is_reported_and_the_others_go_on(cholec80, tmp_path):
    (cholec80 / "videos/video41.mp4").unlink()
    (cholec80 / "tool_annotations/video01-tool.txt").unlink()
    done = import_annotations(str(tmp_path / "atlas"), str(cholec80), "cholec80")
    assert (done.videos, done.samples) == (1, 2)
    (line,) = done.left_out
    line = str(line)
    assert "video41-phase.txt: 5 samples left out" in line and "moved or deleted" in line
    (cholec80 / "videos/video01.mp4").unlink()
    with pytest.raises(AtlasError, match=r"nothing to import; the first of 2 problems: "):
        import_annotations(str(tmp_path / "other"), str(cholec80), "cholec80")


def test_one_video_in_two_official_parts_is_refused(cholec80, tmp_path):
    """Videos are compared by content, so a renamed copy is found."""
    shutil.copy(cholec80 / "videos/video01.mp4", cholec80 / "videos/video41.mp4")
    with pytest.raises(AtlasError, match="is in the part 'train' .*and 'test' is asked for"):
        import_annotations(str(tmp_path / "atlas"), str(cholec80), "cholec80")


def test_clips_beyond_the_end_are_reported_and_frames_of_rounding_are_cut(cholec80, tmp_path):
    file = cholec80 / "phase_annotations/video01-phase.txt"
    with open(file, "a") as more:
        more.writelines(f"{k}\tClippingCutting\n" for k in range(100, 110))
    done = import_annotations(str(tmp_path / "a"), str(cholec80), "cholec80")
    text = str(done.left_out[0])
    assert "phase sample [4, 4.4) s left out" in text and "ends at 4 s" in text
    with open(file, "a") as more:
        more.writelines(f"{k}\tCalotTriangleDissection\n" for k in range(110, 115))
    text = file.read_text().replace("ClippingCutting", "CalotTriangleDissection")
    write(file, text)  # one phase of 2.0 to 4.6 s
    assert not import_annotations(str(tmp_path / "b"), str(cholec80), "cholec80").left_out
    assert max(clip.stop_s for clip in read_atlas(str(tmp_path / "b")).clips) == 4.0
