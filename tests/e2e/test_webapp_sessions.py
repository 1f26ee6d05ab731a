"""App sessions on the wire: what the web app is sent, and what it must never be sent."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import psycopg
import pytest
import websockets

from relay import schema
from tests.flow import truncate_log
from tests.relays import LocalRelay, clean_relay, local_relay
from tests.terminals import Row, Terminal, agree
from tests.waiting import slow_down, until

SECRET = "a secret of some length"
TABLE = {"id": "table_1700000000001", "number": 9, "seats": 4, "status": "available"}
DISH = {"id": "item_1700000000001", "name": "Tea", "price": 1, "category": "Beverage", "description": ""}
ORDER = {
    "id": "POS-01022026-001",
    "tableNumber": 1,
    "customerName": "A",
    "orderDate": "2026-01-02",
    "status": "completed",
    "total": 1,
    "items": "[]",
    "createdAt": "2026-01-02T01:00:00Z",
}
USER = {"id": "1700000000001", "name": "May", "username": "may", "roleId": "waiter", "password": "m4y"}


class App:
    """A socket that speaks as the app does, and keeps what it hears."""

    def __init__(self, client_id: str, socket: websockets.ClientConnection) -> None:
        self.client_id = client_id
        self.socket = socket
        self.heard: list[Row] = []
        self.reader = asyncio.create_task(self._read())

    async def _read(self) -> None:
        async for text in self.socket:
            self.heard.append(json.loads(text))

    async def say(self, type_: str, data: Any = None) -> None:
        await self.socket.send(json.dumps({"type": type_, "data": data or {}, "clientId": self.client_id}))

    async def do(self, type_: str, action: str, row: Row) -> None:
        await self.say(type_, {"action": action, "data": row})

    def of(self, type_: str) -> list[Row]:
        return [message for message in self.heard if message["type"] == type_]

    @property
    def lists(self) -> list[Row]:
        """The lists of each SYNC_RESPONSE."""
        return [message["data"]["data"] for message in self.of("SYNC_RESPONSE")]

    async def quiet(self) -> None:
        """Wait until an answer has come to what was said last, and what was owed by then."""
        before = len(self.of("PONG"))
        await self.say("HEARTBEAT", {"ping": True})
        await until(lambda: len(self.of("PONG")) > before)

    async def users(self, count: int = 4) -> list[Row]:
        """The users, once there are so many."""

        def found() -> list[Row]:
            lists = [message["data"].get("users", []) for message in self.of("SYNC_RESPONSE")]
            return lists[-1] if lists and len(lists[-1]) == count else []

        return await until(found, what=f"{count} users")

    async def gets(self, kind: str, within: float = 5.0) -> Any:
        """The next list of a kind."""
        found = await until(lambda: [one for one in self.lists if kind in one], within, f"a list of {kind}")
        return found[-1][kind]


@asynccontextmanager
async def app(relay: LocalRelay, number: int, query: str = "", client_id: str = "") -> AsyncIterator[App]:
    """An app that is synced; what it has heard until then is forgotten."""
    client_id = client_id or f"client_170000000000{number}_abc{number}"
    async with websockets.connect(relay.url + query, max_size=None) as socket:
        opened = App(client_id, socket)
        await opened.say("CLIENT_CONNECTED", {"clientId": client_id})
        await opened.say("SYNC_REQUEST")
        await until(lambda: opened.of("SYNC_RESPONSE"))
        yield opened
    await opened.reader


@pytest.fixture
def shop(database: str) -> str:
    """A database whose restaurant is complete: the app's built-in data."""
    asyncio.run(schema.seed(database))
    return database


def sql(conninfo: str, query: Any, *parameters: object) -> list[Any]:
    with psycopg.connect(conninfo, autocommit=True) as connection:
        cursor = connection.execute(query, parameters or None)
        return cursor.fetchall() if cursor.description else []


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
            assert [row["seats"] for row in await each.gets("tables") if row["id"] == TABLE["id"]] == [6]
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
        await until(lambda: two.of("UPDATE_ORDER"))
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
        await until(lambda: two.of("UPDATE_ORDER"))
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


# Users


async def test_a_state_that_is_asked_for_after_a_change_of_users_has_it(shop: str) -> None:
    async with local_relay(shop) as relay, app(relay, 1) as one:
        for number in range(5):
            one.heard.clear()
            await one.do("UPDATE_USERS", "add", USER | {"id": f"170000000000{number}", "username": f"u{number}"})
            await one.say("SYNC_REQUEST")
            first = (await until(lambda: one.of("SYNC_RESPONSE")))[0]["data"]
            assert "tables" not in first["data"] or len(first["users"]) == 4 + number


async def test_a_changed_user_goes_to_the_others_and_the_list_to_all(shop: str) -> None:
    async with local_relay(shop) as relay, app(relay, 1) as one, app(relay, 2) as two:
        one.heard.clear()
        two.heard.clear()
        await one.do("UPDATE_USERS", "add", USER)
        for each in (one, two):
            assert (await each.users())[-1] == USER
        assert [(m["data"], m["clientId"]) for m in two.of("UPDATE_USERS")] == [
            ({"action": "add", "data": USER}, one.client_id)
        ]
        assert one.of("UPDATE_USERS") == []
        sql(shop, "delete from pos.staff where id = '3'")
        for each in (one, two):
            assert len(await each.users(3)) == 3
            assert each.of("UPDATE_USERS")[-1]["data"] == {"action": "delete", "data": {"id": "3"}}


async def test_a_password_is_told_to_nobody_but_the_app(
    shop: str, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    caplog.set_level("DEBUG")
    monkeypatch.setenv("PYTHONASYNCIODEBUG", "0")
    password = "correct-horse-battery"
    bells: list[str] = []
    async with (
        await psycopg.AsyncConnection.connect(shop, autocommit=True) as ear,
        local_relay(shop, secret=SECRET) as relay,
        Terminal(relay.url) as core,
        app(relay, 1) as one,
        app(relay, 2, "?profile=core") as plain,
    ):
        await ear.execute("listen pos_doorbell")
        await one.do("UPDATE_USERS", "add", {**USER, "password": password})
        await one.do("UPDATE_USERS", "update", {"id": "1", "password": password})
        await until(lambda: len([m for m in one.of("SYNC_RESPONSE") if password in json.dumps(m)]) > 0)
        await one.say("USER_LOGIN", {"userId": "1"})
        await core.sync()
        await plain.say("UPDATE_USERS", {"action": "add", "data": USER})
        await until(lambda: plain.of("ERROR"))
        bells += [notify.payload async for notify in ear.notifies(timeout=0.1)]
        api = [(await relay.get(path))[2] for path in ("/api/sync", "/api/changes?since=0", "/health")]
        heard = [*core.received, *plain.heard]
    assert bells
    assert all(bell.isdigit() for bell in bells)
    assert not [m for m in heard if m["type"] in ("UPDATE_USERS", "USER_LOGIN") or "users" in m["data"]]
    stored = sql(shop, "select l::text from pos.sync_log as l union all select m::text from pos.messages as m")
    stored += sql(shop, "select s::text from pos.staff as s")
    for text in (json.dumps(heard, default=str), json.dumps(api), str(stored), caplog.text):
        assert password not in text
    assert "admin" in str(stored), "what is looked through is not empty"


async def test_passwords_are_sealed_and_the_app_still_reads_them(shop: str) -> None:
    async with local_relay(shop, secret=SECRET) as relay, app(relay, 1) as one:
        users = one.of("SYNC_RESPONSE")[0]["data"]["users"]
        assert [user["password"] for user in users] == ["admin", "cashier", "waiter"]
        await until(
            lambda: [s for (s,) in sql(shop, "select distinct left(password, 9) from pos.staff")] == ["sealed:1:"]
        )
        await one.do("UPDATE_USERS", "update", {"id": "1", "password": "new"})
        await until(lambda: any(m["data"].get("users", [{}])[0].get("password") == "new" for m in one.heard[1:]))


async def test_without_the_secret_no_users_are_sent_and_the_log_says_why(
    shop: str, caplog: pytest.LogCaptureFixture
) -> None:
    async with local_relay(shop, secret=SECRET) as relay, app(relay, 1):
        await until(lambda: not sql(shop, "select 1 from pos.staff where password not like 'sealed:%'"))
    for secret, reason in (("", "RELAY_SECRET is not set"), ("another secret of a length", "under another")):
        async with local_relay(shop, secret=secret) as relay, app(relay, 1) as one:
            assert "users" not in one.of("SYNC_RESPONSE")[0]["data"]
            assert reason in caplog.text


async def test_asked_for_its_users_it_is_sent_them_and_the_state(shop: str) -> None:
    async with local_relay(shop) as relay, app(relay, 1) as one:
        one.heard.clear()
        await one.say("USER_SYNC", {"action": "broadcast_users", "users": []})
        await one.say("USER_SYNC", {"action": "request_users"})
        await until(lambda: one.of("SYNC_RESPONSE"))
        assert [message["type"] for message in one.heard] == ["USER_SYNC", "SYNC_RESPONSE"]
        assert one.heard[0]["data"]["action"] == "users_response"
        assert len(one.heard[0]["data"]["users"]) == 3


async def test_an_empty_list_of_users_is_never_sent(shop: str) -> None:
    async with local_relay(shop) as relay, app(relay, 1) as one:
        one.heard.clear()
        sql(shop, "delete from pos.staff")
        await until(lambda: len(one.of("UPDATE_USERS")) == 3)
        await one.say("USER_SYNC", {"action": "request_users"})
        await until(lambda: one.lists)
        assert not [message for message in one.heard if "users" in message["data"]]


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


# Where the database does not hold all lists


async def test_a_restaurant_that_is_not_complete_gets_no_list_and_no_add(database: str) -> None:
    async with local_relay(database) as relay, app(relay, 1) as one, app(relay, 2) as two:
        await one.do("UPDATE_TABLE", "update", {"id": "3", "number": 3, "seats": 4, "status": "occupied"})
        await one.do("UPDATE_MENU", "add_item", DISH)
        await one.do("UPDATE_TABLE", "update", {"id": "3", "status": "available"})
        await one.do("UPDATE_USERS", "add", USER)
        await one.do("UPDATE_TABLE", "delete", {"id": "3"})
        await until(lambda: [m["data"]["action"] for m in two.of("UPDATE_TABLE")][-1:] == ["delete"])
        found = [m["data"]["action"] for m in two.heard if m["type"] in ("UPDATE_TABLE", "UPDATE_MENU")]
        assert found == ["update", "update_item", "update", "delete"]
        await one.do("UPDATE_TABLE", "delete", {"id": "5"})
        await one.do("UPDATE_MENU", "delete_item", {"id": "6"})
        await one.do("UPDATE_MENU", "delete_category", {"name": "Pasta"})
        await one.do("UPDATE_USERS", "delete", {"id": "3"})
        await one.say("UPDATE_SETTINGS", {"theme": "dark"})
        await until(lambda: len(two.of("UPDATE_MENU")) == 3, what="what the database never knew is deleted in browsers")
        assert two.of("UPDATE_TABLE")[-1]["data"]["data"]["id"] == "5"
        await schema.seed(database)
        assert not sql(database, "select 1 from pos.tables where id = '5' union select 1 from pos.staff where id = '3'")
        assert two.of("UPDATE_SETTINGS") == [], "they would replace all of the browser's"


async def test_a_restaurant_that_is_not_complete_answers_without_lists(database: str) -> None:
    async with local_relay(database) as relay, app(relay, 1) as one, app(relay, 2) as two:
        await one.do("UPDATE_USERS", "add", USER)
        await until(lambda: two.of("UPDATE_USERS"))
        assert two.of("UPDATE_USERS")[0]["data"]["action"] == "update"
        await two.say("SYNC_REQUEST")
        await until(lambda: len(two.of("SYNC_RESPONSE")) > 1)
        assert not [message for message in one.heard + two.heard if "users" in message["data"]]
        assert [lists for lists in one.lists + two.lists if lists] == []


async def test_a_restaurant_that_becomes_complete_is_sent_all_lists_at_once(database: str) -> None:
    async with local_relay(database) as relay, app(relay, 1) as one:
        await schema.seed(database)
        await until(lambda: one.lists[-1].keys() >= {"tables", "menuItems", "categories", "settings"})
        assert len(one.of("SYNC_RESPONSE")[-1]["data"]["users"]) == 3


async def test_settings_that_are_not_all_there_are_never_sent(shop: str) -> None:
    sql(shop, "update pos.restaurants set settings = settings - 'currency'")
    async with local_relay(shop) as relay, app(relay, 1) as one, app(relay, 2) as two:
        assert "settings" not in one.lists[0]
        assert len(one.lists[0]["tables"]) == 8
        await two.say("UPDATE_SETTINGS", {"theme": "dark"})
        await two.do("UPDATE_TABLE", "update", {"id": "1", "seats": 9})
        await until(lambda: one.of("UPDATE_TABLE"))
        assert one.of("UPDATE_SETTINGS") == []
        assert not [lists for lists in one.lists + two.lists if "settings" in lists]


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
