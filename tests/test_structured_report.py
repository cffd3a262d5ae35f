"""A map as a DICOM SR: what highdicom would write, without its cost, and read back from whatever writing of it."""

import io
import time
from functools import cache

import highdicom
import numpy as np
import pydicom
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydicom.uid import ExplicitVRBigEndian, ImplicitVRLittleEndian

from halsted_ray.errors import UsageError
from halsted_ray.hospital import structured_report, value_set
from halsted_ray.hospital.structured_report import read_report, write_report
from halsted_ray.hospital.subject import derived_uid, unnamed

VIDEO = "3f2a"
TEXT = st.text(st.characters(exclude_categories=("C", "Z"), exclude_characters="\\"), min_size=1, max_size=80)
TIME = st.floats(0, 1e5)
ROW = st.fixed_dictionaries(
    {
        "video_id": st.just(VIDEO),
        "start_s": TIME,
        "end_s": TIME,
        "task": TEXT,
        "tag": TEXT,
        "category": TEXT,
        "confidence": st.floats(0, 1),
        "source": TEXT,
        "model_version": TEXT,
    }
)


def rows_of(count):
    random = np.random.default_rng(4)
    starts = np.sort(random.uniform(0, 3 * 3600, count))
    lengths, sure = random.exponential(5, count), random.uniform(size=count)
    return [
        {
            "video_id": VIDEO,
            "start_s": float(starts[number]),
            "end_s": float(starts[number] + lengths[number]),
            "task": "dissection",
            "tag": ("action", "arm", "instrument")[number % 3],
            "category": ("dissection", "grasping", "retraction", "suture — needle pass")[number % 4],
            "confidence": float(sure[number]),
            "source": "ai",
            "model_version": "phantom@3",
        }
        for number in range(count)
    ]


def group_by_highdicom(number, row):
    """The measurement group of one row, as highdicom builds it."""
    sr = highdicom.sr

    def coded(concept):
        return sr.CodedConcept(concept.code, concept.scheme, concept.meaning)

    def text(name, value):
        return sr.TextContentItem(name=coded(name), value=f"{value}|", relationship_type="CONTAINS")

    tag = value_set.tag_concept(row["tag"])
    measurements = [
        sr.Measurement(name=coded(name), value=value, unit=sr.CodedConcept(unit, "UCUM", meaning))
        for name, value, unit, meaning in (
            (value_set.CERTAINTY, row["confidence"], "1", "no units"),
            (value_set.START, row["start_s"], "s", "second"),
            (value_set.STOP, row["end_s"], "s", "second"),
        )
    ]
    span = sr.TcoordContentItem(
        name=coded(value_set.SPAN),
        temporal_range_type="SEGMENT",
        referenced_time_offsets=[row["start_s"], row["end_s"]],
        relationship_type="INFERRED FROM",
    )
    source = sr.ImageContentItem(
        name=sr.CodedConcept("121112", "DCM", "Source of Measurement"),
        referenced_sop_class_uid=unnamed(VIDEO).class_uid,
        referenced_sop_instance_uid=unnamed(VIDEO).instance_uid,
        relationship_type="SELECTED FROM",
    )
    span.ContentSequence = sr.ContentSequence([source])
    measurements[0][0].ContentSequence = sr.ContentSequence([span])
    group = sr.MeasurementsAndQualitativeEvaluations(
        tracking_identifier=sr.TrackingIdentifier(
            uid=derived_uid(VIDEO, str(number), row["task"], row["tag"], repr(row["start_s"])),
            identifier=f"{number + 1}",
        ),
        finding_type=coded(tag),
        algorithm_id=sr.AlgorithmIdentification(name="Halsted on Ray", version=row["model_version"]),
        measurements=measurements,
        qualitative_evaluations=[
            sr.QualitativeEvaluation(
                name=coded(tag), value=coded(value_set.category_concept(row["tag"], row["category"]))
            )
        ],
    )
    for name, column in (
        (value_set.TASK, "task"),
        (value_set.TAG, "tag"),
        (value_set.CATEGORY, "category"),
        (value_set.SOURCE, "source"),
        (value_set.MODEL, "model_version"),
    ):
        group[0].ContentSequence.append(text(name, row[column]))
    return group[0]


def part(report, code):
    (found,) = [item for item in report.ContentSequence if item.ConceptNameCodeSequence[0].CodeValue == code]
    return found


@settings(max_examples=8)
@given(st.lists(ROW, min_size=1, max_size=3))
@pytest.mark.filterwarnings("ignore")
def test_every_group_is_the_one_that_highdicom_builds_byte_for_byte(rows):
    written = pydicom.dcmread(io.BytesIO(write_report(VIDEO, rows)))
    groups = part(written, "126010").ContentSequence
    assert len(groups) == len(rows)
    for number, (group, row) in enumerate(zip(groups, rows, strict=True)):
        assert structured_report._encoded(group) == structured_report._encoded(group_by_highdicom(number, row))


def test_highdicom_reads_the_report_as_a_measurement_report_of_tid_1500():
    rows = rows_of(12)
    report = highdicom.sr.srread(io.BytesIO(write_report(VIDEO, rows)))
    assert type(report) is highdicom.sr.ComprehensiveSR and type(report.content) is highdicom.sr.MeasurementReport
    groups = report.content.get_image_measurement_groups()
    assert [group.tracking_identifier for group in groups] == [str(number + 1) for number in range(12)]
    certainties = [group.get_measurements(name=certainty())[0].value for group in groups]
    assert certainties == pytest.approx([row["confidence"] for row in rows], abs=1e-12)
    spans = [
        item.value
        for group in groups
        for measurement in group.get_measurements(name=certainty())
        for item in measurement[0].ContentSequence
    ]
    assert np.allclose(spans, [(row["start_s"], row["end_s"]) for row in rows], rtol=0, atol=1e-9)


def certainty():
    return highdicom.sr.CodedConcept("111012", "DCM", "Certainty of Finding")


def test_the_report_states_nothing_about_pictures_that_were_not_measured():
    """An image library would have to state the size of the pictures, which a map does not know."""
    report = pydicom.dcmread(io.BytesIO(write_report(VIDEO, rows_of(1))))
    assert "111028" not in {item.ConceptNameCodeSequence[0].CodeValue for item in report.ContentSequence}


def test_a_report_comes_back_from_other_writings_of_the_same_data_set():
    """Archives write it again: without value representations, and with sequences of undefined length."""
    rows = rows_of(7)
    for syntax, undefined in ((None, True), (ImplicitVRLittleEndian, False), (ImplicitVRLittleEndian, True)):
        report = pydicom.dcmread(io.BytesIO(write_report(VIDEO, rows)))
        if syntax:
            report.file_meta.TransferSyntaxUID = syntax
        if undefined:
            of_undefined_length(report)
        again = io.BytesIO()
        pydicom.dcmwrite(again, report, implicit_vr=bool(syntax), little_endian=True)
        assert read_report(again.getvalue()) == rows


def of_undefined_length(dataset):
    for element in dataset:
        if element.VR == "SQ":
            element.is_undefined_length = True
            for item in element.value:
                item.is_undefined_length_sequence_item = True
                of_undefined_length(item)


def test_a_report_in_another_transfer_syntax_or_character_set_is_refused_with_the_reason():
    big = pydicom.dcmread(io.BytesIO(write_report(VIDEO, rows_of(1))))
    big.file_meta.TransferSyntaxUID = ExplicitVRBigEndian
    file = io.BytesIO()
    pydicom.dcmwrite(file, big, implicit_vr=False, little_endian=False)
    with pytest.raises(UsageError, match="transfer syntax"):
        read_report(file.getvalue())
    with pytest.raises(UsageError, match="character set"):
        read_report(write_report(VIDEO, rows_of(1)).replace(b"ISO_IR 192", b"ISO_IR 100"))


@cache
def planted_report():
    return write_report("PLANTED", [{**row, "category": "PLANTED"} for row in rows_of(2)])


@settings(max_examples=300)
@given(st.data())
def test_a_mangled_report_gives_rows_or_a_refusal_without_its_content(data):
    whole = bytearray(planted_report())
    for _ in range(data.draw(st.integers(1, 4))):
        at = data.draw(st.integers(128, len(whole) - 1))
        whole[at] = data.draw(st.integers(0, 255))
    cut = bytes(whole[: data.draw(st.one_of(st.just(len(whole)), st.integers(0, len(whole))))])
    try:
        read_report(cut)
    except UsageError as error:
        assert "PLANTED" not in str(error)


def test_a_report_that_was_cut_anywhere_is_refused():
    whole = write_report(VIDEO, rows_of(1))
    for stop in range(0, len(whole)):
        with pytest.raises(UsageError):
            read_report(whole[:stop])


def test_sequences_nested_without_end_are_refused():
    start = write_report(VIDEO, rows_of(1))
    at = start.index(b"\x40\x00\x30\xa7SQ")
    nested = b"\x40\x00\x30\xa7SQ\0\0\xff\xff\xff\xff\xfe\xff\x00\xe0\xff\xff\xff\xff"
    with pytest.raises(UsageError, match="at most 32 levels"):
        read_report(start[:at] + nested * 100_000)


def test_a_map_of_three_hours_is_written_and_read_in_seconds():
    """10,000 rows: 0.8 and 1.7 s of CPU on the machine that measured; with an object per element, minutes."""
    rows = rows_of(10_000)
    begun = time.process_time()
    written = write_report(VIDEO, rows)
    between = time.process_time()
    assert read_report(written) == rows
    assert between - begun < 15 and time.process_time() - between < 15
