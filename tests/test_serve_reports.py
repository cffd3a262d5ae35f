"""Maps as reports for other systems, from the service: what they hold, and who gets them with a name."""

from __future__ import annotations

import re

import pytest
from maps import write_maps
from serving import client_of, new_key, open_service, shared_model, upload, write_video

from halsted_ray.hospital.fhir import read_bundle
from halsted_ray.hospital.structured_report import read_report
from halsted_ray.hospital.subject import Subject
from halsted_ray.service.case_identities import add_identity
from halsted_ray.service.components import ServiceComponents
from halsted_ray.service.users import Caller

FORMATS = {"dicom": "application/dicom", "fhir": "application/fhir+json", "fhir-r4": "application/fhir+json"}


@pytest.fixture(scope="module")
def service(tmp_path_factory) -> ServiceComponents:
    return open_service(tmp_path_factory.mktemp("site"), shared_model(), requests_per_minute=10**6)


@pytest.fixture
def tenant(request) -> str:
    return re.sub("[^a-z0-9]+", "-", request.node.name)[-50:].strip("-")


@pytest.fixture
def case(service, tenant, tmp_path):
    """A client of the owner of a mapped case, and the case's id."""
    with client_of(service, new_key(service, tenant, "owner")) as owner:
        video_id = upload(owner, write_video(tmp_path / "case.mp4", 3.0))["video_id"]
        write_maps(service.videos.maps_location(tenant, video_id))
        yield owner, video_id


def name_patient(service: ServiceComponents, tenant: str, video_id: str, patient_id: str = "P-4711") -> None:
    """Notes that the case came as DICOM, of this patient."""
    subject = Subject(
        "1.2.3.4", "1.2.3.5", f"1.2.3.6.{patient_id[-2:]}", patient_id, patient_name="Mustermann^Erika", sex="F"
    )
    with service.database.writing() as session:
        add_identity(session, Caller(tenant, "", "service", "admin", "-"), video_id, subject)


def rows_of(format: str, content: bytes) -> list[dict]:
    rows = read_report(content) if format == "dicom" else read_bundle(content.decode())
    return sorted(rows, key=lambda row: (row["start_s"], row["tag"], row["end_s"]))


@pytest.mark.parametrize("format", FORMATS)
def test_a_report_holds_the_rows_of_the_map_and_names_nobody_unless_asked(service, tenant, case, format):
    owner, video_id = case
    name_patient(service, tenant, video_id)
    answer = owner.get(f"/v1/videos/{video_id}/timeline", params={"format": format})
    assert answer.status_code == 200 and answer.headers["content-type"] == FORMATS[format]
    assert f'filename="{video_id}.' in answer.headers["content-disposition"]
    rows = owner.get(f"/v1/videos/{video_id}/timeline").json()["rows"]
    assert rows_of(format, answer.content) == sorted(rows, key=lambda row: (row["start_s"], row["tag"], row["end_s"]))
    assert b"Mustermann" not in answer.content and b"P-4711" not in answer.content
    look = owner.get(f"/v1/videos/{video_id}/looks", params={"limit": 1000}).json()[-2]
    assert (look["action"], look["detail"]["format"], look["detail"].get("identities")) == (
        "timeline.read",
        format,
        None,
    )


@pytest.mark.parametrize("format", FORMATS)
def test_a_report_names_the_patient_for_who_may_read_the_identity_and_the_log_says_so(service, tenant, case, format):
    owner, video_id = case
    name_patient(service, tenant, video_id)
    asked = {"format": format, "identities": "1"}
    where = f"/v1/videos/{video_id}/timeline"
    refused = owner.get(where, params=asked)
    assert refused.status_code == 403 and b"P-4711" not in refused.content
    with client_of(service, new_key(service, tenant, "boss", "admin")) as boss:
        answer = boss.get(where, params=asked)
        assert answer.status_code == 200 and b"P-4711" in answer.content
        assert rows_of(format, answer.content)
        looks = boss.get(f"/v1/videos/{video_id}/looks", params={"limit": 1000}).json()
    assert [one["action"] for one in looks[-3:]] == ["access.refused", "timeline.read", "case.identity"]
    assert looks[-3]["detail"]["asked"] == "identity" and looks[-2]["detail"]["identities"] is True


def test_a_report_that_can_name_nobody_or_several_people_is_refused_in_words(service, tenant, case):
    _, video_id = case
    where = f"/v1/videos/{video_id}/timeline"
    with client_of(service, new_key(service, tenant, "boss", "admin")) as boss:
        answer = boss.get(where, params={"format": "fhir", "identities": "1"})
        assert answer.status_code == 404 and "leave identities out" in answer.json()["detail"]
        for patient_id in ("P-4711", "P-4712"):
            name_patient(service, tenant, video_id, patient_id)
        answer = boss.get(where, params={"format": "fhir", "identities": "1"})
        assert answer.status_code == 409 and "different patients" in answer.json()["detail"]
        answer = boss.get(where, params={"format": "csv", "identities": "1"})
        assert answer.status_code == 422 and "names nobody" in answer.json()["detail"]


def test_a_link_gets_no_report_and_a_case_without_a_map_has_none(service, tenant, case, tmp_path):
    owner, video_id = case
    made = owner.post(f"/v1/videos/{video_id}/links", json={"days": 1}).json()
    with client_of(service) as browser:
        browser.post("/session/link", json={"token": made["url"].partition("#shared=")[2]})
        for format in FORMATS:
            assert browser.get(f"/v1/videos/{video_id}/timeline", params={"format": format}).status_code == 403
    unmapped = upload(owner, write_video(tmp_path / "unmapped.mp4", 2.0))["video_id"]
    answer = owner.get(f"/v1/videos/{unmapped}/timeline", params={"format": "fhir"})
    assert answer.status_code == 404 and "not mapped yet" in answer.json()["detail"]
