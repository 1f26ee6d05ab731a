"""Who is let in when many come: each cap on the wire, whose address counts, and that a storm comes in in turns."""

from __future__ import annotations

import asyncio
import time
from contextlib import AsyncExitStack, suppress
from typing import Any

import psycopg
import pytest
import websockets

from relay.terminal import Terminal as LibraryTerminal
from tests.e2e.apps import ORDER, App, app, sql
from tests.e2e.strangers import closed
from tests.relays import LocalRelay, local_relay
from tests.terminals import Terminal, terminals
from tests.test_metrics import growth
from tests.waiting import until

CAP = 3


async def refused(url: str, **options: Any) -> tuple[int, int, str]:
    """The status of a handshake that is not let in, its Retry-After, and what it says."""
    with pytest.raises(websockets.InvalidStatus) as error:
        await websockets.connect(url, **options)
    response = error.value.response
    return response.status_code, int(response.headers["Retry-After"]), response.body.decode()


def forwarded(*addresses: str) -> dict[str, Any]:
    return {"additional_headers": {"X-Forwarded-For": ", ".join(addresses)}}


class Crowd(AsyncExitStack):
    """Sockets that stay open."""

    async def come(self, url: str, times: int = CAP, **options: Any) -> list[websockets.ClientConnection]:
        return [await self.enter_async_context(websockets.connect(url, **options)) for _ in range(times)]


# --- addresses


async def test_an_address_that_a_proxy_names_has_so_many_connections(database: str) -> None:
    async with local_relay(database, address_connections=CAP) as relay, Crowd() as crowd:
        grown = await growth(relay)
        first, *_ = await crowd.come(relay.url, **forwarded("203.0.113.7"))
        status, after, why = await refused(relay.url, **forwarded("203.0.113.7"))
        assert (status, after) == (503, 5)
        assert "RELAY_ADDRESS_CONNECTIONS" in why
        await crowd.come(relay.url, **forwarded("203.0.113.8"))
        assert await grown.of('relay_limited_total{limit="address"}') == 1
        await first.close()
        await until(lambda: len(relay.relay.connections.open) == 2 * CAP - 1)
        await crowd.come(relay.url, 1, **forwarded("203.0.113.7"))


async def test_what_a_terminal_writes_before_the_proxys_word_is_not_believed(database: str) -> None:
    async with local_relay(database, address_connections=CAP) as relay, Crowd() as crowd:
        for number in range(CAP):
            await crowd.come(relay.url, 1, **forwarded(f"198.51.100.{number}", "203.0.113.7"))
        assert (await refused(relay.url, **forwarded("198.51.100.77", "203.0.113.7")))[0] == 503


async def test_a_forged_header_from_an_address_that_is_no_proxy_is_ignored(database: str) -> None:
    here = {"local_addr": ("127.0.0.2", 0)}
    async with local_relay(database, address_connections=CAP) as relay, Crowd() as crowd:
        for number in range(CAP):
            await crowd.come(relay.url, 1, **here, **forwarded(f"203.0.113.{number}"))
        seen = {one.session.actor.address for one in relay.relay.connections.open}
        assert seen == {"127.0.0.2"}
        for forged in ("203.0.113.77", "127.0.0.1", "::1", ""):
            assert (await refused(relay.url, **here, **forwarded(forged)))[0] == 503
        await crowd.come(relay.url, local_addr=("127.0.0.3", 0))


async def test_a_proxy_that_does_not_say_whom_it_forwards_for_is_not_counted(database: str) -> None:
    async with (
        local_relay(database, address_connections=CAP, proxies=("127.0.0.0/30",)) as relay,
        Crowd() as crowd,
    ):
        await crowd.come(relay.url, 3 * CAP, local_addr=("127.0.0.2", 0))
        await crowd.come(relay.url, 3 * CAP)
        assert not relay.relay.connections._places


# --- terminals, restaurants, relays


async def test_a_client_id_has_so_many_connections(database: str) -> None:
    async with local_relay(database, terminal_connections=CAP) as relay, AsyncExitStack() as stack:
        first = await stack.enter_async_context(Terminal(relay.url, "till"))
        for _ in range(CAP - 1):
            await stack.enter_async_context(Terminal(relay.url, "till"))
        late = await Terminal(relay.url, "till").connect(sync=False)
        await until(lambda: late.close_code)
        assert (late.close_code, late.close_reason.endswith("retry after 5 s")) == (1013, True)
        await stack.enter_async_context(Terminal(relay.url, "bar"))
        await first.close()
        await until(lambda: len(relay.relay.connections.open) == CAP)
        await stack.enter_async_context(Terminal(relay.url, "till"))
    assert not relay.relay.connections.admission._terminals


@pytest.mark.parametrize("known", [True, False], ids=["known", "asked for"])
async def test_what_an_app_sends_behind_its_first_message_is_kept_where_it_is_one_too_many(
    database: str, known: bool
) -> None:
    """It gives no ids, and forgets what it has sent."""
    client_id = "client_1700000000000_abc"
    count = "select count(*) from pos.order_history"
    async with local_relay(database, terminal_connections=CAP) as relay, AsyncExitStack() as stack:
        for _ in range(CAP):
            await stack.enter_async_context(app(relay, 0, client_id=client_id))
        with psycopg.connect(database) as somebody:
            if not known:
                room = relay.relay.hub.room_of("default")
                assert room is not None
                room.named_at = 0.0
                somebody.execute("lock table pos.restaurants in access exclusive mode")
            async with websockets.connect(relay.url) as socket:
                late = App(client_id, socket)
                await late.say("CLIENT_CONNECTED", {"clientId": client_id})
                await late.say("SYNC_REQUEST")
                for number in range(5):
                    await late.do("UPDATE_ORDER", "add", ORDER | {"id": f"POS-01022026-{number:03}"})
                with suppress(websockets.ConnectionClosed):
                    await late.reader
                assert (socket.close_code, "RELAY_TERMINAL_CONNECTIONS" in (socket.close_reason or "")) == (1013, True)
        await until(lambda: sql(database, count) == [(5,)], what="what it had kept")


@pytest.mark.parametrize("known", [True, False], ids=["known", "asked for"])
async def test_a_restaurant_has_so_many_connections(database: str, known: bool) -> None:
    sql(database, "insert into pos.restaurants (slug, name) values ('cafe', 'C')")
    async with local_relay(database, restaurant_connections=CAP) as relay, terminals(relay.url, CAP):
        if not known:
            room = relay.relay.hub.room_of("default")
            assert room is not None
            room.named_at = 0.0
        if known:
            status, after, why = await refused(relay.url)
            assert (status, after, "RELAY_RESTAURANT_CONNECTIONS" in why) == (503, 5, True)
        else:
            async with websockets.connect(relay.url) as socket:
                code, reason = await closed(socket)
            assert (code, "RELAY_RESTAURANT_CONNECTIONS" in reason) == (1013, True)
        async with Terminal(f"{relay.url}?restaurant=cafe") as neighbour:
            assert neighbour.snapshots


async def test_a_relay_has_so_many_connections(database: str) -> None:
    async with local_relay(database, connections=CAP) as relay:
        async with terminals(relay.url, CAP):
            status, after, why = await refused(relay.url)
            assert (status, after, "RELAY_CONNECTIONS" in why) == (503, 5, True)
            assert (await relay.get("/health"))[0] == 200
        await until(lambda: not relay.relay.connections.open)
        async with Terminal(relay.url) as one:
            assert one.snapshots


async def test_caps_hold_where_there_are_tokens(guarded: LocalRelay, token: str) -> None:
    async with AsyncExitStack() as stack:
        for _ in range(guarded.relay.settings.terminal_connections):
            await stack.enter_async_context(Terminal(guarded.url, "till", token=token))
        late = await Terminal(guarded.url, "till", token=token).connect(sync=False)
        await until(lambda: late.close_code)
        assert late.close_code == 1013


# --- storms


async def test_a_storm_comes_in_in_turns(database: str) -> None:
    async with local_relay(database, handshakes=10) as relay, AsyncExitStack() as stack:
        grown = await growth(relay)
        found = await asyncio.gather(*(websockets.connect(relay.url) for _ in range(80)), return_exceptions=True)
        inside = [one for one in found if isinstance(one, websockets.ClientConnection)]
        outside = [one for one in found if isinstance(one, websockets.InvalidStatus)]
        for one in inside:
            stack.push_async_callback(one.close)
        assert len(inside) + len(outside) == 80
        assert 50 <= len(inside) < 80
        assert {one.response.status_code for one in outside} == {503}
        assert all(1 <= int(one.response.headers["Retry-After"]) <= 10 for one in outside)
        assert await grown.of('relay_limited_total{limit="handshakes"}') == len(outside)


async def test_terminals_that_are_refused_come_back_and_get_in(database: str) -> None:
    async with local_relay(database, handshakes=10) as relay:
        crowd = [LibraryTerminal(relay.url) for _ in range(100)]
        began = time.monotonic()
        for one in crowd:
            await one.start()
        try:
            await until(lambda: all(one.status.state == "live" for one in crowd), within=60.0)
        finally:
            for one in crowd:
                await one.stop()
        print(f"100 terminals, 10 a second let in: all live after {time.monotonic() - began:.1f} s")


async def test_a_storm_of_apps_meets_the_database_in_a_few_reads(shop: str) -> None:
    async with local_relay(shop) as relay, AsyncExitStack() as stack:
        asked: list[int] = []
        read = relay.relay.database.read

        async def counted(query: Any, *rest: Any, **more: Any) -> Any:
            asked.append("meet_terminal" in query)
            return await read(query, *rest, **more)

        relay.relay.database.read = counted  # type: ignore[method-assign]
        coming = [app(relay, 0, client_id=f"client_{1700000000000 + n}_abc") for n in range(100)]
        apps = await asyncio.gather(*(stack.enter_async_context(one) for one in coming))
        assert all(one.of("SYNC_RESPONSE") for one in apps)
        assert 1 <= sum(asked) <= 50
