"""Import from and export to the VGG Image Annotator for video (VIA 3)."""

import json

import pytest
from annotations import write

from halsted_ray.atlas import read_atlas
from halsted_ray.atlas.formats import FORMATS, ImportSettings
from halsted_ray.atlas.imports import export_atlas, import_annotations
from halsted_ray.errors import AtlasError
from halsted_ray.taxonomy import load

HALSTED = load()


def project(**metadata):
    segment = {"anchor_id": "FILE1_Z2_XY0", "desc": "", "default_option_id": ""}
    return {
        "project": {"pid": "__VIA_PROJECT_ID__", "rev": "1", "pname": "OR", "data_format_version": "3.1.1",
                    "creator": "VGG Image Annotator (http://www.robots.ox.ac.uk/~vgg/software/via)",
                    "created": 1588343615019, "vid_list": ["1"]},
        "config": {"file": {"loc_prefix": {"1": "", "2": "", "3": "", "4": ""}}, "ui": {}},
        "attribute": {
            "1": {**segment, "aname": "TEMPORAL-SEGMENTS", "type": 4, "options": {"0": "Cold Cut", "1": "Nap"}},
            "2": {**segment, "aname": "arm", "type": 3, "options": {"l": "Left", "r": "Right"}},
            "3": {**segment, "aname": "action", "type": 1, "options": {}},
            "4": {"aname": "Object", "anchor_id": "FILE1_Z1_XY1", "type": 1, "desc": "", "options": {}},
        },
        "file": {"1": {"fid": 1, "fname": "one.mp4", "type": 4, "loc": 1, "src": ""}},
        "view": {"1": {"fid_list": [1]}},
        "metadata": {name: {"vid": "1", "flg": 0, "xy": [], **found} for name, found in metadata.items()},
    }  # fmt: skip


def test_a_via_project(clips_csv, tmp_path):
    found = project(
        a={"z": [0.5, 1.25], "av": {"1": "0", "2": "l"}},
        b={"z": [2, 3], "av": {"1": "_DEFAULT", "3": "hook"}},
        nap={"z": [2, 3], "av": {"1": "1"}},
        frame={"z": [1.5], "xy": [2, 1, 1, 5, 5], "av": {"4": "Egg"}},
        backwards={"z": [3, 2], "av": {"1": "0"}},
    )
    file = write(tmp_path / "set/via.json", json.dumps(found))
    done = import_annotations(str(tmp_path / "atlas"), file, "via", annotator="ben")
    assert [(c.start_s, c.stop_s, c.tags, c.annotator) for c in read_atlas(str(tmp_path / "atlas")).clips] == [
        (0.5, 1.25, {"action": "Cold Cut", "arm": "Left"}, "ben"),
        (2.0, 3.0, {"action": "Hook"}, "ben"),
    ]
    assert done.counts == {"no-span": 2, "unknown-label": 1}
    assert any("via.json, metadata nap: got 'Nap'" in str(left) for left in done.left_out)


@pytest.mark.parametrize("text", ["{", "[]", '{"_via_img_metadata": {}}'])
def test_a_file_that_is_no_project(tmp_path, text):
    with pytest.raises(AtlasError, match=r"via.json:1: .*(JSON|a project of VIA 3)"):
        FORMATS["via"].read(write(tmp_path / "via.json", text), ImportSettings(HALSTED))


def test_an_export_comes_back_as_the_same_clips(clips_csv, tmp_path):
    root = str(tmp_path / "atlas")
    import_annotations(root, clips_csv, "csv", annotator="ben")
    (file,) = export_atlas(read_atlas(root), str(tmp_path / "out"), "via")
    assert import_annotations(root, file, "via").version == 0
