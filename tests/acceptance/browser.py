"""A real Chromium without a window, told what to do over its pipe (the DevTools protocol), and asked what it did."""

import base64
import itertools
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from threading import Timer
from typing import Any

import pytest

DEADLINE_S = 120.0
CHROMIUM = os.environ.get("CHROMIUM") or next(
    filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome", "chrome"))), None
)
"""The browser: what CHROMIUM names, or what is on the path."""
needs_chromium = pytest.mark.skipif(CHROMIUM is None, reason="no Chromium is on the path, and CHROMIUM names none")
NASTY = "</script><script>alert(1)</script><img src=x onerror=alert(2)>\u202e"
"""What a model may answer that would do something on a page that is not careful."""

_FLAGS = (
    "--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--hide-scrollbars",
    "--force-device-scale-factor=1", "--no-first-run", "--disable-extensions", "--disable-background-networking",
    "--disable-sync", "--disable-component-update", "--remote-debugging-pipe",
)  # fmt: skip
_ON_PIPES = (
    "import os, sys; r, w = int(sys.argv[1]), int(sys.argv[2]); r, w = os.dup(r), os.dup(w); "
    "os.dup2(r, 13); os.dup2(w, 14); os.dup2(13, 3); os.dup2(14, 4); os.execv(sys.argv[3], sys.argv[3:])"
)
"""Chromium reads what it is told from descriptor 3, and answers on 4."""


class Page:
    """One page that is open. Whatever it does that a report must not do is noted."""

    def __init__(self, browser: "Browser", session: str) -> None:
        self._browser, self._session = browser, session
        self.requests: list[str] = []
        """Addresses that it asked for, other than its own."""
        self.dialogs: list[str] = []
        self.complaints: list[str] = []
        """What the browser logged: errors of scripts, and what the page's policy forbade."""

    def tell(self, method: str, **params: Any) -> dict[str, Any]:
        return self._browser.tell(method, self._session, **params)

    def heard(self, method: str, params: Mapping[str, Any]) -> None:
        """What the page does while it is looked at."""
        if method == "Network.requestWillBeSent":
            self.requests.append(params["request"]["url"])
        elif method == "Page.javascriptDialogOpening":
            self.dialogs.append(params["message"])
            self._browser.send("Page.handleJavaScriptDialog", self._session, accept=False)
        elif method == "Log.entryAdded":
            self.complaints.append(params["entry"]["text"])
        elif method == "Runtime.exceptionThrown":
            self.complaints.append(json.dumps(params["exceptionDetails"]))

    def look(self, width: int, height: int, *, dark: bool = False, script: bool = True, paper: bool = False) -> None:
        """How the page is looked at from now on."""
        self.tell(
            "Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1, mobile=width < 600
        )
        scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        self.tell("Emulation.setEmulatedMedia", media="print" if paper else "screen", features=[scheme])
        self.tell("Emulation.setScriptExecutionDisabled", value=not script)

    def open(self, path: Path) -> None:
        """Load this file, to the end of all that it loads."""
        self.loaded = False
        self.tell("Page.navigate", url=path.as_uri())
        self._browser.until(lambda: self.value("document.readyState") == "complete")
        self.requests = [url for url in self.requests if url != path.as_uri()]

    def value(self, expression: str) -> Any:
        """What this expression of JavaScript comes to."""
        told = self.tell("Runtime.evaluate", expression=expression, returnByValue=True, awaitPromise=True)
        assert "exceptionDetails" not in told, told
        return told["result"].get("value")

    def press(self, key: str) -> None:
        """A key that has no letter."""
        codes = {"Enter": 13, "Tab": 9, "Escape": 27}
        for kind in ("keyDown", "keyUp"):
            text = {"text": "\r"} if key == "Enter" and kind == "keyDown" else {}
            self.tell("Input.dispatchKeyEvent", type=kind, key=key, code=key, windowsVirtualKeyCode=codes[key], **text)

    def picture(self, path: Path, *, whole: bool = False) -> None:
        """What is seen, as PNG; with `whole`, also what one would have to scroll to."""
        shot = self.tell("Page.captureScreenshot", format="png", captureBeyondViewport=whole)
        path.write_bytes(base64.b64decode(shot["data"]))

    def pdf(self) -> bytes:
        """The page as it is printed on A4."""
        made = self.tell(
            "Page.printToPDF", paperWidth=8.27, paperHeight=11.69, printBackground=False, preferCSSPageSize=True
        )
        return base64.b64decode(made["data"])


class Browser:
    def __init__(self, process: "subprocess.Popen[bytes]", told: int, answers: int) -> None:
        self.process = process
        self._told, self._answers = told, answers
        self._numbers = itertools.count(1)
        self._rest = b""
        self._pages: dict[str, Page] = {}

    def page(self) -> Page:
        """A new, empty page."""
        target = self.tell("Target.createTarget", url="about:blank")["targetId"]
        session = self.tell("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        page = self._pages[session] = Page(self, session)
        for domain in ("Page", "Runtime", "Network", "Log"):
            page.tell(f"{domain}.enable")
        return page

    def send(self, method: str, session: str | None = None, **params: Any) -> int:
        number = next(self._numbers)
        message = {"id": number, "method": method, "params": params}
        if session is not None:
            message["sessionId"] = session
        os.write(self._told, json.dumps(message).encode() + b"\0")
        return number

    def tell(self, method: str, session: str | None = None, **params: Any) -> dict[str, Any]:
        """Have something done, and what came of it."""
        number = self.send(method, session, **params)
        while True:
            message = self._message()
            if message.get("id") == number:
                assert "error" not in message, message
                result: dict[str, Any] = message["result"]
                return result
            page = self._pages.get(message.get("sessionId", ""))
            if page is not None and "method" in message:
                page.heard(message["method"], message["params"])

    @staticmethod
    def until(condition: Any) -> None:
        """Ask until it is so; the browser answers in its own time."""
        while not condition():
            pass

    def _message(self) -> dict[str, Any]:
        while b"\0" not in self._rest:
            piece = os.read(self._answers, 1 << 20)
            assert piece, "the browser has ended"
            self._rest += piece
        message, _, self._rest = self._rest.partition(b"\0")
        found: dict[str, Any] = json.loads(message)
        return found


@contextmanager
def browser(folder: Path) -> Iterator[Browser]:
    """Chromium with a profile of its own in this folder; ended at the end, or when it takes too long."""
    assert CHROMIUM is not None
    ours_told, told = os.pipe()
    answers, ours_answers = os.pipe()
    command = [
        sys.executable, "-I", "-S", "-c", _ON_PIPES, str(ours_told), str(ours_answers), CHROMIUM, *_FLAGS,
        f"--user-data-dir={folder / 'profile'}", "about:blank",
    ]  # fmt: skip
    environ = {"PATH": os.environ.get("PATH", ""), "HOME": str(folder), "LANG": "C.UTF-8"}
    with subprocess.Popen(
        command, pass_fds=(ours_told, ours_answers), env=environ, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    ) as process:  # fmt: skip
        os.close(ours_told)
        os.close(ours_answers)
        watchdog = Timer(DEADLINE_S, process.kill)
        watchdog.start()
        try:
            there = Browser(process, told, answers)
            yield there
            with suppress(OSError, AssertionError):
                there.tell("Browser.close")
        finally:
            watchdog.cancel()
            with suppress(subprocess.TimeoutExpired):
                process.wait(10)
            process.kill()
            os.close(told)
            os.close(answers)
