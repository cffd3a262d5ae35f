"""Import from and export to ELAN (.eaf)."""

from xml.etree import ElementTree

import pytest
from annotations import write

from halsted_ray.atlas import read_atlas
from halsted_ray.atlas.formats import FORMATS, ImportSettings
from halsted_ray.atlas.imports import export_atlas, import_annotations
from halsted_ray.errors import AtlasError
from halsted_ray.taxonomy import load

HALSTED = load()
EAF = """<?xml version="1.0" encoding="UTF-8"?>
<ANNOTATION_DOCUMENT AUTHOR="" DATE="2024-05-02T09:10:11+01:00" FORMAT="3.0" VERSION="3.0"
    xmlns:xsi="http://www.w3.org/2001/XMLSchema-instance"
    xsi:noNamespaceSchemaLocation="http://www.mpi.nl/tools/elan/EAFv3.0.xsd">
    <HEADER MEDIA_FILE="" TIME_UNITS="milliseconds">
        <MEDIA_DESCRIPTOR MEDIA_URL="file:///D:/sound/one.wav" MIME_TYPE="audio/x-wav"/>
        <MEDIA_DESCRIPTOR MEDIA_URL="file:///D:/OR%202/one.mp4" MIME_TYPE="video/mp4" RELATIVE_MEDIA_URL="./one.mp4"/>
        <PROPERTY NAME="lastUsedAnnotationId">5</PROPERTY>
    </HEADER>
    <TIME_ORDER>
        <TIME_SLOT TIME_SLOT_ID="ts1" TIME_VALUE="80"/>
        <TIME_SLOT TIME_SLOT_ID="ts2" TIME_VALUE="1480"/>
        <TIME_SLOT TIME_SLOT_ID="ts3"/>
        <TIME_SLOT TIME_SLOT_ID="ts4" TIME_VALUE="2000"/>
        <TIME_SLOT TIME_SLOT_ID="ts5" TIME_VALUE="3000"/>
    </TIME_ORDER>
    <TIER ANNOTATOR="ben" LINGUISTIC_TYPE_REF="default-lt" TIER_ID="action@surgeon">
        <ANNOTATION>
            <ALIGNABLE_ANNOTATION ANNOTATION_ID="a1" TIME_SLOT_REF1="ts1" TIME_SLOT_REF2="ts2">
                <ANNOTATION_VALUE>cold cut</ANNOTATION_VALUE>
            </ALIGNABLE_ANNOTATION>
        </ANNOTATION>
        <ANNOTATION>
            <ALIGNABLE_ANNOTATION ANNOTATION_ID="a2" TIME_SLOT_REF1="ts3" TIME_SLOT_REF2="ts4">
                <ANNOTATION_VALUE>Hook</ANNOTATION_VALUE>
            </ALIGNABLE_ANNOTATION>
        </ANNOTATION>
        <ANNOTATION>
            <ALIGNABLE_ANNOTATION ANNOTATION_ID="a3" TIME_SLOT_REF1="ts4" TIME_SLOT_REF2="ts5">
                <ANNOTATION_VALUE>Nap</ANNOTATION_VALUE>
            </ALIGNABLE_ANNOTATION>
        </ANNOTATION>
    </TIER>
    <TIER ANNOTATOR="ben" LINGUISTIC_TYPE_REF="assoc" PARENT_REF="action@surgeon" TIER_ID="arm">
        <ANNOTATION>
            <REF_ANNOTATION ANNOTATION_ID="a4" ANNOTATION_REF="a1">
                <ANNOTATION_VALUE>Left</ANNOTATION_VALUE>
            </REF_ANNOTATION>
        </ANNOTATION>
    </TIER>
    <TIER LINGUISTIC_TYPE_REF="default-lt" TIER_ID="speech">
        <ANNOTATION>
            <ALIGNABLE_ANNOTATION ANNOTATION_ID="a5" TIME_SLOT_REF1="ts1" TIME_SLOT_REF2="ts5">
                <ANNOTATION_VALUE>scissors please</ANNOTATION_VALUE>
            </ALIGNABLE_ANNOTATION>
        </ANNOTATION>
    </TIER>
    <LINGUISTIC_TYPE GRAPHIC_REFERENCES="false" LINGUISTIC_TYPE_ID="default-lt" TIME_ALIGNABLE="true"/>
</ANNOTATION_DOCUMENT>
"""


def test_an_elan_file(clips_csv, tmp_path):
    file = write(tmp_path / "set/one.eaf", EAF)
    done = import_annotations(str(tmp_path / "atlas"), file, "elan")
    assert [(c.start_s, c.stop_s, c.tags, c.annotator) for c in read_atlas(str(tmp_path / "atlas")).clips] == [
        (0.08, 1.48, {"action": "Cold Cut", "arm": "Left"}, "ben")
    ]
    assert done.counts == {"unknown-label": 2, "no-span": 1}
    texts = [str(left) for left in done.left_out]
    lines = EAF.splitlines()
    for word, expected in (
        ("a2", "an annotation with a start and an end"),
        ("a3", "'Nap'"),
        ("speech", "'tier speech'"),
    ):
        line = next(n for n, text in enumerate(lines, 1) if f'"{word}"' in text)
        assert any(f"one.eaf:{line}: got" in text and expected in text for text in texts), (word, texts)


def test_the_offset_of_the_media_is_added(tmp_path):
    """TIME_ORIGIN: where ELAN's time 0 lies in the media."""
    text = EAF.replace('MIME_TYPE="video/mp4"', 'MIME_TYPE="video/mp4" TIME_ORIGIN="500"')
    (recording,) = FORMATS["elan"].read(write(tmp_path / "a.eaf", text), ImportSettings(HALSTED))
    assert [(c.start_s / recording.rate, c.stop_s / recording.rate) for c in recording.clips] == [(0.58, 1.98)]


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        (
            'TIME_UNITS="milliseconds"',
            'TIME_UNITS="PAL-frames"',
            r":5: got 'PAL-frames'; expected times in milliseconds",
        ),
        ("</TIER>", "", r"a.eaf:\d+: not well-formed XML"),
        ("<ANNOTATION_DOCUMENT", '<!DOCTYPE x [<!ENTITY a "b">]><ANNOTATION_DOCUMENT', "declares the entity 'a'"),
        ("ANNOTATION_DOCUMENT", "annotations", "expected ELAN's ANNOTATION_DOCUMENT"),
    ],
)
def test_a_wrong_elan_file(tmp_path, old, new, message):
    file = write(tmp_path / "a.eaf", EAF.replace(old, new))
    with pytest.raises(AtlasError, match=message):
        FORMATS["elan"].read(file, ImportSettings(HALSTED))


def test_a_bomb_of_entities_is_refused_at_once(tmp_path):
    entities = "".join(f'<!ENTITY e{n} "{f"&e{n - 1};" * 10}">' for n in range(1, 40))
    bomb = f'<!DOCTYPE x [<!ENTITY e0 "lol">{entities}]><ANNOTATION_DOCUMENT>&e39;</ANNOTATION_DOCUMENT>'
    outside = '<!DOCTYPE x [<!ENTITY e SYSTEM "file:///etc/hostname">]><ANNOTATION_DOCUMENT>&e;</ANNOTATION_DOCUMENT>'
    for text in (bomb, outside):
        with pytest.raises(AtlasError, match="declares the entity"):
            FORMATS["elan"].read(write(tmp_path / "a.eaf", text), ImportSettings(HALSTED))
    deep = "<a>" * 1000 + "</a>" * 1000
    with pytest.raises(AtlasError, match="expected at most 64"):
        FORMATS["elan"].read(write(tmp_path / "a.eaf", deep), ImportSettings(HALSTED))


def test_an_exported_file_has_a_tier_per_tag_and_a_vocabulary(clips_csv, tmp_path):
    import_annotations(str(tmp_path / "atlas"), clips_csv, "csv", annotator="ben")
    (file,) = export_atlas(read_atlas(str(tmp_path / "atlas")), str(tmp_path / "out"), "elan")
    root = ElementTree.parse(file).getroot()
    assert {tag.name for tag in HALSTED.tags} <= {tier.get("TIER_ID") for tier in root.iter("TIER")}
    vocabulary = next(found for found in root.iter("CONTROLLED_VOCABULARY") if found.get("CV_ID") == "action")
    assert [value.text for value in vocabulary.iter("CVE_VALUE")] == list(HALSTED.tag("action").categories)
    order = [child.tag for child in root]
    assert sorted(order, key=["HEADER", "TIME_ORDER", "TIER", "LINGUISTIC_TYPE", "LANGUAGE", "CONSTRAINT",
                              "CONTROLLED_VOCABULARY"].index) == order  # fmt: skip
    assert import_annotations(str(tmp_path / "atlas"), str(tmp_path / "out"), "elan").version == 0


def test_of_several_videos_the_first_one_gets_the_annotations(tmp_path):
    second = '<MEDIA_DESCRIPTOR MEDIA_URL="file:///D:/two.mp4" MIME_TYPE="video/mp4"/><PROPERTY'
    file = write(tmp_path / "a.eaf", EAF.replace("<PROPERTY", second, 1))
    settings = ImportSettings(HALSTED)
    (recording,) = FORMATS["elan"].read(file, settings)
    assert recording.uri.endswith("/one.mp4") and "of 2 videos only the first" in settings.notes[0]


def test_a_time_slot_that_is_no_number_costs_its_annotations_alone(tmp_path):
    file = write(tmp_path / "one.eaf", EAF.replace('TIME_VALUE="2000"', 'TIME_VALUE="soon"'))
    settings = ImportSettings(HALSTED)
    (recording,) = FORMATS["elan"].read(file, settings)
    assert [clip.tags for clip in recording.clips] == [{"action": "Cold Cut", "arm": "Left"}]
    assert [left.code for left in settings.left_out] == ["no-span", "no-span", "unknown-label"]


def test_a_label_without_a_control_gets_its_nearest_category(tmp_path):
    settings = ImportSettings(HALSTED)
    FORMATS["vtt"].read(write(tmp_path / "one.vtt", "WEBVTT\n\n00:01.000 --> 00:02.000\nSutring\n"), settings)
    assert "did you mean 'Suturing'?" in str(settings.left_out[0])
