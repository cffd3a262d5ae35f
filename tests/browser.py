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

import pytest

PROGRAMS = ("chromium", "chromium-browser", "google-chrome", "chrome")


class Browser:
    """One page. ``width`` and ``height`` of its window in pixels. ``errors``: what the page did wrong. ``held``: ids of
    requests that ``hold`` keeps from leaving."""

    def __init__(self, folder: Path, width: int = 1100, height: int = 900):
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
        # Chromium reads its orders from file descriptor 3 and answers on 4; bash puts the pipes there.
        ends = [fcntl.fcntl(end, fcntl.F_DUPFD, 10) for end in (to_browser, from_browser)]
        shell = ["bash", "-c", f'exec "$0" "$@" 3<&{ends[0]} 4>&{ends[1]}', *words]
        self.process = subprocess.Popen(shell, pass_fds=ends, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        for end in (to_browser, from_browser, *ends):
            os.close(end)
        self._numbers, self._rest = itertools.count(1), b""
        self.errors: list[dict] = []
        self.held: list[str] = []
        (page,) = [one for one in self._call("Target.getTargets")["targetInfos"] if one["type"] == "page"]
        self._session = self._call("Target.attachToTarget", targetId=page["targetId"], flatten=True)["sessionId"]
        for domain in ("Page", "Runtime", "Log", "DOM"):
            self.call(f"{domain}.enable")
        self.resize(width, height)

    def call(self, method: str, **parameters) -> dict:
        return self._call(method, self._session, **parameters)

    def go(self, url: str) -> None:
        self.call("Page.navigate", url=url)
        self.wait(f"location.href.startsWith({url!r}) && document.readyState === 'complete'")

    def run(self, expression: str):
        """The value of an expression (a promise's, when it comes) on the page."""
        found = self.call("Runtime.evaluate", expression=expression, awaitPromise=True, returnByValue=True)
        assert "exceptionDetails" not in found, found["exceptionDetails"]
        return found["result"].get("value")

    def wait(self, condition: str, seconds: float = 60.0) -> None:
        """Until ``condition`` holds."""
        until_s = time.monotonic() + seconds
        while not self.run(f"Boolean({condition})"):
            shown = self.run("document.body?.innerText")
            assert time.monotonic() < until_s, f"not within {seconds} s: {condition}\n{shown}"
            time.sleep(0.05)

    def click(self, selector: str, text: str = "") -> None:
        """On the first element of ``selector`` that is seen and holds ``text``."""
        found = (
            f"[...document.querySelectorAll({selector!r})].find((e) => e.checkVisibility() && "
            f"e.textContent.includes({text!r}))"
        )
        self.wait(found)
        self.run(f"{found}.click()")

    def choose_file(self, selector: str, path: Path) -> None:
        root = self.call("DOM.getDocument")["root"]["nodeId"]
        node = self.call("DOM.querySelector", nodeId=root, selector=selector)["nodeId"]
        self.call("DOM.setFileInputFiles", files=[str(path)], nodeId=node)

    def hold(self, pattern: str) -> None:
        """Requests to addresses like ``pattern`` wait until ``fail`` or ``let_go``."""
        self.call("Fetch.enable", patterns=[{"urlPattern": pattern}])

    def fail(self) -> None:
        """The request that is held, once there is one, ends as where the network is gone."""
        self.wait_held()
        self.call("Fetch.failRequest", requestId=self.held.pop(), errorReason="InternetDisconnected")

    def wait_held(self, seconds: float = 60.0) -> None:
        until_s = time.monotonic() + seconds
        while not self.held:
            assert time.monotonic() < until_s, "no request to be held"
            time.sleep(0.05)
            self.run("0")

    def let_go(self) -> None:
        self.call("Fetch.disable")

    def resize(self, width: int, height: int) -> None:
        self.call("Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1, mobile=False)

    def picture(self, path: Path) -> None:
        """A PNG of the whole page."""
        data = self.call("Page.captureScreenshot", format="png", captureBeyondViewport=True)["data"]
        path.write_bytes(base64.b64decode(data))

    def close(self) -> None:
        self.process.kill()
        self.process.wait()
        os.close(self._write)
        os.close(self._read)

    def _call(self, method: str, session: str | None = None, **parameters) -> dict:
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
        """The next message; one about a request with a body of megabytes has these in it."""
        pieces = [self._rest]
        while b"\0" not in pieces[-1]:
            pieces.append(os.read(self._read, 1 << 20))
            assert pieces[-1], "the browser ended"
        text, _, self._rest = b"".join(pieces).partition(b"\0")
        return text

    def _note(self, event: dict) -> None:
        """An exception, something refused by the page's policy, a failed load; a request that is held."""
        if event.get("method") == "Runtime.exceptionThrown":
            self.errors.append(event["params"]["exceptionDetails"])
        elif event.get("method") == "Log.entryAdded" and event["params"]["entry"]["level"] == "error":
            self.errors.append(event["params"]["entry"])
        elif event.get("method") == "Fetch.requestPaused":
            self.held.append(event["params"]["requestId"])
