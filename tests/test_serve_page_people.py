"""The page in a real browser: whose case it is, sharing it, consent, retention and hold, the first administrator, and a
new key in place of the old one."""

from __future__ import annotations

import re
from dataclasses import dataclass

import pytest
from browser import Tab
from maps import write_maps
from playwright.sync_api import Locator, expect
from serving import client_of, new_key, on_a_port, open_service, shared_model, upload, write_video
from sqlalchemy import select

from halsted_ray.service import setup_link, users
from halsted_ray.service.components import ServiceComponents
from halsted_ray.service.database import now_s
from halsted_ray.service.tables import Share, StoredVideo, User

SPOOFED = "<img src=x onerror=alert(1)>"


@dataclass
class CasePage:
    """A site with one mapped case of the surgeon ``ada``, and a tab of a browser."""

    service: ServiceComponents
    tab: Tab
    address: str
    tenant: str
    video_id: str

    def sign_in(self, user: str, role: str = "surgeon", at: str = "") -> str:
        """Signs in as ``user`` in place of whoever was signed in. Returns the key."""
        key = new_key(self.service, self.tenant, user, role)
        self.tab.sign_in(self.address, key, at)
        return key

    @property
    def summary(self) -> Locator:
        """The line that says whose case it is, with whom it is shared, and how long it is kept."""
        return self.tab.page.locator("summary").filter(has_text=re.compile("kept until|kept without an end"))

    @property
    def about(self) -> Locator:
        return self.tab.region("About this case")

    def share(self, name: str, relation: str, period: str) -> None:
        """Fills in the form that shares the case, and sends it."""
        form = self.tab.page.get_by_role("form", name="Share", exact=True)
        form.get_by_label("Share with").fill(name)
        form.get_by_label("as", exact=True).select_option(label=relation)
        form.get_by_label("for", exact=True).select_option(label=period)
        form.get_by_role("button", name="Share").click()

    def shares(self) -> list[tuple[str, str]]:
        """User and relation of every share that runs, the oldest first."""
        with self.service.database.reading() as session:
            query = select(User.name, Share.relation).join(User, User.user_id == Share.user_id)
            query = query.where(Share.tenant_id == self.tenant, Share.expires_s > now_s()).order_by(Share.created_s)
            return [tuple(row) for row in session.execute(query)]

    def video(self) -> StoredVideo:
        return self.service.videos.get(self.tenant, self.video_id)


@pytest.fixture(scope="module")
def service(tmp_path_factory) -> ServiceComponents:
    return open_service(tmp_path_factory.mktemp("site"), shared_model(), requests_per_minute=10**6)


@pytest.fixture(scope="module")
def address(service):
    with on_a_port(service) as found:
        yield found


@pytest.fixture
def page(service, address, request, tab, tmp_path):
    tenant = re.sub("[^a-z0-9]+", "-", request.node.name)[-50:].strip("-")
    with client_of(service, new_key(service, tenant, "ada")) as ada:
        video_id = upload(ada, write_video(tmp_path / "case.mp4", 120.0))["video_id"]
        write_maps(service.videos.maps_location(tenant, video_id))
        job_id = ada.post(f"/v1/videos/{video_id}/maps", json={}).json()["job_id"]
    service.jobs.claim("worker")
    service.jobs.finish(job_id, "worker", "done", "mapped")
    return CasePage(service, tab, address, tenant, video_id)


def add_user(page: CasePage, user: str, role: str, shown: str | None = None) -> None:
    """A user who has never signed in; ``shown``: the name that the identity provider gives."""
    new_key(page.service, page.tenant, user, role)
    with page.service.database.writing() as session:
        query = select(User).where(User.tenant_id == page.tenant, User.name == user)
        session.scalars(query).one().display_name = shown


def test_an_owner_invites_people_sees_until_when_and_withdraws_it(page):
    add_user(page, "oidc-0123456789abcdef", "trainee", "Grace Hopper")
    add_user(page, "oidc-fedcba9876543210", "reviewer", SPOOFED)
    page.sign_in("ada", at=page.video_id)
    shown = page.tab.page
    expect(page.summary).to_have_text(re.compile("^Case of ada · not shared · consent unknown · kept without an end"))
    page.summary.click()
    form = shown.get_by_role("form", name="Share", exact=True)
    page.share("somebody else", "trainee", "30 days")
    expect(form.get_by_role("alert")).to_contain_text("Nobody of this site is called")
    expect(form.get_by_role("alert")).to_contain_text("somebody else")
    page.share("n" * 90, "trainee", "30 days")
    expect(form.get_by_role("alert")).to_contain_text("Nobody of this name is there to share with")
    page.tab.errors.clear()  # the 422 above

    form.get_by_label("Share with").fill("hop")
    expect(shown.locator("datalist option[value='Grace Hopper']")).to_have_count(1)
    expect(shown.locator("#share-users option")).to_have_count(1)
    page.share("Grace Hopper", "trainee", "7 days")
    shares = shown.get_by_role("list", name="With whom the case is shared")
    expect(shares).to_contain_text("Grace Hopper")
    with page.tab.holding("/v1/users"):  # the suggestions come late: who writes a whole name needs none
        page.share(SPOOFED, "reviewer", "30 days")
        page.tab.held().continue_()
    expect(shares).to_contain_text(SPOOFED)
    expect(shares.locator("img")).to_have_count(0)  # a name is never markup
    assert page.shares() == [("oidc-0123456789abcdef", "trainee"), ("oidc-fedcba9876543210", "reviewer")]
    expect(shares).to_contain_text(re.compile(r"Grace Hopper\s*trainee, until .+, from ada"))
    expect(page.summary).to_contain_text("shared with 2")

    shares.get_by_role("button", name="Withdraw").first.click()
    expect(shares.get_by_role("listitem")).to_have_count(1)
    assert page.shares() == [("oidc-fedcba9876543210", "reviewer")]
    with page.service.database.writing() as session:
        session.query(Share).filter(Share.tenant_id == page.tenant).update({"expires_s": now_s() - 1})
    shown.reload()
    expect(page.summary).to_contain_text("not shared")
    assert page.tab.errors == []


def test_a_trainee_sees_whose_case_it_is_and_a_reviewer_does_not_and_neither_can_share_it(page):
    with client_of(page.service, new_key(page.service, page.tenant, "ada")) as ada:
        for user in ("trainee", "reviewer"):
            new_key(page.service, page.tenant, user, user)
            ada.post(f"/v1/videos/{page.video_id}/shares", json={"user": user, "relation": user})
    page.sign_in("trainee", "trainee", at=page.video_id)
    expect(page.summary).to_contain_text("Case of ada")
    page.summary.click()
    shown = page.tab.page
    expect(shown.get_by_role("list", name="With whom the case is shared")).to_contain_text("reviewer")
    for button in ("Share", "Save", "Withdraw", "Delete this case", "Start", "Put under a legal hold"):
        expect(shown.get_by_role("button", name=button, exact=True)).to_have_count(0)

    page.sign_in("reviewer", "reviewer", at=page.video_id)
    expect(page.about).to_contain_text("Mapped")
    expect(page.summary).to_have_count(0)
    assert "ada" not in shown.get_by_role("main").inner_text()
    assert page.tab.errors == []


def test_consent_retention_and_hold_are_recorded_and_what_they_mean_is_said(page):
    page.sign_in("ada", at=page.video_id)
    page.summary.click()
    shown = page.tab.page
    expect(shown.get_by_role("button", name="Put under a legal hold")).to_have_count(0)  # only administrators hold
    consent = shown.get_by_label("The patient's consent", exact=True).and_(shown.locator("select"))
    consent.select_option("given")
    shown.get_by_label("Keep until").fill("2099-05-01")
    shown.get_by_role("button", name="Save", exact=True).click()
    expect(page.summary).to_contain_text("consent given")
    expect(page.summary).to_contain_text("2099")
    assert page.video().consent == "given" and page.video().keep_until_s == pytest.approx(4_081_000_000, abs=3e6)

    consent.select_option("withdrawn")
    expect(shown.get_by_text("This hides picture and map from everybody but administrators")).to_be_visible()
    shown.get_by_role("button", name="Withdraw the consent").click()
    expect(page.about).to_contain_text("picture and map are hidden, and the case is deleted on")
    expect(shown.locator("video[src]")).to_have_count(0)
    expect(shown.get_by_role("button", name="Start", exact=True)).to_have_count(0)
    expect(shown.get_by_text("Share and save")).to_have_count(0)
    expect(shown.get_by_role("button", name="Delete this case")).to_be_visible()
    expect(page.summary).to_contain_text("consent withdrawn")
    expect(consent).to_be_visible()  # what was open stays open
    expect(shown.get_by_label("Keep until")).to_be_disabled()
    consent.select_option("given")
    shown.get_by_role("button", name="Save", exact=True).click()
    expect(shown.get_by_text("Share and save")).to_be_visible()
    expect(page.about).not_to_contain_text("picture and map are hidden")
    assert page.tab.errors == []

    page.sign_in("root", "admin", at=page.video_id)
    page.summary.click()
    shown.get_by_role("button", name="Put under a legal hold").click()
    expect(page.summary).to_contain_text("legal hold")
    assert page.video().legal_hold and page.tab.errors == []
    shown.get_by_role("button", name="Delete this case").click()
    dialog = shown.get_by_role("dialog")
    dialog.get_by_role("button", name="Delete").click()
    expect(dialog.get_by_role("alert")).to_contain_text("is under a legal hold, so it can't be deleted")
    dialog.get_by_role("button", name="Keep it").click()
    shown.get_by_role("button", name="End the legal hold").click()
    expect(page.summary).not_to_contain_text("legal hold")
    assert not page.video().legal_hold


def test_the_first_administrator_is_made_by_a_link_that_works_once(tab, tmp_path):
    service = open_service(tmp_path / "new", shared_model(), requests_per_minute=10**6)
    with service.database.writing() as session:
        token = setup_link.begin(session)
    shown = tab.page
    with on_a_port(service) as address:

        def set_up(value: str, tenant: str, user: str) -> None:
            shown.goto("about:blank")
            shown.goto(f"{address}#setup={value}")
            shown.get_by_label("Hospital or department, in short").fill(tenant)
            shown.get_by_label("Your user name").fill(user)
            shown.get_by_role("button", name="Set up").click()

        set_up("wrong", "north", "root")
        expect(shown.get_by_role("alert")).to_contain_text("has ended or was used")
        set_up(token, "north", "Dr Root, MD")
        expect(shown.get_by_role("alert")).to_contain_text("up to 64")
        tab.errors.clear()  # the 401 and the 422 above
        shown.get_by_label("Your user name").fill("root")
        shown.get_by_role("button", name="Set up").click()
        expect(shown.get_by_text("Your key is shown only now.")).to_be_visible()
        key = shown.locator("code").inner_text().strip()
        expect(shown.get_by_role("button", name="Set up")).to_have_count(0)
        expect(shown.get_by_role("alert")).to_have_count(0)
        shown.get_by_role("link", name="Go on to the cases").click()
        expect(shown.get_by_role("heading", name="There is no case yet")).to_be_visible()
        expect(shown.get_by_role("banner")).to_contain_text("root, north (administrator)")
        assert key not in shown.evaluate("document.body.innerText + JSON.stringify(localStorage) + location.href")
        assert token not in shown.url and tab.errors == []
        set_up(token, "south", "eve")
        expect(shown.get_by_role("alert")).to_contain_text("Whoever runs this site starts the service again")
    with client_of(service, key) as root:
        assert root.get("/v1/keys").status_code == 200


def test_a_user_gets_a_new_key_once_and_the_old_one_ends_after_a_day(page):
    old = page.sign_in("ada")
    shown = page.tab.page
    dialog = shown.get_by_role("dialog", name="A new key")
    shown.get_by_role("button", name="New key").click()
    expect(dialog).to_contain_text("Your key is valid until")
    expect(dialog.locator("code")).to_have_count(0)
    dialog.get_by_role("button", name="Make a new key").click()
    new = dialog.locator("code").inner_text().strip()
    expect(dialog.get_by_role("button", name="Make a new key")).to_have_count(0)  # a second click makes no second one
    dialog.get_by_role("button", name="Close").click()
    expect(dialog).to_have_count(0)
    assert new not in shown.content() and page.tab.errors == []
    for key in (old, new):
        with client_of(page.service, key) as client:
            assert client.get("/v1/videos").status_code == 200
    with client_of(page.service, new_key(page.service, page.tenant, "root", "admin")) as root:
        ends = {one["key_id"]: one["expires_s"] for one in root.get("/v1/keys").json()}
    assert ends[users.key_id_of(old)] <= now_s() + users.ROTATION_S < ends[users.key_id_of(new)]

    users.revoke_operator_key(page.service.database, users.key_id_of(old))
    shown.get_by_role("button", name="New key").click()
    dialog.get_by_role("button", name="Make a new key").click()
    expect(shown.get_by_label("Your key")).to_be_visible()
    expect(dialog).to_have_count(0)  # who is signed out sees the sign-in
    expect(shown.get_by_role("status")).to_contain_text("You were signed out")


def test_an_auditor_is_told_that_the_page_shows_no_case(page):
    page.sign_in("olga", "auditor", at=page.video_id)
    shown = page.tab.page
    expect(shown.get_by_role("heading", name="Your role sees no case")).to_be_visible()
    expect(shown.get_by_role("button", name="Sign out")).to_be_visible()
    expect(shown.get_by_role("navigation")).to_have_count(0)
    assert page.tab.errors == [] and page.video_id[:6] not in page.tab.text()


@pytest.mark.parametrize("width", [390, 1280])
def test_nothing_of_the_people_sticks_out_of_a_phone_or_a_screen(page, width):
    add_user(page, "oidc-0123456789abcdef", "trainee", "Wilhelmine-Charlotte von Hohenlohe-Schillingsfürst " * 2)
    with client_of(page.service, new_key(page.service, page.tenant, "ada")) as ada:
        body = {"user": "oidc-0123456789abcdef", "relation": "trainee"}
        ada.post(f"/v1/videos/{page.video_id}/shares", json=body)
    page.sign_in("root", "admin", at=page.video_id)
    page.summary.click()
    expect(page.tab.page.get_by_role("list", name="With whom the case is shared")).to_contain_text("Wilhelmine")
    assert page.tab.fits(width)
    page.tab.page.get_by_role("button", name="New key").click()
    box = page.tab.page.get_by_role("dialog").bounding_box()
    assert box and box["x"] >= 0 and box["x"] + box["width"] <= width
