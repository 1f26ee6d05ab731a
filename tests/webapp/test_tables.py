"""Tables: the floor is the same in every window."""

from __future__ import annotations

from tests.waiting import until
from tests.webapp.acts import line
from tests.webapp.restaurant import Restaurant
from tests.webapp.storage import MENU, SETTINGS, USERS

NOON = 1_795_000_000_000


def numbers(restaurant: Restaurant) -> list[int]:
    return sorted(table["number"] for table in restaurant.browsers[-1].tables)


async def test_a_new_table_is_in_every_window_once(restaurant: Restaurant) -> None:
    """The app applies an add that it receives in each instance of its hook: three tables came of one."""
    mya, hla, _ = restaurant.browsers
    row = mya.add_table(9, seats=12)
    await restaurant.agree()
    assert hla.table(9)["id"] == row["id"]
    assert hla.table(9)["seats"] == 12


async def test_a_table_gets_another_number_and_more_seats(restaurant: Restaurant) -> None:
    mya, hla, khin = restaurant.browsers
    mya.change_table(mya.table(8), number=80, seats=20)
    await restaurant.agree()
    assert hla.table(80)["seats"] == 20
    hla.change_table(hla.table(80), number=8)
    await restaurant.agree()
    assert khin.table(8)["seats"] == 20


async def test_a_field_of_a_table_that_the_relay_does_not_know_is_kept(restaurant: Restaurant) -> None:
    mya, _, khin = restaurant.browsers
    mya.change_table(mya.table(1), name="ပြတင်းပေါက် / By the window", shape={"round": True}, order=[1, None, 2.5])
    await restaurant.agree()
    assert khin.table(1)["name"] == "ပြတင်းပေါက် / By the window"


async def test_a_deleted_table_is_gone_everywhere_and_stays_gone(restaurant: Restaurant) -> None:
    mya, hla, _ = restaurant.browsers
    mya.delete_table(mya.table(3))
    await restaurant.agree()
    hla.add_table(3)
    await restaurant.agree()
    mya.delete_table(mya.table(3))
    await restaurant.open()
    await restaurant.agree()
    assert numbers(restaurant) == [1, 2, 4, 5, 6, 7, 8]


async def test_guests_are_seated_and_leave(restaurant: Restaurant) -> None:
    mya, hla, khin = restaurant.browsers
    mya.seat(mya.table(2))
    await restaurant.agree()
    assert khin.table(2)["status"] == "occupied"
    hla.free(hla.table(2))
    await restaurant.agree()
    assert khin.table(2)["status"] == "available"


async def test_a_reservation_shows_who_comes_and_when(restaurant: Restaurant) -> None:
    mya, _, khin = restaurant.browsers
    guest = {"name": "Daw Mya", "phone": "+95 9 123 456 789", "guests": 4, "notes": "birthday \U0001f382"}
    mya.reserve(mya.table(6), guest, "2026-11-26T19:30:00.000Z")
    await restaurant.agree()
    assert khin.table(6)["status"] == "reserved"
    assert khin.table(6)["customer"] == guest
    assert khin.table(6)["reservationTime"] == "2026-11-26T19:30:00.000Z"


async def test_a_cancelled_reservation_leaves_nothing_behind(restaurant: Restaurant) -> None:
    mya, hla, khin = restaurant.browsers
    mya.reserve(mya.table(6), "Daw Mya", "19:30")
    await restaurant.agree()
    hla.free(hla.table(6))
    await restaurant.agree()
    assert khin.table(6).keys() == {"id", "number", "seats", "status", "version"}


async def test_the_guests_of_a_reservation_arrive(restaurant: Restaurant) -> None:
    mya, hla, khin = restaurant.browsers
    mya.reserve(mya.table(6), "Daw Mya", "19:30")
    await restaurant.agree()
    hla.seat(hla.table(6))
    await restaurant.agree()
    khin.save_order(khin.table(6), line(khin.menu[0]))
    await restaurant.agree()
    assert (mya.table(6)["status"], mya.table(6)["customer"]) == ("occupied", "Daw Mya")


async def test_one_number_at_two_terminals_becomes_two_tables_with_two_numbers(restaurant: Restaurant) -> None:
    mya, hla, khin = restaurant.browsers
    first, second = mya.add_table(9, seats=2), hla.add_table(9, seats=6)
    await restaurant.agree()
    assert numbers(restaurant) == [*range(1, 11)]
    assert {table["id"] for table in khin.tables} >= {first["id"], second["id"]}
    assert {khin.table(9)["seats"], khin.table(10)["seats"]} == {2, 6}


async def test_a_number_that_is_there_already_becomes_the_next_free_one(restaurant: Restaurant) -> None:
    mya, hla, _ = restaurant.browsers
    mya.add_table(5, seats=11)
    await restaurant.agree()
    assert numbers(restaurant) == [*range(1, 10)]
    assert (hla.table(5)["id"], hla.table(9)["seats"]) == ("5", 11)


async def test_a_renumbering_to_a_number_that_is_taken_is_undone_in_every_window(restaurant: Restaurant) -> None:
    mya, hla, _ = restaurant.browsers
    mya.change_table(mya.table(1), number=2)
    await restaurant.agree()
    assert numbers(restaurant) == [*range(1, 9)]
    assert hla.table(1)["id"] == mya.table(1)["id"] == "1"


async def test_one_table_id_made_in_the_same_millisecond_becomes_two_tables(restaurant: Restaurant) -> None:
    mya, hla, khin = restaurant.browsers
    mya.clock.set(NOON)
    hla.clock.set(NOON)
    assert mya.add_table(9, seats=2)["id"] == hla.add_table(10, seats=6)["id"] == f"table_{NOON}"
    await restaurant.agree()
    assert numbers(restaurant) == [*range(1, 11)]
    assert {table["seats"] for table in khin.tables if table["number"] > 8} == {2, 6}
    assert len({table["id"] for table in khin.tables}) == 10


async def test_both_tables_of_one_millisecond_can_be_used_afterwards(restaurant: Restaurant) -> None:
    mya, hla, khin = restaurant.browsers
    for browser in (mya, hla):
        browser.clock.set(NOON)
        browser.add_table(9)
    await restaurant.agree()
    mya.save_order(mya.table(9), line(mya.menu[0]))
    hla.reserve(hla.table(10), "U Tun", "20:00")
    await restaurant.agree()
    assert (khin.table(9)["status"], khin.table(10)["status"]) == ("occupied", "reserved")


async def test_an_edit_that_crosses_the_deletion_of_its_table_disappears(restaurant: Restaurant) -> None:
    """One waiter deletes it while another seats guests: it must not haunt the second one's screen."""
    mya, hla, _ = restaurant.browsers
    mya.delete_table(mya.table(7))
    hla.seat(hla.table(7))
    await restaurant.agree()
    assert 7 not in numbers(restaurant)


async def test_a_form_that_was_open_while_its_table_was_deleted_saves_nothing(restaurant: Restaurant) -> None:
    mya, hla, _ = restaurant.browsers
    form = hla.table(7)
    mya.delete_table(mya.table(7))
    await restaurant.agree()
    hla.save_order(form, line(hla.menu[0]))
    await restaurant.agree()
    assert 7 not in numbers(restaurant)


async def test_crossing_edits_of_one_table_leave_one_of_them(restaurant: Restaurant) -> None:
    """Each applied its own and then the other's: the two terminals ended with each other's."""
    mya, hla, khin = restaurant.browsers
    for round_ in range(5):
        mya.change_table(mya.table(1), status="occupied", note=f"mya {round_}")
        hla.change_table(hla.table(1), status="reserved", note=f"hla {round_}")
        await restaurant.agree()
        assert khin.table(1)["note"] in (f"mya {round_}", f"hla {round_}")


async def test_crossing_edits_of_three_tables_all_stay(restaurant: Restaurant) -> None:
    for number, browser in enumerate(restaurant.browsers, 1):
        browser.seat(browser.table(number))
    await restaurant.agree()
    assert [restaurant.browsers[0].table(number)["status"] for number in (1, 2, 3)] == ["occupied"] * 3


async def test_a_row_of_quick_edits_ends_with_the_last_one(restaurant: Restaurant) -> None:
    mya, hla, _ = restaurant.browsers
    for seats in range(1, 41):
        mya.change_table(mya.table(1), seats=seats)
    await restaurant.agree()
    assert hla.table(1)["seats"] == 40


async def test_three_waiters_at_work_for_a_while_agree(restaurant: Restaurant) -> None:
    mya, *_ = restaurant.browsers
    for round_ in range(10):
        before = len(mya.heard)
        for place, browser in enumerate(restaurant.browsers):
            browser.change_table(browser.table((round_ + place) % 4 + 1), seats=round_ + 1)
        await until(lambda seen=before: len(mya.heard) > seen, what="an answer")  # type: ignore[misc]
    await restaurant.agree()


async def test_an_edit_of_a_table_never_sends_the_menu(restaurant: Restaurant) -> None:
    """With its photographs it would be megabytes for each guest who sits down."""
    mya, *_ = restaurant.browsers
    before = [(browser.syncs(MENU), browser.syncs(SETTINGS), browser.syncs(USERS)) for browser in restaurant.browsers]
    mya.seat(mya.table(1))
    mya.add_table(9)
    await restaurant.agree()
    assert before == [
        (browser.syncs(MENU), browser.syncs(SETTINGS), browser.syncs(USERS)) for browser in restaurant.browsers
    ]


async def test_when_the_last_table_is_deleted_every_floor_is_empty(restaurant: Restaurant) -> None:
    mya, _, khin = restaurant.browsers
    for table in mya.tables:
        mya.delete_table(table)
    await restaurant.agree()
    assert khin.tables == []
    khin.add_table(1)
    await restaurant.agree()
    assert mya.table(1)["status"] == "available"


async def test_an_edit_that_is_refused_disappears_from_the_screen_that_made_it(restaurant: Restaurant) -> None:
    mya, hla, _ = restaurant.browsers
    mya.change_table(mya.table(1), seats=-1)
    hla.change_table(hla.table(2), status="on fire")
    mya.add_table(9, seats=100_000)
    await restaurant.agree()
    assert mya.tables == hla.tables
    assert (mya.table(1)["seats"], hla.table(2)["status"]) == (2, "available")
    assert numbers(restaurant) == [*range(1, 9)]
