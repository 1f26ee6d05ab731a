"""Terminals that stop reading: they cost bounded memory and nobody else's time, and lose nothing."""

from __future__ import annotations

import asyncio
import socket
from pathlib import Path

from relay.frames import PIECE_BYTES
from relay.session import OUTBOX_BYTES, Session
from relay.wire import BUFFER_HIGH
from tests.flow import ROWS, add_tables, make_changes, truncate_log
from tests.relays import LocalRelay, RelayProcess, local_relay, relay_process
from tests.terminals import Terminal, agree, terminals
from tests.waiting import until

SIZE = 100_000  # of a change
KERNEL_BYTES = 6 << 20  # more than both kernel buffers of a connection hold together


async def narrow(url: str, client_id: str) -> Terminal:
    """A terminal whose own kernel buffer is small."""
    address = url.removeprefix("ws://").partition("/")[0].split(":")
    own = socket.socket()
    own.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 8192)
    own.connect((address[0], int(address[1])))
    own.setblocking(False)
    return await Terminal(url, client_id).connect(sock=own)


def session_of(relay: LocalRelay, client_id: str) -> Session:
    [found] = [session for session in relay.relay.hub.sessions if session.client_id == client_id]
    return found


def rss(relay: RelayProcess) -> int:
    """Resident bytes of the relay process."""
    assert relay.process is not None
    status = Path(f"/proc/{relay.process.pid}/status").read_text()
    return int(status.partition("VmRSS:")[2].split()[0]) * 1024


async def test_a_stopped_reader_costs_bounded_memory_and_catches_up_by_its_cursor(database: str) -> None:
    add_tables(database)
    async with local_relay(database, window_bytes=1 << 25) as relay, terminals(relay.url, 3) as others:
        slow = await narrow(relay.url, "slow")
        session = session_of(relay, "slow")
        slow.stop_reading()
        for _ in range(2 * KERNEL_BYTES // SIZE // 10):
            await asyncio.to_thread(make_changes, database, 10, size=SIZE)
            await agree(database, *others, within=3.0)
            assert session.wire.buffered <= BUFFER_HIGH + 2 * PIECE_BYTES
            assert session._outbox_bytes <= 2 * SIZE
        assert session.lagging
        assert (await relay.health())["lagging"] == 1
        head = ROWS + 2 * KERNEL_BYTES // SIZE // 10 * 10
        assert session.cursor < head
        slow.read_again()
        await agree(database, slow)
        assert [revision for _, revision, _ in slow.applied] == list(range(ROWS + 1, head + 1))
        assert len(slow.snapshots) == 1
        assert not session.lagging
        await slow.close()


async def test_a_reader_that_fell_out_of_the_window_is_resynced_when_it_reads_again(database: str) -> None:
    add_tables(database)
    async with local_relay(database, window_bytes=1 << 20) as relay, terminals(relay.url, 1) as others:
        slow = await narrow(relay.url, "slow")
        session = session_of(relay, "slow")
        slow.stop_reading()
        await asyncio.to_thread(make_changes, database, 2 * KERNEL_BYTES // SIZE, size=SIZE)
        await agree(database, *others)
        await until(lambda: session.cursor < relay.relay.hub.rooms[1].head - 10)
        assert session._outbox_bytes <= 2 * SIZE
        slow.read_again()
        await agree(database, slow)
        assert [snapshot["reason"] for snapshot in slow.snapshots] == ["first-sync", "too-old"]
        await asyncio.to_thread(make_changes, database, 3)
        await agree(database, slow, *others)
        assert len(slow.snapshots) == 2
        await slow.close()


async def test_a_new_history_does_not_pile_up_before_a_stopped_reader(database: str) -> None:
    add_tables(database)
    await asyncio.to_thread(make_changes, database, ROWS, size=SIZE)
    async with local_relay(database, sweep_seconds=0.1) as relay, terminals(relay.url, 1) as others:
        slow = await narrow(relay.url, "slow")
        session = session_of(relay, "slow")
        slow.stop_reading()
        await asyncio.to_thread(make_changes, database, KERNEL_BYTES // SIZE, size=SIZE)
        await until(lambda: session.lagging)
        for number in range(5):
            await truncate_log(database)
            await until(lambda number=number: len(others[0].snapshots) == number + 2)  # type: ignore[misc]
            assert session._outbox_bytes <= 2 * SIZE
        slow.read_again()
        await agree(database, slow, *others)
        assert [snapshot["reason"] for snapshot in slow.snapshots] == ["first-sync", "epoch-changed"]
        await slow.close()


async def test_who_asks_without_reading_is_not_read_from_and_loses_nothing(database: str) -> None:
    add_tables(database)
    await asyncio.to_thread(make_changes, database, 3, size=SIZE)
    asked = 40  # each snapshot comes 100 ms after the one before, and is more than the outbox holds
    async with local_relay(database) as relay, terminals(relay.url, 1) as others:
        greedy = await narrow(relay.url, "greedy")
        session = session_of(relay, "greedy")
        greedy.stop_reading()

        async def ask() -> None:
            for number in range(asked):
                await greedy.say("SYNC_REQUEST", {}, id=f"sync-{number}")
                body = {"action": "update", "data": {"id": "1", "seats": number % 9 + 1, "n": number}}
                await greedy.say("UPDATE_TABLE", body, id=f"change-{number}")
                await greedy.say("HEARTBEAT", {"ping": True})

        asking = asyncio.create_task(ask())
        await until(lambda: session.clogged)
        done = others[0].revision
        assert 0 < done < ROWS + 3 + asked, "it is not read from any more"
        assert session._outbox_bytes <= OUTBOX_BYTES + 4 * SIZE
        assert session.wire.buffered <= BUFFER_HIGH + 2 * PIECE_BYTES
        await asyncio.to_thread(make_changes, database, 3)
        await until(lambda: others[0].revision >= done + 3, what="others to be served meanwhile")
        greedy.read_again()
        await asking
        await until(lambda: others[0].tables["1"].get("n") == asked - 1, within=30.0)
        await agree(database, greedy, *others)
        answers = [message["ref"] for message in greedy.received if "ref" in message]
        assert sorted(answers) == sorted(f"{what}-{n}" for n in range(asked) for what in ("sync", "change"))
        assert [ref for ref in answers if ref[0] == "s"] == [f"sync-{number}" for number in range(asked)]
        assert sum(message["type"] == "HEARTBEAT" for message in greedy.received) == asked
        await greedy.close()


async def test_fifty_stopped_readers_cost_little_more_than_one_window(database: str) -> None:
    add_tables(database)
    window = 4 << 20
    async with relay_process(database, RELAY_WINDOW_BYTES=str(window)) as relay, terminals(relay.url, 1) as others:
        await asyncio.to_thread(make_changes, database, 100, size=SIZE)
        await agree(database, *others)
        before = rss(relay)
        stopped = await asyncio.gather(*(narrow(relay.url, f"stopped-{number}") for number in range(50)))
        for one in stopped:
            one.stop_reading()
        for _ in range(10):
            await asyncio.to_thread(make_changes, database, 20, size=SIZE)
            await agree(database, *others)
        assert (await relay.health())["lagging"] == 50
        # A megabyte is in the transport's buffer or the rest of a change; all together have the window and a snapshot.
        assert rss(relay) - before < 50 * (BUFFER_HIGH + 2 * PIECE_BYTES + SIZE) + 4 * window
        for one in stopped:
            one.read_again()
        await agree(database, *stopped, within=30.0)
        await asyncio.gather(*(one.close() for one in stopped))
