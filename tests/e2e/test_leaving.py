"""How terminals leave: whenever they do, nothing of them stays behind (the `relay` fixture looks) or is lost."""

from __future__ import annotations

import asyncio
import gc
import random
import socket
from collections import Counter

import psycopg
import pytest

from relay.connection import Connection
from relay.inbound import Inbound
from relay.session import Session
from relay.upgrade import Handshake, HttpProtocol
from relay.wire import SocketWire
from tests.cluster import TestCluster
from tests.relays import LocalRelay, clean_relay
from tests.terminals import Row, Terminal, agree, terminals
from tests.waiting import until

TABLE = {"id": "t1", "number": 1, "seats": 4, "status": "available"}
OF_ONE = {Connection, Handshake, HttpProtocol, Inbound, Session, SocketWire}  # what is made for each connection
WAYS = pytest.mark.parametrize("way", ["close", "cut"])


async def leave(terminal: Terminal, way: str) -> None:
    await (terminal.close() if way == "close" else terminal.cut())


def nothing_open(relay: LocalRelay, but: int = 0) -> bool:
    return len(relay.relay.connections.open) == but and len(list(relay.relay.hub.sessions)) == but


@WAYS
async def test_a_terminal_may_leave_at_any_point_of_the_conversation(
    relay: LocalRelay, database: str, way: str
) -> None:
    words: list[tuple[str, Row]] = [
        ("CLIENT_CONNECTED", {"clientId": "x", "protocol": 1}),
        ("SYNC_REQUEST", {}),
        ("HEARTBEAT", {}),
        ("UPDATE_SETTINGS", {"theme": "light"}),
        ("NEXT_ORDER_ID", {}),
        ("MESSAGE", {}),
        ("SYNC_REQUEST", {"epoch": "another", "revision": 1}),
        ("NO_SUCH", {}),
    ]
    async with terminals(relay.url, 1) as (staying,):
        for said in range(len(words) + 1):
            leaving = await Terminal(relay.url).connect(hello=False, sync=False)
            for type_, data in words[:said]:
                await leaving.say(type_, data)
            await leave(leaving, way)
        await until(lambda: nothing_open(relay, but=1))
        await staying.table("add", TABLE)
        await agree(database, staying)


@WAYS
async def test_a_terminal_may_leave_while_its_restaurant_is_looked_for(
    relay: LocalRelay, database: str, way: str
) -> None:
    with psycopg.connect(database) as connection:
        connection.execute("lock table pos.restaurants in access exclusive mode")
        leaving = await Terminal(relay.url).connect(sync=False)
        await leave(leaving, way)
        silent = await Terminal(relay.url).connect(hello=False, sync=False)
        await leave(silent, way)
        await until(lambda: not relay.relay.connections.open)
        connection.rollback()
    async with terminals(relay.url, 1):
        assert nothing_open(relay, but=1)


@WAYS
async def test_a_terminal_may_leave_while_it_is_synced(relay: LocalRelay, database: str, way: str) -> None:
    with psycopg.connect(database) as connection:
        connection.execute("lock table pos.order_history in access exclusive mode")
        leaving = [await Terminal(relay.url).connect(sync=False) for _ in range(5)]
        for one in leaving:
            await one.hears("WELCOME")
            await one.say("SYNC_REQUEST")
        room = relay.relay.hub.room_of("default")
        assert room is not None
        await until(room.reading.locked)
        for one in leaving:
            await leave(one, way)
        connection.rollback()
    await until(lambda: nothing_open(relay))
    async with terminals(relay.url, 2) as found:
        await found[0].table("add", TABLE)
        await agree(database, *found)


@WAYS
async def test_what_a_terminal_sent_before_it_left_is_applied(relay: LocalRelay, database: str, way: str) -> None:
    async with terminals(relay.url, 2) as (staying, leaving):
        with psycopg.connect(database) as connection:
            await staying.table("add", TABLE)
            connection.execute("update pos.tables set seats = 9")  # holds the row
            await leaving.say("UPDATE_TABLE", {"action": "update", "data": {"id": "t1", "seats": 7}}, id="m")
            await leaving.say("SYNC_REQUEST")
            await until(lambda: relay.relay.writer.pending)
            await leave(leaving, way)
            await until(lambda: nothing_open(relay, but=1))
            connection.rollback()
        await staying.reaches(2)
        assert staying.tables["t1"]["seats"] == 7
        await agree(database, staying)


async def test_a_hundred_terminals_that_come_and_go_leave_nothing_behind(relay: LocalRelay, database: str) -> None:
    async def visit(number: int) -> None:
        terminal = Terminal(relay.url, f"v{number}")
        await terminal.connect(sync=number % 3 > 0)
        for turn in range(number % 5):
            row = TABLE | {"id": f"t{number}", "number": number, "seats": turn}
            await terminal.say("UPDATE_TABLE", {"action": "add", "data": row}, id=f"m{turn}")
        await leave(terminal, random.choice(["close", "cut"]))
        assert terminal.faults == []

    async with terminals(relay.url, 1) as (staying,):
        for start in range(0, 100, 25):
            await asyncio.gather(*(visit(number) for number in range(start, start + 25)))
        await until(lambda: nothing_open(relay, but=1) and not relay.relay.writer.pending)
        assert (await relay.health())["clients"] == 1
        await agree(database, staying)


@WAYS
async def test_a_terminal_may_leave_while_the_database_is_away(
    private_cluster: TestCluster, caplog: pytest.LogCaptureFixture, way: str
) -> None:
    from relay.schema import apply

    private_cluster.create_database("pos")
    conninfo = private_cluster.conninfo("pos")
    await apply(conninfo)
    async with clean_relay(conninfo, caplog) as relay:
        staying, leaving = Terminal(relay.url), Terminal(relay.url)
        for one in (staying, leaving):
            await one.connect(sync=False)
            await one.hears("WELCOME")
        await asyncio.to_thread(private_cluster.stop)
        strangers = [await Terminal(f"{relay.url}?restaurant=default").connect(sync=False) for _ in range(2)]
        for one in (staying, leaving):
            await one.say("SYNC_REQUEST", id="s")
            assert (await one.hears("ERROR", within=10.0))["data"]["code"] == "UNAVAILABLE"
        for one in (leaving, *strangers):
            await leave(one, way)
        await until(lambda: nothing_open(relay, but=1))
        await asyncio.to_thread(private_cluster.start)
        await until(lambda: staying.snapshots, within=15.0)
        await staying.table("add", TABLE, within=10.0)
        await agree(conninfo, staying)
        await staying.close()
        caplog.clear()  # that the database was away was an error


async def test_connections_leave_no_object_behind_for_the_collector(relay: LocalRelay) -> None:
    """What an open terminal costs is given back when it leaves, and not when the collector comes round."""

    def left() -> Counter[str]:
        return Counter(type(one).__name__ for one in gc.get_objects() if type(one) in OF_ONE)

    gc.collect()
    gc.disable()
    try:
        for number in range(20):
            leaving = await Terminal(relay.url).connect()
            await leaving.ask("NEXT_ORDER_ID")
            await leave(leaving, "cut" if number % 2 else "close")
            with socket.create_connection((relay.host, relay.port)) as refused:
                refused.sendall(
                    b"GET /nowhere HTTP/1.1\r\nHost: x\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\n"
                )
                assert (await asyncio.to_thread(refused.recv, 100)).startswith(b"HTTP/1.1 400")
            await until(lambda: nothing_open(relay))
        await until(lambda: not left(), what=f"the end of {left()}")
        assert not any(relay.relay.sockets.keepalive._turns)
    finally:
        gc.enable()
