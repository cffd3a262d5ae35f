"""The library and the home view in a real browser over a real service: files of one operation, search, descriptions."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from browser import Tab
from maps import write_maps
from playwright.sync_api import expect
from serving import clean_here, client_of, new_key, on_a_port, open_service, shared_model, upload, write_video

from halsted_ray import taxonomy
from halsted_ray.service.components import ServiceComponents
from halsted_ray.service.summaries import note_map


@pytest.fixture(scope="module")
def service(tmp_path_factory) -> ServiceComponents:
    return open_service(tmp_path_factory.mktemp("site"), shared_model(), requests_per_minute=10**6)


@pytest.fixture(scope="module")
def address(service):
    with on_a_port(service) as found:
        yield found


def add_mapped(service: ServiceComponents, tenant: str, key: str, path: Path) -> str:
    """A case that is mapped. Returns its video's id."""
    with client_of(service, key) as client:
        video_id = upload(client, path)["video_id"]
        client.post(f"/v1/videos/{video_id}/maps", json={})
        claimed = iter(lambda: service.jobs.claim("worker"), None)  # those of the other tests among them
        job = next(job for job in claimed if job.video_id == video_id)
        write_maps(service.videos.maps_location(tenant, video_id))
        service.jobs.finish(job.job_id, "worker", "done", "mapped")
        note_map(service.videos, tenant, video_id, "mapped", None, taxonomy.load())
        found: str = video_id
        return found


def items(tab: Tab):
    return tab.page.get_by_role("list", name="Cases").get_by_role("listitem")


def test_two_files_of_one_operation_become_one_case_in_the_order_of_their_names(service, address, tab, tmp_path):
    second, first = write_video(tmp_path / "op 10.mp4", 30.0), write_video(tmp_path / "op 2.mp4", 20.0)
    tab.sign_in(address, new_key(service, "grouping"), at="library")
    tab.page.get_by_label("Choose videos").set_input_files([second, first])
    dialog = tab.page.get_by_role("dialog")
    expect(dialog.get_by_role("listitem")).to_have_text(["op 2.mp4↑↓", "op 10.mp4↑↓"])
    dialog.get_by_role("button", name="Send them").click()
    expect(items(tab).filter(has_text="2 files")).to_have_count(
        1
    )  # each file is a case of its own until both are there
    expect(items(tab)).to_have_count(1)
    expect(items(tab)).to_contain_text("0:50")
    expect(tab.region("Videos that are being sent")).to_have_count(0)
    with client_of(service, new_key(service, "grouping")) as client:
        (case,) = client.get("/v1/cases").json()["cases"]
        lengths = [client.get(f"/v1/videos/{one}").json()["duration_s"] for one in case["videos"]]
    assert lengths == pytest.approx([20.0, 30.0])
    assert "op 2" not in tab.page.evaluate("JSON.stringify(localStorage)")

    items(tab).get_by_role("button", name="Take apart").click()
    tab.page.get_by_role("dialog").get_by_role("button", name="Take apart").click()
    expect(items(tab)).to_have_count(2)
    tab.page.get_by_role("button", name="Choose cases").click()
    for box in tab.page.get_by_role("checkbox").all():
        box.check()
    tab.page.get_by_role("button", name="Make one case of them").click()
    expect(items(tab)).to_have_count(1)
    assert tab.errors == []


def test_a_case_is_described_warned_of_a_name_and_found_again_in_words(service, address, tab, tmp_path):
    key = new_key(service, "describing")
    for seconds in (40.0, 50.0):
        add_mapped(service, "describing", key, write_video(tmp_path / f"{seconds}.mp4", seconds))
    tab.sign_in(address, key, at="library")
    page = tab.page
    expect(items(tab)).to_have_count(2)
    items(tab).filter(has_text="0:50").get_by_role("button", name="Describe").click()
    dialog = page.get_by_role("dialog")
    dialog.get_by_label("Procedure").fill("Pyeloplasty")
    dialog.get_by_label("Date of the operation").fill("2026-11-03")
    dialog.get_by_label("Labels, with a comma between them").fill("teaching, Dr. Jane Doe")
    dialog.get_by_role("button", name="Save").click()
    expect(dialog.get_by_role("alert")).to_contain_text("Jane Doe")
    dialog.get_by_label("Labels, with a comma between them").fill("teaching")
    dialog.get_by_role("button", name="Save").click()
    expect(dialog).to_have_count(0)
    case = items(tab).filter(has_text="0:50")
    expect(case.get_by_role("link", name="Pyeloplasty")).to_be_visible()
    expect(case).to_contain_text("Operated on 3 Nov 2026")
    expect(case).to_contain_text("teaching")

    page.get_by_label("Search").fill("pyelo")
    expect(items(tab)).to_have_count(1)
    expect(page.get_by_text("1 case", exact=True)).to_be_visible()
    page.reload()
    expect(page.get_by_label("Search")).to_have_value("pyelo")
    expect(items(tab)).to_have_count(1)
    page.get_by_label("Search").fill("nothing of this name")
    expect(page.get_by_text("No case is like this.")).to_be_visible()
    page.get_by_text("Filters", exact=True).click()
    page.get_by_role("button", name="Remove all filters").click()
    expect(items(tab)).to_have_count(2)
    page.get_by_label("Order", exact=True).select_option("longest")
    expect(items(tab).first).to_contain_text("0:50")
    expect(items(tab).first).to_contain_text("Procedure and steps")
    expect(items(tab).first.get_by_role("img", name="Steps in order: Suturing")).to_be_visible()
    page.get_by_label("State", exact=True).select_option("new")
    expect(items(tab)).to_have_count(0)
    assert tab.errors == []


def test_home_says_what_there_was_and_leads_to_it(service, address, tab, tmp_path):
    key = new_key(service, "at-home")
    video_id = add_mapped(service, "at-home", key, write_video(tmp_path / "a.mp4", 60.0))
    tab.sign_in(address, key)
    month = tab.region("The last 30 days")
    expect(month).to_contain_text(re.compile(r"1\s*case(?!s)"))
    moment = tab.region("Worth a look").get_by_role("link").first
    moment.click()
    expect(tab.page.get_by_role("heading", level=1)).to_have_text(f"Case {video_id[:6]}")
    assert tab.errors == []


def test_a_new_site_offers_a_sample_case_that_goes_the_way_of_every_upload(service, address, tab):
    key = new_key(service, "new-site")
    tab.sign_in(address, key)
    tab.page.get_by_role("button", name="Try it with a sample case").click()
    expect(tab.region("About this case")).to_contain_text("Waiting to be cleaned")
    clean_here(service)
    expect(tab.region("About this case")).to_contain_text("Cleaned:")
    assert tab.errors == []
