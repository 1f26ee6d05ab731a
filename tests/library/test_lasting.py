"""What a terminal of either library has stored stays stored, whatever becomes of its process and its disk."""

from __future__ import annotations

import asyncio
import resource
from pathlib import Path

import pytest

from relay.replica import Batch
from relay.terminal import SqliteStore, Terminal, Timing
from tests.library.driven import Driven, driven, needs
from tests.library.scripted import DISH, ScriptedRelay
from tests.waiting import until

MANY = 20


def size_of(folder: Path) -> int:
    return sum(file.stat().st_size for file in folder.iterdir())


async def test_a_disk_that_is_nearly_full_at_the_start_loses_nothing(
    scripted: ScriptedRelay, terminal: Driven, tmp_path: Path
) -> None:
    await scripted.stop()
    ids = [await terminal.change("UPDATE_ORDER", "add", {"id": f"o{n}", "note": "x" * 2000}) for n in range(MANY)]
    await terminal.do("stop")
    await terminal.kill()
    await terminal.launch()
    assert terminal.process is not None
    # A file may grow to half of what is pending, and what is written beyond that is cut off (setrlimit(2)).
    half = size_of(tmp_path) // 2
    resource.prlimit(terminal.process.pid, resource.RLIMIT_FSIZE, (half, resource.RLIM_INFINITY))
    await terminal.do("start")
    assert (await terminal.report())["pending"] == ids
    await terminal.kill()
    await terminal.start()
    assert (await terminal.report())["pending"] == ids
    await terminal.change("UPDATE_ORDER", "add", {"id": "another"})


async def test_what_is_pending_keeps_its_restaurant_whatever_else_is_stored(
    language: str, scripted: ScriptedRelay, terminal: Driven, tmp_path: Path
) -> None:
    line = await scripted.line()
    await line.syncs(4)
    await terminal.is_live(4)
    id_ = await terminal.change("UPDATE_TABLE", "update", {"id": "t1", "seats": 2})
    await terminal.do("stop")
    await terminal.kill()
    come_to_the_bistro(language, tmp_path / "terminal")
    await terminal.start()
    await (await scripted.line()).welcomes(restaurant="bistro")
    report = await terminal.reports(lambda r: r["state"] == "refused")
    assert report["pending"] == [id_]
    assert "'default'" in report["why"]


def come_to_the_bistro(language: str, store: Path) -> None:
    """As another window of the same browser does, with the same storage."""
    if language == "python":
        other = SqliteStore(store)
        other.write(Batch(values={"restaurant": "bistro"}))
        other.close()
    else:
        with store.open("a") as file:
            file.write('{"clear":false,"values":[["restaurant","bistro"]]}\n')


async def test_a_file_that_another_process_has_taken_takes_nothing_more(
    scripted: ScriptedRelay, tmp_path: Path
) -> None:
    needs("node")
    store = tmp_path / "terminal"
    async with driven("node", scripted.url, store) as first, driven("node", scripted.url, store) as second:
        kept = await second.change("UPDATE_TABLE", "update", {"id": "t1", "seats": 2})
        with pytest.raises(AssertionError, match="another process has taken"):
            await first.change("UPDATE_TABLE", "update", {"id": "t1", "seats": 3})
        assert (await first.report())["pending"] == []
        await second.kill()
        await second.start()
        assert (await second.report())["pending"] == [kept]


async def test_a_file_in_node_is_made_small_when_it_has_grown(scripted: ScriptedRelay, tmp_path: Path) -> None:
    needs("node")
    async with driven("node", scripted.url, tmp_path / "terminal") as terminal:
        line = await scripted.line()
        await line.syncs(4)
        pending = await terminal.change("UPDATE_TABLE", "update", {"id": "t1", "seats": 2})
        for revision in range(5, 25):
            await line.changes(revision, {**DISH, "image": "x" * 1_000_000, "version": revision}, type_="UPDATE_MENU")
            await terminal.is_live(revision)  # and each is written by itself
        await terminal.change("UPDATE_TABLE", "update", {"id": "t1", "seats": 3})
        assert size_of(tmp_path) < 17 << 20
        await terminal.kill()
        await terminal.start()
        report = await terminal.report()
        assert (report["revision"], report["view"]["menuItems"]["d1"]["version"]) == (24, 24)
        assert (report["pending"][0], len(report["pending"])) == (pending, 2)


async def test_a_python_terminal_that_is_stopped_while_it_starts_is_stopped(
    scripted: ScriptedRelay, tmp_path: Path
) -> None:
    await scripted.stop()
    terminal = Terminal(scripted.url, store=SqliteStore(tmp_path / "terminal"))
    await asyncio.gather(terminal.start(), terminal.start(), terminal.stop())
    assert (terminal.status.state, terminal.status.why) == ("offline", "stopped")
    await scripted.start()
    await terminal.start()
    await (await scripted.line()).welcomes()
    assert len(scripted.lines) == 1
    await terminal.close()


@pytest.mark.parametrize("host", ["x" * 70, "127.0.0.1:99999"])
async def test_a_python_terminal_with_an_impossible_address_says_so(host: str) -> None:
    """Whatever connecting raises, it does not end a terminal that looks as if it were connecting."""
    async with Terminal(f"ws://{host}/ws", timing=Timing(first_delay=60.0)) as terminal:
        await until(lambda: terminal.status.retry_at is not None)
        assert terminal.status.state == "offline"
        assert terminal.status.why
