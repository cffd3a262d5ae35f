"""The page for surgeons: its sessions and files over the API in this process, and the whole page in a real browser."""

from __future__ import annotations

import re
import time
from dataclasses import dataclass
from pathlib import Path

import pytest
from maps import write_maps
from playwright.sync_api import expect
from serving import clean_here, client_of, new_key, on_a_port, open_service, shared_model, upload, write_video

from halsted_ray.service import sessions
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


def test_the_page_is_plain_files_that_load_nothing_from_outside(browser_like):
    page = browser_like.get("/")
    assert page.status_code == 200 and page.headers["content-type"].startswith("text/html")
    policy = page.headers["content-security-policy"]
    assert "default-src 'none'" in policy and "unsafe" not in policy and "frame-ancestors 'none'" in policy
    assert not re.search(r"<script>|\son\w+=|style=", page.text)
    loaded = re.findall(r'(?:src|href)="(?!data:)([^"]+)"', page.text.partition("<body>")[0])
    assert loaded and all(re.fullmatch(r"\./assets/[\w.-]+\.(js|css)", one) for one in loaded), loaded
    for name in loaded:
        text = browser_like.get(f"/{name}")
        assert text.status_code == 200 and "immutable" in text.headers["cache-control"]
        assert not re.search(r"https?://(?!www\.w3\.org/)|//cdn|url\((?!data:)", text.text)


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


def test_a_video_s_bytes_come_in_ranges_of_bounded_size(tmp_path, video):
    service = open_service(tmp_path, shared_model(), deidentify="off")  # else what makes the file large would go
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
        read = [entry["detail"]["bytes"] for entry in entries if entry["action"] == "video.read"]
        assert sorted(read)[-1][1] == len(data) and [5, 10] in read, "each range is an entry"


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
    with on_a_port(service) as address:
        yield Site(service, address, tenant, new_key(service, tenant))


def choose_files(tab, *paths: Path) -> None:
    tab.page.get_by_label("Choose videos").set_input_files(paths)


def test_a_surgeon_uses_the_whole_page(site, tab, tmp_path, video):
    """In a real browser. Whatever the policy of the page refuses, every exception and every failed load is an error."""
    page = tab.page
    page.goto(site.address)
    page.get_by_label("Your key").fill("hk_0_0")
    page.get_by_role("button", name="Sign in").click()
    expect(page.get_by_role("alert")).to_contain_text("is not valid")
    tab.errors.clear()  # the 401 above
    page.get_by_label("Your key").fill(site.key)
    page.get_by_role("button", name="Sign in").click()
    expect(page.get_by_role("heading", name="There is no case yet")).to_be_visible()
    expect(page.get_by_text("Research software, not a medical device.")).to_be_visible()

    page.get_by_role("link", name="Library").click()
    expect(page.get_by_role("heading", name="There is no case yet")).to_be_visible()
    (tmp_path / "no.mp4").write_bytes(b"no video at all" * 1000)
    choose_files(tab, tmp_path / "no.mp4")
    tray = tab.region("Videos that are being sent")
    expect(tray.get_by_role("alert")).to_contain_text("it is no video")
    tray.get_by_role("button", name="Remove").click()
    tab.errors.clear()  # the 422 above

    jobs = site.service.jobs
    choose_files(tab, video)
    cases = page.get_by_role("list", name="Cases")
    expect(cases.get_by_role("listitem").first).to_contain_text("Being cleaned")
    expect(tray).to_have_count(0)
    cases.get_by_role("link").first.click()
    about = tab.region("About this case")
    expect(about).to_contain_text("Waiting to be cleaned")
    assert not [one for one in tab.asked if "/content" in one], "the original is never asked for"
    clean_here(site.service)
    expect(about).to_contain_text("tags removed")
    expect(about.get_by_role("link", name="Certificate")).to_have_attribute("href", re.compile("/certificate$"))
    expect(about).to_contain_text("Waiting for its turn")
    assert "Jane" not in tab.text() + page.evaluate("JSON.stringify(localStorage)")

    job = jobs.claim("worker")
    jobs.update(job.job_id, "worker", done_s=30.0, rate=10.0)
    expect(about).to_contain_text("Being mapped, 25%, 9 s left")
    page.get_by_role("link", name="Home", exact=True).click()
    expect(tab.region("Under way")).to_contain_text("25%, 9 s left")
    page.get_by_role("link", name="Library").click()
    expect(cases).to_contain_text("Being mapped, 25%")
    write_maps(site.service.videos.maps_location(site.tenant, job.video_id))
    jobs.finish(job.job_id, "worker", "done", "mapped")
    expect(cases).not_to_contain_text("Being mapped")
    cases.get_by_role("link").first.click()
    expect(about).to_contain_text("Mapped")
    page.get_by_text("Share and save").click()
    with page.expect_download() as saved:
        page.get_by_role("link", name="Table (CSV)").click()
    text = Path(saved.value.path()).read_text()
    assert text.startswith("video_id,start_s") and "Dissection" in text
    assert tab.fits(375), "nothing sticks out on a phone"
    assert tab.errors == []

    dialog = page.get_by_role("dialog")
    page.get_by_role("button", name="Delete this case").click()
    dialog.get_by_role("button", name="Keep it").click()
    expect(dialog).to_have_count(0)
    assert site.service.videos.get(site.tenant, job.video_id)
    page.get_by_role("button", name="Delete this case").click()
    dialog.get_by_role("button", name="Delete").click()
    expect(page.get_by_role("heading", name="There is no case yet")).to_be_visible()
    assert site.service.videos.list_videos(site.tenant) == []
    page.get_by_role("button", name="Sign out").click()
    expect(page.get_by_label("Your key")).to_be_visible()


def test_an_interrupted_upload_sends_no_part_twice(site, tab, tmp_path, video):
    """The network fails for a moment, then the page is loaded again: no part that has come is sent again."""
    came = site.service.metrics.uploaded.collect()[0].samples[0]
    path = tmp_path / "long.mp4"
    free = 10 * 5 * 2**20 - video.stat().st_size
    path.write_bytes(video.read_bytes() + free.to_bytes(4, "big") + b"free" + bytes(free - 8))
    tab.sign_in(site.address, site.key, at="library")
    tray = tab.region("Videos that are being sent")
    with tab.holding("/parts/5$"):
        choose_files(tab, path)
        tab.held().abort("internetdisconnected")
        expect(tray).to_contain_text("trying again in 1 s")
        tab.held()
        tray.get_by_role("button", name="Pause").click()
        expect(tray).to_contain_text("paused")
    upload_id = tab.page.evaluate("Object.values(localStorage)[0]")
    before = site.service.uploads.get(site.tenant, upload_id)[1]
    assert sorted(before) == [1, 2, 3, 4]
    tab.errors.clear()  # the network that was away
    tab.page.reload()
    choose_files(tab, path)
    expect(tab.page.get_by_role("list", name="Cases").get_by_role("listitem")).to_have_count(1)
    upload, parts = site.service.uploads.get(site.tenant, upload_id)
    assert upload.state == "complete" and len(parts) == 10 and tab.page.evaluate("localStorage.length") == 0
    assert site.service.metrics.uploaded.collect()[0].samples[0].value - came.value == path.stat().st_size
    assert tab.errors == []
