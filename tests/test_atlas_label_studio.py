"""Import from and export to Label Studio."""

import json
import re
import xml.etree.ElementTree as ElementTree

import pytest
from annotations import CSV, write

from halsted_ray.atlas import read_atlas
from halsted_ray.atlas.imports import export_atlas, import_annotations
from halsted_ray.errors import AtlasError, TaxonomyError
from halsted_ray.taxonomy import load

HALSTED = load()


def studio(results, **data):
    return [
        {
            "id": 1,
            "data": {"video": "/data/upload/1/one.mp4", "fps": 25, **data},
            "annotations": [{"id": 3, "completed_by": {"id": 5, "email": "ben@hospital.example"}, "result": results}],
        }
    ]


def region(start, end, label, name="tricks"):
    return {
        "id": "x",
        "type": "timelinelabels",
        "from_name": name,
        "to_name": "video",
        "value": {"ranges": [{"start": start, "end": end}], "timelinelabels": [label]},
    }


def test_a_label_studio_export(clips_csv, tmp_path):
    file = write(
        tmp_path / "project.json",
        json.dumps(
            studio(
                [
                    region(1, 25, "Cold Cut"),
                    region(1, 25, "Left", "arm"),
                    region(51, 75, "Cadiere Forceps"),
                    {"type": "choices", "value": {"choices": ["Good"]}},
                ]
            )
        ),
    )
    import_annotations(str(tmp_path / "atlas"), file, "label-studio", videos=str(tmp_path / "set"))
    atlas = read_atlas(str(tmp_path / "atlas"))
    assert [(clip.start_s, clip.stop_s, clip.tags) for clip in atlas.clips] == [
        (0.0, 1.0, {"action": "Cold Cut", "arm": "Left"}),
        (2.0, 3.0, {"instrument": "Cadiere Forceps"}),
    ]
    assert {clip.annotator for clip in atlas.clips} == {"5"}


@pytest.mark.parametrize(
    ("tasks", "message"),
    [
        (studio([region(0, 25, "Cold Cut")]), "line 1, task 1, annotations 0, result 0: got .*frames with 1 <= start"),
        (studio([region(1, 25, "Nap")]), "result 0: got 'Nap'; expected a category of taxonomy 'halsted'"),
        (studio([region(1, 25, "Nap", "action")]), "'halsted' has no category of 'action' 'Nap'"),
        (studio([region(1, 25, "Stapler")]), "expected a control named after its tag, since action, instrument all"),
        (studio([region(1, 25, "Hook", "action"), region(1, 25, "Clip", "action")]), "result 1: .*one action per span"),
        (studio([region(1, 25, "Hook")], fps="fast"), "task 1: got 'fast'; expected data.fps as a number"),
        (studio([region(1, 25, "Hook")], video=""), r"task 1: got .*expected data.video"),
        ([{"video": "a.mp4", "tricks": []}], "task 1: got .*expected an object with data and annotations"),
        ({"data": {}}, "expected a list of tasks"),
    ],
)
def test_a_wrong_label_studio_export(clips_csv, tmp_path, tasks, message):
    file = write(tmp_path / "project.json", json.dumps(tasks))
    with pytest.raises((AtlasError, TaxonomyError), match=message):
        import_annotations(str(tmp_path / "atlas"), file, "label-studio", videos=str(tmp_path / "set"))


def test_the_line_of_a_wrong_task_is_reported(clips_csv, tmp_path):
    two = studio([region(1, 25, "Hook", "action")]) + studio([region(9, 2, "Hook", "action")])
    with pytest.raises(AtlasError, match=r"project.json, line \d+, task 2, annotations 0, result 0") as caught:
        import_annotations(
            str(tmp_path / "a"),
            write(tmp_path / "project.json", json.dumps(two, indent=1)),
            "label-studio",
            videos=str(tmp_path / "set"),
        )
    line = int(re.search(r"line (\d+)", str(caught.value))[1])
    lines = (tmp_path / "project.json").read_text().splitlines()
    assert line == [n for n, text in enumerate(lines, 1) if text == " {"][1]
    with pytest.raises(AtlasError, match=r"project.json:3: .*expected JSON"):
        import_annotations(str(tmp_path / "a"), write(tmp_path / "project.json", "[\n1,\nno]"), "label-studio")


def test_the_interface_has_one_control_per_tag(clips_csv, tmp_path):
    import_annotations(str(tmp_path / "atlas"), clips_csv, "csv")
    *_, file = export_atlas(read_atlas(str(tmp_path / "atlas")), str(tmp_path / "out"), "label-studio")
    lanes = ElementTree.parse(file).getroot().findall("TimelineLabels")
    assert [lane.get("name") for lane in lanes] == [tag.name for tag in HALSTED.tags]
    assert [label.get("value") for label in lanes[1]] == list(HALSTED.tag("procedure").categories)


def test_what_was_exported_for_review_comes_back_as_the_same_clips(clips_csv, tmp_path):
    root = str(tmp_path / "atlas")
    write(clips_csv, CSV.replace("0,1.5", "0.123,1.507"))
    import_annotations(root, clips_csv, "csv", annotator="ben")
    before = read_atlas(root)
    file, _ = export_atlas(before, str(tmp_path / "out"), "label-studio")
    assert import_annotations(root, file, "label-studio").version == before.version
