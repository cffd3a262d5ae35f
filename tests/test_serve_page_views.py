"""The page shows the case whose id its address holds, in a real browser, whatever answers come late or not at all."""

from __future__ import annotations

from dataclasses import dataclass

import pytest
from browser import Tab
from maps import write_maps
from playwright.sync_api import Locator, expect
from serving import client_of, new_key, on_a_port, open_service, shared_model, upload, write_video

from halsted_ray.service.components import ServiceComponents

LENGTHS = ("0:20", "0:30")
"""How long the first and the second case are, as the page says it."""


@dataclass
class TwoCases:
    """A site with two mapped cases, and a tab of a browser whose user is signed in and looks at the library."""

    service: ServiceComponents
    tab: Tab
    first: str
    second: str

    def length(self, video_id: str) -> str:
        return LENGTHS[(self.first, self.second).index(video_id)]

    def assert_shown(self, video_id: str) -> None:
        """The page shows the whole of a case, and once it does it goes on to."""
        page = self.tab.page
        expect(page.get_by_role("heading", level=1)).to_have_text(f"Case {video_id[:6]}")
        expect(self.tab.region("About this case")).to_contain_text(self.length(video_id))
        expect(self.delete).to_be_visible()
        for link in page.get_by_role("link", name="Certificate").all():
            assert video_id in (link.get_attribute("href") or "")

    @property
    def delete(self) -> Locator:
        return self.tab.page.get_by_role("button", name="Delete this case")

    @property
    def main(self) -> Locator:
        return self.tab.page.get_by_role("main")

    def assert_nothing_is_shown_of(self, video_id: str) -> None:
        """Neither its picture, nor its map, nor a button that would delete it."""
        expect(self.delete).to_have_count(0)
        html = self.main.inner_html()
        assert video_id not in html and video_id[:6] not in html and self.length(video_id) not in html

    def wait(self) -> None:
        """Gives an answer that came late the time to be shown."""
        self.tab.page.wait_for_timeout(500)


@pytest.fixture(scope="module")
def service(tmp_path_factory) -> ServiceComponents:
    return open_service(tmp_path_factory.mktemp("site"), shared_model(), requests_per_minute=10**6)


@pytest.fixture
def cases(service, request, tab, tmp_path):
    tenant = request.node.name.replace("_", "-").replace("[", "-").strip("]")[:40].strip("-")
    key = new_key(service, tenant)
    ids = []
    with client_of(service, key) as client:
        for seconds in (20.0, 30.0):
            ids.append(upload(client, write_video(tmp_path / f"{seconds}.mp4", seconds))["video_id"])
            client.post(f"/v1/videos/{ids[-1]}/maps", json={})
            job = service.jobs.claim("worker")
            write_maps(service.videos.maps_location(tenant, ids[-1]))
            service.jobs.finish(job.job_id, "worker", "done", "mapped")
    with on_a_port(service) as address:
        tab.sign_in(address, key, at="library")
        expect(tab.page.get_by_role("list", name="Cases").get_by_role("listitem")).to_have_count(2)
        yield TwoCases(service, tab, *ids)
        tab.page.goto("about:blank")  # before its service ends


def test_while_the_answer_for_a_case_is_on_its_way_nothing_of_the_case_before_is_shown(cases):
    cases.tab.go(cases.first)
    cases.assert_shown(cases.first)
    with cases.tab.holding(f"/v1/videos/{cases.second}$"):
        cases.tab.go(cases.second)
        answer = cases.tab.held()
        cases.assert_nothing_is_shown_of(cases.first)
        expect(cases.tab.page.get_by_role("heading", level=1)).to_contain_text(cases.second[:6])
        answer.continue_()
    cases.assert_shown(cases.second)


@pytest.mark.parametrize("status, told", [(404, "is not there"), (503, "has much to do")])
def test_a_case_that_does_not_come_leaves_nothing_of_the_case_before(cases, status, told):
    cases.tab.go(cases.first)
    cases.assert_shown(cases.first)
    with cases.tab.holding(f"/v1/videos/{cases.second}$"):
        cases.tab.go(cases.second)
        cases.tab.held().fulfill(status=status, json={"status": status, "detail": f"answer {status}"})
        expect(cases.main.get_by_role("alert").first).to_contain_text(told)
        cases.assert_nothing_is_shown_of(cases.first)
        cases.tab.go(cases.first)
        cases.assert_shown(cases.first)


def test_an_answer_for_the_case_before_that_comes_after_the_answer_for_this_case_is_dropped(cases):
    with cases.tab.holding(f"/v1/videos/{cases.first}$"):
        cases.tab.go(cases.first)
        late = cases.tab.held()
        cases.tab.go(cases.second)
        cases.assert_shown(cases.second)
        late.continue_()
        cases.wait()
    cases.assert_shown(cases.second)
    assert cases.first not in cases.main.inner_html()


@pytest.mark.parametrize("status", [404, 503])
def test_a_failure_for_the_case_before_says_nothing_under_this_case(cases, status):
    with cases.tab.holding(f"/v1/videos/{cases.first}$"):
        cases.tab.go(cases.first)
        late = cases.tab.held()
        cases.tab.go(cases.second)
        cases.assert_shown(cases.second)
        late.fulfill(status=status, json={"status": status, "detail": f"answer {status}"})
        cases.wait()
    expect(cases.main.get_by_role("alert")).to_have_count(0)
    cases.assert_shown(cases.second)


def test_a_timeline_that_comes_late_is_not_drawn_under_another_case(cases):
    with cases.tab.holding(f"/v1/videos/{cases.first}/timeline"):
        cases.tab.go(cases.first)
        late = cases.tab.held()
        cases.tab.go(cases.second)
        cases.assert_shown(cases.second)
        late.continue_()
        cases.wait()
    cases.assert_shown(cases.second)
    assert cases.first not in cases.main.inner_html()


def test_the_dialog_names_the_case_that_it_deletes_and_ends_when_the_user_leaves_that_case(cases):
    dialog = cases.tab.page.get_by_role("dialog")
    cases.tab.go(cases.first)
    cases.assert_shown(cases.first)
    cases.delete.click()
    expect(dialog).to_contain_text(cases.first[:6])
    cases.tab.go(cases.second)
    expect(dialog).to_have_count(0)
    cases.assert_shown(cases.second)
    cases.delete.click()
    expect(dialog).to_contain_text(cases.second[:6])
    dialog.get_by_role("button", name="Delete").click()
    listed = cases.tab.page.get_by_role("list", name="Cases")
    expect(listed.get_by_role("listitem")).to_have_count(1)
    expect(listed).to_contain_text(cases.first[:6])


def test_a_case_that_somebody_deletes_meanwhile_is_no_longer_shown(cases):
    cases.tab.go(cases.first)
    cases.assert_shown(cases.first)
    with cases.tab.holding(f"/v1/videos/{cases.first}$"):
        cases.tab.held().fulfill(status=404, json={"status": 404, "detail": "there is no such video"})
        expect(cases.main.get_by_role("alert").first).to_contain_text("is not there")
        expect(cases.delete).to_have_count(0)
        expect(cases.tab.page.locator("video[src]")).to_have_count(0)
