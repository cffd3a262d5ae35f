"""One's own cases over time, in a browser: the plot with what is usual, the choices, the table, the way to a case, and
what axe-core finds."""

from __future__ import annotations

import csv
import io
import re

import pytest
from library_site import caller, describe, open_site, summary_row, video_row
from playwright.sync_api import expect
from serving import client_of, new_key, on_a_port
from test_page_accessibility import axe, findings  # noqa: F401  a fixture that looks for axe-core

PROCEDURE = "Prostatectomy"


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    """Ada has five cases, the last of a newer model; five others have four cases each: an address and ada's key."""
    service = open_site(tmp_path_factory.mktemp("site"))
    ada, others = caller(service, "ada"), [caller(service, f"surgeon{n}") for n in range(5)]
    mine = [(ada, f"a{n:015}", 3000.0 + 300 * n, "v2" if n == 4 else "v1") for n in range(5)]
    theirs = [(who, f"c{n}{k:014}", 3611.0 + 97 * (4 * n + k), "v1") for n, who in enumerate(others) for k in range(4)]
    with service.database.writing() as session:
        for who, video_id, length_s, version in mine + theirs:
            session.add(video_row(who, video_id, duration_s=length_s, consent="given"))
            figures = {"step_times": {"Suturing": length_s / 3}, "stitches": 10, "rated": 10, "rated_high": 5}
            session.add(summary_row(video_id, PROCEDURE, model_version=version, **figures))
    for n in range(5):
        describe(service, f"a{n:015}", operated_on=f"2026-0{n + 1}-15")
    with on_a_port(service) as address:
        yield {"address": address, "key": new_key(service, "north", "ada"), "service": service}
    service.database.close()


def test_ones_own_cases_are_shown_with_what_is_usual_and_without_a_colleagues_name(site, tab):
    page = tab.page
    tab.sign_in(site["address"], site["key"])
    page.get_by_role("link", name="My cases").click()
    length = tab.region("Length of the operation")
    values = "50:00", "55:00", "1:00:00", "1:05:00", "1:10:00"
    expect(length.get_by_role("img")).to_have_accessible_name(re.compile(".*".join(("case by case", *values))))
    expect(length).to_contain_text("In at least 20 cases of colleagues the median is")
    assert "surgeon0" not in tab.text()
    assert tab.errors == []


def test_another_measure_compares_maps_of_one_model_and_says_how_many_are_left_out(site, tab):
    page = tab.page
    tab.sign_in(site["address"], site["key"], at="mine")
    page.get_by_label("Shown").select_option(label="Stitches")
    stitches = tab.region("Stitches")
    expect(stitches).to_contain_text("Not compared: 4 mapped by model v1.")
    page.get_by_label("Model").select_option(label="v1")
    expect(stitches).to_contain_text("Not compared: 1 mapped by model v2.")
    assert "model_version=v1" in page.url and "measure=stitches" in page.url
    page.reload()
    expect(tab.region("Stitches")).to_contain_text("Not compared: 1 mapped by model v2.")


def test_days_choose_cases_and_the_table_leads_to_a_case_and_is_saved(site, tab):
    page = tab.page
    tab.sign_in(site["address"], site["key"], at="mine")
    page.get_by_label("From").fill("2026-03-01")
    rows = page.get_by_role("table").get_by_role("row")
    expect(rows).to_have_count(1 + 3)
    with page.expect_download() as saved:
        page.get_by_role("link", name="Save as a table").click()
    text = saved.value.path().read_text(encoding="utf-8")
    assert [row["case_id"] for row in csv.DictReader(io.StringIO(text))] == [f"a{n:015}" for n in (2, 3, 4)]
    rows.nth(1).get_by_role("link").click()
    expect(tab.region("About this case")).to_contain_text("Added")
    assert page.url.endswith(f"#a{2:015}")


def test_nobody_elses_cases_are_asked_for(site, tab):
    tab.sign_in(site["address"], site["key"], at="mine?user=surgeon0&owner=surgeon0")
    expect(tab.page.get_by_role("table").get_by_role("row")).to_have_count(1 + 5)
    with client_of(site["service"], site["key"]) as client:
        assert client.get("/v1/home/trend", params={"owner": "surgeon0"}).status_code in (200, 422)


def test_axe_finds_nothing_on_ones_own_cases(site, tab):
    tab.sign_in(site["address"], site["key"], at="mine")
    expect(tab.region("Length of the operation")).to_be_visible()
    for folded in tab.page.locator("details > summary").all():
        folded.click()
    assert findings(tab) == []
