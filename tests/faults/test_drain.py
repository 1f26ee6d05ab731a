"""How a relay leaves: its terminals in slices, each with a delay, and all of it within DRAIN_SECONDS."""

from __future__ import annotations

import asyncio
import re
import signal
import time

import psycopg
import pytest
import websockets

from relay import connections
from tests.faults.deeds import execute, lock_table, make_tables
from tests.relays import RelayProcess, local_relay, relay_process
from tests.terminals import Terminal, terminals
from tests.waiting import until

CROWD = 120
BOUND_SECONDS = 2.0
SPARE_SECONDS = 8.0  # for a process to end on a busy machine; without the bound it is minutes
DELAY = re.compile(r"restarting; retry after (\d+\.\d) s")


async def test_terminals_are_closed_in_slices_and_told_to_come_back_one_after_the_other(
    database: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(connections, "SLICE_SECONDS", 1.5)
    async with local_relay(database) as relay, terminals(relay.url, CROWD) as crowd:

        def closed() -> list[Terminal]:
            return [one for one in crowd if one.close_code]

        relay.relay.stop()
        seen = []
        for slices in (1, 2):
            await until(lambda least=slices: len(closed()) >= connections.SLICE * least)  # type: ignore[misc]
            seen.append(len(closed()))
            assert relay.refuses
            # Whoever is not closed yet is served.
            staying = next(one for one in crowd if not one.close_code)
            assert (await staying.ask("UPDATE_SETTINGS", {"theme": f"slice {slices}"}))["type"] == "ACK"
        await until(lambda: len(closed()) == CROWD, what="the last slice")
        assert seen == [connections.SLICE, 2 * connections.SLICE]
        assert {one.close_code for one in crowd} == {1012}
        delays = [float(found[1]) for one in crowd if (found := DELAY.fullmatch(one.close_reason))]
        assert len(delays) == CROWD
        assert min(delays) >= 0.2
        assert max(delays) <= 0.5
        assert len(set(delays)) > 1


@pytest.mark.parametrize("terminals", [0, 1, 50, 51, 600, 601, 2_500, 3_000, 5_000, 20_000])
def test_a_crowd_comes_back_as_soon_as_the_others_can_take_it_in(terminals: int) -> None:
    size, longest = connections.slices(terminals)
    parts = -(-terminals // size)
    assert parts <= connections.SLICES
    window = connections.SLICE_SECONDS * max(0, parts - 1) + longest
    assert terminals / window <= connections.COMING
    # And no later than that takes: at the end of a slice's own half second, or of the whole crowd's time.
    assert longest == 0.5 or window == pytest.approx(terminals / connections.COMING)


async def test_it_has_left_within_its_bound_whatever_holds_it_up(database: str) -> None:
    """A row that stays locked, and a change of it that nobody would repeat."""
    async with (
        relay_process(database, DRAIN_SECONDS=f"{BOUND_SECONDS:.0f}") as relay,
        terminals(relay.url, 2) as (waiting, silent),
    ):
        await make_tables(waiting, "t1")
        with psycopg.connect(database) as person:
            lock_table(person, "t1")
            await waiting.say("UPDATE_TABLE", {"action": "update", "data": {"id": "t1", "seats": 8}})
            await until(lambda: is_pending(relay))
            silent.stop_reading()  # nor does it answer the close
            relay.send(signal.SIGTERM)
            asked = time.monotonic()
            assert await relay.ended(within=BOUND_SECONDS + SPARE_SECONDS) == 0
            assert time.monotonic() - asked < BOUND_SECONDS + SPARE_SECONDS
            silent.read_again()
        assert "mutations are refused: the drain took too long" in relay.log
        assert waiting.close_code == 1012
        assert execute(database, "select seats from pos.tables") == 4


async def test_what_is_sent_while_it_leaves_is_done_or_refused_and_never_lost(database: str) -> None:
    """An ACK for each, or an error that says to repeat: and what was acknowledged is there."""
    async with relay_process(database) as relay, terminals(relay.url, 20) as crowd:
        await make_tables(crowd[0], *(f"t{number}" for number in range(len(crowd))))
        told: dict[int, int] = {}

        async def work(number: int, one: Terminal) -> None:
            count = 0
            while not one.close_code:
                count += 1
                body = {"action": "update", "data": {"id": f"t{number}", "count": count}}
                try:
                    answer = await one.ask("UPDATE_TABLE", body, id=f"{number}-{count}")
                except websockets.ConnectionClosed:
                    return
                if answer["type"] == "ACK":
                    told[number] = count
                else:
                    assert answer["data"]["retryable"], answer

        async with asyncio.TaskGroup() as tasks:
            working = [tasks.create_task(work(number, one)) for number, one in enumerate(crowd)]
            await until(lambda: len(told) == len(crowd))
            relay.send(signal.SIGTERM)
            assert await relay.ended() == 0
        assert all(task.done() for task in working)
        with psycopg.connect(database) as connection:
            found: dict[str, int] = dict(
                connection.execute("select id, (extra ->> 'count')::int from pos.tables").fetchall()
            )
        assert all(found[f"t{number}"] >= count for number, count in told.items())


async def is_pending(relay: RelayProcess) -> bool:
    return bool((await relay.health())["pending"])
