"""Two who change one table at one moment: both count, or the one who comes too late is told, and asked."""

from __future__ import annotations

import re

from playwright.async_api import expect

from tests.library.shops import execute
from tests.pages.crossing import cut_off, deafened, pay, sales, table
from tests.pages.floor import Floor, Window
from tests.relays import relay_process


async def test_taps_of_two_at_one_moment_all_count(floor: Floor) -> None:
    window, other = await floor.open(), await floor.open()
    deaf = await deafened(other)
    await window.seat(4, 2)
    await window.order("Mohinga", "Samosa", "Samosa", "Samosa")
    await floor.agree(window, other)
    await other.open(4)
    deaf.is_deaf = True
    for one in (window, other):
        await one.panel.get_by_role("button", name=re.compile("^One more .*Mohinga")).click()
        await one.panel.get_by_role("button", name=re.compile("^One .*Samosa.* fewer")).click()
        await one.button("One guest more").click()
    await window.agrees(floor.conninfo)
    await deaf.misses('"CONFLICT"')
    deaf.hear()
    await floor.agree(window, other)
    found = table(floor.conninfo, 4)
    assert (found["items"], found["guests"]) == ([("Mohinga", 3), ("Samosa Thoke", 1)], 4)
    await expect(other.notice).to_have_count(0)
    await expect(window.notice).to_have_count(0)


async def test_taps_of_who_was_away_count_beside_those_of_who_was_there(floor: Floor) -> None:
    async with relay_process(floor.conninfo) as other_relay:
        window, other = await floor.open(), await floor.open(relay=other_relay)
        await window.seat(4, 2)
        await window.order("Mohinga", "Mohinga")
        await floor.agree(window, other)
        await floor.relay.kill()
        await window.stands("offline")
        more = re.compile("^One more .*Mohinga")
        await window.panel.get_by_role("button", name=more).click()
        await window.order("Samosa")  # a line of its own, between two taps
        await window.panel.get_by_role("button", name=more).click()
        await window.button("One guest more").click()
        await other.open(4)
        await other.panel.get_by_role("button", name=more).click()
        await other.button("One guest more").click()
        await other.agrees(floor.conninfo)
        await floor.relay.start()
        await window.stands("live")
        await floor.agree(window, other)
        found = table(floor.conninfo, 4)
        assert (found["items"], found["guests"]) == ([("Mohinga", 5), ("Samosa Thoke", 1)], 4)
        await expect(window.notice).to_have_count(0)


async def test_edits_of_different_things_are_both_done_and_equal_ones_need_no_decision(floor: Floor) -> None:
    async with relay_process(floor.conninfo) as other_relay:
        window, other = await floor.open(), await floor.open(relay=other_relay)
        await floor.agree(window, other)
        await floor.relay.kill()
        await window.stands("offline")
        await window.open(4)
        await window.button("Edit table").click()
        await window.page.get_by_role("dialog").get_by_label("Seats").fill("9")
        await window.page.get_by_role("dialog").get_by_role("button", name="Save").click()
        await window.seat(5, 2)
        await window.order("Mohinga")
        await other.seat(4, 3)
        await other.seat(6, 2)
        execute(floor.conninfo, "update pos.tables set seats = 3 where number = 5")
        await window.seat(6, 2)
        await floor.relay.start()
        await window.stands("live")
        await floor.agree(window, other)
        found = table(floor.conninfo, 4)
        assert (found["seats"], found["status"], found["guests"]) == (9, "occupied", 3)
        found = table(floor.conninfo, 5)
        assert (found["seats"], found["guests"], found["items"]) == (3, 2, [("Mohinga", 1)])
        await expect(window.notice).to_have_count(0)


async def test_what_was_wanted_of_guests_who_have_left_is_not_done_to_others(floor: Floor) -> None:
    async with relay_process(floor.conninfo) as other_relay:
        window, other = await floor.open(), await floor.open(relay=other_relay)
        for number in (3, 4):
            await window.seat(number, 2)
            await window.order("Mohinga")
        await floor.agree(window, other)
        await floor.relay.kill()
        await window.stands("offline")
        await window.button("Clear table").click()
        await window.button("Clear it").click()
        await window.open(3)
        await window.button("One guest more").click()
        for number in (3, 4):
            await pay(other, number, "Cash")
            await other.seat(number, 5)
            await other.order("Samosa")
        await floor.relay.start()
        await window.stands("live")
        await floor.agree(window, other)
        for number in (3, 4):
            found = table(floor.conninfo, number)
            assert (found["status"], found["guests"], found["items"]) == ("occupied", 5, [("Samosa Thoke", 1)])
        assert sales(floor.conninfo) == [(2625, "cash")] * 2
        await expect(window.notice).to_have_count(0)  # nobody is there whom it could be about


async def test_a_table_that_somebody_adds_to_is_cleared_only_after_a_question(floor: Floor) -> None:
    async with relay_process(floor.conninfo) as other_relay:
        window, other = await floor.open(), await floor.open(relay=other_relay)
        await window.seat(4, 2)
        await floor.agree(window, other)
        await floor.relay.kill()
        await window.stands("offline")
        await window.button("Clear table").click()
        await other.open(4)
        await other.order("Samosa")
        await floor.relay.start()
        await expect(window.notice).to_contain_text("Now: Occupied, 2 guests, 2,100 MMK. You wanted: Free.")
        await window.button("Clear it all the same").click()
        await expect(window.page.get_by_role("dialog")).to_contain_text("1 line of their order will be lost")
        assert table(floor.conninfo, 4)["items"] == [("Samosa Thoke", 1)]
        await window.button("Clear it").click()
        await floor.agree(window, other)
        assert table(floor.conninfo, 4)["status"] == "available"


async def reserve(window: Window, number: int, guest: str, time: str) -> None:
    dialog = await window.type_reservation(number, guest, time)
    await dialog.get_by_role("button", name="Reserve").click()
    await expect(dialog).to_have_count(0)


async def test_guests_who_sit_down_while_their_table_is_reserved_keep_it(floor: Floor) -> None:
    window, other = await floor.open(), await floor.open()
    deaf = await deafened(window)
    deaf.is_deaf = True
    await other.seat(5, 3)
    await other.order("Mohinga")
    await other.agrees(floor.conninfo)
    await reserve(window, 5, "Daw Mya", "19:30")
    await deaf.misses('"CONFLICT"')
    deaf.hear()
    await expect(window.notice).to_contain_text("Table 5 was not reserved for yours")
    await expect(window.notice).to_contain_text("Guests were seated there meanwhile (3 guests).")
    await expect(window.notice).to_contain_text("You wanted: Reserved, Daw Mya, 19:30.")
    await expect(window.notice.get_by_role("button")).to_have_text(["Understood"])
    await floor.agree(window, other)
    found = table(floor.conninfo, 5)
    assert (found["status"], found["guests"], found["items"]) == ("occupied", 3, [("Mohinga", 1)])


async def test_of_two_who_reserve_a_table_at_one_moment_the_second_is_told_and_keeps_the_name(floor: Floor) -> None:
    window, other = await floor.open(), await floor.open()
    deaf = await deafened(window)
    deaf.is_deaf = True
    await reserve(other, 5, "Ko Ko", "18:00")
    await other.agrees(floor.conninfo)
    await reserve(window, 5, "Daw Mya", "19:30")
    await deaf.misses('"CONFLICT"')
    deaf.hear()
    await expect(window.table(5)).to_contain_text("18:00, Ko Ko")
    await expect(window.notice).to_contain_text("Table 5 was not reserved for yours")
    await expect(window.notice).to_contain_text("It was reserved meanwhile for Ko Ko at 18:00.")
    await expect(window.notice).to_contain_text("You wanted: Reserved, Daw Mya, 19:30.")
    await floor.agree(window, other)
    remedy = window.notice.get_by_role("button", name="Reserve it for yours instead")
    await expect(remedy).not_to_have_class(re.compile("primary"))
    await remedy.click()
    await expect(other.table(5)).to_contain_text("19:30, Daw Mya")
    await expect(window.notice).to_have_count(0)


async def test_a_dish_for_guests_who_were_cleared_away_seats_nobody(floor: Floor) -> None:
    async with cut_off(floor) as (window, other):
        await window.order("Samosa")
        await other.open(4)
        await other.button("Clear table").click()
        await other.button("Clear it").click()
        await floor.relay.start()
        await expect(window.notice).to_contain_text("Your change of the order of table 4 was refused")
        await expect(window.notice).to_contain_text(re.compile("Now: Free. Not saved: 1 . .*Samosa"))
        await expect(window.notice.get_by_role("button")).to_have_text(["Understood"])
        await floor.agree(window, other)
        assert table(floor.conninfo, 4)["status"] == "available"


async def test_what_was_done_at_a_new_table_whose_number_is_taken_is_done_at_another(floor: Floor) -> None:
    async with relay_process(floor.conninfo) as other_relay:
        window, other = await floor.open(), await floor.open(relay=other_relay)
        await floor.relay.kill()
        await window.stands("offline")
        for one in (window, other):
            await one.button("Add table").click()
            await one.page.get_by_role("dialog").get_by_role("button", name="Save").click()
        await window.seat(9, 2)
        await window.order("Mohinga", "Mohinga")
        await other.agrees(floor.conninfo)
        await floor.relay.start()
        await expect(window.notice).to_contain_text("Now: there is another table 9.")
        await expect(window.notice).to_contain_text(re.compile("Not saved: 2 . .*Mohinga"))
        await expect(window.notice).to_have_count(1)
        await window.button("Add it with another number").click()
        await expect(window.notice).to_have_count(0)
        await floor.agree(window, other)
        assert table(floor.conninfo, 9)["status"] == "available"
        found = table(floor.conninfo, 10)
        assert (found["status"], found["guests"], found["items"]) == ("occupied", 2, [("Mohinga", 2)])
