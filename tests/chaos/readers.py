"""Terminals that read by fits and starts, and such that stop altogether while much is said to them."""

from __future__ import annotations

import asyncio
import random
import socket
from collections.abc import Sequence
from functools import partial
from pathlib import Path

from tests.chaos.quiet import describe
from tests.chaos.world import QUIET
from tests.load import synced
from tests.relays import RelayProcess
from tests.terminals import Terminal, agree, state_in_database
from tests.waiting import slow_down, until

STOPPED_SECONDS, READING_SECONDS = (0.3, 2.5), (0.2, 1.0)
# More than the kernel holds for a connection, and more than a window.
FLOOD_CHANGES, FLOOD_BYTES = 90, 100_000
STALLED_SECONDS = 15.0  # without another change, once it reads again
MEMORY_BYTES = 150 << 20  # that a relay may grow by meanwhile (RELIABILITY.md, G11)


class Reader:
    """A terminal on a bad line: it reads, stops, and reads again."""

    def __init__(self, url: str, slug: str, seed: int) -> None:
        self.terminal = Terminal(f"{url}?restaurant={slug}", "reader")
        self._dice = random.Random(f"{seed} {slug}")
        self.stopping = False

    async def run(self) -> None:
        """Until told to stop; then it is synced, and reads on."""
        while not self.stopping:
            if self.terminal.connected or await synced(self.terminal):
                self.terminal.stop_reading()
                await slow_down(self._dice.uniform(*STOPPED_SECONDS))
                self.terminal.read_again()
                await slow_down(self._dice.uniform(*READING_SECONDS))
            else:
                await slow_down(READING_SECONDS[0])
        await until(lambda: synced(self.terminal), within=60.0, what="the reader to be synced")


async def narrow(relay: RelayProcess, slug: str, client_id: str) -> Terminal:
    """A terminal right at the relay, whose own kernel buffer is small."""
    own = socket.socket()
    own.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 65_536)
    own.connect((relay.host, relay.port))
    own.setblocking(False)
    return await Terminal(f"{relay.url}?restaurant={slug}", client_id).connect(sock=own)


async def stop(relay: RelayProcess, readers: int) -> list[Terminal]:
    """So many come to the relay, and read no more."""
    stopped = [await narrow(relay, QUIET, f"stopped-{number}") for number in range(readers)]
    for one in stopped:
        one.stop_reading()
    return stopped


async def flood(conninfo: str, relay: RelayProcess, readers: int, pause: float = 0.0) -> None:
    """Change much while so many do not read: the relay holds no more for them than for one. `pause` is in seconds."""
    before = memory(relay)
    for _ in range(FLOOD_CHANGES):
        await asyncio.to_thread(describe, conninfo, "x" * FLOOD_BYTES)
        await slow_down(pause)
    lagging = (await relay.health())["lagging"]
    assert lagging >= readers, f"{lagging} of {readers} readers lag"
    grown = memory(relay) - before
    assert grown < MEMORY_BYTES, f"{grown >> 20} MiB more"
    await asyncio.to_thread(describe, conninfo, "")


async def read_again(conninfo: str, stopped: Sequence[Terminal]) -> None:
    """They are served from the window, or with the state, until they show what the database holds; then they leave."""
    for one in stopped:
        one.read_again()
    revision, _ = await asyncio.to_thread(state_in_database, conninfo, QUIET)
    for one in stopped:
        while (held := one.revision) < revision:
            await until(
                partial(_has_more, one, held), within=STALLED_SECONDS, what=f"more than {held} at {one.client_id}"
            )
    await agree(conninfo, *stopped, slug=QUIET)
    for one in stopped:
        await one.cut()


def _has_more(one: Terminal, held: int) -> bool:
    return one.revision > held


def memory(relay: RelayProcess) -> int:
    """Resident bytes of the relay process."""
    status = Path(f"/proc/{relay.pid}/status").read_text()
    return int(status.partition("VmRSS:")[2].split()[0]) * 1024
