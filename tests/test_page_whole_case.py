"""Several files of one operation are one case on the page, in a real browser: played and gone to over their border."""

from __future__ import annotations

import re

import pytest
from case_maps import write_map
from playwright.sync_api import expect
from serving import client_of, new_key, on_a_port, open_service, shared_model, upload, write_video

LENGTHS_S = (12.0, 20.0)


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    """(address, key, id of the case, ids of its files): a site with one operation of two mapped files."""
    folder = tmp_path_factory.mktemp("whole")
    service = open_service(folder, shared_model(), requests_per_minute=10**6)
    key = new_key(service)
    with client_of(service, key) as client:
        files = []
        for n, length_s in enumerate(LENGTHS_S):
            files.append(upload(client, write_video(folder / f"{n}.mp4", length_s))["video_id"])
            client.post(f"/v1/videos/{files[n]}/maps", json={})
            job = service.jobs.claim("worker")
            spans = [("step", "Dissection", 0.0, 6.0), ("step", "Suturing", 6.0, length_s)]
            write_map(service, files[n], spans if n == 0 else spans[::-1], ("Prostatectomy", 0.9), length_s)
            service.jobs.finish(job.job_id, "worker", "done", "mapped")
        case_id = client.post("/v1/cases", json={"video_ids": files}).json()["case_id"]
    with on_a_port(service) as address:
        yield address, key, case_id, files


def test_playback_goes_on_into_the_next_file_and_a_moment_of_another_file_is_gone_to(site, tab):
    address, key, case_id, (one, two) = site
    page = tab.page
    tab.sign_in(address, key, at=f"case={case_id}@10")
    position = page.get_by_role("slider", name="Position in the video")
    expect(position).to_have_attribute("aria-valuemax", "32")
    expect(page).to_have_title(f"Case {one[:6]} · Halsted")
    expect(page.get_by_role("heading", level=1)).to_have_text(f"Case {one[:6]}")
    video = page.get_by_label("Video", exact=True)
    expect(video).to_have_attribute("src", re.compile(one))
    expect(page.locator(".lanes .border")).to_have_count(1)
    page.get_by_role("button", name="Play", exact=True).click()
    expect(video).to_have_attribute("src", re.compile(two))
    expect(position).to_have_attribute("aria-valuenow", re.compile("^1[3-9]$"))
    page.get_by_role("button", name="Pause", exact=True).click()
    expect(page).to_have_url(re.compile(f"#{two}@"))
    position.focus()
    page.keyboard.press("Home")
    expect(video).to_have_attribute("src", re.compile(one))
    expect(position).to_have_attribute("aria-valuetext", "0:00, Prostatectomy, Dissection")
    page.keyboard.press("End")
    expect(video).to_have_attribute("src", re.compile(two))
    expect(position).to_have_attribute("aria-valuenow", "32")
    expect(page.get_by_role("link", name="Table (CSV)").first).to_have_attribute("href", re.compile(case_id))
    assert tab.errors == []
