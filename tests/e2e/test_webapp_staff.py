"""The web app's users on the wire: who is sent them, and who must never be."""

from __future__ import annotations

import json

import psycopg
import pytest

from relay import auth, terminals
from tests.e2e.apps import SECRET, TABLE, USER, app, sql
from tests.e2e.strangers import bearer
from tests.relays import local_relay
from tests.terminals import Terminal
from tests.waiting import until


async def test_a_state_that_is_asked_for_after_a_change_of_users_has_it(shop: str) -> None:
    async with local_relay(shop) as relay, app(relay, 1) as one:
        for number in range(5):
            one.heard.clear()
            await one.do("UPDATE_USERS", "add", USER | {"id": f"170000000000{number}", "username": f"u{number}"})
            await one.say("SYNC_REQUEST")
            # Lists of users that nobody asked for may come before and after it.
            asked = await until(lambda: [m["data"] for m in one.of("SYNC_RESPONSE") if "tables" in m["data"]["data"]])
            assert len(asked[0]["users"]) == 4 + number


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


@pytest.mark.parametrize("role", auth.ROLES)
async def test_a_display_is_never_sent_the_users_and_whoever_logs_in_there_is(shop: str, role: str) -> None:
    shown = [
        bearer(await terminals.add(shop, "default", f"number {n}", each)) for n, each in enumerate((role, "manager"))
    ]
    async with (
        local_relay(shop, auth="token") as relay,
        app(relay, 1, **shown[0]) as one,
        app(relay, 2, **shown[1]) as two,
    ):
        await one.say("USER_SYNC", {"action": "request_users"})
        await one.say("UPDATE_USERS", {"action": "update", "data": {"id": "1", "name": "Boss"}})
        await two.do("UPDATE_USERS", "add", USER)
        await two.users()
        await two.do("UPDATE_TABLE", "add", TABLE)
        await one.gets("tables", holding=TABLE)
        await one.quiet()
        told = [m for m in one.heard if m["type"] in ("UPDATE_USERS", "USER_SYNC") or "users" in m["data"]]
        assert bool(told) is (role != "display")
        for password in ("admin", USER["password"]):
            assert (f'"password": "{password}"' in json.dumps(one.heard)) is (role != "display")
