"""Staff: who may log in is the same everywhere, and a password goes nowhere else."""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import AsyncIterator

import psycopg
import pytest

from tests.waiting import until
from tests.webapp.restaurant import Restaurant
from tests.webapp.storage import BUILT_IN, USERS

NOON = 1_795_000_000_000
SECRET = "open-sesame-7f3a"


async def test_a_new_user_logs_in_at_every_terminal(restaurant: Restaurant) -> None:
    mya, hla, khin = restaurant.browsers
    row = mya.add_user("Su Su / စုစု", "su", "cashier", SECRET)
    await restaurant.agree()
    late = await restaurant.open()
    await restaurant.agree()
    assert hla.staff("su") == late.staff("su") == row
    assert khin.log_in("su", SECRET)
    assert late.log_in("su", SECRET)


async def test_a_user_gets_another_name_role_and_password(restaurant: Restaurant) -> None:
    mya, hla, khin = restaurant.browsers
    mya.change_user(mya.staff("waiter"), name="Hla Hla", roleId="cashier", password=SECRET)
    await restaurant.agree()
    assert khin.staff("waiter")["name"] == "Hla Hla"
    assert hla.log_in("waiter", SECRET)
    assert not hla.log_in("waiter", "waiter")


async def test_a_user_who_is_not_active_cannot_log_in(restaurant: Restaurant) -> None:
    mya, hla, _ = restaurant.browsers
    mya.change_user(mya.staff("waiter"), isActive=False)
    await restaurant.agree()
    assert not hla.log_in("waiter", "waiter")
    mya.change_user(mya.staff("waiter"), isActive=True)
    await restaurant.agree()
    assert hla.log_in("waiter", "waiter")


async def test_a_deleted_user_cannot_log_in_anywhere(restaurant: Restaurant) -> None:
    mya, hla, _ = restaurant.browsers
    mya.add_user("Su", "su", password=SECRET)
    await restaurant.agree()
    hla.delete_user(hla.staff("su"))
    await restaurant.agree()
    late = await restaurant.open()
    await restaurant.agree()
    assert not any(browser.log_in("su", SECRET) for browser in (*restaurant.browsers, late))


async def test_a_deleted_default_user_is_not_revived_by_a_fresh_browser(restaurant: Restaurant) -> None:
    """Every fresh browser announces the three: the dismissed waiter was back whenever a tablet was bought."""
    mya, *_ = restaurant.browsers
    mya.delete_user(mya.staff("waiter"))
    await restaurant.agree()
    late = await restaurant.open()
    await restaurant.agree()
    assert [user["username"] for user in late.users] == ["admin", "cashier"]
    assert not late.log_in("waiter", "waiter")


async def test_a_changed_password_survives_the_next_fresh_browser(restaurant: Restaurant) -> None:
    mya, *_ = restaurant.browsers
    mya.change_user(mya.staff("admin"), password=SECRET, name="The owner")
    await restaurant.agree()
    late = await restaurant.open()
    await restaurant.agree()
    assert late.log_in("admin", SECRET)
    assert not late.log_in("admin", "admin")
    assert mya.staff("admin")["name"] == "The owner"


async def test_two_users_made_in_the_same_millisecond_are_both_kept(restaurant: Restaurant) -> None:
    mya, hla, khin = restaurant.browsers
    for browser, name in ((mya, "su"), (hla, "zaw")):
        browser.clock.set(NOON)
        assert browser.add_user(name.title(), name)["id"] == str(NOON)
    await restaurant.agree()
    assert khin.staff("su")["id"] != khin.staff("zaw")["id"]
    hla.change_user(hla.staff("su"), password=SECRET)
    await restaurant.agree()
    assert khin.log_in("su", SECRET)
    assert khin.log_in("zaw", "1234")


async def test_crossing_edits_of_one_user_leave_one_of_them(restaurant: Restaurant) -> None:
    mya, hla, khin = restaurant.browsers
    mya.change_user(mya.staff("waiter"), name="Mya's")
    hla.change_user(hla.staff("waiter"), name="Hla's")
    await restaurant.agree()
    assert khin.staff("waiter")["name"] in ("Mya's", "Hla's")


async def test_an_edit_of_a_deleted_user_does_not_bring_it_back(restaurant: Restaurant) -> None:
    mya, hla, _ = restaurant.browsers
    form = hla.staff("waiter")
    mya.delete_user(mya.staff("waiter"))
    await restaurant.agree()
    hla.change_user(form, password=SECRET)
    await restaurant.agree()
    assert {user["username"] for user in hla.users} == {"admin", "cashier"}


async def test_users_are_asked_for_and_come_in_both_forms(restaurant: Restaurant) -> None:
    mya, *_ = restaurant.browsers
    before, syncs = len(mya.heard), mya.syncs(USERS)
    mya.request_users()
    await until(lambda: mya.syncs(USERS) > syncs)
    answers = [message for message in mya.heard[before:] if message["type"] == "USER_SYNC"]
    assert [(one["data"]["action"], len(one["data"]["users"])) for one in answers] == [("users_response", 3)]
    full = [message["data"] for message in mya.heard[before:] if message["type"] == "SYNC_RESPONSE"]
    assert {"tables", "menuItems", "categories", "settings", "orderHistory"} <= full[-1]["data"].keys()
    await restaurant.agree()


async def test_a_stale_broadcast_of_users_changes_nobody(restaurant: Restaurant) -> None:
    mya, hla, khin = restaurant.browsers
    stale = hla.users
    mya.change_user(mya.staff("admin"), password=SECRET)
    mya.delete_user(mya.staff("waiter"))
    await restaurant.agree()
    hla.say("USER_SYNC", {"action": "broadcast_users", "users": stale})
    await restaurant.agree()
    assert khin.log_in("admin", SECRET)
    assert len(khin.users) == 2


async def test_when_everybody_is_deleted_no_empty_list_is_sent(restaurant: Restaurant) -> None:
    """It would leave a browser where nobody can log in, and no way to mend it."""
    mya, hla, khin = restaurant.browsers
    for user in mya.users:
        mya.delete_user(user)
    mya.add_table(9)
    await until(lambda: any(table["number"] == 9 for table in khin.tables))
    mya.say("SYNC_REQUEST", {})
    mya.add_user("Su", "su")
    await until(lambda: any(user["username"] == "su" for user in hla.users))
    await restaurant.agree()
    assert all(browser.faults == [] for browser in restaurant.browsers)


async def test_no_password_is_in_the_log_the_api_the_log_lines_or_a_core_session(
    restaurant: Restaurant, caplog: pytest.LogCaptureFixture, doorbells: list[str]
) -> None:
    mya, hla, _ = restaurant.browsers
    core = await restaurant.core_terminal()
    with caplog.at_level(logging.DEBUG):
        mya.add_user("Su", "su", password=SECRET)
        await restaurant.agree()
        hla.change_user(hla.staff("su"), password=f"{SECRET}-new")
        mya.log_in("su", f"{SECRET}-new")
        await restaurant.agree()
        await core.sync()
        core_heard = json.dumps(core.received, default=str)
        api = [await restaurant.relay.ask("GET", path) for path in ("/api/sync", "/api/changes?since=0", "/health")]
    with psycopg.connect(restaurant.conninfo) as connection:
        log = connection.execute("select l::text from pos.sync_log as l").fetchall()
        queue = connection.execute("select m::text from pos.messages as m").fetchall()
    for text in (core_heard, str(api), caplog.text, str(log), str(queue), str(doorbells)):
        assert SECRET not in text
    for known in (core_heard, str(api), str(log)):
        assert "cashier@restaurant.com" not in known
    assert hla.staff("su")["password"] == f"{SECRET}-new"
    assert "roleId" not in core_heard
    assert BUILT_IN["users"][0]["email"] not in core_heard


@pytest.fixture
async def doorbells(restaurant: Restaurant) -> AsyncIterator[list[str]]:
    """What is rung meanwhile at the doorbell."""
    found: list[str] = []
    async with await psycopg.AsyncConnection.connect(restaurant.conninfo, autocommit=True) as connection:
        await connection.execute("listen pos_doorbell")

        async def listen() -> None:
            async for notify in connection.notifies():
                found.append(notify.payload)

        task = asyncio.create_task(listen())
        yield found
        task.cancel()
        await asyncio.wait([task])
