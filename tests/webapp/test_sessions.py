"""Who is logged in where: what pages say to each other of their sessions."""

from __future__ import annotations

import pytest

from tests.waiting import until
from tests.webapp.page import SESSION_TYPES
from tests.webapp.restaurant import Restaurant


async def test_a_login_and_a_logout_are_seen_at_the_other_terminals(restaurant: Restaurant) -> None:
    mya, hla, khin = restaurant.browsers
    assert mya.log_in("cashier", "cashier")
    mya.log_out()
    await until(lambda: len(hla.sessions) == len(khin.sessions) == 2)
    for other in (hla, khin):
        assert [one["type"] for one in other.sessions] == ["USER_LOGIN", "USER_LOGOUT"]
        assert {one["data"]["username"] for one in other.sessions} == {"cashier"}
    await restaurant.agree()
    assert mya.sessions == []


@pytest.mark.parametrize("type_", SESSION_TYPES)
async def test_a_session_message_is_passed_on_as_it_is(restaurant: Restaurant, type_: str) -> None:
    mya, hla, khin = restaurant.browsers
    data = {"sessions": [{"userId": "1", "name": "ဒေါ်မြ", "since": 1.5, "data": None}], "action": "whatever"}
    mya.say(type_, data)
    await until(lambda: hla.sessions and khin.sessions)
    assert hla.sessions == khin.sessions == [{"type": type_, "data": data}]
    told = [message for message in hla.heard if message["type"] == type_]
    assert [message["clientId"] for message in told] == [mya.client_id]
    await restaurant.agree()


async def test_an_administrator_logs_somebody_else_out(restaurant: Restaurant) -> None:
    mya, hla, khin = restaurant.browsers
    assert hla.log_in("waiter", "waiter")
    assert khin.log_in("cashier", "cashier")
    mya.force_logout(mya.staff("waiter"))
    await until(lambda: hla.user is None)
    await restaurant.agree()
    assert khin.user is not None


async def test_session_messages_are_not_kept_for_a_browser_that_comes_later(restaurant: Restaurant) -> None:
    mya, hla, _ = restaurant.browsers
    mya.log_in("admin", "admin")
    await until(lambda: hla.sessions)
    late = await restaurant.open()
    await restaurant.agree()
    assert late.sessions == []


async def test_a_large_list_of_sessions_goes_through(restaurant: Restaurant) -> None:
    """Up to 64 KiB, beyond what other messages may have."""
    mya, hla, _ = restaurant.browsers
    data = {"sessions": [{"userId": str(number), "device": "x" * 500} for number in range(100)]}
    mya.say("SESSION_SYNC", data)
    await until(lambda: hla.sessions)
    assert hla.sessions[0]["data"] == data
    await restaurant.agree()
