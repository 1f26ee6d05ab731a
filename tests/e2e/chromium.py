"""Chromium without a screen, driven by its DevTools protocol (https://chromedevtools.github.io/devtools-protocol/)."""

from __future__ import annotations

import asyncio
import base64
import http.server
import itertools
import json
import os
import shutil
import subprocess
import tempfile
import threading
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager, suppress
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import websockets

from tests.waiting import until, wait_until

# The first takes a fifth less CPU: it has no window of its own to draw beside the page.
PROGRAMS = ("chromium-headless-shell", "chromium", "chromium-browser", "google-chrome")
STARTS_SECONDS = 40.0
ANSWER_SECONDS = 20.0
SIZE = {"width": 1280, "height": 900, "deviceScaleFactor": 1, "mobile": False}

# Where an element is, and from now on one click that is heard by it or by nobody.
_AIM = """(selector) => {
  globalThis.wasHit = false;
  globalThis.removeEventListener("click", globalThis.onlyIt, true);
  globalThis.onlyIt = (event) => {
    globalThis.wasHit ||= event.target.matches(selector);
    if (!event.target.matches(selector)) event.stopImmediatePropagation();
  };
  globalThis.addEventListener("click", globalThis.onlyIt, true);
  const one = document.querySelector(selector);
  one.scrollIntoView();
  const box = one.getBoundingClientRect();
  return {x: box.x + box.width / 2, y: box.y + box.height / 2};
}"""


def program() -> str | None:
    """Where Chromium is installed, if it is."""
    return next((found for name in PROGRAMS if (found := shutil.which(name))), None)


def needs_chromium() -> str:
    """Where Chromium is installed. Without it the test is skipped, in CI it fails."""
    if found := program():
        return found
    missing = "chromium is not installed (apt-get install chromium)"
    if os.environ.get("CI") == "true":
        pytest.fail(missing)
    pytest.skip(missing)


def headless_arguments() -> list[str]:
    """What Chromium is started with besides: no service of its maker's, and no sandbox where it cannot have one."""
    arguments = ["--no-first-run", "--disable-gpu", "--disable-dev-shm-usage", "--no-default-browser-check"]
    return arguments + (["--no-sandbox"] if os.geteuid() == 0 else [])  # it refuses to run as root with one


class Tab:
    """A page in a browser context of its own: its localStorage is nobody else's."""

    def __init__(self, chromium: Chromium, session: str, context: str) -> None:
        self._chromium = chromium
        self._session = session
        self.context = context

    async def do(self, method: str, **parameters: Any) -> Any:
        return await self._chromium.do(method, self._session, **parameters)

    async def run(self, expression: str) -> Any:
        """The value of a JavaScript expression; an exception in the page fails the test."""
        answer = await self.do("Runtime.evaluate", expression=expression, returnByValue=True, awaitPromise=True)
        assert "exceptionDetails" not in answer, answer["exceptionDetails"]
        return answer["result"].get("value")

    async def reload(self) -> None:
        """Press F5, and wait for the page."""
        await self.run("globalThis.isOld = true")
        await self.do("Page.reload")
        await self.loaded("document.readyState === 'complete' && !globalThis.isOld")

    async def loaded(self, expression: str) -> None:
        await until(partial(self.run, expression), within=ANSWER_SECONDS, what=expression)

    async def click(self, selector: str) -> None:
        """Click on an element as a mouse does, again when it moved away; nothing else is ever clicked."""

        async def hit() -> Any:
            found = await self.run(f"({_AIM})({json.dumps(selector)})")
            for type_ in ("mousePressed", "mouseReleased"):
                await self.do("Input.dispatchMouseEvent", type=type_, button="left", clickCount=1, **found)
            return await self.run("globalThis.wasHit")

        await until(hit, within=ANSWER_SECONDS, what=f"a click on {selector}")

    async def screenshot(self) -> bytes:
        """What can be seen, as PNG."""
        picture = await self.do("Page.captureScreenshot", format="png", captureBeyondViewport=True)
        return base64.b64decode(picture["data"])


class Chromium:
    """A connection to a browser process."""

    def __init__(self, socket: websockets.ClientConnection) -> None:
        self._socket = socket
        self._contexts: list[str] = []
        self._numbers = itertools.count(1)
        self._answers: dict[int, asyncio.Future[Any]] = {}
        self._reader = asyncio.create_task(self._read())

    async def do(self, method: str, session: str | None = None, **parameters: Any) -> Any:
        """Call a method of the DevTools protocol and return its result."""
        number = next(self._numbers)
        answer = self._answers[number] = asyncio.get_running_loop().create_future()
        message = {"id": number, "method": method, "params": parameters} | ({"sessionId": session} if session else {})
        await self._socket.send(json.dumps(message))
        async with asyncio.timeout(ANSWER_SECONDS):
            found = await answer
        assert "error" not in found, (method, found["error"])
        return found["result"]

    async def open(self, url: str) -> Tab:
        """Open an address in a new context, as a fresh browser would."""
        context = (await self.do("Target.createBrowserContext"))["browserContextId"]
        self._contexts.append(context)
        target = (await self.do("Target.createTarget", url="about:blank", browserContextId=context))["targetId"]
        session = (await self.do("Target.attachToTarget", targetId=target, flatten=True))["sessionId"]
        tab = Tab(self, session, context)
        await tab.do("Page.enable")
        await tab.do("Emulation.setDeviceMetricsOverride", **SIZE)
        await tab.do("Page.navigate", url=url)
        await tab.loaded("location.href !== 'about:blank' && document.readyState === 'complete'")
        return tab

    async def close_tabs(self) -> None:
        """Close every tab, and forget its context."""
        while self._contexts:
            await self.do("Target.disposeBrowserContext", browserContextId=self._contexts.pop())

    async def ended(self) -> None:
        """Wait for the end of the connection."""
        await asyncio.wait([self._reader])

    async def _read(self) -> None:
        with suppress(websockets.ConnectionClosed):  # it goes without a goodbye
            async for text in self._socket:
                message = json.loads(text)
                answer = self._answers.pop(message.get("id", 0), None)
                if answer is not None and not answer.done():
                    answer.set_result(message)


def _start(folder: Path) -> subprocess.Popen[bytes]:
    arguments = ["--headless", "--remote-debugging-port=0", f"--user-data-dir={folder}", *headless_arguments()]
    with (folder / "log.txt").open("wb") as log:
        return subprocess.Popen([needs_chromium(), *arguments, "about:blank"], stdout=log, stderr=log, process_group=0)


@contextmanager
def running_chromium() -> Iterator[str]:
    """The DevTools address of a browser process with a profile of its own, gone afterwards; see needs_chromium."""
    needs_chromium()
    folder = Path(tempfile.mkdtemp(prefix="relay-chromium-"))
    process = _start(folder)
    try:
        port_file = folder / "DevToolsActivePort"  # the port, and the path of the browser's own socket
        wait_until(lambda: port_file.exists() and len(port_file.read_text().split()) == 2, within=STARTS_SECONDS)
        port, path = port_file.read_text().split()
        yield f"ws://127.0.0.1:{port}{path}"
        process.terminate()
        wait_until(lambda: process.poll() is not None, within=STARTS_SECONDS, what="the end of Chromium")
    finally:
        process.kill()
        process.wait()
        shutil.rmtree(folder, ignore_errors=True)  # its helpers may still write while they end


@asynccontextmanager
async def driven(address: str) -> AsyncIterator[Chromium]:
    """A browser process as it is driven; the tabs that were opened are closed at the end."""
    async with websockets.connect(address, max_size=None, compression=None) as socket:
        chromium = Chromium(socket)
        yield chromium
        await chromium.close_tabs()
    await chromium.ended()


class _Quiet(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *_: object) -> None:
        pass


@contextmanager
def served_folder(folder: Path) -> Iterator[str]:
    """The address under which a folder's files are served, of an origin that a relay accepts."""
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), partial(_Quiet, directory=folder)) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield f"http://localhost:{server.server_port}"
        finally:
            server.shutdown()
            thread.join()
