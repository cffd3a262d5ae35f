"""A real browser (Chromium, headless) driven over its debugging pipe: no driver and no package needed."""

from __future__ import annotations

import base64
import fcntl
import itertools
import json
import os
import shutil
import subprocess
import time
from pathlib import Path
from typing import Any

import pytest

PROGRAMS = ("chromium", "chromium-browser", "google-chrome", "chrome")


class Browser:
    """A browser with one page. ``width`` and ``height``: of its window, in pixels. ``errors``: the errors of the page.
    ``held``: ids of the requests that ``hold`` holds back."""

    def __init__(self, folder: Path, width: int = 1100, height: int = 900) -> None:
        program = next((found for name in PROGRAMS if (found := shutil.which(name))), None)
        if program is None:
            pytest.skip(f"no browser here: none of {', '.join(PROGRAMS)}")
        to_browser, self._write = os.pipe()
        self._read, from_browser = os.pipe()
        words = [
            program,
            "--headless=new",
            "--no-sandbox",
            "--disable-gpu",
            "--remote-debugging-pipe",
            "--no-first-run",
            "--disable-dev-shm-usage",
            "--disable-background-networking",
            f"--user-data-dir={folder}/profile",
            f"--window-size={width},{height}",
            "about:blank",
        ]
        # Chromium reads commands from file descriptor 3 and writes answers to 4; bash puts the pipes there.
        ends = [fcntl.fcntl(end, fcntl.F_DUPFD, 10) for end in (to_browser, from_browser)]
        shell = ["bash", "-c", f'exec "$0" "$@" 3<&{ends[0]} 4>&{ends[1]}', *words]
        self.process = subprocess.Popen(shell, pass_fds=ends, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        for end in (to_browser, from_browser, *ends):
            os.close(end)
        self._numbers, self._rest = itertools.count(1), b""
        self.errors: list[dict[str, Any]] = []
        self.held: list[str] = []
        (page,) = [one for one in self._call("Target.getTargets")["targetInfos"] if one["type"] == "page"]
        self._session = self._call("Target.attachToTarget", targetId=page["targetId"], flatten=True)["sessionId"]
        for domain in ("Page", "Runtime", "Log", "DOM"):
            self.call(f"{domain}.enable")
        self.resize(width, height)

    def call(self, method: str, **parameters: Any) -> dict[str, Any]:
        """Calls a method of the DevTools protocol for the page and returns its result."""
        return self._call(method, self._session, **parameters)

    def go(self, url: str) -> None:
        """Opens a URL and waits until it is loaded."""
        self.call("Page.navigate", url=url)
        self.wait(f"location.href.startsWith({url!r}) && document.readyState === 'complete'")

    def run(self, expression: str) -> Any:
        """The value of an expression on the page; of a promise, the value that it resolves to."""
        found = self.call("Runtime.evaluate", expression=expression, awaitPromise=True, returnByValue=True)
        assert "exceptionDetails" not in found, found["exceptionDetails"]
        return found["result"].get("value")

    def wait(self, condition: str, seconds: float = 60.0) -> None:
        """Waits until ``condition`` is true on the page."""
        until_s = time.monotonic() + seconds
        while not self.run(f"Boolean({condition})"):
            shown = self.run("document.body?.innerText")
            assert time.monotonic() < until_s, f"not within {seconds} s: {condition}\n{shown}"
            time.sleep(0.05)

    def click(self, selector: str, text: str = "") -> None:
        """Clicks the first visible element of ``selector`` that contains ``text``, and waits for it first."""
        found = (
            f"[...document.querySelectorAll({selector!r})].find((e) => e.checkVisibility() && "
            f"e.textContent.includes({text!r}))"
        )
        self.wait(found)
        self.run(f"{found}.click()")

    def choose_file(self, selector: str, path: Path) -> None:
        """Chooses a file in a file input."""
        root = self.call("DOM.getDocument")["root"]["nodeId"]
        node = self.call("DOM.querySelector", nodeId=root, selector=selector)["nodeId"]
        self.call("DOM.setFileInputFiles", files=[str(path)], nodeId=node)

    def hold(self, pattern: str) -> None:
        """Holds back all requests to addresses like ``pattern`` until ``fail`` or ``let_go``."""
        self.call("Fetch.enable", patterns=[{"urlPattern": pattern}])

    def fail(self) -> None:
        """Waits for a held request and lets it fail as if there were no network."""
        self.wait_held()
        self.call("Fetch.failRequest", requestId=self.held.pop(), errorReason="InternetDisconnected")

    def wait_held(self, seconds: float = 60.0) -> None:
        """Waits until a request is held."""
        until_s = time.monotonic() + seconds
        while not self.held:
            assert time.monotonic() < until_s, f"no request was held within {seconds} s"
            time.sleep(0.05)
            self.run("0")

    def let_go(self) -> None:
        """Holds no more requests."""
        self.call("Fetch.disable")

    def resize(self, width: int, height: int) -> None:
        """Gives the page another size, in pixels."""
        self.call("Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1, mobile=False)

    def picture(self, path: Path) -> None:
        """Saves a PNG of the whole page."""
        data = self.call("Page.captureScreenshot", format="png", captureBeyondViewport=True)["data"]
        path.write_bytes(base64.b64decode(data))

    def close(self) -> None:
        """Ends the browser."""
        self.process.kill()
        self.process.wait()
        os.close(self._write)
        os.close(self._read)

    def _call(self, method: str, session: str | None = None, **parameters: Any) -> dict[str, Any]:
        number = next(self._numbers)
        order = {"id": number, "method": method, "params": parameters} | ({"sessionId": session} if session else {})
        os.write(self._write, json.dumps(order).encode() + b"\0")
        while True:
            answer = json.loads(self._next())
            if answer.get("id") == number:
                assert "error" not in answer, (method, answer["error"])
                return answer["result"]
            self._note(answer)

    def _next(self) -> bytes:
        """The next message. A message about a request with a body of megabytes holds the whole body."""
        pieces = [self._rest]
        while b"\0" not in pieces[-1]:
            pieces.append(os.read(self._read, 1 << 20))
            assert pieces[-1], "the browser ended"
        text, _, self._rest = b"".join(pieces).partition(b"\0")
        return text

    def _note(self, event: dict[str, Any]) -> None:
        """Keeps an exception, a refusal of the policy or a failed load as an error, and the id of a held request."""
        if event.get("method") == "Runtime.exceptionThrown":
            self.errors.append(event["params"]["exceptionDetails"])
        elif event.get("method") == "Log.entryAdded" and event["params"]["entry"]["level"] == "error":
            self.errors.append(event["params"]["entry"])
        elif event.get("method") == "Fetch.requestPaused":
            self.held.append(event["params"]["requestId"])
