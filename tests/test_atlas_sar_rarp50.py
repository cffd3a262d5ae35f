"""Import of SAR-RARP50: what is imported, and how a wrong file is reported."""

from dataclasses import replace

import pytest
import small_video
from annotations import spans, write

from halsted_ray.atlas import read_atlas
from halsted_ray.atlas.commits import history
from halsted_ray.atlas.imports import import_annotations
from halsted_ray.errors import AtlasError


@pytest.fixture
def rarp50(tmp_path):
    root = tmp_path / "rarp50"
    for look, (folder, seconds, text) in enumerate(
        [
            ("train1/video_01", 3, "0 59 0\n60 149 3\n150 179 0\n"),
            ("train2/video_11_1", 2, "0 119 5\n"),
            ("test/video_41", 2, "0 59 1\n60 119 2\n"),
        ]
    ):
        write(root / folder / "action_continues.txt", text)
        small_video.write(root / folder / "video_left.avi", seconds, fps=60, look=look)
    return root


def test_import_of_sar_rarp50(rarp50, tmp_path):
    done = import_annotations(str(tmp_path / "atlas"), str(rarp50), "sar-rarp50", why="external test")
    atlas = read_atlas(str(tmp_path / "atlas"))
    assert (done.videos, done.samples, done.left_out, atlas.taxonomy) == (3, 6, (), "sar_rarp50")
    by_uri = {video.uri.split("/")[-2]: video.video_id for video in atlas.videos}
    first = replace(atlas, clips=tuple(clip for clip in atlas.clips if clip.video_id == by_uri["video_01"]))
    assert spans(first, "action", "action") == [
        (0.0, 1.0, "Other"),
        (1.0, 2.5, "Pushing the needle through the tissue"),
        (2.5, 3.0, "Other"),
    ]
    assert atlas.split == {by_uri["video_01"]: "train", by_uri["video_11_1"]: "train", by_uri["video_41"]: "test"}
    assert {(clip.specialty, clip.procedure) for clip in atlas.clips} == {("Urology", "Prostatectomy")}
    assert history(atlas.root)[0].source == f"sar-rarp50 {rarp50}"


def test_import_of_sar_rarp50_with_ten_labels_per_second(rarp50, tmp_path):
    for file in rarp50.rglob("action_continues.txt"):
        file.unlink()
    classes = [0] * 10 + [3] * 15 + [0] * 5
    write(rarp50 / "train1/video_01/action_discrete.txt", "".join(f"{6 * n},{c}\n" for n, c in enumerate(classes)))
    import_annotations(str(tmp_path / "atlas"), str(rarp50), "sar-rarp50")
    assert spans(read_atlas(str(tmp_path / "atlas")), "action", "action") == [
        (0.0, 1.0, "Other"),
        (1.0, 2.5, "Pushing the needle through the tissue"),
        (2.5, 3.0, "Other"),
    ]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("0 59 0\n60 149\n", r"action_continues.txt:2: got '60 149'; expected three numbers"),
        ("0 59 0\n60 149 9\n", r":2: got 9; expected a class of 0 to 7"),
        ("0 59 0\n\n30 149 3\n", r":3: got '30 149 3'; expected first <= last, and a first frame of 60 on"),
        ("0 5x 0\n", r":1: got '5x'; expected the last frame as a whole number"),
    ],
)
def test_a_wrong_sar_rarp50(rarp50, tmp_path, text, message):
    write(rarp50 / "train1/video_01/action_continues.txt", text)
    with pytest.raises(AtlasError, match=message):
        import_annotations(str(tmp_path / "atlas"), str(rarp50), "sar-rarp50", strict=True)
    assert not (tmp_path / "atlas").exists()
