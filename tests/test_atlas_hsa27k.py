"""Import of HSA-27k and other tables by a mapping of columns."""

from pathlib import Path

import pytest
import small_video
from annotations import write

from halsted_ray.atlas import read_atlas
from halsted_ray.atlas.imports import import_annotations
from halsted_ray.errors import AtlasError, HalstedError

HSA = (
    "video_id,start,end,specialty,procedure,step,action,arm,instrument,source,confidence\n"
    "v1,0.0,2.0,Urology,Prostatectomy,Dissection,Cold Cut,Left,Scissors,human,\n"
    "v1,2.0,4.0,Urology,Prostatectomy,Suturing,,,,model,0.8\n"
)


@pytest.fixture
def hsa(tmp_path):
    small_video.write(tmp_path / "hsa/videos/v1.mp4", 4)
    write(tmp_path / "hsa/clips.csv", HSA)
    return tmp_path / "hsa"


def test_hsa_27k_with_the_shipped_mapping(hsa, tmp_path):
    import_annotations(str(tmp_path / "atlas"), str(hsa), "hsa-27k")
    atlas = read_atlas(str(tmp_path / "atlas"))
    assert [(clip.task, clip.start_s, clip.source, clip.confidence, clip.tags) for clip in atlas.clips] == [
        ("macro", 0.0, "manual", 1.0, {"specialty": "Urology", "procedure": "Prostatectomy", "step": "Dissection"}),
        ("micro", 0.0, "manual", 1.0, {"action": "Cold Cut", "arm": "Left", "instrument": "Scissors"}),
        ("macro", 2.0, "ai", 0.8, {"specialty": "Urology", "procedure": "Prostatectomy", "step": "Suturing"}),
    ]
    text = Path(import_annotations.__code__.co_filename).parent.joinpath("formats/hsa27k.yaml").read_text()
    assert "verified: false" in text and "UNVERIFIED" in text


def test_clip_files_with_an_own_mapping(tmp_path):
    """The table is Parquet, its columns have other names, and each clip is a whole file."""
    import pyarrow as pa
    import pyarrow.parquet

    small_video.write(tmp_path / "set/clips/one.mp4", 2)
    pa.parquet.write_table(pa.table({"file": ["one"], "label": ["push/peel"]}), tmp_path / "set/m.parquet")
    mapping = write(tmp_path / "own.yaml", 'table: "*.parquet"\nvideo: "clips/{file}.mp4"\ntags: {action: label}\n')
    import_annotations(str(tmp_path / "atlas"), str(tmp_path / "set"), "hsa-27k", mapping=mapping)
    (clip,) = read_atlas(str(tmp_path / "atlas")).clips
    assert (clip.start_s, clip.stop_s, clip.tags) == (0.0, 2.0, {"action": "Push/Peel"})


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("v1,2.0,4.0", "v1,4.0,2.0", r"clips.csv:3: got \(4.0, 2.0\); expected 0 <= start < end"),
        (
            "Cold Cut",
            "Cold Cutt",
            r"csv:2: got 'Cold Cutt'; expected a category of 'action': .*did you mean 'Cold Cut'",
        ),
        ("model,0.8", "robot,0.8", r":3: got 'robot'; expected a source of manual, human"),
        ("model,0.8", "model,high", r":3: got 'high'; expected the confidence as a number"),
        (",confidence", "", r":2: .*expected 10 fields"),
        ("video_id", "case", r":2: got .* expected a column 'video_id'"),
        ("start,end", "begin,end", r":2: got .* expected a column 'start'"),
    ],
)
def test_a_wrong_table(hsa, tmp_path, old, new, message):
    write(hsa / "clips.csv", HSA.replace(old, new))
    with pytest.raises(AtlasError, match=message):
        import_annotations(str(tmp_path / "atlas"), str(hsa), "hsa-27k", strict=True)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("tags: {action: a}", "expected the keys table, video and tags"),
        ("table: x\nvideo: y\ntags:\n  aktion: a", "m.yaml:4: got 'aktion'; expected a tag: .*did you mean 'action'"),
        ("table: x\nvideo: y\ntags: {}\ncolumns: z", r"got \['columns'\]; expected keys of"),
        ("table: [", "not well-formed YAML"),
    ],
)
def test_a_wrong_mapping(hsa, tmp_path, text, message):
    with pytest.raises(HalstedError, match=message):
        import_annotations(str(tmp_path / "a"), str(hsa), "hsa-27k", mapping=write(tmp_path / "m.yaml", text))
