"""A terminal of either library as a process of its own, which can be killed, and what it says of itself."""

from __future__ import annotations

import asyncio
import functools
import itertools
import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from tests.waiting import until

Row = dict[str, Any]

HERE = Path(__file__).parent
LANGUAGES = ("python", "node")
# Short, for most tests are about what happens after a wait.
TIMING = {"first_delay": 0.05, "last_delay": 0.5, "heartbeat": 5.0, "answer": 10.0, "check": 60.0}
ANSWER_SECONDS = 20.0


def needs(language: str) -> None:
    """Skip the test where a language is not installed; in CI it fails."""
    if language == "node" and (missing := _missing_node()):
        if os.environ.get("CI") == "true":
            pytest.fail(missing)
        pytest.skip(missing)


@functools.cache
def _missing_node() -> str:
    if shutil.which("node") is None:
        return "node is not installed (apt-get install nodejs)"
    version = subprocess.run(["node", "--version"], capture_output=True, text=True, check=True).stdout.strip()
    return "" if int(version[1:].partition(".")[0]) >= 20 else f"node {version} is too old; install version 20 or newer"


def command(language: str) -> list[str]:
    if language == "python":
        return [sys.executable, "-m", "tests.library.driver"]
    # Node 20 has the browser's WebSocket behind a flag, later ones have it by themselves.
    return ["node", "--experimental-websocket", "--no-warnings", str(HERE / "driver.mjs")]


class Driven:
    """A terminal; its `store` is a file that outlives its process."""

    def __init__(self, language: str, url: str, store: Path | None, **options: Any) -> None:
        timing = TIMING | options.pop("timing", {})
        self.language = language
        self.options = {
            "url": url,
            "store": store and str(store),
            "restaurant": None,
            "token": "",
            "timing": timing,
            **options,
        }
        self._numbers = itertools.count(1)
        self._answers: dict[int, asyncio.Future[Any]] = {}
        self._reader: asyncio.Task[None] | None = None
        self.process: asyncio.subprocess.Process | None = None

    async def launch(self) -> None:
        """Start the process, but not the terminal."""
        pipe = asyncio.subprocess.PIPE
        self.process = await asyncio.create_subprocess_exec(
            *command(self.language), json.dumps(self.options), stdin=pipe, stdout=pipe, limit=2**30, cwd=HERE.parents[1]
        )
        self._reader = asyncio.create_task(self._read(self.process))

    async def start(self) -> None:
        """Start both."""
        await self.launch()
        await self.do("start")

    async def kill(self) -> None:
        """End the process with SIGKILL, as a power cut would."""
        await self._end(signal.SIGKILL)

    def send(self, number: signal.Signals) -> None:
        assert self.process is not None
        self.process.send_signal(number)

    async def close(self) -> None:
        """Let the process end by itself, if it is there."""
        if self.process is not None and self.process.returncode is None:
            assert self.process.stdin is not None
            self.process.stdin.close()
            try:
                async with asyncio.timeout(ANSWER_SECONDS):
                    await self.process.wait()
            finally:
                await self._end(signal.SIGKILL)

    async def _end(self, number: signal.Signals) -> None:
        if self.process is None:
            return
        if self.process.returncode is None:
            self.process.send_signal(number)
        await self.process.wait()
        assert self._reader is not None
        await asyncio.wait([self._reader])
        for answer in self._answers.values():
            answer.cancel()
        self._answers.clear()

    async def do(self, name: str, **arguments: Any) -> Any:
        """Give a command and return its result."""
        number = next(self._numbers)
        answer = self._answers[number] = asyncio.get_running_loop().create_future()
        assert self.process is not None
        assert self.process.stdin is not None
        self.process.stdin.write(json.dumps({"n": number, "do": name, **arguments}).encode() + b"\n")
        async with asyncio.timeout(ANSWER_SECONDS):
            found = await answer
        assert "error" not in found, found["error"]
        return found["result"]

    async def change(self, type_: str, action: str, row: Row, **options: Any) -> str:
        """Ask for a change and return its mutation id, once it is stored."""
        found: str = await self.do("change", type=type_, data={"action": action, "data": row}, **options)
        return found

    async def report(self) -> Row:
        found: Row = await self.do("report")
        return found

    async def reports(self, holds: Callable[[Row], Any], what: str = "", within: float = 15.0) -> Row:
        """Its first report of which something holds."""
        last: Row = {}

        async def found() -> bool:
            last.update(await self.report())
            return bool(holds(last))

        try:
            await until(found, within)
        except AssertionError:
            raise AssertionError(f"not within {within} s: {what}; last report: {last}") from None
        return last

    async def is_live(self, revision: int | None = None, within: float = 15.0) -> Row:
        return await self.reports(
            lambda r: r["state"] == "live" and (revision is None or r["revision"] == revision), "live", within
        )

    async def _read(self, process: asyncio.subprocess.Process) -> None:
        assert process.stdout is not None
        while line := await process.stdout.readline():
            found = json.loads(line, parse_float=Decimal)
            answer = self._answers.pop(found["n"], None)
            if answer is not None and not answer.done():
                answer.set_result(found)


@asynccontextmanager
async def driven(language: str, url: str, store: Path | None, **options: Any) -> AsyncIterator[Driven]:
    """A terminal's process, ended at the end, whatever became of it."""
    made = Driven(language, url, store, **options)
    try:
        await made.start()
        yield made
    finally:
        await made.close()
