"""Two people correct and discuss one case in a real browser, on a real service."""

from __future__ import annotations

import re
from dataclasses import dataclass

import pytest
from browser import Tab
from maps import write_maps
from playwright.sync_api import expect
from serving import client_of, new_key, on_a_port, open_service, shared_model, upload, write_video


@dataclass
class Site:
    """A site with one mapped case. ``owner``, ``annotator``: keys of its owner and of somebody who annotates it."""

    address: str
    owner: str
    annotator: str
    video_id: str


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    folder = tmp_path_factory.mktemp("site")
    service = open_service(folder, shared_model(), requests_per_minute=10**6)
    owner, annotator = new_key(service), new_key(service, user="max", role="annotator")
    with client_of(service, owner) as client:
        video_id = upload(client, write_video(folder / "case.mp4", 120.0))["video_id"]
        write_maps(service.videos.maps_location("north", video_id))
        client.post(f"/v1/videos/{video_id}/maps", json={})
        service.jobs.finish(service.jobs.claim("worker").job_id, "worker", "done", "mapped")
        shared = client.post(f"/v1/videos/{video_id}/shares", json={"user": "max", "relation": "annotator"})
        assert shared.status_code == 201, shared.text
    with on_a_port(service) as address:
        yield Site(address, owner, annotator, video_id)


def correct(tab: Tab, site: Site, key: str):
    """Signs in, opens the corrections of the case, and gives their part of the page."""
    tab.sign_in(site.address, key, at=site.video_id)
    tab.page.get_by_role("tab", name="Correct").click()
    panel = tab.page.get_by_role("region", name="Correct the map")
    expect(panel).to_be_visible()
    return panel


def says(panel, count: int) -> None:
    """Everything is saved, and the history counts ``count`` changes."""
    expect(panel.get_by_text("Everything is saved.")).to_be_visible()
    expect(panel.get_by_text(f"Who changed what ({count})")).to_be_visible()


def test_two_people_correct_a_case_undo_and_see_each_others_word(site, tab, chromium):
    panel = correct(tab, site, site.owner)
    expect(panel.get_by_text("0 of 5 looked at")).to_be_visible()
    tab.page.keyboard.press("g")
    expect(panel.get_by_text("Selected span: Action")).to_be_visible()
    panel.get_by_role("combobox", name="What it is").first.click()
    tab.page.keyboard.type("cold")
    tab.page.keyboard.press("Enter")
    expect(panel.get_by_text(re.compile("Changed by you"))).to_be_visible()
    says(panel, 1)
    tab.page.locator("body").click(position={"x": 5, "y": 5})
    tab.page.keyboard.press("Control+z")
    says(panel, 2)
    tab.page.keyboard.press("Control+Shift+z")
    says(panel, 3)
    tab.page.reload()
    tab.page.get_by_role("tab", name="Correct").click()
    says(panel, 3)
    expect(panel.get_by_text("1 of 5 looked at")).to_be_visible()

    other = chromium.new_context(locale="en-GB", viewport={"width": 1100, "height": 900})
    theirs = Tab(other.new_page())
    their_panel = correct(theirs, site, site.annotator)
    select_action(theirs)
    select_action(tab)
    theirs.page.get_by_role("tab", name="Correct").click()
    theirs.page.keyboard.press("x")
    says(their_panel, 4)
    tab.page.get_by_role("tab", name="Correct").click()
    panel.get_by_role("combobox", name="What it is").first.click()
    tab.page.keyboard.type("spread")
    tab.page.keyboard.press("Enter")
    dialog = tab.page.get_by_role("dialog", name="Somebody else has changed this")
    expect(dialog).to_contain_text("not Cold Cut")
    expect(dialog).to_contain_text("Spread")
    dialog.get_by_role("button", name="Mine stands").click()
    says(panel, 5)
    expect(panel.get_by_text(re.compile("Changed by you"))).to_be_visible()
    panel.get_by_text("Who changed what (5)").click()
    expect(panel.get_by_role("listitem").filter(has_text="rejected")).to_contain_text("max")
    panel.get_by_text("Into the atlas", exact=True).click()
    panel.get_by_role("button", name="Put it into the atlas").click()
    expect(panel.get_by_role("alert")).to_contain_text("collects no examples")
    other.close()
    assert [one for one in tab.errors if "409" not in one] == []


def select_action(tab: Tab) -> None:
    """Selects the row of the action in the table of all spans."""
    tab.page.get_by_role("tab", name="All spans").click()
    tab.page.get_by_role("tabpanel", name="All spans").get_by_label("Lane").select_option("All lanes")
    tab.page.get_by_role("button", name=re.compile("^Select Cold Cut")).click()


def test_an_end_is_moved_on_the_timeline_by_keyboard_and_keeps_the_focus(site, tab):
    panel = correct(tab, site, site.owner)
    before = panel.get_by_text(re.compile(r"^Who changed what \(")).inner_text()
    count = int(re.findall(r"\d+", before)[0])
    tab.page.get_by_role("tab", name="All spans").click()
    tab.page.get_by_role("button", name="Select Dissection at 1:00.0").click()
    tab.page.get_by_role("tab", name="Correct").click()
    end = tab.page.get_by_role("slider", name="End of Dissection")
    end.focus()
    tab.page.keyboard.press("ArrowLeft")
    tab.page.keyboard.press("ArrowLeft")
    expect(end).to_be_focused()
    expect(panel.get_by_label("End", exact=True)).to_have_value("1:58.00")
    says(panel, count + 2)
    assert tab.errors == []


def test_a_comment_is_read_by_the_other_and_warns_of_a_name(site, tab):
    tab.sign_in(site.address, site.annotator, at=site.video_id)
    tab.page.get_by_role("tab", name="Comments").click()
    tab.page.get_by_label("Comment at 0:00.0").fill("Mrs. Miller, born 1.2.1960: <b>see here</b>")
    tab.page.get_by_role("button", name="Add the comment").click()
    expect(tab.page.get_by_text("delete it if it names a patient")).to_be_visible()
    tab.sign_in(site.address, site.owner, at=site.video_id)
    tab.page.get_by_role("tab", name="Comments").click()
    expect(tab.page.get_by_text("<b>see here</b>")).to_be_visible()
    tab.page.get_by_role("button", name=re.compile("^Delete the comment of max")).click()
    tab.page.get_by_role("dialog").get_by_role("button", name="Delete").click()
    expect(tab.page.get_by_text("Nobody has written anything yet.")).to_be_visible()
    assert tab.errors == []


def test_a_map_whose_suturing_was_not_asked_says_so(site, tab):
    tab.sign_in(site.address, site.owner, at=site.video_id)
    tab.page.get_by_role("tab", name="Stitches").click()
    expect(tab.page.get_by_text("Suturing was not asked for when this case was mapped.")).to_be_visible()
    assert tab.errors == []
