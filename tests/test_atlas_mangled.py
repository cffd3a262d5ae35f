"""Annotation files with broken bytes: each is read as far as it goes, or refused with a message."""

import json
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from test_atlas_boris import NEW, OLD, TABULAR, new, old
from test_atlas_csv import MAP, SHEET
from test_atlas_cvat import box as cvat_box
from test_atlas_cvat import document, track
from test_atlas_elan import EAF
from test_atlas_label_studio import box, region, sound, studio
from test_atlas_subtitles import SRT, VTT
from test_atlas_via import project

from halsted_ray.atlas.formats import FORMATS, ImportSettings
from halsted_ray.errors import AtlasError
from halsted_ray.taxonomy import load

HALSTED = load()
REGION = {**region(1, 25, "Cold Cut"), "meta": {"text": ["a caption"]}, "score": 0.5}
TASKS = studio([REGION, sound(2, 3.25, "Hook"), *box("b")])
LINE = {
    "video": "a.mp4",
    "start_s": 0,
    "stop_s": "0:05",
    "task": "micro",
    "tags": {"action": "Hook"},
    "confidence": 0.5,
}
HOOK = track("action", cvat_box(25, category="Hook"), cvat_box(50, outside=1))
FILES = {
    "label-studio": [json.dumps(TASKS), json.dumps([{"id": 1, "video": "a.mp4", "tricks": [REGION["value"]]}])],
    "csv": [MAP, SHEET],
    "jsonl": ["\n".join([json.dumps(LINE)] * 3)],
    "elan": [EAF],
    "cvat": [document(HOOK), document('<image id="4"><tag label="Hook"/></image>')],
    "via": [json.dumps(project(a={"z": [1, 2], "av": {"1": "0", "2": "l"}}))],
    "vtt": [VTT, SRT],
    "boris": [OLD + old("Hook", "STATE", "1", "2"), NEW + new("Hook", "1", "2"), TABULAR],
}  # fmt: skip
CASES = [(format, text) for format, texts in FILES.items() for text in texts]
UNHURRIED = settings(
    deadline=None, max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow]
)


def read(folder, format, data, **options):
    """Reads ``data`` as ``format``; only an AtlasError may come out, and what is taken is a span with tags."""
    file = Path(folder) / "annotations"
    file.write_bytes(data)
    try:
        recordings = FORMATS[format].read(str(file), ImportSettings(HALSTED, fps=25.0, **options))
    except AtlasError as error:
        assert "annotations" in str(error)
        return
    for clip in (clip for recording in recordings for clip in recording.clips):
        assert 0 <= clip.start_s < clip.stop_s and clip.tags and 0 <= clip.confidence <= 1


@pytest.mark.parametrize(("format", "text"), CASES, ids=[f"{format}-{n}" for n, (format, _) in enumerate(CASES)])
@given(data=st.data())
@UNHURRIED
def test_mangled_bytes(tmp_path, format, text, data):
    mangled = bytearray(text.encode())
    for _ in range(data.draw(st.integers(1, 4))):
        at = data.draw(st.integers(0, max(0, len(mangled) - 1)))
        length = data.draw(st.sampled_from([0, 0, 1, 2, 20]))
        mangled[at : at + length] = data.draw(
            st.binary(max_size=3) | st.sampled_from([b'"', b"\n", b"<", b"}", b"-1", b"\0"])
        )
    read(tmp_path, format, bytes(mangled))
    read(tmp_path, format, bytes(mangled), strict=True)


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.just(10**400) | st.floats() | st.text(max_size=3),
    lambda inner: (
        st.lists(inner, max_size=2) | st.dictionaries(st.sampled_from(["start", "z", "x"]), inner, max_size=2)
    ),
    max_leaves=4,
)


def places(value, path=()):
    """The paths to all members of a JSON value."""
    yield path
    members = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, member in members:
        yield from places(member, (*path, key))


JSON_CASES = [case for case in CASES if case[0] in ("label-studio", "via", "jsonl")]


@pytest.mark.parametrize(
    ("format", "text"), JSON_CASES, ids=[f"{format}-{n}" for n, (format, _) in enumerate(JSON_CASES)]
)
@given(data=st.data())
@UNHURRIED
def test_any_value_at_any_place_of_the_json(tmp_path, format, text, data):
    value = json.loads(text.split("\n")[0])
    *path, last = data.draw(st.sampled_from([path for path in places(value) if path]))
    parent = value
    for key in path:
        parent = parent[key]
    parent[last] = data.draw(VALUES)
    read(tmp_path, format, json.dumps(value).encode())


@pytest.mark.parametrize("value", ["9" * 5000, "[" * 100_000, '{"a":' * 100_000], ids=["digits", "lists", "objects"])
@pytest.mark.parametrize(
    ("format", "text"),
    [
        ("label-studio", '[{"data": VALUE}]'),
        ("label-studio", '"id",annotation_id,tricks\n1,2,VALUE\n'),
        ("via", '{"metadata": VALUE}'),
        ("jsonl", '{"start_s": VALUE}'),
        ("vtt", 'WEBVTT\n\n00:01.000 --> 00:02.000\nstep: "VALUE\n'),
        ("vtt", 'WEBVTT\n\n00:01.000 --> 00:02.000\n{"tag": VALUE}\n'),
        ("vtt", "WEBVTT\n\nVALUE:00:01.000 --> 00:02.000\nHook\n"),
        ("csv", "video,start,end,action\na.mp4,VALUE:00:01,VALUE:00:02,Hook\n"),
        ("csv", "video,start,end,action\na.mp4,VALUE:00:00:01,VALUE:00:00:02,Hook\n"),
        ("cvat", '<annotations><meta><task><frame_filter>step=VALUE</frame_filter></task></meta></annotations>'),
    ],
)  # fmt: skip
def test_numbers_of_thousands_of_digits_and_brackets_without_end_are_no_bug(tmp_path, format, text, value):
    read(tmp_path, format, text.replace("VALUE", value).encode())


def test_what_an_xml_file_breaks_is_said_once(tmp_path):
    (tmp_path / "a.eaf").write_text('<!DOCTYPE l [<!ENTITY a "x">]><ANNOTATION_DOCUMENT>&a;</ANNOTATION_DOCUMENT>')
    with pytest.raises(AtlasError) as raised:
        FORMATS["elan"].read(str(tmp_path / "a.eaf"), ImportSettings(HALSTED))
    assert str(raised.value).count("a.eaf") == 1 and "declares the entity" in str(raised.value)
