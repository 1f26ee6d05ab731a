"""The relay is stopped, killed, and doubled, with browsers at work."""

from __future__ import annotations

import asyncio
import signal
import time
from collections.abc import AsyncIterator

import pytest

from relay import schema
from tests.faults.deeds import execute
from tests.relays import RelayProcess, relay_process
from tests.waiting import until
from tests.webapp.acts import line
from tests.webapp.agreement import held
from tests.webapp.restaurant import PHOTO, Restaurant

PACE = 0.4  # a relay process takes seconds to start on a busy machine: within the app's 31
STOP_SECONDS = 4.0  # two are promised, the rest is a busy machine


@pytest.fixture
async def process(database: str) -> AsyncIterator[RelayProcess]:
    await schema.seed(database)
    async with relay_process(database) as running:
        yield running
        assert "Traceback" not in running.log


@pytest.fixture
async def restaurant(database: str, process: RelayProcess) -> AsyncIterator[Restaurant]:
    async with Restaurant(database, process) as made:
        for _ in range(3):
            await made.open(pace=PACE)
        await made.agree()
        yield made


async def all_connected(restaurant: Restaurant) -> None:
    await until(lambda: all(browser.connected for browser in restaurant.browsers), within=20.0)


async def an_evening_so_far(restaurant: Restaurant) -> None:
    mya, hla, khin, *_ = restaurant.browsers
    mya.add_table(9)
    hla.add_dish("Duck", 9000, "Main Menu", image=PHOTO)
    khin.change_settings(restaurantName="Golden Duck")
    mya.complete_order(mya.save_order(mya.table(1), line(mya.menu[0])))
    hla.save_order(hla.table(2), line(hla.menu[1]))
    hla.change_user(hla.staff("admin"), password="new")
    await restaurant.agree()


async def test_a_restart_is_quick_and_loses_nothing(restaurant: Restaurant, process: RelayProcess) -> None:
    await an_evening_so_far(restaurant)
    began = time.monotonic()
    process.send(signal.SIGTERM)
    assert await process.ended() == 0
    assert time.monotonic() - began < STOP_SECONDS
    restaurant.browsers[0].seat(restaurant.browsers[0].table(3))
    await process.start()
    await all_connected(restaurant)
    await restaurant.agree()
    assert restaurant.browsers[2].table(3)["status"] == "occupied"
    late = await restaurant.open(pace=PACE)
    await restaurant.agree()
    assert late.settings["restaurantName"] == "Golden Duck"
    assert late.log_in("admin", "new")


async def test_a_killed_relay_has_lost_nothing_that_a_second_terminal_showed(
    restaurant: Restaurant, process: RelayProcess
) -> None:
    await an_evening_so_far(restaurant)
    before = held(restaurant.conninfo)
    await process.kill()
    await process.start()
    await all_connected(restaurant)
    await restaurant.agree()
    assert held(restaurant.conninfo) == before


async def test_edits_in_the_moment_of_the_kill_leave_all_with_the_same(
    restaurant: Restaurant, process: RelayProcess
) -> None:
    """What was on its way may be lost, as the app knows no answers; but no two screens may differ afterwards."""
    for number, browser in enumerate(restaurant.browsers, 1):
        for seats in range(1, 21):
            browser.change_table(browser.table(number), seats=seats)
        browser.save_order(browser.table(number + 3), line(browser.menu[number]))
        browser.add_table(20 + number)
    await process.kill()
    for number, browser in enumerate(restaurant.browsers, 1):
        browser.change_table(browser.table(8), note=f"number {number}")
    await process.start()
    await all_connected(restaurant)
    await restaurant.agree()


async def test_what_is_done_while_the_relay_is_dead_arrives_when_it_lives_again(
    restaurant: Restaurant, process: RelayProcess
) -> None:
    mya, hla, khin = restaurant.browsers
    await process.kill()
    await until(lambda: not any(browser.connected for browser in restaurant.browsers))
    mya.complete_order(mya.save_order(mya.table(1), line(mya.menu[0])))
    hla.complete_order(hla.save_order(hla.table(2), line(hla.menu[1])))
    khin.add_dish("Duck", 9000, "Main Menu", image=PHOTO)
    await process.start()
    await all_connected(restaurant)
    await restaurant.agree()
    assert sorted(order["total"] for order in khin.orders) == [2100, 2625]
    assert mya.dish("Duck")["image"] == PHOTO


async def test_a_kill_again_and_again_leaves_all_with_the_same(restaurant: Restaurant, process: RelayProcess) -> None:
    for round_ in range(3):
        mya = restaurant.browsers[round_]
        mya.save_order(mya.table(1), line(mya.menu[round_]))
        await process.kill()
        mya.seat(mya.table(round_ + 2))
        await process.start()
        await all_connected(restaurant)
    await restaurant.agree()


async def test_a_clear_before_the_kill_reaches_a_terminal_that_was_away(
    restaurant: Restaurant, process: RelayProcess
) -> None:
    await an_evening_so_far(restaurant)
    mya, hla, khin = restaurant.browsers
    mya.lose_network()
    hla.clear_history()
    await until(lambda: khin.orders == [])
    await process.kill()
    await process.start()
    mya.find_network()
    await all_connected(restaurant)
    await restaurant.agree()
    assert mya.orders == []


async def test_sealed_passwords_open_after_a_restart_and_are_readable_nowhere_in_the_database(database: str) -> None:
    await schema.seed(database)
    async with (
        relay_process(database, RELAY_SECRET="correct horse battery staple") as process,
        Restaurant(database, process) as made,
    ):
        mya, hla = [await made.open(pace=PACE) for _ in range(2)]
        mya.change_user(mya.staff("admin"), password="open-sesame-7f3a")
        await until(lambda: hla.log_in("admin", "open-sesame-7f3a"))
        await process.kill()
        await process.start()
        late = await made.open(pace=PACE)
        assert late.log_in("admin", "open-sesame-7f3a")
        assert not late.log_in("admin", "admin")
        assert late.log_in("cashier", "cashier")
    for password in ("open-sesame-7f3a", "cashier"):
        assert execute(database, "select count(*) from pos.staff where password = %s", password) == 0
    assert execute(database, "select count(*) from pos.staff as s where s::text like '%open-sesame%'") == 0


@pytest.fixture
async def two(database: str, restaurant: Restaurant) -> AsyncIterator[RelayProcess]:
    """A second instance on the same database, with a browser of its own."""
    async with relay_process(database) as second:
        await restaurant.open(relay=second, pace=PACE)
        yield second
        await asyncio.gather(*(browser.close() for browser in restaurant.browsers))


async def test_browsers_at_two_instances_show_the_same(restaurant: Restaurant, two: RelayProcess) -> None:
    *_, there = restaurant.browsers
    await an_evening_so_far(restaurant)
    assert there.url == two.url
    there.complete_order(there.table(2))
    there.add_table(10)
    there.rename_category("Appetizers", "Starters")
    there.add_user("Su", "su")
    await restaurant.agree()
    assert restaurant.browsers[0].log_in("su", "1234")


async def test_edits_that_cross_between_two_instances_leave_all_with_the_same(
    restaurant: Restaurant, two: RelayProcess
) -> None:
    here, *_, there = restaurant.browsers
    assert there.url == two.url
    for browser, seats in ((here, 2), (there, 6)):
        browser.clock.set(1_795_000_000_000)
        browser.add_table(9, seats=seats)
        browser.save_order(browser.table(1), line(browser.menu[seats - 1]))
        browser.change_dish(browser.menu[0], price=seats)
    await restaurant.agree()
    assert {here.table(9)["seats"], here.table(10)["seats"]} == {2, 6}


async def test_two_instances_never_give_two_sales_one_number(restaurant: Restaurant, two: RelayProcess) -> None:
    here, *_, there = restaurant.browsers
    assert there.url == two.url
    here.complete_order(here.save_order(here.table(1), line(here.menu[0])))
    there.complete_order(there.save_order(there.table(2), line(there.menu[1])))
    await restaurant.agree()
    assert sorted(order["total"] for order in here.orders) == [2100, 2625]


async def test_session_messages_and_a_forced_logout_pass_between_two_instances(
    restaurant: Restaurant, two: RelayProcess
) -> None:
    here, *_, there = restaurant.browsers
    assert there.url == two.url
    assert there.log_in("waiter", "waiter")
    await until(lambda: [one["type"] for one in here.sessions] == ["USER_LOGIN"])
    here.force_logout(here.staff("waiter"))
    await until(lambda: there.user is None)


async def test_when_one_instance_dies_the_other_ones_browsers_go_on(
    restaurant: Restaurant, process: RelayProcess, two: RelayProcess
) -> None:
    *others, there = restaurant.browsers
    await process.kill()
    assert there.url == two.url
    there.add_table(9)
    others[0].seat(others[0].table(1))
    await process.start()
    await all_connected(restaurant)
    await restaurant.agree()
    assert there.table(1)["status"] == "occupied"
