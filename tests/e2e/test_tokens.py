"""Who may come in with RELAY_AUTH=token: where a token may stand, and who is turned away."""

from __future__ import annotations

import asyncio
import json
import time
from typing import Any

import pytest
import websockets

from relay import auth, schema, terminals
from tests.cluster import TestCluster
from tests.e2e.apps import sql
from tests.e2e.strangers import bearer, closed, hello, turned_away
from tests.relays import LocalRelay, clean_relay, local_relay
from tests.terminals import Terminal, agree
from tests.waiting import until

TABLE = {"id": "t1", "number": 1, "seats": 4, "status": "available"}


# --- coming in


async def test_a_token_in_the_first_message_lets_in(database: str, guarded: LocalRelay, token: str) -> None:
    async with Terminal(guarded.url, token=token) as one, Terminal(guarded.url, token=token) as other:
        assert one.received[0]["type"] == "WELCOME"
        await one.table("add", TABLE)
        await agree(database, one, other)


@pytest.mark.parametrize(
    "how",
    [
        lambda token: bearer(token),
        lambda token: {"subprotocols": [f"minipos.token.{token}"]},
        lambda token: {"subprotocols": ["minipos", f"minipos.token.{token}"]},
    ],
    ids=["header", "subprotocol", "two subprotocols"],
)
async def test_a_token_in_the_handshake_lets_in_without_an_introduction(
    database: str, guarded: LocalRelay, token: str, how: Any
) -> None:
    options = how(token)
    async with await Terminal(guarded.url).connect(hello=False, **options) as one:
        assert (await one.table("add", TABLE))["revision"] == 1
        await agree(database, one)
        assert one._socket is not None
        assert one._socket.subprotocol == next(iter(options.get("subprotocols", [])), None)


async def test_the_token_names_the_restaurant_and_no_other_is_reached(database: str, guarded: LocalRelay) -> None:
    for slug in ("bistro", "cafe"):
        sql(database, "insert into pos.restaurants (slug, name) values (%s, 'x')", slug)
    token = await terminals.add(database, "bistro", "Bar 1", "terminal")
    async with (
        Terminal(f"{guarded.url}?restaurant=bistro", token=token) as named,
        Terminal(guarded.url, token=token) as one,
    ):
        await one.table("add", TABLE)
        await agree(database, one, named, slug="bistro")
    assert sql(database, "select slug from pos.sync_log join pos.restaurants using (restaurant_id)") == [("bistro",)]
    for slug in ("cafe", "default", "nowhere"):
        told = await turned_away(f"{guarded.url}?restaurant={slug}", hello(token))
        assert told == (1008, "this token is another restaurant's")


async def test_a_name_that_was_just_given_to_another_restaurant_leads_no_token_astray(
    database: str, guarded: LocalRelay, token: str
) -> None:
    async with Terminal(guarded.url, token=token) as one:
        await one.table("add", TABLE)
        sql(database, "update pos.restaurants set slug = 'old' where slug = 'default'")
        sql(database, "insert into pos.restaurants (slug, name) values ('default', 'another')")
        new = await terminals.add(database, "default", "Bar 1", "terminal")
        async with Terminal(guarded.url, token=new) as other, Terminal(guarded.url, token=token) as same:
            assert (other.tables, same.tables["t1"]["number"]) == ({}, 1)
            await agree(database, one, same, slug="old")


async def test_without_authentication_no_token_is_looked_at(database: str) -> None:
    async with local_relay(database) as relay:
        for options in ({"subprotocols": ["minipos.token.sesame"]}, bearer("sesame"), {}):
            async with await Terminal(f"{relay.url}?token=sesame", token="sesame").connect(**options) as one:
                assert one.snapshots
                assert one._socket is not None  # a browser leaves whoever does not answer with one of its subprotocols
                assert [one._socket.subprotocol] == options.get("subprotocols", [None])
        assert (await relay.get("/api/sync?token=sesame", {"Authorization": "Bearer sesame"}))[0] == 200


async def test_who_comes_while_the_database_is_away_waits_for_it(private_cluster: TestCluster) -> None:
    private_cluster.create_database("shop")
    await schema.apply(private_cluster.tcp("shop"))
    token = await terminals.add(private_cluster.tcp("shop"), "default", "Bar 1", "terminal")
    async with local_relay(private_cluster.tcp("shop"), auth="token") as relay:
        private_cluster.stop()
        async with websockets.connect(relay.url) as first, websockets.connect(relay.url, **bearer(token)) as second:
            row = {"type": "UPDATE_TABLE", "id": "m1", "data": {"action": "add", "data": TABLE}, "clientId": "a"}
            for socket, said in ((first, [hello(token), row]), (second, [row])):
                for message in said:
                    await socket.send(json.dumps(message))
            await asyncio.to_thread(private_cluster.start)
            for socket in (first, second):
                async with asyncio.timeout(15.0):
                    while (message := json.loads(await socket.recv()))["type"] != "ACK":
                        assert message["type"] != "ERROR", message


async def test_who_waits_for_the_database_for_long_is_told_to_come_back(
    private_cluster: TestCluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("relay.gate.AWAY_SECONDS", 1.0)
    private_cluster.create_database("shop")
    await schema.apply(private_cluster.tcp("shop"))
    token = await terminals.add(private_cluster.tcp("shop"), "default", "Bar 1", "terminal")
    async with local_relay(private_cluster.tcp("shop"), auth="token") as relay:
        inside = await Terminal(relay.url, token=token).connect()
        private_cluster.stop()
        async with websockets.connect(relay.url, **bearer(token)) as socket:
            assert await closed(socket, 15.0) == (1013, "the database is away; come back later")
        assert inside.close_code is None, "who is inside stays"
        await inside.close()


# --- being turned away


@pytest.mark.parametrize(
    "first",
    [
        {"type": "SYNC_REQUEST"},
        {"type": "HEARTBEAT", "data": {"ping": True}},
        {"type": "UPDATE_TABLE", "id": "m1", "data": {"action": "add", "data": TABLE}},
        {"type": "CLIENT_CONNECTED", "data": {}},
        "no JSON",
        b"\x00binary",
    ],
    ids=lambda first: first["type"] if isinstance(first, dict) else str(first),
)
async def test_nothing_counts_before_it_is_known_who_this_is(database: str, guarded: LocalRelay, first: Any) -> None:
    code, reason = await turned_away(guarded.url, first)
    assert (code, reason) == (1008, "the first message must be CLIENT_CONNECTED with a clientId and a token")
    assert sql(database, "select * from pos.sync_log") == []


@pytest.mark.parametrize("wrong", ["", "sesame", f"minipos_{'a' * 43}", "x" * 100_000], ids=len)
async def test_a_token_that_is_not_known_is_turned_away(guarded: LocalRelay, wrong: str) -> None:
    for first, options in ((hello(wrong), {}), (None, bearer(wrong) if 0 < len(wrong) < 1000 else {})):
        if first is None and not options:
            continue
        code, reason = await turned_away(guarded.url, first, **options)
        assert code == 1008
        assert reason in (auth.HOW_TO_SHOW, auth.NOT_KNOWN, "this is no token that a relay has given out")
        assert not wrong or wrong not in reason


async def test_a_good_token_in_a_message_does_not_mend_a_bad_one_in_the_handshake(
    guarded: LocalRelay, token: str
) -> None:
    assert (await turned_away(guarded.url, hello(token), **bearer(auth.new_token())))[0] == 1008


async def test_a_token_in_the_url_is_refused_with_a_sentence(guarded: LocalRelay, token: str) -> None:
    for query in (f"token={token}", f"restaurant=default&access_token={token}", f"x={token}"):
        assert await turned_away(f"{guarded.url}?{query}", hello(token)) == (1008, auth.IN_URL)
        status, headers, body = await guarded.get(f"/api/sync?{query}", {"Authorization": f"Bearer {token}"})
        assert (status, headers["www-authenticate"], body["error"]["message"]) == (401, "Bearer", auth.IN_URL)


async def test_who_says_nothing_is_closed_within_six_seconds(guarded: LocalRelay) -> None:
    started = time.monotonic()
    assert await turned_away(guarded.url) == (1008, "who this is was not said in time")
    assert 4.5 < time.monotonic() - started < 6.0


async def test_who_leaves_without_a_word_leaves_nothing(guarded: LocalRelay, token: str) -> None:
    async with websockets.connect(guarded.url):
        pass
    async with websockets.connect(guarded.url) as socket:
        socket.transport.abort()
    async with Terminal(guarded.url, token=token):
        pass


async def test_what_was_said_before_a_quick_goodbye_counts(database: str, guarded: LocalRelay, token: str) -> None:
    async with websockets.connect(guarded.url, **bearer(token)) as socket:
        await socket.send(json.dumps({"type": "UPDATE_TABLE", "data": {"action": "add", "data": TABLE}}))
    await until(lambda: sql(database, "select * from pos.sync_log"))


async def test_two_thousand_silent_sockets_keep_no_terminal_out(
    database: str, caplog: pytest.LogCaptureFixture
) -> None:
    token = await terminals.add(database, "default", "Bar 1", "terminal")
    async with clean_relay(database, caplog, auth="token", unidentified=50) as relay:
        silent: list[websockets.ClientConnection] = []
        for _ in range(20):
            silent += await asyncio.gather(
                *(websockets.connect(relay.url, open_timeout=30, close_timeout=1) for _ in range(100))
            )
            started = time.monotonic()
            async with Terminal(relay.url, token=token) as one:
                assert one.snapshots
            assert time.monotonic() - started < 2.0
        gate = relay.relay.gate
        assert gate is not None
        assert len(gate._strangers) <= 50
        codes = [(await closed(socket, 15.0))[0] for socket in silent]
        assert set(codes) <= {1008, 1013}
        assert codes.count(1013) >= 1900


# --- the database


async def test_a_thousand_tokens_at_once_are_looked_up_in_a_few_reads(database: str, guarded: LocalRelay) -> None:
    gate = guarded.relay.gate
    assert gate is not None
    token = await terminals.add(database, "default", "Bar 1", "terminal")
    hashes = [auth.digest(auth.new_token()) for _ in range(999)] + [auth.digest(token)]
    before = int(sql(database, "select seq_scan + idx_scan from pg_stat_user_tables where relname = 'terminals'")[0][0])
    assert before >= 0
    asked: list[int] = []
    read = guarded.relay.database.read

    async def counted(query: Any, *rest: Any, **more: Any) -> Any:
        asked.append(1 if "find_terminals" in query else 0)
        return await read(query, *rest, **more)

    guarded.relay.database.read = counted  # type: ignore[method-assign]
    answers = await asyncio.gather(*(gate._enrolments.find(one) for one in hashes), return_exceptions=True)
    assert [one.name for one in answers if isinstance(one, auth.Identity)] == ["Bar 1"]
    assert sum(asked) <= 3


# --- HTTP


async def test_the_api_asks_for_the_same_token(guarded: LocalRelay, token: str) -> None:
    paths = ["sync", "changes?since=0", "tables", "menu", "settings", "orders", "orders?limit=nonsense"]
    for path in paths:
        status, headers, body = await guarded.get(f"/api/{path}")
        assert (status, headers["www-authenticate"]) == (401, "Bearer")
        assert body["error"]["code"] == "FORBIDDEN"
        for wrong in ("Basic bWF5Om00eQ==", f"Bearer {auth.new_token()}", "Bearer sesame"):
            assert (await guarded.get(f"/api/{path}", {"Authorization": wrong}))[0] == 401
        expected = 400 if "nonsense" in path else 200
        assert (await guarded.get(f"/api/{path}", {"Authorization": f"Bearer {token}"}))[0] == expected
    for path in ("/health", "/health/live", "/health/ready", "/"):
        assert (await guarded.get(path))[0] == 200


async def test_the_api_shows_the_tokens_restaurant(database: str, guarded: LocalRelay) -> None:
    sql(database, "insert into pos.restaurants (slug, name) values ('bistro', 'x')")
    sql(
        database,
        """insert into pos.tables (restaurant_id, id, number, seats)
           select restaurant_id, slug, 1, 2 from pos.restaurants""",
    )
    token = await terminals.add(database, "bistro", "Wall", "display")
    headers = {"Authorization": f"Bearer {token}"}
    _, _, body = await guarded.get("/api/tables", headers)
    assert [table["id"] for table in body["tables"]] == ["bistro"]
    assert (await guarded.get("/api/tables?restaurant=bistro", headers))[0] == 200
    assert (await guarded.get("/api/tables?restaurant=default", headers))[0] == 401


async def test_a_page_may_come_in_only_where_it_is_listed(guarded: LocalRelay, token: str) -> None:
    """A proxy that shows a token for whoever it lets in would show it for a page of anybody's."""
    for origin in ("http://localhost", f"http://127.0.0.1:{guarded.port}", "https://evil.example", "null"):
        status, headers, _ = await guarded.get("/api/sync", {"Authorization": f"Bearer {token}", "Origin": origin})
        assert (status, headers.get("access-control-allow-origin")) == (403, None)
        with pytest.raises(websockets.InvalidStatus, match="403"):
            await websockets.connect(guarded.url, origin=origin, **bearer(token))  # type: ignore[arg-type]
