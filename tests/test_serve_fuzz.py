"""Random requests, made from the API's own description: no answer may be a 5xx."""

from __future__ import annotations

import hypothesis
import pytest
import schemathesis
from hypothesis import strategies as st
from serving import client_of, new_key, open_service, shared_model, upload, write_video

from halsted_ray.service.api import create_api

SETTINGS = hypothesis.settings(
    max_examples=12, deadline=None, derandomize=True, database=None, suppress_health_check=list(hypothesis.HealthCheck)
)


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    folder = tmp_path_factory.mktemp("site")
    service = open_service(folder, shared_model(), with_clips=True, requests_per_minute=10**9)
    return service, new_key(service, role="admin")


@schemathesis.serializer("multipart/related")
def as_it_is(_context, value):
    """DICOM instances: bytes without a boundary are refused, which is what these requests are about."""
    return value if isinstance(value, bytes) else b"--b1\r\n\r\nDICM\r\n--b1--"


@pytest.fixture(scope="module")
def client(site):
    with client_of(*site) as found:
        yield found


@pytest.fixture(scope="module")
def video(client, tmp_path_factory) -> bytes:
    path = write_video(tmp_path_factory.mktemp("video") / "v.mp4", 4.0)
    upload(client, path)
    return path.read_bytes()


@pytest.mark.slow
def test_no_request_ends_in_a_5xx(site, video):
    service, key = site
    described = schemathesis.openapi.from_asgi("/openapi.json", create_api(service))
    operations = [found.ok() for found in described.get_all_operations()]
    assert len(operations) >= 28
    for operation in operations:

        @SETTINGS
        @hypothesis.given(case=operation.as_strategy())
        def ask(case):
            answer = case.call(headers={"x-api-key": key}, timeout=20)
            assert answer.status_code < 500, (case.operation.label, answer.text)

        ask()


@SETTINGS
@hypothesis.given(
    changes=st.lists(st.tuples(st.integers(0, 2**31), st.binary(min_size=1, max_size=64)), max_size=8),
    keep=st.integers(0, 2**31),
)
def test_no_damaged_upload_ends_the_service(client, video, changes, keep):
    """A process of its own decodes the upload: whatever happens to that process, the answer is a video or a reason."""
    data = bytearray(video[: 1 + keep % len(video)] if keep % 3 == 0 else video)
    for at, patch in changes:
        at %= len(data)
        data[at : at + len(patch)] = patch
    where = f"/v1/uploads/{client.post('/v1/uploads', json={}).json()['upload_id']}"
    client.put(f"{where}/parts/1", content=bytes(data))
    assert client.post(f"{where}/complete").status_code in (200, 422)
    asked = client.post("/v1/clips:map?instruction=map+procedure+type&stop_s=1", content=bytes(data))
    assert asked.status_code in (200, 422), asked.text
