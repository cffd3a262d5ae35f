"""Import from and export to Label Studio."""

import csv
import io
import json
import re
import xml.etree.ElementTree as ElementTree

import pytest
from annotations import CSV, write

from halsted_ray.atlas import read_atlas
from halsted_ray.atlas.imports import export_atlas, import_annotations
from halsted_ray.errors import AtlasError
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
        (
            studio([region(0, 25, "Cold Cut")]),
            r"line 1, task 1 \(id 1\), annotations 0, result 0: got .*frames with 1 <= start",
        ),
        (studio([region(1, 25, "Nap")]), "result 0: got 'Nap'; expected a category of taxonomy 'halsted'"),
        (studio([region(1, 25, "Nap", "action")]), "'halsted' has no category of 'action' 'Nap'"),
        (studio([region(1, 25, "Stapler")]), "expected a control named after its tag, since action, instrument all"),
        (studio([region(1, 25, "Hook", "action"), region(1, 25, "Clip", "action")]), "result 1: .*one action per span"),
        (studio([region(1, 25, "Hook")], fps="fast"), r"task 1 \(id 1\): got 'fast'; expected data.fps as a number"),
        (studio([region(1, 25, "Hook")], fps=None), r"task 1 \(id 1\): .*the frame rate .*in data.fps, or with --fps"),
        (studio([region(1, 25, "Hook")], video=""), r"task 1 \(id 1\): got .*expected data.video"),
        (studio([region(1, 25, "Hook")], video="", a="a.mp4", b="b.mp4"), "one value that names a video"),
        ([{"video": "a.mp4", "tricks": []}], "task 1: got .*expected a task: an object with data and annotations"),
        ([7], "task 1: got '7'; expected a task"),
        ({"data": {}}, "nothing to import"),
    ],
)
def test_a_wrong_label_studio_export(clips_csv, tmp_path, tasks, message):
    file = write(tmp_path / "project.json", json.dumps(tasks))
    with pytest.raises(AtlasError, match=message):
        import_annotations(str(tmp_path / "atlas"), file, "label-studio", videos=str(tmp_path / "set"), strict=True)


def test_the_line_of_a_wrong_task_is_reported(clips_csv, tmp_path):
    two = studio([region(1, 25, "Hook", "action")]) + studio([region(9, 2, "Hook", "action")])
    with pytest.raises(AtlasError, match=r"project.json, line \d+, task 2 \(id 1\), annotations 0, result 0") as caught:
        import_annotations(
            str(tmp_path / "a"),
            write(tmp_path / "project.json", json.dumps(two, indent=1)),
            "label-studio",
            videos=str(tmp_path / "set"),
            strict=True,
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


def box(id, label="Cold Cut"):
    """A box and its phantom on the timeline (issue 9744 of HumanSignal/label-studio)."""
    value = {"framesCount": 100, "duration": 4, "sequence": [{"frame": 10, "enabled": True, "x": 1, "time": 0.4}]}
    return [
        {**region(1, 2, label, "box"), "id": id, "type": "videorectangle", "value": {**value, "labels": [label]}},
        {**region(1, 2, label), "id": id, "value": {**value, "timelinelabels": [label]}},
    ]


def sound(start, end, label, **more):
    """A label on the sound, as the template for timeline segmentation has it: seconds."""
    value = {"start": start, "end": end, "channel": 0, "labels": [label]}
    return {
        "id": "s",
        "type": "labels",
        "from_name": "tricks",
        "to_name": "audio",
        "original_length": 4.0,
        "value": value,
        **more,
    }


def imported(tmp_path, text, **options):
    """([(start_s, stop_s, tags, annotator)], what was done) of an export that is given as JSON or text."""
    file = write(tmp_path / "project.json", text if isinstance(text, str) else json.dumps(text))
    done = import_annotations(
        str(tmp_path / "atlas"), file, "label-studio", **{"videos": str(tmp_path / "set"), **options}
    )
    return [(c.start_s, c.stop_s, c.tags, c.annotator) for c in read_atlas(str(tmp_path / "atlas")).clips], done


def test_boxes_and_their_phantoms_are_counted_once_and_the_rest_is_taken(clips_csv, tmp_path):
    clips, done = imported(tmp_path, studio([*box("b1"), region(1, 25, "Cold Cut"), *reversed(box("b2"))]))
    assert clips == [(0.0, 1.0, {"action": "Cold Cut"}, "5")]
    assert done.counts == {"box": 2} and "boxes: 2" in str(done.left_out[0])


def test_labels_on_the_sound_are_in_seconds_and_need_no_frame_rate(clips_csv, tmp_path):
    clips, done = imported(tmp_path, studio([sound(0.52, 1.5, "Cold Cut"), sound(2, 3.25, "Hook")], fps=None))
    assert clips == [(0.52, 1.5, {"action": "Cold Cut"}, "5"), (2.0, 3.25, {"action": "Hook"}, "5")]
    assert done.left_out == ()


def test_frames_and_seconds_in_one_task(clips_csv, tmp_path):
    clips, done = imported(tmp_path, studio([region(1, 25, "Cold Cut"), sound(2, 3.25, "Hook")], fps=None), fps=50.0)
    assert [clip[:2] for clip in clips] == [(0.0, 0.5), (2.0, 3.25)] and done.left_out == ()
    _, done = imported(tmp_path, studio([region(1, 25, "Cold Cut"), sound(2, 3.25, "Hook")], fps=None))
    assert done.counts == {"no-frame-rate": 1} and "--fps" in str(done.left_out[0])


def test_the_length_of_a_frame_is_a_rate_too(clips_csv, tmp_path):
    clips, _ = imported(tmp_path, studio([region(26, 50, "Cold Cut")], fps=0.04))
    assert clips == [(1.0, 2.0, {"action": "Cold Cut"}, "5")]


def test_text_labels_and_choices_are_no_spans_of_time(clips_csv, tmp_path):
    text = {"id": "t", "type": "labels", "value": {"start": 0, "end": 2, "text": "ab", "labels": ["Hook"]}}
    choice = {"id": "c", "type": "choices", "value": {"choices": ["Good"]}}
    clips, done = imported(tmp_path, studio([text, choice, region(1, 25, "Cold Cut"), "no region"]))
    assert len(clips) == 1 and done.counts == {"no-span": 1, "malformed": 1}
    assert len(done.notes) == 1 and "'choices'" in done.notes[0]


def test_several_annotators_and_a_cancelled_annotation(clips_csv, tmp_path):
    (task,) = studio([region(1, 25, "Cold Cut")])
    task["annotations"] += [
        {"id": 4, "completed_by": 6, "result": [region(26, 50, "Hook")]},
        {"id": 5, "completed_by": 7, "was_cancelled": True, "result": [region(51, 75, "Clip")]},
        {"id": 6, "completed_by": 8, "result": [region(1, 25, "Hook"), region(1, 25, "Left", "arm")]},
        9,
    ]
    clips, done = imported(tmp_path, [task])
    assert [(tags, who) for *_, tags, who in clips] == [({"action": "Cold Cut"}, "5"), ({"action": "Hook"}, "6")]
    assert done.counts == {"contradiction": 1}
    assert len(done.notes) == 1 and "annotations 2: skipped, because its author cancelled it" in done.notes[0]


def test_json_min_json_lines_and_single_annotations(clips_csv, tmp_path):
    expected = [(0.0, 1.0, {"action": "Cold Cut"}, "5"), (2.0, 3.25, {"action": "Hook"}, "5")]
    regions = [region(1, 25, "Cold Cut"), sound(2, 3.25, "Hook")]
    minimal = {"id": 1, "annotation_id": 3, "annotator": 5, "created_at": "2024-05-02T09:10:11Z", "lead_time": 9.1,
               "updated_at": "2024-05-02T09:10:11Z", "fps": 25, "video_url": "/data/upload/1/9f3c2b1a-one.mp4",
               "tricks": [regions[0]["value"], regions[1]["value"]]}  # fmt: skip
    assert imported(tmp_path / "min", [minimal], videos=str(tmp_path / "set"))[0] == expected
    (task,) = studio(regions)
    one_by_one = "\n".join(
        json.dumps({**task, "annotations": [{**task["annotations"][0], "result": [r]}]}) for r in regions
    )
    assert imported(tmp_path / "lines", one_by_one, videos=str(tmp_path / "set"))[0] == expected
    folder = tmp_path / "target"
    for n, one in enumerate(regions):  # a target storage has a file per annotation, without an extension
        data = {"video": "/data/local-files/?d=mount/one.mp4", "fps": 25}
        write(
            folder / str(n),
            json.dumps({"id": n, "completed_by": {"id": 5}, "result": [one], "task": {"id": 1, "data": data}}),
        )
    import_annotations(str(tmp_path / "of-folder"), str(folder), "label-studio", videos=str(tmp_path / "set"))
    clips = read_atlas(str(tmp_path / "of-folder")).clips
    assert [(c.start_s, c.stop_s, c.tags, c.annotator) for c in clips] == expected


def test_an_uploaded_video_is_found_beside_the_export(clips_csv, tmp_path):
    tasks = studio([region(1, 25, "Cold Cut")], video="/data/upload/3/9f3c2b1a-one.mp4")
    file = write(tmp_path / "set/project.json", json.dumps(tasks))
    assert import_annotations(str(tmp_path / "atlas"), file, "label-studio").left_out == ()


def test_one_bad_task_does_not_cost_the_others(clips_csv, tmp_path):
    good, other = studio([region(1, 25, "Cold Cut")]) + studio([region(1, 25, "Hook")], video="gone.mp4")
    clips, done = imported(tmp_path, [{"video": "x"}, good, other])
    assert len(clips) == 1 and done.counts == {"malformed": 1, "no-video": 1}


def test_the_table_that_label_studio_exports(clips_csv, tmp_path):
    cells = [region(1, 25, "Cold Cut")["value"], sound(2, 3.25, "Hook")["value"]]
    row = {"annotation_id": 3, "annotator": 5, "created_at": "2024-05-02T09:10:11Z", "fps": 25, "id": 1,
           "lead_time": 9.1, "tricks": json.dumps(cells), "updated_at": "",
           "video": "/data/upload/1/9f3c2b1a-one.mp4"}  # fmt: skip
    for delimiter in (",", "\t"):
        text = io.StringIO()
        writer = csv.DictWriter(text, list(row), delimiter=delimiter)
        writer.writeheader()
        writer.writerow(row)
        clips, done = imported(tmp_path / str(ord(delimiter)), text.getvalue(), videos=str(tmp_path / "set"))
        assert clips == [(0.0, 1.0, {"action": "Cold Cut"}, "5"), (2.0, 3.25, {"action": "Hook"}, "5")]
        assert done.left_out == ()
    with pytest.raises(AtlasError, match=r"project.json:1: .*JSON, or a table with annotation_id"):
        imported(tmp_path, "a,b\n1,2\n")


def test_completions_of_old_versions_relations_and_labels_of_another_axis(clips_csv, tmp_path):
    (task,) = studio(
        [region(1, 25, "Cold Cut"), {"type": "relation", "from_id": "x", "to_id": "y", "direction": "right"}]
    )
    task["completions"] = task.pop("annotations")
    series = {"id": "s", "type": "timeserieslabels", "value": {"start": 5, "end": 9, "timeserieslabels": ["Hook"]}}
    task["completions"][0]["result"].append(series)
    clips, done = imported(tmp_path, [task])
    assert clips == [(0.0, 1.0, {"action": "Cold Cut"}, "5")]
    assert done.counts == {"no-span": 1} and "'relation'" in done.notes[0]


@pytest.mark.parametrize("text", ["[" * 100_000, '{"a":' * 100_000, "[1", '[{"data": {}} x]', "", "\x00"])
def test_broken_json_is_an_error_with_its_line(tmp_path, text):
    with pytest.raises(AtlasError, match=r"project.json(:1: .*expected JSON|: nothing to import)"):
        file = write(tmp_path / "project.json", text)
        import_annotations(str(tmp_path / "atlas"), file, "label-studio")


def test_a_player_that_counted_at_another_rate_is_found_out_by_its_boxes(clips_csv, tmp_path):
    """Without frameRate in the interface, the player counts 24 frames per second, whatever the data say."""
    tasks = studio([*box("b1"), region(25, 48, "Cold Cut")])
    for one in tasks[0]["annotations"][0]["result"][:2]:
        one["value"]["framesCount"] = 96
    with pytest.raises(AtlasError, match=r"got 'data.fps 25'; expected .* by --fps: its boxes count 24.00 per second"):
        imported(tmp_path, tasks)
    clips, _ = imported(tmp_path, tasks, fps=24.0)
    assert clips == [(1.0, 2.0, {"action": "Cold Cut"}, "5")]
