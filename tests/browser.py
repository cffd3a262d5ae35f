"""A real browser (Chromium, headless) for tests of the page: one for a file of tests, with a new profile for each test.

A test finds what it uses as a person does: by role and name, by label, by text.
"""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from playwright.sync_api import Browser, ConsoleMessage, Page, Request, Route

PROGRAMS = ("chromium", "chromium-browser", "google-chrome", "chrome")
WAIT_MS = 60_000
"""How long a test waits for what must come: how busy a machine is must not decide."""
SIGN_IN = "Sign in"


class Tab:
    """A tab of the browser. ``page``: Playwright's. ``errors``: what the policy of the page refused, exceptions, and
    failed loads. ``asked``: method and address of every request."""

    def __init__(self, page: Page) -> None:
        self.page = page
        self.errors: list[str] = []
        self.asked: list[str] = []
        self._held: list[Route] = []
        page.set_default_timeout(WAIT_MS)
        page.on("console", self._note)
        page.on("pageerror", lambda error: self.errors.append(str(error)))
        page.on("request", self._keep)

    def sign_in(self, address: str, key: str, at: str = "") -> None:
        """Signs in with ``key`` in place of whoever was signed in. ``at``: the page's address behind #."""
        self.page.context.clear_cookies()
        self.page.goto("about:blank")
        self.page.goto(f"{address}#{at}")
        self.page.get_by_label("Your key").fill(key)
        self.page.get_by_role("button", name=SIGN_IN).click()
        self.page.get_by_role("button", name="Sign out").wait_for()

    def go(self, at: str) -> None:
        """Follows a link within the page; ``at``: the address behind #."""
        self.page.evaluate("(at) => { location.hash = at; }", at)

    def region(self, name: str) -> Any:
        """A part of the page by its name."""
        return self.page.get_by_role("region", name=name)

    def text(self) -> str:
        """All that can be read."""
        return self.page.locator("body").inner_text()

    def fits(self, width: int) -> bool:
        """Whether nothing sticks out at this width, in pixels."""
        self.page.set_viewport_size({"width": width, "height": 900})
        return bool(self.page.evaluate("document.documentElement.scrollWidth") <= width)

    @contextmanager
    def holding(self, pattern: str) -> Iterator[None]:
        """Holds back all requests to addresses that match ``pattern`` as a regular expression; at the end those that
        are still held go on."""
        address = re.compile(pattern)
        self.page.route(address, lambda route: self._held.append(route))
        yield
        while self._held:
            self._held.pop(0).continue_()
        self.page.unroute(address)

    def held(self) -> Route:
        """Waits for a held request and takes it, the oldest first."""
        for _ in range(WAIT_MS // 50):
            if self._held:
                return self._held.pop(0)
            self.page.wait_for_timeout(50)
        raise AssertionError(f"no request was held within {WAIT_MS} ms")

    def _note(self, message: ConsoleMessage) -> None:
        if message.type == "error":
            self.errors.append(f"{message.text} {message.location.get('url', '')}")

    def _keep(self, request: Request) -> None:
        self.asked.append(f"{request.method} {request.url}")


@pytest.fixture(scope="module")
def chromium() -> Iterator[Browser]:
    """The browser. Where there is none, tests skip, and fail under CI.

    While Playwright runs, no ``asyncio.run`` works in its thread, so it ends with the tests of one file.
    """
    from playwright.sync_api import expect, sync_playwright

    expect.set_options(timeout=WAIT_MS)
    program = next((found for name in PROGRAMS if (found := shutil.which(name))), None)
    if program is None:
        (pytest.fail if os.environ.get("CI") else pytest.skip)(f"no browser here: none of {', '.join(PROGRAMS)}")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=program, args=["--no-sandbox", "--disable-dev-shm-usage"])
        yield browser
        browser.close()


@pytest.fixture
def tab(chromium: Browser) -> Iterator[Tab]:
    """A tab with a profile of its own."""
    context = chromium.new_context(locale="en-GB", viewport={"width": 1100, "height": 900})
    yield Tab(context.new_page())
    context.close()
