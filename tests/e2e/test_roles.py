"""What a terminal of each role may do, and that no message reaches another restaurant."""

from __future__ import annotations

from collections.abc import AsyncIterator

import psycopg
import pytest

from relay import auth, terminals
from tests.e2e.apps import USER, app, sql
from tests.relays import LocalRelay, clean_relay, local_relay
from tests.terminals import Row, Terminal, agree
from tests.waiting import until

ORDER = {
    "id": "o9",
    "tableNumber": 1,
    "customerName": "",
    "orderDate": "",
    "status": "pending",
    "total": 1,
    "items": [],
    "createdAt": "2026-01-02T01:00:00Z",
}
DISH = {"id": "d9", "name": "Tea", "price": 1, "category": "", "description": ""}
# Every message that changes or tells something, as it is sent.
CORE: list[tuple[str, Row]] = [
    ("UPDATE_TABLE", {"action": "add", "data": {"id": "t9", "number": 9, "seats": 4, "status": "available"}}),
    ("UPDATE_TABLE", {"action": "add_items", "data": {"id": "t9", "orderId": "o1", "items": [{"id": "1"}]}}),
    ("UPDATE_TABLE", {"action": "delete", "data": {"id": "t9"}}),
    ("UPDATE_ORDER", {"action": "add", "data": ORDER}),
    ("UPDATE_ORDER", {"action": "clear"}),
    ("UPDATE_MENU", {"action": "add_item", "data": DISH}),
    ("UPDATE_MENU", {"action": "add_category", "data": {"name": "Tea"}}),
    ("UPDATE_SETTINGS", {"taxRate": 7}),
    ("NEXT_ORDER_ID", {}),
    ("MESSAGE", {"text": "ready"}),
]
APPS: list[tuple[str, Row]] = [
    *CORE,
    ("UPDATE_USERS", {"action": "add", "data": USER}),
    ("USER_LOGIN", {"userId": "1"}),
    ("USER_LOGOUT", {"userId": "1"}),
    ("SESSION_UPDATE", {"userId": "1"}),
    ("SESSION_SYNC", {}),
    ("REFRESH_SESSIONS", {}),
    ("FORCE_LOGOUT", {"userId": "1"}),
    ("TERMINATE_SESSION", {"userId": "1"}),
]
EVERYTHING = """
    select jsonb_build_array(
      (select jsonb_agg(h order by restaurant_id) from pos.heads as h where restaurant_id = any (%(ids)s)),
      (select jsonb_agg(t order by id) from pos.tables as t where restaurant_id = any (%(ids)s)),
      (select jsonb_agg(t order by id) from pos.menu_items as t where restaurant_id = any (%(ids)s)),
      (select jsonb_agg(t order by name) from pos.categories as t where restaurant_id = any (%(ids)s)),
      (select jsonb_agg(t order by id) from pos.order_history as t where restaurant_id = any (%(ids)s)),
      (select jsonb_agg(t order by id) from pos.staff as t where restaurant_id = any (%(ids)s)),
      (select jsonb_agg(t) from pos.restaurants as t where restaurant_id = any (%(ids)s)),
      (select jsonb_agg(t order by revision) from pos.sync_log as t where restaurant_id = any (%(ids)s)),
      (select jsonb_agg(t) from pos.messages as t where restaurant_id = any (%(ids)s)),
      (select jsonb_agg(t) from pos.tombstones as t where restaurant_id = any (%(ids)s)))::text"""


def held(database: str, *restaurant_ids: int) -> str:
    """All that the database has of these restaurants."""
    with psycopg.connect(database) as connection:
        row = connection.execute(EVERYTHING, {"ids": list(restaurant_ids)}).fetchone()
    assert row is not None
    return str(row[0])


@pytest.fixture
async def relay(database: str, caplog: pytest.LogCaptureFixture) -> AsyncIterator[LocalRelay]:
    async with clean_relay(database, caplog, auth="token") as running:
        yield running


async def enrolled(database: str, role: str, slug: str = "default") -> str:
    """The token of a new terminal."""
    return await terminals.add(database, slug, f"a {role}", role)


@pytest.mark.parametrize("role", auth.ROLES)
async def test_a_role_does_what_it_may_and_is_told_what_it_may_not(database: str, relay: LocalRelay, role: str) -> None:
    async with Terminal(relay.url, token=await enrolled(database, role)) as one:
        for type_, data in CORE:
            before = held(database, 1)
            answer = await one.ask(type_, data)
            if auth.may(role, type_):
                assert answer["type"] == "ACK", answer
                continue
            assert (answer["type"], answer["data"]["code"]) == ("ERROR", "FORBIDDEN"), type_
            assert (answer["data"]["field"], answer["data"]["retryable"]) == ("type", False)
            assert answer["data"]["message"] == auth.why_not(role, type_)
            assert held(database, 1) == before
        assert one.close_code is None, "it may stay"
        await agree(database, one)


@pytest.mark.parametrize("role", auth.ROLES)
async def test_a_terminal_is_told_its_role_and_the_app_is_not(database: str, relay: LocalRelay, role: str) -> None:
    token = await enrolled(database, role)
    async with Terminal(relay.url, token=token) as one:
        assert (await one.hears("WELCOME"))["data"]["role"] == role
    async with app(relay, 1, additional_headers={"Authorization": f"Bearer {token}"}) as two:
        await two.say("CLIENT_CONNECTED", {"clientId": two.client_id, "protocol": 1})
        await until(lambda: two.of("WELCOME"))
        assert "role" not in two.of("WELCOME")[0]["data"]


async def test_without_authentication_nobody_is_told_a_role(database: str) -> None:
    async with local_relay(database) as open_relay, Terminal(open_relay.url) as one:
        assert "role" not in (await one.hears("WELCOME"))["data"]


@pytest.mark.parametrize("role", auth.ROLES)
async def test_the_apps_messages_have_their_roles_as_well(database: str, relay: LocalRelay, role: str) -> None:
    token = await enrolled(database, role)
    async with app(relay, 1, additional_headers={"Authorization": f"Bearer {token}"}) as one:
        for type_, data in APPS:
            before = held(database, 1)
            answer = await one.ask(type_, data)
            if auth.may(role, type_):
                assert answer["type"] == "ACK", answer
                continue
            assert (answer["type"], answer["data"]["code"]) == ("ERROR", "FORBIDDEN"), type_
            assert held(database, 1) == before, type_


@pytest.mark.parametrize("type_", ["FORCE_LOGOUT", "TERMINATE_SESSION"])
async def test_only_a_manager_throws_somebody_out(database: str, relay: LocalRelay, type_: str) -> None:
    def shown(token: str) -> Row:
        return {"additional_headers": {"Authorization": f"Bearer {token}"}}

    manager, waiter = await enrolled(database, "manager"), await enrolled(database, "terminal")
    async with app(relay, 1, **shown(manager)) as one, app(relay, 2, **shown(waiter)) as two:
        await two.say(type_, {"userId": "1"})
        await two.say("MESSAGE", {"text": "after it"})
        await until(lambda: one.of("MESSAGE"))
        assert one.of(type_) == []
        await one.say(type_, {"userId": "2"})
        await until(lambda: two.of(type_))


async def test_without_authentication_the_app_throws_out_whom_it_likes(database: str) -> None:
    async with local_relay(database) as relay, app(relay, 1) as one, app(relay, 2) as two:
        await one.say("FORCE_LOGOUT", {"userId": "2"})
        await until(lambda: two.of("FORCE_LOGOUT"))


async def test_the_database_refuses_what_a_relay_lets_through(
    database: str, relay: LocalRelay, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The second wall: a relay that has forgotten to look."""
    monkeypatch.setattr("relay.session.may", lambda _role, _type: True)
    async with Terminal(relay.url, token=await enrolled(database, "display")) as one:
        before = held(database, 1)
        for type_, data in CORE:
            error = await one.refused(type_, data)
            assert (error["code"], error["message"]) == ("FORBIDDEN", f"{type_} is not for the role display")
        assert held(database, 1) == before


async def test_no_message_names_another_restaurant(database: str, relay: LocalRelay) -> None:
    """C4: a session of one restaurant sends every message there is with the ids, and the name, of another one."""
    for slug in ("bistro", "cafe"):
        sql(database, "insert into pos.restaurants (slug, name) values (%s, %s)", slug, slug)
    ids = dict(sql(database, "select slug, restaurant_id from pos.restaurants"))
    tokens = {slug: await enrolled(database, "manager", slug) for slug in ("bistro", "cafe")}
    async with Terminal(relay.url, token=tokens["cafe"]) as victim:
        for type_, data in CORE:
            if data.get("action") not in ("delete", "clear"):
                await victim.ask(type_, data)
        before = held(database, ids["cafe"])
        heard = len(victim.received)
        named: Row = {
            "restaurant": "cafe",
            "restaurantId": ids["cafe"],
            "restaurant_id": ids["cafe"],
            "slug": "cafe",
            "tenant": ids["cafe"],
        }
        shown: Row = {"additional_headers": {"Authorization": f"Bearer {tokens['bistro']}"}}
        async with app(relay, 1, **shown) as hostile:
            for type_, data in APPS:
                inside = {"data": data["data"] | named} if "data" in data else {}
                for body in (data | named, data | inside):
                    await hostile.ask(type_, body, clientId=victim.client_id, **named)
            await hostile.say("SYNC_REQUEST", named)
            await hostile.quiet()
        assert held(database, ids["cafe"]) == before
        assert [m for m in victim.received[heard:] if m["type"] != "HEARTBEAT"] == []
        await agree(database, victim, slug="cafe")
