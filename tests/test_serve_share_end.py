"""What somebody sees by a share, a key or a session ends with it, also where an answer is still under way."""

from __future__ import annotations

import json
import re
import threading
import time
import urllib.request
from collections.abc import Callable

import pytest
from maps import write_maps
from serving import client_of, new_key, on_a_port, open_service, shared_model, upload, write_video

from halsted_ray.service import users
from halsted_ray.service.components import ServiceComponents
from halsted_ray.service.database import now_s
from halsted_ray.service.routes.videos import CONTENT_BYTES
from halsted_ray.service.tables import BrowserSession, Job, Share

WITHIN_S = 5.0


@pytest.fixture(scope="module")
def service(tmp_path_factory) -> ServiceComponents:
    return open_service(tmp_path_factory.mktemp("site"), shared_model(), with_clips=True, requests_per_minute=10**6)


@pytest.fixture(scope="module")
def address(service):
    with on_a_port(service) as found:
        yield found


@pytest.fixture
def shared(service, request, tmp_path) -> tuple[str, str, str]:
    """The tenant of one test, the id of a mapped case of its user ``owner``, and that of the share of ``trainee``."""
    tenant = re.sub("[^a-z0-9]+", "-", request.node.name)[-50:].strip("-")
    with client_of(service, new_key(service, tenant, "owner")) as owner:
        video_id = upload(owner, write_video(tmp_path / "case.mp4", 12.0))["video_id"]
        write_maps(service.videos.maps_location(tenant, video_id))
        new_key(service, tenant, "trainee", "trainee")
        body = {"user": "trainee", "relation": "trainee"}
        share_id = owner.post(f"/v1/videos/{video_id}/shares", json=body).json()["share_id"]
    return tenant, video_id, share_id


def run_job(service, tenant: str, video_id: str) -> str:
    """The id of a job that a worker does, and goes on doing."""
    with client_of(service, new_key(service, tenant, "owner")) as owner:
        job_id = owner.post(f"/v1/videos/{video_id}/maps", json={}).json()["job_id"]
    with service.database.writing() as session:
        job = session.get_one(Job, job_id)
        job.state, job.worker, job.lease_until_s = "running", "worker", now_s() + 600
    return job_id


def ends_within(url: str, headers: dict[str, str], end: Callable[[], None]) -> tuple[float, str]:
    """Follows a job, calls ``end`` after the first event, and returns the seconds from there to the end of the stream
    and the text of the stream."""
    text, ended_s = "", 0.0
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    with opener.open(urllib.request.Request(url, headers=headers), timeout=60) as answer:
        for line in answer:
            text += line.decode()
            assert not ended_s or time.monotonic() - ended_s < 40, f"the stream goes on:\n{text}"
            if not ended_s:
                end()
                ended_s = time.monotonic()
    return time.monotonic() - ended_s, text


@pytest.mark.parametrize("what", ["the share is ended", "the share expires", "the key is revoked", "the session ends"])
def test_an_event_stream_ends_within_5_s_of_the_share_the_key_or_the_session(service, address, shared, what):
    tenant, video_id, share_id = shared
    url = f"{address}v1/jobs/{run_job(service, tenant, video_id)}/events"
    key = new_key(service, tenant, "trainee", "trainee")
    headers = {"x-api-key": key}
    if what == "the session ends":
        with client_of(service) as browser:
            browser.post("/session", json={"key": key})
            headers = {"cookie": f"halsted_session={browser.cookies['halsted_session']}"}

    def end() -> None:
        with service.database.writing() as session:
            if what == "the share is ended":
                session.delete(session.get_one(Share, share_id))
            elif what == "the share expires":
                session.get_one(Share, share_id).expires_s = now_s() - 1
            elif what == "the session ends":
                session.query(BrowserSession).update({"expires_s": now_s() - 1})
        if what == "the key is revoked":
            users.revoke_operator_key(service.database, users.key_id_of(key))

    took_s, text = ends_within(url, headers, end)
    assert took_s < WITHIN_S and text.count("event: ") == 2
    last = text.strip().split("\n\n")[-1].split("\n")
    assert last[0] == "event: refused" and "has ended" in json.loads(last[1].removeprefix("data: "))["detail"]
    with client_of(service, new_key(service, tenant, "reads-log", "auditor")) as auditor:
        entries = auditor.get("/v1/audit", params={"limit": 1000}).json()["entries"]
    refused = [
        one for one in entries if one["action"] == "access.refused" and one["detail"]["route"].endswith("events")
    ]
    assert len(refused) == ("share" in what), "a share that has ended is a refused look"


def test_an_event_stream_of_a_share_that_runs_goes_on_to_the_end_of_its_job(service, address, shared):
    tenant, video_id, _ = shared
    job_id = run_job(service, tenant, video_id)
    key = new_key(service, tenant, "trainee", "trainee")
    finish = threading.Timer(2 * WITHIN_S, lambda: service.jobs.finish(job_id, "worker", "done", "mapped"))
    took_s, text = ends_within(f"{address}v1/jobs/{job_id}/events", {"x-api-key": key}, finish.start)
    finish.join()
    assert took_s > 2 * WITHIN_S and "event: end" in text and "refused" not in text


def test_a_video_that_is_played_through_a_share_comes_whole_and_no_further_range_after_its_end(service, shared):
    """A range that has begun is not cut: it holds at most 2 MiB, and each one is asked for anew."""
    tenant, video_id, share_id = shared
    place = service.videos.location(service.videos.get(tenant, video_id))
    with open(place, "rb") as file:
        data = file.read()
    where = f"/v1/videos/{video_id}/content"
    with client_of(service, new_key(service, tenant, "trainee", "trainee")) as trainee:
        whole = trainee.get(where, headers={"Range": "bytes=0-"})
        assert whole.status_code == 206 and whole.content == data[:CONTENT_BYTES]
        with service.database.writing() as session:
            session.get_one(Share, share_id).expires_s = now_s() - 1
        assert trainee.get(where, headers={"Range": "bytes=0-"}).status_code == 404


def test_a_look_through_a_share_is_one_entry_with_the_share_and_a_look_of_the_owner_has_none(service, shared):
    tenant, video_id, share_id = shared
    where = f"/v1/videos/{video_id}"
    looks = {
        "video.read": lambda client: client.get(f"{where}/content", headers={"Range": "bytes=0-9"}),
        "timeline.read": lambda client: client.get(f"{where}/timeline"),
        "clip.read": lambda client: client.post(
            "/v1/clips:map", json={"instruction": "map procedure type", "video_id": video_id, "stop_s": 2}
        ),
    }
    with client_of(service, new_key(service, tenant, "trainee", "trainee")) as trainee:
        with client_of(service, new_key(service, tenant, "owner")) as owner:
            for action, look in looks.items():
                for client, share in ((trainee, share_id), (owner, None)):
                    before = owner.get(f"{where}/looks", params={"limit": 1000}).json()
                    assert look(client).status_code in (200, 206)
                    (entry,) = owner.get(f"{where}/looks", params={"limit": 1000}).json()[len(before) :]
                    assert (entry["action"], entry["detail"].get("share")) == (action, share)
