"""What a terminal of either library makes of heartbeats, of silence, and of a state that is long in coming."""

from __future__ import annotations

import asyncio
from functools import partial

from tests.library.driven import driven
from tests.library.scripted import DISH, ScriptedRelay, seated, snapshot
from tests.waiting import until


async def test_a_relay_without_a_sign_of_life_is_left(language: str, scripted: ScriptedRelay) -> None:
    async with driven(language, scripted.url, None, timing={"heartbeat": 0.3}) as terminal:
        line = await scripted.line()
        await line.syncs(4)
        for _ in range(3):
            assert await line.beats_again() == {"ping": True}
            await line.says("HEARTBEAT", {"response": True, "revision": 4, "head": 4})
        assert len(scripted.lines) == 1
        await scripted.line()  # nothing is said to it any more
        told = [detail for what, detail in (await terminal.report())["told"] if what == "state"]
        assert told[2:4] == ["live", "offline"]


async def test_a_state_that_arrives_slowly_is_waited_for_longer_each_time(
    language: str, scripted: ScriptedRelay
) -> None:
    async with driven(language, scripted.url, None, timing={"heartbeat": 0.5, "answer": 0.75}) as terminal:
        line = await scripted.line()
        for _ in range(2):
            await line.welcomes()
            left, line = line, await scripted.line()
            await until(partial(getattr, left, "closed"))
            await left.hears_no_more()  # asked twice, it would be sent twice
        await line.welcomes()
        # The first was given up after 1 s, the second after 1.5; this one has 2.5.
        await until(lambda: asyncio.get_running_loop().time() - line.opened > 1.7)
        await line.hears_no_more()
        await line.says("SYNC_RESPONSE", snapshot(4))
        await terminal.is_live(4)
        before = len(line.beats)
        await until(lambda: line.closed)
        assert len(line.beats) - before <= 3, "as little patience as before, once it is live"


async def test_a_state_is_asked_for_again_when_something_else_is_heard_instead(
    language: str, scripted: ScriptedRelay
) -> None:
    async with driven(language, scripted.url, None, timing={"heartbeat": 1.5, "answer": 1.0}):
        line = await scripted.line()
        await line.welcomes()
        for _ in range(2):
            await line.beats_again()
            await line.hears_no_more()  # the time is over, but it may be on its way
            await line.says("HEARTBEAT", {"response": True, "revision": 4, "head": 4})
            assert (await line.hears("SYNC_REQUEST"))["data"] == {}


async def test_a_heartbeat_above_what_it_holds_means_a_hole(language: str, scripted: ScriptedRelay) -> None:
    async with driven(language, scripted.url, None, timing={"heartbeat": 0.3}) as terminal:
        line = await scripted.line()
        await line.syncs(4)
        await line.beats_again()
        await line.says("HEARTBEAT", {"response": True, "revision": 5, "head": 6})
        assert (await line.hears("SYNC_REQUEST"))["data"] == {"epoch": "first", "revision": 4}
        await line.says("SYNC_RESPONSE", {"mode": "changes", "epoch": "first", "from": 4, "revision": 5})
        await line.changes(5, seated(2))
        assert (await terminal.is_live(5))["head"] in (5, 6)


async def test_a_head_that_it_does_not_come_nearer_to_is_asked_for(language: str, scripted: ScriptedRelay) -> None:
    async with driven(language, scripted.url, None, timing={"heartbeat": 0.3}):
        line = await scripted.line()
        await line.syncs(4)
        for _ in range(2):
            await line.beats_again()
            await line.says("HEARTBEAT", {"response": True, "revision": 4, "head": 6})
        assert (await line.hears("SYNC_REQUEST"))["data"] == {"epoch": "first", "revision": 4}


async def test_a_wrong_checksum_starts_it_over(language: str, scripted: ScriptedRelay) -> None:
    async with driven(language, scripted.url, None, timing={"heartbeat": 0.3, "check": 0.1}) as terminal:
        line = await scripted.line()
        await line.syncs(4, menuItems=[DISH], categories=["A"], settings={"a": True, "b": "x", "c": 2.5, "d": None})
        right = (await terminal.is_live(4))["checksum"]
        for revision, check in ((3, 1), (4, right), (4, right + 1)):
            assert await line.beats_again() == {"ping": True, "checksum": True}
            await line.hears_no_more()
            beat = {"response": True, "revision": revision, "head": 4, "checksum": check, "orders": 1000}
            await line.says("HEARTBEAT", beat)
        assert (await line.hears("SYNC_REQUEST"))["data"] == {}
        await line.says("SYNC_RESPONSE", snapshot(4, tables=[]))
        report = await terminal.reports(lambda r: r["view"]["tables"] == {})
        assert [what for what, _ in report["told"]].count("fault") == 1
