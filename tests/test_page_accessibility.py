"""Every view of the page has nothing that axe-core finds against WCAG 2.2 AA and its best practices, at four widths, in
light and dark, and nothing sticks out."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
from browser import Tab
from case_maps import write_map
from maps import WHOLE, write_maps
from playwright.sync_api import expect
from serving import client_of, new_key, on_a_port, open_service, shared_model, upload, write_video

from halsted_ray.service import setup_link
from halsted_ray.storage.vectors import VectorStore

AXE = Path(__file__).parents[1] / "serve" / "web" / "node_modules" / "axe-core" / "axe.min.js"
WIDTHS = (390, 768, 1280, 1920)
NARROWEST = 320
"""What 1,280 pixels are at a zoom of 400%."""
TAGS = ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa", "best-practice"]


@pytest.fixture(scope="module", autouse=True)
def axe() -> None:
    """Tests without axe-core would say nothing, so on a machine of the project's automation they fail."""
    if not AXE.exists():
        (pytest.fail if os.environ.get("CI") else pytest.skip)("axe-core is not here: run npm ci in serve/web")


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    """A site with a mapped case, one of two files, and one that is being mapped: its address, an administrator's key,
    and the first two."""
    folder = tmp_path_factory.mktemp("site")
    service = open_service(folder, shared_model(), requests_per_minute=10**6)
    with service.database.writing() as session:
        token = setup_link.begin(session)
    key = new_key(service, user="root", role="admin")
    with client_of(service, key) as client:
        mapped, waiting = (
            upload(client, write_video(folder / f"{seconds}.mp4", seconds))["video_id"] for seconds in (120.0, 20.0)
        )
        files = [
            upload(client, write_video(folder / f"{seconds}.mp4", seconds))["video_id"] for seconds in (12.0, 16.0)
        ]
        for video_id in files:
            client.post(f"/v1/videos/{video_id}/maps", json={})
            job = service.jobs.claim("worker")
            write_map(service, video_id, [("step", "Suturing", 0.0, 9.0)], ("Prostatectomy", 0.9), 12.0)
            service.jobs.finish(job.job_id, "worker", "done", "mapped")
        whole = client.post("/v1/cases", json={"video_ids": files}).json()["case_id"]
        place = service.videos.maps_location("north", mapped)
        write_maps(place)
        vectors = {("fine", 2.5 * n, 2.5 * n + 2.5): np.eye(48)[n] for n in range(48)}
        VectorStore(f"{place}/embeddings", "ab", "reference").put(WHOLE, 0.0, 120.0, vectors)
        client.post(f"/v1/videos/{mapped}/maps", json={})
        service.jobs.finish(service.jobs.claim("worker").job_id, "worker", "done", "mapped")
        client.post(f"/v1/videos/{waiting}/maps", json={})
        service.jobs.update(service.jobs.claim("worker").job_id, "worker", done_s=5.0, rate=1.0)
        new_key(service, user="grace", role="trainee")
        client.post(f"/v1/videos/{mapped}/shares", json={"user": "grace", "relation": "trainee"})
    empty_key = new_key(service, "south", "eve")
    with on_a_port(service) as address:
        yield {"address": address, "key": key, "mapped": mapped, "whole": whole, "token": token, "empty": empty_key}


def findings(tab: Tab) -> list[str]:
    """What axe finds on the page, and what sticks out, at each width in light and dark."""
    page = tab.page
    found = [] if tab.fits(NARROWEST) else [f"{NARROWEST}: something sticks out"]
    for scheme in ("light", "dark"):
        page.emulate_media(color_scheme=scheme)
        for width in WIDTHS:
            if not tab.fits(width):
                found.append(f"{scheme} {width}: something sticks out")
            if not page.evaluate("Boolean(window.axe)"):
                page.evaluate(AXE.read_text())
            violations = page.evaluate("(tags) => axe.run(document, {runOnly: tags})", TAGS)["violations"]
            for one in violations:
                places = [node["target"] for node in one["nodes"]]
                found.append(f"{scheme} {width}: {one['id']}: {one['help']}: {places[:3]}")
    return found


def open_everything(tab: Tab) -> None:
    """Opens whatever is folded."""
    folded = tab.page.locator("details:not([open]) > summary")
    while folded.count():
        folded.first.click()


def test_axe_finds_nothing_on_the_sign_in_and_the_setup(site, tab):
    tab.page.goto(site["address"])
    expect(tab.page.get_by_label("Your key")).to_be_visible()
    assert findings(tab) == []
    tab.go(f"setup={site['token']}")
    expect(tab.page.get_by_label("Your user name")).to_be_visible()
    assert findings(tab) == []


def test_axe_finds_nothing_on_home_with_cases_and_without(site, tab):
    tab.sign_in(site["address"], site["key"])
    expect(tab.region("The last 30 days")).to_be_visible()
    open_everything(tab)
    assert findings(tab) == []
    tab.sign_in(site["address"], site["empty"])
    expect(tab.page.get_by_role("heading", name="There is no case yet")).to_be_visible()
    assert findings(tab) == []


def test_axe_finds_nothing_on_the_library_its_filters_its_choice_and_its_dialogs(site, tab):
    page = tab.page
    tab.sign_in(site["address"], site["key"], at="library")
    expect(page.get_by_role("list", name="Cases").get_by_role("listitem")).to_have_count(3)
    open_everything(tab)
    page.get_by_role("button", name="Choose cases").click()
    page.get_by_role("checkbox").first.check()
    assert findings(tab) == []
    page.get_by_role("button", name="Describe").first.click()
    expect(page.get_by_role("dialog")).to_be_visible()
    assert findings(tab) == []


def test_axe_finds_nothing_on_moments_that_are_like_one_and_on_words_without_a_model(site, tab):
    page = tab.page
    tab.sign_in(site["address"], site["key"], at=f"library?like={site['mapped']}@10")
    moments = page.get_by_role("region", name="Moments like 0:10")
    expect(moments.get_by_role("link").first).to_be_visible()
    assert findings(tab) == []
    page.get_by_label("Search", exact=True).fill("needle")
    page.get_by_role("button", name="Find moments").click()
    expect(page.get_by_role("alert")).to_contain_text("no model for questions in words")
    assert findings(tab) == []


def test_axe_finds_nothing_on_a_case_with_all_that_is_folded_open(site, tab):
    page = tab.page
    tab.sign_in(site["address"], site["key"], at=site["mapped"])
    expect(tab.region("About this case")).to_contain_text("Mapped")
    open_everything(tab)
    expect(page.get_by_role("heading", name="Read-only links")).to_be_visible()
    assert findings(tab) == []
    page.get_by_role("button", name="Delete this case").click()
    expect(page.get_by_role("dialog")).to_be_visible()
    assert findings(tab) == []


def test_axe_finds_nothing_on_a_case_of_several_files_nor_on_its_deletion(site, tab):
    page = tab.page
    tab.sign_in(site["address"], site["key"], at=f"case={site['whole']}")
    expect(page.get_by_role("heading", name="Files of this operation")).to_be_visible()
    open_everything(tab)
    assert findings(tab) == []
    page.get_by_role("button", name="Delete the whole case (2 files)").click()
    expect(page.get_by_role("dialog").get_by_role("button", name="Keep it")).to_be_focused()
    assert findings(tab) == []


def test_axe_finds_nothing_on_the_sign_in_after_a_session_has_ended(site, tab):
    page = tab.page
    tab.sign_in(site["address"], site["key"], at="library")
    page.context.clear_cookies()
    page.get_by_label("Search", exact=True).fill("needle")
    expect(page.get_by_role("status").filter(has_text="You were signed out")).to_be_visible()
    assert findings(tab) == []


def test_axe_finds_nothing_on_comparisons_nor_on_ones_own_cases(site, tab):
    page = tab.page
    tab.sign_in(site["address"], site["key"], at=f"compare={site['mapped']}")
    expect(page.get_by_label("Compare with")).to_be_visible()
    assert findings(tab) == []
    tab.go(f"compare={site['mapped']},case={site['whole']}")
    expect(page.get_by_label("Align at")).to_be_visible()
    assert findings(tab) == []
    tab.go("mine")
    expect(page.get_by_role("heading", name="My cases over time")).to_be_visible()
    assert findings(tab) == []


def test_axe_finds_nothing_on_what_a_moment_rests_on_nor_on_each_panel_beside_it(site, tab):
    page = tab.page
    tab.sign_in(site["address"], site["key"], at=site["mapped"])
    page.get_by_role("button", name="Why this?").click()
    expect(page.get_by_role("heading", name="Where the operation is")).to_be_visible()
    assert findings(tab) == []
    for panel in page.get_by_role("tab").all():
        panel.click()
        expect(panel).to_have_attribute("aria-selected", "true")
        assert findings(tab) == []
