"""Clips over the HTTP API in this process: their tags, unknown instructions, and where a clip may lie."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from serving import (
    client_of,
    new_key,
    shared_service,
    shared_video,
    upload,
)

from halsted_ray.service.components import ServiceComponents


@pytest.fixture(scope="module")
def video() -> Path:
    return shared_video()


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


def test_an_instruction_with_unknown_words_names_the_nearest(client, uploaded):
    for answer in (
        client.post(f"/v1/videos/{uploaded['video_id']}/maps", json={"instruction": "map sutring activity"}),
        client.post("/v1/clips:map?instruction=map+sutring+activity", content=b"x"),
    ):
        assert answer.status_code == 422 and answer.json()["nearest"][0] == "map suturing activity"
        assert answer.json()["words"]["sutring"][0] == "suturing"
    assert client.post(f"/v1/videos/{uploaded['video_id']}/maps", json={"task": "macr"}).status_code == 422


def test_a_clip_is_answered_with_all_probabilities_and_the_version(client, uploaded, video):
    by_body = client.post(
        "/v1/clips:map?instruction=Map+Procedure+Type&start_s=2.5&stop_s=5",
        content=video.read_bytes(),
        headers={"content-type": "video/mp4"},
    )
    by_id = client.post(
        "/v1/clips:map",
        json={"instruction": "map procedure type", "video_id": uploaded["video_id"], "start_s": 2.5, "stop_s": 5},
    )
    assert by_body.status_code == by_id.status_code == 200
    one, two = by_body.json(), by_id.json()
    assert one["tags"] == two["tags"] and one["model"]["version"] == "v0" and one["model"]["atlas_release"] == "test-1"
    assert [tag["tag"] for tag in one["tags"]] == ["specialty", "procedure", "step"]
    for tag in one["tags"]:
        assert tag["confidence"] == tag["probabilities"][tag["category"]]
        assert sum(tag["probabilities"].values()) == pytest.approx(1, abs=1e-3)
    assert one["seconds"].keys() == {"decode", "queue", "encode", "tag"} and one["seconds"]["decode"] > 0
    assert (
        'halsted_clip_seconds_count{stage="queue"}'
        in client.get("/metrics", headers={"x-api-key": new_key(shared_service(), user="m", role="monitor")}).text
    )
    outside = client.post("/v1/clips:map", json={**json.loads(by_id.request.content), "start_s": 50, "stop_s": 60})
    assert outside.status_code == 422 and "12.000 s" in outside.json()["detail"]


@pytest.mark.parametrize(
    "uri",
    [
        "file:///etc/passwd",
        "/etc/passwd",
        "../south/inbox/clip.mp4",
        "inbox/../../south/inbox/clip.mp4",
        "..",
        "http://169.254.169.254/latest/meta-data",
        "s3://other/clip.mp4",
        "inbox/%2e%2e/x",
        "zip://x::inbox/clip.mp4",
        "inbox/link.mp4",
        "inbox",
        "",
        "inbox//clip.mp4",
        "./inbox/clip.mp4",
        "inbox/\x00.mp4",
        "{root}/south/inbox/clip.mp4",
    ],
)
def test_a_uri_reaches_only_the_caller_s_own_storage(client, service, video, uri):
    for tenant_id in ("north", "south"):
        inbox = Path(service.store.root, tenant_id, "inbox")
        inbox.mkdir(parents=True, exist_ok=True)
        (inbox / "clip.mp4").write_bytes(video.read_bytes())
    link = Path(service.store.root, "north", "inbox", "link.mp4")
    if not link.is_symlink():
        link.symlink_to(Path(service.store.root, "south", "inbox", "clip.mp4"))
    asked = {"instruction": "map procedure type", "uri": uri.replace("{root}", service.store.root)}
    answer = client.post("/v1/clips:map", json=asked)
    assert answer.status_code == 422 and "etc" not in answer.json()["detail"].replace("expected", "")
    for own in ("inbox/clip.mp4", f"{service.store.root}/north/inbox/clip.mp4"):
        assert client.post("/v1/clips:map", json={**asked, "uri": own}).status_code == 200
