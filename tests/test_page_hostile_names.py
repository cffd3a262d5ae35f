"""Names that people and files bring are text on every view, in a real browser: no script runs, nothing sticks out."""

from __future__ import annotations

import pytest
from browser import Tab
from case_maps import write_map
from playwright.sync_api import expect
from serving import client_of, new_key, on_a_port, open_service, shared_model, upload, write_video

SCRIPT = "<img src=x onerror=alert(1)>"
PROCEDURE = SCRIPT + " " + "Donaudampfschifffahrt" * 4
LABELS = [SCRIPT, "x" * 60, "\u05d0\u05d1\u05d2 abc", "\U0001f600"]
TURNED = "\u202egpj.4pm\u202c \U0001f600 "
"""A name that is read from right to left from its first letter on."""
WIDTHS = (390, 1280)


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    """(address, key, id of the case, ids of its two files): a case whose procedure and labels are hostile."""
    folder = tmp_path_factory.mktemp("hostile")
    service = open_service(folder, shared_model(), requests_per_minute=10**6)
    key = new_key(service)
    with client_of(service, key) as client:
        files = [
            upload(client, write_video(folder / f"{length_s}.mp4", length_s))["video_id"] for length_s in (12.0, 16.0)
        ]
        for video_id in files:
            client.post(f"/v1/videos/{video_id}/maps", json={})
            job = service.jobs.claim("worker")
            write_map(service, video_id, [("step", "Suturing", 0.0, 9.0)], ("Prostatectomy", 0.9), 12.0)
            service.jobs.finish(job.job_id, "worker", "done", "mapped")
        case_id = client.post("/v1/cases", json={"video_ids": files}).json()["case_id"]
        described = client.patch(f"/v1/cases/{case_id}", json={"procedure": PROCEDURE, "labels": LABELS})
        assert described.status_code == 200, described.text
    with on_a_port(service) as address:
        yield address, key, case_id, files


@pytest.fixture
def opened(tab) -> list[str]:
    """What scripts have said in dialogs of the browser."""
    found: list[str] = []
    tab.page.on("dialog", lambda dialog: (found.append(dialog.message), dialog.dismiss()))
    return found


def assert_is_text(tab: Tab, opened: list[str]) -> None:
    assert opened == [] and tab.errors == []
    assert tab.page.locator("img[src=x]").count() == 0
    assert [width for width in WIDTHS if not tab.fits(width)] == [], "something sticks out"


def test_a_procedure_and_labels_are_text_on_every_view_and_break_none(site, tab, opened):
    address, key, case_id, (one, other) = site
    page = tab.page
    tab.sign_in(address, key, at="library")
    expect(page.get_by_role("link", name=PROCEDURE)).to_be_visible()
    for label in LABELS:
        expect(page.get_by_role("list", name="Cases")).to_contain_text(label)
    assert_is_text(tab, opened)
    for at in ("", "mine", one, f"compare=case={case_id},{other}", f"compare={one}", f"case={case_id}"):
        tab.go(at)
        expect(page.get_by_role("heading", level=1)).to_be_visible()
        expect(page.get_by_text("Loading…")).to_have_count(0)
        assert_is_text(tab, opened)
    expect(page.get_by_role("heading", level=1)).to_have_text(PROCEDURE)
    page.get_by_role("button", name="Delete the whole case (2 files)").click()
    expect(page.get_by_role("dialog")).to_contain_text(f"Delete {PROCEDURE} with all 2 files?")
    assert_is_text(tab, opened)


def test_the_names_of_files_are_text_before_they_are_sent_and_meanwhile(site, tab, opened, tmp_path):
    address, _, _, _ = site
    names = [f"{SCRIPT}.mp4", f"{TURNED}{'long_name_' * 18}.mp4"]
    files = [write_video(tmp_path / name, 12.0 + n) for n, name in enumerate(names)]
    page = tab.page
    tab.sign_in(address, site[1], at="library")
    page.get_by_label("Choose videos").set_input_files(files)
    dialog = page.get_by_role("dialog")
    for name in names:
        expect(dialog).to_contain_text(name)
    assert_is_text(tab, opened)
    with tab.holding("/v1/uploads$"):
        dialog.get_by_role("button", name="Send them").click()
        tray = tab.region("Videos that are being sent")
        for name in names:
            expect(tray.get_by_role("button", name=f"Remove {name}")).to_be_visible()
        assert_is_text(tab, opened)
        for name in names:
            tray.get_by_role("button", name=f"Remove {name}").click()
    expect(tray).to_have_count(0)
    assert opened == []
