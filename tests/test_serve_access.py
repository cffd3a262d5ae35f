"""Who may do what over the HTTP API, how much and how often; and what the log holds of it."""

from __future__ import annotations

import json
import math
import re
import time
from pathlib import Path

import pytest
from fastapi import HTTPException
from serving import (
    client_of,
    new_key,
    open_service,
    shared_model,
    shared_service,
    shared_video,
    upload,
)
from starlette.testclient import TestClient

from halsted_ray.service.components import ServiceComponents
from halsted_ray.service.object_store import PART_BYTES
from halsted_ray.service.rate_limit import RateLimiter


@pytest.fixture(scope="module")
def model() -> Path:
    return shared_model()


@pytest.fixture(scope="module")
def service() -> ServiceComponents:
    return shared_service()


@pytest.fixture(scope="module")
def client(service):
    with client_of(service, new_key(service)) as found:
        yield found


@pytest.fixture(scope="module")
def uploaded(client) -> dict:
    return upload(client, shared_video())


def other_tenant(service: ServiceComponents, role: str = "admin") -> TestClient:
    """A client of another tenant's user."""
    return client_of(service, new_key(service, "south", f"eve-{role}", role))


def test_no_route_gives_another_tenant_anything(client, service, uploaded):
    """Every route with an id in its path answers 404 for an id that belongs to another tenant."""
    mine = {
        "video_id": uploaded["video_id"],
        "number": "1",
        "upload_id": client.post("/v1/uploads", json={}).json()["upload_id"],
        "job_id": client.post(f"/v1/videos/{uploaded['video_id']}/maps", json={}).json()["job_id"],
        "key_id": new_key(service).split("_")[1],
        "share_id": "ab",
        "comment_id": "ab",
        "link_id": "ab",
        "case_id": uploaded["case_id"],
    }
    bodies = {"put": {"content": b"x"}, "post": {"json": {}}}
    with other_tenant(service) as stranger, client_of(service) as anybody:
        walked = 0
        for path, methods in stranger.get("/openapi.json").json()["paths"].items():
            names = re.findall(r"{(\w+)}", path)
            if not path.startswith("/v1/"):
                continue
            for method in methods:
                url = path.format(**{name: mine[name] for name in names})
                assert getattr(anybody, method)(url, **bodies.get(method, {})).status_code == 401, (method, path)
                if names:
                    walked += 1
                    answer = getattr(stranger, method)(url, **bodies.get(method, {}))
                    assert answer.status_code == 404, (method, path, answer.text)
        assert walked == 51
        asked = {"instruction": "map procedure type", "video_id": uploaded["video_id"]}
        assert stranger.post("/v1/clips:map", json=asked).status_code == 404
        assert stranger.get("/v1/videos").json() == []
        seen = stranger.get("/v1/audit", params={"limit": 1000}).json()["entries"]
        assert {entry["actor"].split("/")[0] for entry in seen} == {"operator", "eve-admin"}
        assert len([entry for entry in seen if entry["action"] == "access.refused"]) == walked + 1, "each is an entry"
    assert client.get(f"/v1/uploads/{mine['upload_id']}").json()["parts"] == []
    assert client.get(f"/v1/jobs/{mine['job_id']}").json()["state"] == "queued"


def test_each_role_has_its_permissions_and_no_others(service, uploaded):
    calls = {
        "read": ("get", "/v1/videos"),
        "write": ("post", "/v1/uploads"),
        "keys": ("get", "/v1/keys"),
        "audit": ("get", "/v1/audit"),
    }
    may = {
        "surgeon": {"read", "write"},
        "reviewer": {"read"},
        "annotator": {"read"},
        "auditor": {"audit"},
        "admin": {"read", "write", "keys", "audit"},
    }
    for role, allowed in may.items():
        with client_of(service, new_key(service, "north", f"one-{role}", role)) as user:
            for permission, (method, path) in calls.items():
                answer = getattr(user, method)(path, **({"json": {}} if method == "post" else {}))
                assert (answer.status_code != 403) == (permission in allowed), (role, permission)
    with client_of(service, new_key(service, "north", "one-admin", "admin")) as admin:
        made = admin.post("/v1/keys", json={"user": "new", "role": "reviewer"}).json()
        with client_of(service) as new:
            headers = {"Authorization": f"Bearer {made['key']}"}
            assert new.get("/v1/videos", headers=headers).status_code == 200
            assert admin.delete(f"/v1/keys/{made['key_id']}").status_code == 204
            assert new.get("/v1/videos", headers=headers).status_code == 401


def test_limits_of_bodies_headers_of_answers_and_a_log_without_names(client, service, model, tmp_path, caplog):
    own = client.post("/v1/uploads", json={}).json()["upload_id"]
    assert client.put(f"/v1/uploads/{own}/parts/1", content=b"x" * (PART_BYTES + 1)).status_code == 413
    assert client.post("/v1/uploads", content=b" " * (service.settings.json_bytes + 1)).status_code == 413
    headers = client.get("/v1/videos").headers
    assert headers["x-content-type-options"] == "nosniff" and headers["x-frame-options"] == "DENY"
    assert "default-src 'none'" in headers["content-security-policy"] and headers["cache-control"] == "no-store"
    caplog.set_level("INFO", "halsted_ray.service.requests")
    key = client.headers["x-api-key"]
    client.get("/v1/videos/Jane%20Doe.mp4?patient=Jane%20Doe")
    line = json.loads(caplog.records[-1].getMessage())
    assert line["route"] == "/v1/videos/{video_id}" and line["status"] == 422 and line["tenant"] == "north"
    assert "Jane" not in caplog.text and key not in caplog.text and key.split("_", 2)[2] not in caplog.text
    small = open_service(tmp_path, model, requests_per_minute=3)
    with client_of(small, new_key(small)) as eager:
        codes = [eager.get("/v1/videos").status_code for _ in range(5)]
    assert codes == [200, 200, 200, 429, 429]
    small.replicas = 3
    with client_of(small, new_key(small, user="bob")) as eager:
        assert [eager.get("/v1/videos").status_code for _ in range(2)] == [200, 429], "the share of one of three"


@pytest.mark.parametrize("a_minute, replicas", [(60, 1), (120, 4)])
def test_a_client_at_twice_its_limit_gets_exactly_its_limit(a_minute, replicas, monkeypatch):
    clock_s = 1000.0
    monkeypatch.setattr(time, "monotonic", lambda: clock_s)
    buckets = RateLimiter(a_minute, replicas)
    rate = a_minute / replicas / 60
    let_through, waits_s = [], []
    for _ in range(int(600 * 2 * rate)):  # ten minutes at twice the rate
        clock_s += 1 / (2 * rate)
        try:
            buckets.take("a steady client")
            let_through.append(clock_s)
        except HTTPException as refusal:
            waits_s.append(int(refusal.headers["Retry-After"]))
    burst = 2 * 60  # the full bucket lasts two minutes: it fills half as fast as it is emptied
    after_s = [at_s for at_s in let_through if at_s > 1000 + burst]
    assert len(after_s) == pytest.approx((600 - burst) * rate, abs=2)
    assert max(waits_s) <= math.ceil(1 / rate)
    clock_s += waits_s[-1]
    buckets.take("a steady client")  # it comes back when it was told to
