"""App sessions on the wire: what the web app is sent, and what it must never be sent."""

from __future__ import annotations

import pytest

from tests.e2e.apps import DISH, ORDER, TABLE, app, sql
from tests.flow import truncate_log
from tests.relays import clean_relay, local_relay
from tests.terminals import Row, Terminal, agree
from tests.waiting import slow_down, until


async def test_a_state_comes_where_the_app_reads_it(shop: str) -> None:
    async with local_relay(shop) as relay, app(relay, 1) as one:
        data = one.of("SYNC_RESPONSE")[0]["data"]
        assert {kind: len(rows) for kind, rows in data["data"].items()} == {
            "tables": 8,
            "menuItems": 6,
            "categories": 6,
            "settings": 10,
            "orderHistory": 0,
        }
        assert [user["password"] for user in data["users"]] == ["admin", "cashier", "waiter"]


async def test_its_own_changes_come_back_in_lists_only(shop: str, caplog: pytest.LogCaptureFixture) -> None:
    async with clean_relay(shop, caplog) as relay, app(relay, 1) as one, app(relay, 2) as two:
        one.heard.clear()
        two.heard.clear()
        await one.do("UPDATE_TABLE", "add", TABLE)
        await one.do("UPDATE_TABLE", "update", {**TABLE, "seats": 6})
        for each in (one, two):
            found = await each.gets("tables", holding={**TABLE, "seats": 6})
            assert [row["seats"] for row in found if row["id"] == TABLE["id"]] == [6]
        await two.quiet()
        assert one.of("UPDATE_TABLE") == []
        assert [(m["data"]["action"], m["clientId"]) for m in two.of("UPDATE_TABLE")] == [("update", one.client_id)]
        assert {kind for lists in one.lists + two.lists for kind in lists} == {"tables"}, "only what has changed"


async def test_a_core_terminal_gets_the_plain_changes_and_both_agree(shop: str) -> None:
    async with local_relay(shop) as relay, app(relay, 1) as one, Terminal(relay.url) as core:
        await one.do("UPDATE_TABLE", "add", TABLE)
        await one.do("UPDATE_MENU", "add_item", DISH)
        await core.reaches(23)
        assert [message["data"]["action"] for _, _, message in core.applied] == ["add", "add_item"]
        await core.table("update", {"id": "1", "status": "occupied"})
        await agree(shop, core)
        changed = await until(lambda: one.of("UPDATE_TABLE"))
        assert changed[0]["data"]["data"]["status"] == "occupied"
        await until(lambda: any(core.tables["1"] in lists.get("tables", []) for lists in one.lists))


@pytest.mark.parametrize(
    ("type_", "action", "row", "kind"),
    [
        ("UPDATE_TABLE", "update", {"id": "1", "number": 2}, "tables"),
        ("UPDATE_TABLE", "update", {"id": "1", "seats": "many"}, "tables"),
        ("UPDATE_TABLE", "update", {"id": "8", "number": 8, "seats": 1, "status": "available"}, "tables"),
        ("UPDATE_MENU", "update_item", {"id": "1", "price": -1}, "menuItems"),
        ("UPDATE_MENU", "add_category", {"name": ""}, "categories"),
    ],
    ids=["a taken number", "no number", "a deleted table", "a wrong price", "no name"],
)
async def test_after_a_refusal_the_list_puts_every_browser_right(
    shop: str, type_: str, action: str, row: Row, kind: str
) -> None:
    sql(shop, "delete from pos.tables where id = '8'")
    async with local_relay(shop) as relay, app(relay, 1) as one, app(relay, 2) as two:
        one.heard.clear()
        two.heard.clear()
        await one.do(type_, action, row)
        for each in (one, two):
            await each.gets(kind)
        assert [message["type"] for message in one.heard if message["type"] != "SYNC_RESPONSE"] == ["ERROR"]


async def test_a_heartbeat_is_answered_with_pong_and_an_answer_with_nothing(shop: str) -> None:
    async with local_relay(shop) as relay, app(relay, 1) as one:
        await one.say("HEARTBEAT", {"response": True})
        await one.quiet()
        assert (len(one.of("PONG")), one.of("HEARTBEAT")) == (1, [])


async def test_a_sale_under_another_id_replaces_the_one_that_the_browser_shows(shop: str) -> None:
    async with local_relay(shop) as relay, app(relay, 1) as one, app(relay, 2) as two:
        await one.do("UPDATE_ORDER", "add", ORDER)
        await two.gets("orderHistory", holding={"id": ORDER["id"]})
        two.heard.clear()
        await two.do("UPDATE_ORDER", "add", ORDER | {"createdAt": "2026-01-02T02:00:00Z", "total": 2})
        orders = await two.gets("orderHistory")
        assert {row["id"]: row["total"] for row in orders} == {"POS-01022026-001": 1, "POS-01022026-002": 2}
        assert [message["type"] for message in two.heard] == ["UPDATE_ORDER", "SYNC_RESPONSE"]
        assert two.heard[0]["data"] == {"action": "clear", "data": {}}
        assert [m["data"]["data"]["id"] for m in one.of("UPDATE_ORDER")] == ["POS-01022026-002"], "and no clear"


async def test_a_terminal_that_was_away_during_a_clear_is_sent_it_first(shop: str) -> None:
    async with local_relay(shop) as relay:
        async with app(relay, 1) as one:
            await one.do("UPDATE_ORDER", "add", ORDER)
            await one.gets("orderHistory")
        async with app(relay, 2) as two:
            assert two.of("UPDATE_ORDER") == [], "a browser that was never here has nothing to clear"
            await two.do("UPDATE_ORDER", "clear", {})
            await until(lambda: sql(shop, "select 1 from pos.heads where cleared_revision > 0"))
        async with app(relay, 1) as one:
            assert [message["type"] for message in one.heard][:2] == ["UPDATE_ORDER", "SYNC_RESPONSE"]
            assert one.heard[0]["data"]["action"] == "clear"
            await one.say("SYNC_REQUEST")
            await until(lambda: len(one.of("SYNC_RESPONSE")) > 1)
            assert len(one.of("UPDATE_ORDER")) == 1, "it has it now"


async def test_what_a_terminal_saw_is_noted_so_that_no_clear_comes_twice(
    shop: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("relay.webapp.NOTE_SECONDS", 0.1)
    async with local_relay(shop, heartbeat_seconds=0.2) as relay:
        async with app(relay, 1) as one:
            sql(shop, "select pos.mutate(1::bigint, 'x', null, 'UPDATE_ORDER', 'clear', '{}', null)")
            await until(lambda: one.of("UPDATE_ORDER"))
            await until(lambda: sql(shop, "select 1 from pos.app_terminals where revision >= 22"))
        async with app(relay, 1) as one:
            assert one.of("UPDATE_ORDER") == []


async def test_what_the_app_leaves_out_loses_no_sale(shop: str) -> None:
    async with local_relay(shop) as relay, app(relay, 1) as one, app(relay, 2) as two:
        two.heard.clear()
        await one.do("UPDATE_ORDER", "add", {"id": "POS-01022026-009", "status": "completed", "total": 3, "items": []})
        await one.do("UPDATE_MENU", "add_item", {"id": "item_1", "name": "Tea", "price": 1.10, "category": "Beverage"})
        [sale] = await two.gets("orderHistory")
        assert (sale["total"], sale["customerName"], sale["tableNumber"]) == (3, None, None)
        assert [dish["description"] for dish in await two.gets("menuItems") if dish["name"] == "Tea"] == [""]
        assert one.of("ERROR") == []


async def test_a_clear_is_sent_although_a_list_has_what_is_left_already(shop: str) -> None:
    """The list is read after the clear was committed, and the room takes the clear after the list was sent."""
    async with local_relay(shop) as relay, app(relay, 1) as one, app(relay, 2) as two:
        for number in range(25):
            await one.do("UPDATE_ORDER", "add", ORDER | {"id": f"o{number}"})
            await until(lambda: two.of("UPDATE_ORDER"))
            await slow_down(0.01 * number)
            two.heard.clear()
            sql(shop, "select pos.mutate(1::bigint, 'x', null, 'UPDATE_ORDER', 'clear', '{}', null)")
            await until(lambda: [m for m in two.of("UPDATE_ORDER") if m["data"]["action"] == "clear"])


async def test_a_clear_that_crossed_a_sale_leaves_none_at_the_terminal_that_cleared(shop: str) -> None:
    async with local_relay(shop) as relay, app(relay, 1) as one, app(relay, 2) as two:
        await one.do("UPDATE_ORDER", "add", ORDER)
        await two.gets("orderHistory", holding={"id": ORDER["id"]})
        two.heard.clear()
        await two.do("UPDATE_ORDER", "clear", {})
        await until(lambda: two.of("SYNC_RESPONSE"))
        assert [(m["type"], m["clientId"]) for m in two.heard] == [
            ("UPDATE_ORDER", "server"),
            ("SYNC_RESPONSE", "server"),
        ]


async def test_a_sale_is_renamed_also_where_its_socket_is_gone(shop: str) -> None:
    async with local_relay(shop) as relay:
        async with app(relay, 2) as two:
            await two.do("UPDATE_ORDER", "add", ORDER)
            await until(lambda: sql(shop, "select 1 from pos.order_history"))
        async with app(relay, 1) as one:
            await one.do("UPDATE_ORDER", "add", ORDER | {"createdAt": "2026-01-02T02:00:00Z"})
            await one.socket.close()
        await until(lambda: len(sql(shop, "select 1 from pos.order_history")) == 2)
        async with app(relay, 1) as one:
            assert [message["type"] for message in one.heard][:2] == ["UPDATE_ORDER", "SYNC_RESPONSE"]


# Sessions


async def test_session_messages_go_to_the_other_apps(shop: str) -> None:
    async with (
        local_relay(shop) as relay,
        local_relay(shop) as second,
        app(relay, 1) as one,
        app(second, 2) as two,
        Terminal(relay.url) as core,
    ):
        for type_ in ("USER_LOGIN", "SESSION_UPDATE", "FORCE_LOGOUT"):
            await one.say(type_, {"userId": "1"})
        await until(lambda: two.of("FORCE_LOGOUT"))
        assert [m["type"] for m in two.heard if m["clientId"] == one.client_id] == [
            "USER_LOGIN",
            "SESSION_UPDATE",
            "FORCE_LOGOUT",
        ]
        await one.say("SESSION_SYNC", {"text": "x" * 65_536})
        error = await until(lambda: one.of("ERROR"))
        assert error[0]["data"]["code"] == "TOO_LARGE"
        assert not [m for m in core.received if m["type"] in ("USER_LOGIN", "FORCE_LOGOUT")]


# Which profile


@pytest.mark.parametrize(
    ("client_id", "query", "is_app"),
    [
        ("client_1700000000001_k3j", "", True),
        ("client_1700000000001_k3j", "?profile=core", False),
        ("till-1", "", False),
        ("client_17_k3j", "", False),
        ("till-1", "?profile=app", True),
    ],
)
async def test_the_app_is_known_by_its_id_or_by_hand(shop: str, client_id: str, query: str, is_app: bool) -> None:
    async with local_relay(shop) as relay, app(relay, 1, query, client_id) as one:
        assert ("data" in one.of("SYNC_RESPONSE")[0]["data"]) is is_app


# Faults


async def test_an_app_that_does_not_read_is_owed_its_lists(shop: str) -> None:
    photo = "x" * 700_000
    async with local_relay(shop) as relay, app(relay, 1) as one, app(relay, 2) as two:
        one.socket.transport.pause_reading()
        for number in range(12):
            await two.do("UPDATE_MENU", "update_item", {"id": "1", "image": f"{number}{photo}"})
        await until(lambda: sql(shop, "select 1 from pos.menu_items where image like '11x%'"), within=15.0)
        await two.do("UPDATE_TABLE", "update", {"id": "1", "seats": 77})
        await until(lambda: any(r["seats"] == 77 for r in (two.lists[-1]).get("tables", [])), within=10.0)
        one.socket.transport.resume_reading()
        await until(lambda: any(r["seats"] == 77 for lists in one.lists for r in lists.get("tables", [])), within=15.0)
        menus = [lists["menuItems"] for lists in one.lists if "menuItems" in lists]
        assert menus[-1][0]["image"].startswith("11x")


async def test_another_history_is_told_with_the_state(shop: str) -> None:
    async with local_relay(shop) as relay, app(relay, 1) as one:
        before = len(one.of("SYNC_RESPONSE"))
        await truncate_log(shop)
        await until(lambda: len(one.of("SYNC_RESPONSE")) > before)
        await one.do("UPDATE_TABLE", "update", {"id": "1", "seats": 31})
        await until(lambda: any(r["seats"] == 31 for lists in one.lists for r in lists.get("tables", [])))
