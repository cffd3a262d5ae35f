"""The whole way of a case in a real browser, over the real service, its worker and the model that ships.

Two files of one operation are sent, cleaned, mapped, reviewed, corrected, taken into the atlas, shared, compared,
printed and deleted, and the audit log has all of it.
"""

from __future__ import annotations

import os
import re
import threading
import time
from dataclasses import dataclass
from pathlib import Path

import pytest
from browser import Tab
from playwright.sync_api import expect
from serving import client_of, new_key, on_a_port, open_service, worker_here
from starlette.testclient import TestClient

from halsted_ray.atlas import read_atlas
from halsted_ray.cli import main
from halsted_ray.model.shipped import model_location
from halsted_ray.service.components import ServiceComponents

PICTURES = Path(__file__).parents[1] / "docs" / "pictures"
"""With HALSTED_PICTURES=1 this test writes the pictures of the docs."""
SLOW_MS = 300_000
"""How long cleaning and mapping of a minute of video may take on a busy machine."""


@dataclass
class Site:
    """``files``: two phantoms of half a minute."""

    service: ServiceComponents
    address: str
    key: str
    files: list[Path]
    atlas: str


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    """A site with an atlas, whose worker does jobs in a thread, and two phantoms that begin with suturing."""
    folder = tmp_path_factory.mktemp("site")
    phantoms, atlas = folder / "phantoms", folder / "atlas"
    picture = ["--size", "256x144", "--fps", "12.8", "--pace", "2", "--suturing", "1"]
    assert main(["phantom", str(phantoms), "--videos", "2", "--minutes", "0.5", "--seed", "77", *picture]) == 0
    model = Path(model_location("phantom"))
    service = open_service(folder, model, requests_per_minute=10**6, deidentify="metadata", atlas=str(atlas))
    stop = threading.Event()
    worker = threading.Thread(target=worker_here(service).work, args=(stop,), daemon=True)
    worker.start()
    with on_a_port(service) as address:
        yield Site(service, address, new_key(service), sorted((phantoms / "videos").glob("*.mp4")), str(atlas))
    stop.set()
    worker.join(60)


def test_a_case_goes_the_whole_way(site, tab, chromium):
    page = tab.page
    page.set_viewport_size({"width": 1280, "height": 900})
    tab.sign_in(site.address, site.key)
    one, other = send_and_map(tab, site)

    # Review: what happens now, and a step on by the keyboard.
    tab.go(one)
    now = tab.region("Now")
    expect(now).to_contain_text("Suturing", timeout=SLOW_MS)
    page.keyboard.press("ArrowRight")
    picture(tab, "case")
    expect(page.get_by_role("slider", name="Position in the video")).to_have_attribute("aria-valuenow", "5")

    # Correct: the least sure answer is right; the same is offered for moments that look like it.
    page.get_by_role("tab", name="Correct").click()
    panel = tab.region("Correct the map")
    page.keyboard.press("g")
    panel.get_by_role("button", name=re.compile("^Right")).click()
    expect(panel.get_by_text(re.compile("^1 of .* looked at"))).to_be_visible()
    expect(panel.get_by_text("Everything is saved.")).to_be_visible()
    panel.get_by_role("button", name=re.compile("^Before")).click()
    expect(panel.get_by_text("Confirmed by you.")).to_be_visible()
    picture(tab, "correct")
    panel.get_by_role("button", name="Look for similar moments").click()
    expect(panel.get_by_text(re.compile("also for:|No moment is like this one"))).to_be_visible()
    panel.get_by_text("Into the atlas", exact=True).click()
    panel.get_by_role("button", name="Put it into the atlas").click()
    expect(panel.get_by_text(re.compile("example is in the atlas|examples are in the atlas"))).to_be_visible()
    (clip,) = {(clip.video_id, clip.source) for clip in read_atlas(site.atlas, "head").clips}
    assert clip[1] == "manual"

    link = share(tab)
    visitor = Tab(chromium.new_context(locale="en-GB").new_page())
    visitor.page.goto(link)
    expect(visitor.region("Now")).to_contain_text("Suturing")
    expect(visitor.page.get_by_role("tab", name="Correct")).to_have_count(0)
    visitor.page.context.close()

    # Compare with the other file, at a step that both have.
    tab.go(f"compare={one},{other}")
    expect(page.get_by_label("Align at")).to_contain_text("Suturing")
    page.get_by_label("Align at").select_option("Suturing")
    expect(tab.region("Time per step").first).to_contain_text("Suturing")
    picture(tab, "compare")

    # Print: one page.
    tab.go(one)
    expect(page.locator(".summary")).to_have_count(1)
    printed = page.pdf()
    assert len(re.findall(rb"/Type\s*/Page\b(?!s)", printed)) == 1

    delete(tab)
    with client_of(site.service, new_key(site.service, user="aud", role="auditor")) as auditor:
        entries = auditor.get("/v1/audit", params={"limit": 1000}).json()["entries"]
    found = {entry["action"] for entry in entries}
    wanted = {
        "video.read",
        "timeline.read",
        "annotation.change",
        "annotation.commit",
        "video.delete",
        "summary.read",
        "map.submit",
        "clean.done",
        "map.done",
    }
    assert wanted <= found, (wanted - found, found)
    refused = [entry for entry in entries if entry["action"] == "access.refused"]
    assert refused == [], "the page asks for nothing that it may not have"
    assert any("link" in action for action in found), found
    assert tab.errors == []


def send_and_map(tab: Tab, site: Site) -> tuple[str, str]:
    """Sends the two files as one operation and watches until both are mapped; their ids in the order of the case."""
    page = tab.page
    page.get_by_role("link", name="Library").click()
    page.get_by_label("Choose videos").set_input_files(site.files)
    page.get_by_role("dialog").get_by_role("button", name="Send them").click()
    cases = page.get_by_role("list", name="Cases")
    expect(cases.get_by_role("listitem").first).to_be_visible(timeout=SLOW_MS)
    expect(page.get_by_text("1 case", exact=True)).to_be_visible(timeout=SLOW_MS)
    expect(cases).to_contain_text(re.compile("Suturing|suturing|Mapped|mapped"), timeout=SLOW_MS)
    with client_of(site.service, site.key) as client:
        (case,) = client.get("/v1/cases").json()["cases"]
        assert len(case["videos"]) == 2
        for video_id in case["videos"]:
            tab.go(video_id)
            expect(tab.region("Now")).to_be_visible(timeout=SLOW_MS)
            expect(page.get_by_text(re.compile("^Cleaned: "))).to_be_visible()
            wait_for_map(client, video_id)
        one, other = case["videos"]
    page.get_by_role("link", name="Library").click()
    expect(cases).to_contain_text("suggested by the map")
    picture(tab, "library")
    return one, other


def wait_for_map(client: TestClient, video_id: str) -> None:
    until_s = time.monotonic() + SLOW_MS / 1000
    while client.get(f"/v1/videos/{video_id}").json()["job"]["state"] != "done":
        assert time.monotonic() < until_s, "it is not mapped in time"
        time.sleep(0.2)


def picture(tab: Tab, name: str) -> None:
    """Keeps what is seen as a picture of the docs, where it is asked for."""
    if os.environ.get("HALSTED_PICTURES"):
        tab.page.wait_for_timeout(1500)
        tab.page.screenshot(path=PICTURES / f"{name}.png")


def share(tab: Tab) -> str:
    """Makes a read-only link to the case; its address."""
    page = tab.page
    page.get_by_text("Share and save").click()
    page.get_by_role("button", name=re.compile("^Make (a|the) link")).click()
    return page.locator("code", has_text="#shared=").inner_text()


def delete(tab: Tab) -> None:
    page = tab.page
    page.get_by_role("button", name="Delete the whole case (2 files)").click()
    page.get_by_role("dialog").get_by_role("button", name="Delete").click()
    expect(page.get_by_role("heading", name="Library")).to_be_visible()
    tab.errors[:] = [one for one in tab.errors if "404" not in one]
