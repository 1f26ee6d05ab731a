"""The Python terminal as a process: commands as lines of JSON on stdin, answers on stdout. See driven.py."""

from __future__ import annotations

import asyncio
import sys
from functools import partial
from typing import Any

from relay.stores import decode, encode
from relay.terminal import MemoryStore, Mutation, SqliteStore, Status, Terminal, Timing

Row = dict[str, Any]


def summary(what: str, detail: Any) -> Any:
    """What of a report is compared."""
    if isinstance(detail, Status):
        return detail.state
    if isinstance(detail, Mutation):
        return detail.id
    return detail["revision"] if what == "change" else detail["data"] if what == "message" else detail


class Driver:
    def __init__(self, options: Row) -> None:
        timing = Timing(**{key: float(value) for key, value in options["timing"].items()})
        store = SqliteStore(options["store"]) if options["store"] else MemoryStore()
        self.terminal = Terminal(
            options["url"],
            restaurant=options["restaurant"],
            name="driven",
            token=options["token"],
            store=store,
            timing=timing,
        )
        self.told: list[Any] = []
        for what in ("state", "role", "change", "snapshot", "acknowledged", "refused", "message", "fault"):
            self.terminal.on(what, partial(self.tell, what))

    def tell(self, what: str, detail: Any) -> None:
        self.told.append([what, summary(what, detail)])

    async def do(self, name: str, asked: Row) -> Any:
        terminal = self.terminal
        match name:
            case "start":
                await terminal.start()
            case "stop":
                await terminal.stop()
            case "change":
                after = [one for one in (*terminal.pending, *terminal.refused) if one.id in asked.get("after", ())]
                if_version = asked.get("ifVersion")
                return (await terminal.change(asked["type"], asked["data"], if_version=if_version, after=after)).id
            case "nextOrderId":
                return await terminal.next_order_id()
            case "say":
                return terminal.say(asked["data"])
            case "dismiss":
                terminal.dismiss(next(one for one in terminal.refused if one.id == asked["id"]))
            case "dismissAtOnce":
                terminal.on("refused", terminal.dismiss)
            case "delays":
                return await delays(asked["url"], asked["count"])
            case "report":
                return self.report()
        return None

    def report(self) -> Row:
        terminal = self.terminal
        status = terminal.status
        return {
            "state": status.state,
            "why": status.why,
            "todo": status.todo,
            "clientId": terminal.client_id,
            "role": terminal.role,
            "epoch": terminal.epoch,
            "revision": terminal.revision,
            "head": terminal.head,
            "view": vars(terminal.view),
            "confirmed": vars(terminal.confirmed),
            "checksum": terminal.confirmed.checksum(1000),
            "pending": [one.id for one in terminal.pending],
            "refused": [{"id": one.id, **(one.error or {})} for one in terminal.refused],
            "told": self.told,
        }


async def delays(url: str, count: int) -> list[float]:
    """How long terminals wait that find nobody there."""
    loop, found = asyncio.get_running_loop(), []
    for _ in range(count):
        async with Terminal(url, timing=Timing(first_delay=100.0, last_delay=100.0)) as terminal:
            ended: asyncio.Future[None] = loop.create_future()
            terminal.on("state", partial(_end_when_offline, ended))
            await ended
            found.append((terminal.status.retry_at or 0.0) - loop.time())
    return found


def _end_when_offline(ended: asyncio.Future[None], status: Status) -> None:
    if status.state == "offline" and not ended.done():
        ended.set_result(None)


async def main() -> None:
    driver = Driver(decode(sys.argv[1]))
    reader = asyncio.StreamReader(limit=2**30)
    await asyncio.get_running_loop().connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), sys.stdin)
    tasks = set()

    async def answer(asked: Row) -> None:
        try:
            found = {"result": await driver.do(asked["do"], asked)}
        except Exception as error:
            found = {"error": repr(error)}
        print(encode({"n": asked["n"], **found}), flush=True)

    while line := await reader.readline():
        task = asyncio.create_task(answer(decode(line)))
        tasks.add(task)
        task.add_done_callback(tasks.discard)
    await driver.terminal.close()


if __name__ == "__main__":
    asyncio.run(main())
