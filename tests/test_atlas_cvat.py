"""Import from and export to CVAT (XML 1.1)."""

import zipfile

import pytest
from annotations import write

from halsted_ray.atlas import read_atlas
from halsted_ray.atlas.formats import FORMATS, ImportSettings
from halsted_ray.atlas.imports import export_atlas, import_annotations
from halsted_ray.errors import AtlasError
from halsted_ray.taxonomy import load

HALSTED = load()
META = """<meta>
    <task>
      <id>7</id><name>OR 2</name><size>20</size><mode>interpolation</mode><overlap>5</overlap><bugtracker></bugtracker>
      <created>2024-05-02 09:10:11.223344+00:00</created><updated>2024-05-02 09:10:11.223344+00:00</updated>
      <subset>default</subset><start_frame>0</start_frame><stop_frame>99</stop_frame>
      <frame_filter>{filter}</frame_filter>
      <segments><segment><id>3</id><start>0</start><stop>19</stop><url>http://localhost:8080/api/jobs/3</url></segment>
      </segments>
      <owner><username>admin</username><email></email></owner><assignee></assignee>
      <labels><label><name>action</name><color>#ff00cc</color><type>any</type><attributes><attribute>
        <name>category</name><mutable>True</mutable><input_type>select</input_type>
        <default_value>__undefined__</default_value><values>__undefined__&#10;Hook</values>
      </attribute></attributes></label></labels>
      <original_size><width>96</width><height>64</height></original_size><source>one.mp4</source>
    </task><dumped>2024-05-02 09:20:11.223344+00:00</dumped></meta>"""


def box(frame, outside=0, keyframe=1, **attributes):
    inner = "".join(f'<attribute name="{name}">{value}</attribute>' for name, value in attributes.items())
    return (
        f'<box frame="{frame}" keyframe="{keyframe}" outside="{outside}" occluded="0" xtl="1.00" ytl="1.00" '
        f'xbr="9.00" ybr="9.00" z_order="0">\n{inner}</box>\n'
    )


def track(label, *boxes, source="manual", more=""):
    return f'<track id="0" label="{label}" source="{source}"{more}>\n{"".join(boxes)}</track>\n'


def document(*parts, filter="", meta=META):
    head = '<?xml version="1.0" encoding="utf-8"?>\n<annotations>\n<version>1.1</version>'
    return f"{head}\n{meta.format(filter=filter)}\n{''.join(parts)}</annotations>\n"


def spans(tmp_path, text, **settings):
    options = ImportSettings(HALSTED, **{"fps": 25.0, **settings})
    recordings = FORMATS["cvat"].read(write(tmp_path / "a.xml", text), options)
    return [(c.start_s, c.stop_s, c.tags, c.source) for r in recordings for c in r.clips], options


def test_tracks_are_spans_and_a_changed_attribute_divides_them(tmp_path):
    frames = [box(n, keyframe=int(n in (5, 9)), category="Hook" if n < 9 else "Clip") for n in range(5, 12)]
    text = document(
        track("action", *frames, box(12, outside=1, category="Clip")),
        track("Cold Cut", box(50), box(60, outside=1), box(70), source="auto"),
        track("micro", box(20, arm="Left", category="x"), box(30, outside=1, arm="Left")),
    )
    found, settings = spans(tmp_path, text)
    assert found == [
        (5, 9, {"action": "Hook"}, "manual"),
        (9, 12, {"action": "Clip"}, "manual"),
        (50, 60, {"action": "Cold Cut"}, "ai"),
        (70, 100, {"action": "Cold Cut"}, "ai"),  # a track that is not ended goes on to the last frame
        (20, 30, {"arm": "Left"}, "manual"),
    ]
    assert settings.left_out == []


def test_tags_on_consecutive_frames_are_one_span(tmp_path):
    tag = '<tag label="action" source="manual"><attribute name="category">Hook</attribute></tag>'
    images = [f'<image id="{n}" name="frame_{n:06d}" width="96" height="64">{tag}</image>' for n in (0, 5, 10, 50)]
    found, _ = spans(tmp_path, document(*images, filter="step=5"))
    assert found == [(0, 15, {"action": "Hook"}, "manual"), (50, 55, {"action": "Hook"}, "manual")]


def test_a_bad_track_is_left_out_with_its_line(tmp_path):
    text = document(
        track("action", box(5, category="Hook"), box(9, outside=1, category="Hook")),
        track("Nap", box(5), box(9, outside=1)),
        track("action", box("five", category="Hook")),
    )
    found, settings = spans(tmp_path, text)
    assert found == [(5, 9, {"action": "Hook"}, "manual")]
    lines = text.splitlines()
    first, second = settings.left_out
    assert first.code == "unknown-label" and "'Nap'" in first.text
    assert f"a.xml:{next(n for n, line in enumerate(lines, 1) if 'five' in line)}: got 'five'" in second.text


def test_the_frame_rate_is_asked_for_and_never_guessed(clips_csv, tmp_path):
    file = write(tmp_path / "set/a.xml", document(track("action", box(25, category="Hook"), box(50, outside=1))))
    with pytest.raises(AtlasError, match="the frame rate .* or with --fps"):
        import_annotations(str(tmp_path / "atlas"), file, "cvat")
    for fps, start_s in ((50.0, 0.5), ("video", 1.0)):
        import_annotations(str(tmp_path / str(fps)), file, "cvat", fps=fps)
        assert [clip.start_s for clip in read_atlas(str(tmp_path / str(fps))).clips] == [start_s]


def test_a_project_of_several_tasks(tmp_path):
    def task(id):
        return f"<task><id>{id}</id><name>n</name><stop_frame>99</stop_frame><source>{id}.mp4</source></task>"

    meta = f"<meta><project><id>1</id><tasks>{task(7)}{task(8)}</tasks></project></meta>"
    boxes = box(5, category="Hook"), box(9, outside=1)
    parts = [track("action", *boxes, more=f' task_id="{id}"') for id in (8, 9)]
    file = write(tmp_path / "a.xml", document(*parts, meta=meta))
    settings = ImportSettings(HALSTED, fps=25.0)
    (recording,) = FORMATS["cvat"].read(file, settings)
    assert recording.uri.endswith("/8.mp4")
    assert [left.code for left in settings.left_out] == ["no-video"]


def test_an_export_comes_back_as_the_same_clips(clips_csv, tmp_path):
    root = str(tmp_path / "atlas")
    import_annotations(root, clips_csv, "csv", annotator="ben")
    (file,) = export_atlas(read_atlas(root), str(tmp_path / "out"), "cvat")
    assert import_annotations(root, file, "cvat").version == 0


def test_a_packed_export_and_a_skeleton(tmp_path):
    def skeleton(frame, outside):
        points = "".join(
            f'<points label="{n}" keyframe="1" outside="{outside}" occluded="0" points="1,1"/>' for n in (1, 2)
        )
        category = '<attribute name="category">Hook</attribute>'
        return f'<skeleton frame="{frame}" keyframe="1" z_order="0">{points}{category}</skeleton>'

    text = document(track("action", skeleton(5, 0), skeleton(8, 0), skeleton(12, 1)))
    with zipfile.ZipFile(tmp_path / "task.zip", "w") as packed:
        packed.writestr("annotations.xml", text)
        packed.writestr("images/frame_000000.png", b"")
    settings = ImportSettings(HALSTED, fps=25.0)
    (recording,) = FORMATS["cvat"].read(str(tmp_path / "task.zip"), settings)
    assert [(c.start_s, c.stop_s, c.tags) for c in recording.clips] == [(5, 12, {"action": "Hook"})]
    with zipfile.ZipFile(tmp_path / "other.zip", "w") as packed:
        packed.writestr("a.txt", "")
    with pytest.raises(AtlasError, match="expected a ZIP file with annotations.xml"):
        FORMATS["cvat"].read(str(tmp_path / "other.zip"), settings)
