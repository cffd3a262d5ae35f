"""The page for surgeons: its sessions and files over the API in this process, and the whole page in a real browser."""

from __future__ import annotations

import re
import socket
import threading
import time
from dataclasses import dataclass
from pathlib import Path

import pytest
import uvicorn
from browser import Browser
from maps import write_maps
from serving import client_of, new_key, open_service, shared_model, upload, write_video

from halsted_ray.service import sessions
from halsted_ray.service.api import create_api
from halsted_ray.service.components import ServiceComponents
from halsted_ray.service.routes.videos import CONTENT_BYTES


@pytest.fixture(scope="module")
def service(tmp_path_factory) -> ServiceComponents:
    folder = tmp_path_factory.mktemp("site")
    return open_service(folder, shared_model())


@pytest.fixture(scope="module")
def video(tmp_path_factory) -> Path:
    return write_video(tmp_path_factory.mktemp("video") / "Jane Doe.mp4", 120.0)


@pytest.fixture
def browser_like(service):
    """A client that keeps cookies and has no key."""
    with client_of(service) as client:
        yield client


def sign_in(client, key: str) -> dict:
    answer = client.post("/session", json={"key": key})
    assert answer.status_code == 200
    return {sessions.CSRF_HEADER: answer.json()["csrf"]}


def test_the_page_is_three_files_that_load_nothing_from_outside(browser_like):
    page = browser_like.get("/")
    assert page.status_code == 200 and page.headers["content-type"].startswith("text/html")
    policy = page.headers["content-security-policy"]
    assert "default-src 'none'" in policy and "unsafe" not in policy and "frame-ancestors 'none'" in policy
    assert "not a medical device" in page.text and not re.search(r"<script>|\son\w+=|style=", page.text)
    for name in ("page.css", "page.js"):
        text = browser_like.get(f"/{name}").text
        assert name in page.text and not re.search(r"https?://(?!www\.w3\.org/2000/svg)|//cdn|innerHTML", text)


def test_a_session_changes_something_only_with_its_csrf_token(service, browser_like):
    key = new_key(service)
    assert browser_like.get("/session").json()["user"] is None
    assert browser_like.post("/session", json={"key": key[:-1]}).status_code == 401
    answer = browser_like.post("/session", json={"key": key})
    cookie = answer.headers["set-cookie"]
    assert "HttpOnly" in cookie and "SameSite=strict" in cookie and "Secure" not in cookie, "plain HTTP on loopback"
    assert key not in cookie and answer.json() == browser_like.get("/session").json()
    assert browser_like.get("/v1/videos").status_code == 200
    for headers in ({}, {sessions.CSRF_HEADER: "0" * 64}, {sessions.CSRF_HEADER: "é"}):
        headers = {name: value.encode() for name, value in headers.items()}
        for method, path in (("post", "/v1/uploads"), ("delete", "/session"), ("post", "/create/invoke")):
            refused = browser_like.request(method, path, headers=headers)
            assert refused.status_code == 403, (method, path)
    token = {sessions.CSRF_HEADER: answer.json()["csrf"]}
    assert browser_like.post("/v1/uploads", json={}, headers=token).status_code == 201
    kept = browser_like.cookies[sessions.COOKIE]
    with service.database.reading() as session:
        rows = [str(vars(row)) for row in session.query(sessions.BrowserSession)]
    assert rows and not any(kept in row for row in rows), "only its digest is kept"
    assert browser_like.delete("/session", headers=token).status_code == 204
    browser_like.cookies.set(sessions.COOKIE, kept)
    assert browser_like.get("/v1/videos").status_code == 401, "signed out for good"


def test_a_session_ends_with_its_key_and_after_a_day(service, browser_like, monkeypatch):
    key = new_key(service, user="root", role="admin")
    headers = sign_in(browser_like, key)
    with monkeypatch.context() as patch:
        patch.setattr("halsted_ray.service.sessions.now_s", lambda: time.time() + sessions.SESSION_S + 1)
        assert browser_like.get("/v1/videos").status_code == 401
    assert browser_like.delete(f"/v1/keys/{key.split('_')[1]}", headers=headers).status_code == 204
    assert browser_like.get("/v1/videos").status_code == 401


def test_behind_a_proxy_with_tls_the_cookie_is_secure(tmp_path, service):
    behind = open_service(tmp_path, Path(service.settings.model), public_url="https://halsted.example")
    with client_of(behind) as client:
        answer = client.post("/session", json={"key": new_key(behind)})
        assert "Secure" in answer.headers["set-cookie"] and answer.headers["strict-transport-security"]


def test_a_video_s_bytes_come_in_ranges_of_bounded_size(service, tmp_path, video):
    path = tmp_path / "large.mp4"
    free = CONTENT_BYTES + 1000
    path.write_bytes(video.read_bytes() + free.to_bytes(4, "big") + b"free" + bytes(free - 8))
    data = path.read_bytes()
    with client_of(service, new_key(service)) as client:
        where = f"/v1/videos/{upload(client, path)['video_id']}/content"
        got, at = b"", 0
        while at < len(data):
            answer = client.get(where, headers={"Range": f"bytes={at}-"})
            assert answer.status_code == 206 and 0 < len(answer.content) <= CONTENT_BYTES
            assert answer.headers["content-range"] == f"bytes {at}-{at + len(answer.content) - 1}/{len(data)}"
            got, at = got + answer.content, at + len(answer.content)
        assert got == data and answer.headers["content-type"] == "video/mp4"
        assert client.get(where, headers={"Range": "bytes=5-9"}).content == data[5:10]
        past = client.get(where, headers={"Range": f"bytes={len(data)}-"})
        assert past.status_code == 416 and past.headers["content-range"] == f"bytes */{len(data)}"
        assert client.get(where, headers={"Range": "bytes=9-5"}).status_code == 416
        assert client.get(where).status_code == 422, "a whole video at once would be held in memory"
    with client_of(service, new_key(service, "south", "eve")) as stranger:
        assert stranger.get(where, headers={"Range": "bytes=0-"}).status_code == 404
    with client_of(service, new_key(service, user="auditor", role="auditor")) as auditor:
        entries = auditor.get("/v1/audit", params={"limit": 1000}).json()["entries"]
        assert sum(entry["action"] == "video.read" for entry in entries) == 1, "once per viewing"


@dataclass
class Site:
    """The service on a port, with a tenant and a key of its own for one test."""

    service: ServiceComponents
    address: str
    tenant: str
    key: str


@pytest.fixture
def site(service, request):
    tenant = request.node.name.replace("_", "-")[:40]
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    server = uvicorn.Server(uvicorn.Config(create_api(service), host="127.0.0.1", port=port, log_level="warning"))
    thread = threading.Thread(target=server.run)
    thread.start()
    while not server.started:
        time.sleep(0.02)
    yield Site(service, f"http://127.0.0.1:{port}/", tenant, new_key(service, tenant))
    server.should_exit = True
    thread.join()


@pytest.fixture
def browser(tmp_path):
    found = Browser(tmp_path)
    yield found
    found.close()


def test_a_surgeon_uses_the_whole_page(site, browser, tmp_path, video):
    """In a real browser. Whatever the policy of the page refuses, every exception and every failed load is an error."""
    browser.go(site.address)
    browser.wait("!document.querySelector('#sign-in').hidden")
    browser.run("document.querySelector('#key').value = 'hk_0_0'")
    browser.click("#sign-in button")
    browser.wait("document.querySelector('#message').textContent.includes('is not valid')")
    browser.run(f"document.querySelector('#key').value = {site.key!r}")
    browser.click("#sign-in button")
    browser.wait("document.querySelector('#none').checkVisibility()")
    browser.errors.clear()  # the 401 above

    (tmp_path / "no.mp4").write_bytes(b"no video at all" * 1000)
    browser.choose_file("#file", tmp_path / "no.mp4")
    browser.wait("document.querySelector('#uploads .failed')?.textContent.includes('expected a video')")
    browser.click("#uploads button", "Remove")
    browser.errors.clear()  # the 422 above

    jobs = site.service.jobs
    browser.choose_file("#file", video)
    browser.wait("document.querySelector('#list li')?.textContent.includes('waiting')")
    assert "Jane" not in browser.run("document.body.innerText + JSON.stringify(localStorage)")
    job = jobs.claim("worker")
    jobs.update(job.job_id, "worker", done_s=30.0, rate=10.0)
    browser.wait("document.querySelector('#list li').textContent.includes('mapping 25%, 9 s left')")
    browser.click("#list a")
    browser.wait("document.querySelector('#state').textContent.includes('mapping')")
    write_maps(site.service.videos.maps_location(site.tenant, job.video_id))
    jobs.finish(job.job_id, "worker", "done", "mapped")

    browser.wait("document.querySelectorAll('#lanes rect').length > 4")
    browser.wait("document.querySelector('#video').readyState > 0")
    lanes = browser.run("[...document.querySelectorAll('#names div')].map((e) => e.textContent)")
    assert lanes[1:5] == ["specialty", "procedure", "step", "action"] and lanes[-1] == "not mapped"
    browser.run("""document.querySelector("#lanes rect[data-start='60']").dispatchEvent(
        new MouseEvent('click', {bubbles: true}))""")
    browser.wait("document.querySelector('#video').currentTime === 60")
    browser.wait("document.querySelector('#now').textContent.includes('Dissection')")
    assert browser.run("location.hash").endswith(f"{job.video_id}@60")
    for key, second in (("ArrowRight", 65), ("PageUp", 60), ("Home", 0)):
        browser.run(f"document.querySelector('#lanes').dispatchEvent(new KeyboardEvent('keydown', {{key: '{key}'}}))")
        browser.wait(f"document.querySelector('#video').currentTime === {second}")
    saved = browser.run("fetch(document.querySelector('#exports a').href).then((answer) => answer.text())")
    assert saved.startswith("video_id,start_s") and "Dissection" in saved
    browser.resize(375, 800)
    assert browser.run("document.documentElement.scrollWidth") <= 375, "nothing sticks out on a phone"
    assert browser.errors == []

    browser.click("#delete")
    browser.click("#confirm button", "Keep it")
    assert site.service.videos.get(site.tenant, job.video_id)
    browser.click("#delete")
    browser.click("#confirm button", "Delete")
    browser.wait("document.querySelector('#none').checkVisibility()")
    assert site.service.videos.list_videos(site.tenant) == []
    browser.click("#sign-out")
    browser.wait("!document.querySelector('#sign-in').hidden")


def test_an_interrupted_upload_sends_no_part_twice(site, browser, tmp_path, video):
    """The network fails for a moment, then the page is loaded again: no part that has come is sent again."""
    came = site.service.metrics.uploaded.collect()[0].samples[0]
    path = tmp_path / "long.mp4"
    free = 10 * 5 * 2**20 - video.stat().st_size
    path.write_bytes(video.read_bytes() + free.to_bytes(4, "big") + b"free" + bytes(free - 8))
    browser.go(site.address)
    browser.wait("!document.querySelector('#sign-in').hidden")
    browser.run(f"document.querySelector('#key').value = {site.key!r}")
    browser.click("#sign-in button")
    browser.wait("document.querySelector('#cases').checkVisibility()")
    browser.hold("*/parts/5")
    browser.choose_file("#file", path)
    browser.fail()
    browser.wait("document.querySelector('#uploads').textContent.includes('trying again in 1 s')")
    browser.wait_held()
    browser.click("#uploads button", "Pause")
    browser.wait("document.querySelector('#uploads').textContent.includes('paused')")
    browser.let_go()
    upload_id = browser.run("Object.values(localStorage)[0]")
    before = site.service.uploads.get(site.tenant, upload_id)[1]
    assert sorted(before) == [1, 2, 3, 4]
    browser.errors.clear()  # the network that was away
    browser.call("Page.reload")
    browser.wait("document.querySelector('#cases')?.checkVisibility() && document.querySelector('#task').length > 1")
    browser.choose_file("#file", path)
    browser.wait("document.querySelector('#list li')")
    upload, parts = site.service.uploads.get(site.tenant, upload_id)
    assert upload.state == "complete" and len(parts) == 10 and browser.run("localStorage.length") == 0
    assert site.service.metrics.uploaded.collect()[0].samples[0].value - came.value == path.stat().st_size
    assert browser.errors == []
