"""Sharing a case on the page, in a real browser over a real service: read-only links, clips, and whoever was signed
out."""

from __future__ import annotations

from pathlib import Path

import pytest
from maps import write_maps
from playwright.sync_api import expect
from serving import client_of, new_key, on_a_port, open_service, shared_model, upload, write_video
from sqlalchemy import delete

from halsted_ray.service.components import ServiceComponents
from halsted_ray.service.tables import BrowserSession


@pytest.fixture(scope="module")
def service(tmp_path_factory) -> ServiceComponents:
    return open_service(tmp_path_factory.mktemp("site"), shared_model(), requests_per_minute=10**6)


@pytest.fixture(scope="module")
def address(service):
    with on_a_port(service) as found:
        yield found


@pytest.fixture(scope="module")
def mapped(service, tmp_path_factory) -> str:
    """The id of a mapped case of the surgeon ``ada``."""
    with client_of(service, new_key(service)) as client:
        path = write_video(tmp_path_factory.mktemp("video") / "a.mp4", 120.0)
        video_id: str = upload(client, path)["video_id"]
        client.post(f"/v1/videos/{video_id}/maps", json={})
        write_maps(service.videos.maps_location("north", video_id))
        service.jobs.finish(service.jobs.claim("worker").job_id, "worker", "done", "mapped")
        return video_id


def open_sharing(tab) -> None:
    tab.page.get_by_text("Share and save").click()


def test_whoever_has_a_link_looks_at_the_case_without_an_account_until_it_is_ended(
    service, address, mapped, tab, chromium
):
    tab.sign_in(address, new_key(service), at=mapped)
    open_sharing(tab)
    form = tab.page.get_by_role("form", name="Read-only links")
    form.get_by_role("button", name="Make a link").click()
    code = tab.page.locator("code").filter(has_text="#shared=")
    url = code.inner_text().strip()
    assert url.partition("#")[2].startswith("shared=")

    guest = chromium.new_context(locale="en-GB").new_page()
    try:
        guest.goto(address + "#" + url.partition("#")[2])
        expect(guest.get_by_text("You look at this case by a link.")).to_be_visible()
        expect(guest.get_by_role("region", name="About this case")).to_contain_text("2:00")
        assert guest.url.partition("#")[2].startswith(mapped), "the secret leaves the address"
        for button in ("Delete this case", "Start", "Share", "Sign out"):
            expect(guest.get_by_role("button", name=button, exact=True)).to_have_count(0)
        guest.goto(f"{address}#library")
        expect(guest.get_by_role("region", name="About this case")).to_be_visible()

        tab.page.get_by_role("list", name="Read-only links to this case").get_by_role("button").click()
        expect(tab.page.get_by_role("list", name="Read-only links to this case")).to_have_count(0)
        guest.goto("about:blank")
        guest.goto(address + "#" + url.partition("#")[2])
        expect(guest.get_by_role("alert")).to_contain_text("his link has ended")
    finally:
        guest.context.close()
    assert tab.errors == []


def test_a_link_to_a_part_plays_that_part_from_its_first_moment(service, address, mapped, tab):
    with client_of(service, new_key(service)) as owner:
        made = owner.post(f"/v1/videos/{mapped}/links", json={"days": 1, "from_s": 30, "to_s": 33}).json()
    tab.page.goto(address + "#" + made["url"].partition("#")[2])
    controls = tab.page.get_by_role("group", name="Playback")
    expect(controls.get_by_role("button", name="Play", exact=True)).to_be_enabled()
    expect(controls).to_contain_text("0:30 of 2:00")
    controls.get_by_role("button", name="Play", exact=True).click()
    expect(controls).to_contain_text("0:33 of 2:00")
    assert not any("/content" in one for one in tab.asked), "such a link gives no byte of the file"
    tab.page.go_back()
    expect(tab.page.locator("h1")).to_have_count(0)  # the page before, and not the link's secret
    assert tab.errors == []


def test_a_clip_is_saved_and_one_that_is_too_long_is_refused_in_words(service, address, mapped, tab):
    tab.sign_in(address, new_key(service), at=mapped)
    open_sharing(tab)
    form = tab.page.get_by_role("form", name="A clip")
    form.get_by_label("From").fill("0:10")
    form.get_by_label("to", exact=True).fill("0:05")
    form.get_by_role("button", name="Save the clip").click()
    expect(tab.page.get_by_role("alert")).to_contain_text("Write the times as")
    form.get_by_label("to", exact=True).fill("0:12")
    with tab.page.expect_download() as saved:
        form.get_by_role("button", name="Save the clip").click()
    assert Path(saved.value.path()).read_bytes()[4:8] == b"ftyp"
    assert saved.value.suggested_filename.startswith(mapped)
    assert tab.errors == []


def test_a_session_that_ends_says_so_and_comes_back_to_the_same_case(service, address, mapped, tab):
    key = new_key(service)
    tab.sign_in(address, key, at=mapped)
    expect(tab.region("About this case")).to_contain_text("Mapped")
    with service.database.writing() as session:
        session.execute(delete(BrowserSession))
    tab.page.evaluate("document.dispatchEvent(new Event('visibilitychange'))")  # a person comes back to the tab
    expect(tab.page.get_by_role("status").filter(has_text="You were signed out")).to_be_visible()
    tab.page.get_by_label("Your key").fill(key)
    tab.page.get_by_role("button", name="Sign in").click()
    expect(tab.region("About this case")).to_contain_text("Mapped")


def test_a_service_that_is_away_is_said_with_a_way_to_try_again(service, address, mapped, tab):
    tab.sign_in(address, new_key(service), at="library")
    expect(tab.page.get_by_role("list", name="Cases")).to_be_visible()
    with tab.holding(f"/v1/videos/{mapped}$"):
        tab.go(mapped)
        tab.held().abort("internetdisconnected")
        expect(tab.page.get_by_role("alert").first).to_contain_text("The service does not answer.")
    tab.page.get_by_role("button", name="Try again").first.click()
    expect(tab.region("About this case")).to_contain_text("Mapped")


def test_the_page_speaks_german_and_keeps_to_it(service, address, tab):
    tab.sign_in(address, new_key(service), at="library")
    tab.page.get_by_label("Language").select_option("de")
    expect(tab.page.get_by_role("heading", level=1)).to_have_text("Bibliothek")
    tab.page.reload()
    expect(tab.page.get_by_role("heading", level=1)).to_have_text("Bibliothek")
    assert tab.page.evaluate("document.documentElement.lang") == "de" and tab.errors == []
