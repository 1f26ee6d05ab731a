"""A waiter's work at the page, seen at once in the window beside it, with who did it."""

from __future__ import annotations

import re

from playwright.async_api import WebSocket, WebSocketRoute, expect

from tests.library.shops import execute
from tests.pages.floor import Floor
from tests.waiting import until


async def test_two_windows_see_each_others_edits_and_who_made_them(floor: Floor) -> None:
    till_1 = await floor.open()
    till_2 = await floor.open(beside=till_1)
    await till_1.seat(4, 3)
    await expect(till_2.table(4)).to_contain_text("Occupied")
    await expect(till_2.table(4)).to_contain_text("3 of 4 seats")
    await expect(till_2.table(4).locator(".who")).to_contain_text("Till 1")
    await expect(till_1.table(4).locator(".who")).to_contain_text("You")
    await till_2.open(4)
    await till_2.order("Mohinga", "Myanmar Beer", "Myanmar Beer")
    lines = till_1.panel.locator(".line")
    await expect(lines).to_have_count(2)
    await expect(lines.nth(1)).to_contain_text("Myanmar Beer")
    await expect(lines.nth(1).locator(".line-quantity")).to_have_text("2")
    await expect(lines.nth(0)).to_contain_text("Till 2")
    entries = till_1.page.locator(".rail .entry-what")
    await till_1.page.keyboard.press("Escape")
    await expect(entries.last).to_have_text("You seated 3 guests at table 4")
    await expect(entries.first).to_contain_text(re.compile("^Till 2 .*Myanmar Beer · table 4$"))
    await floor.agree(till_1, till_2)


async def test_a_terminal_may_name_itself_but_not_pass_for_another(floor: Floor) -> None:
    window, other = await floor.open(), await floor.open()
    await window.go("Settings")
    for name, shown in (("Bar", "Bar"), ("Database", "Bar"), ("<b>Kitchen</b>", "<b>Kitchen</b>")):
        await window.page.get_by_label("Name of this terminal").fill(name)
        await window.page.keyboard.press("Tab")
        await window.go("Floor")
        await window.seat(1, 2)
        await expect(other.table(1).locator(".who")).to_contain_text(shown)
        await window.button("Clear table").click()
        await expect(other.table(1)).to_contain_text("Free")
        await window.page.keyboard.press("Escape")
        await window.go("Settings")


async def test_who_is_not_known_is_asked_once_and_answers_all(floor: Floor) -> None:
    window, quiet, other = await floor.open(), await floor.open(), await floor.open()
    said: list[str] = []

    def listen(socket: WebSocket) -> None:
        socket.on("framesent", lambda frame: said.append(str(frame)) if '"MESSAGE"' in str(frame) else None)

    for one in (window, quiet, other):
        one.page.on("websocket", listen)
        await one.reload()
        await one.stands("live")
    assert said == []  # who only looks has nothing to say
    await window.seat(1, 2)
    await expect(quiet.table(1).locator(".who")).to_contain_text("Till 1")
    for one in (quiet, other):
        await one.reload()  # and forget
        await one.stands("live")
    await window.button("One guest more").click()
    for one in (quiet, other):
        await expect(one.table(1).locator(".who")).to_contain_text("Till 1")
    told = [text for text in said if "terminalName" in text]
    assert len(told) - 1 <= len(said) - len(told) <= 2  # each asked at most once, and no answer was without a question


async def test_a_change_is_highlighted_and_then_is_not(floor: Floor) -> None:
    window = await floor.open()
    await window.watch_cards()
    execute(floor.conninfo, "update pos.tables set status = 'reserved' where number = 2")
    await expect(window.table(2).locator(".who")).to_contain_text("Database")
    await expect(window.table(2)).not_to_have_class(re.compile(r"\bfresh\b"))
    assert set(await window.highlighted()) == {"2"}


async def test_a_dish_is_found_in_the_whole_menu_and_the_next_table_begins_with_all(floor: Floor) -> None:
    window = await floor.open()
    await window.seat(1, 2)
    dishes = window.panel.locator(".dish")
    await window.panel.get_by_role("button", name="Appetizers").click()
    await expect(dishes.filter(has_text="Myanmar Beer")).to_have_count(0)
    await window.panel.get_by_label("Find a dish").fill("beer")
    await expect(dishes).to_have_count(1)
    await expect(window.panel.get_by_role("button", name="All", exact=True)).to_have_attribute("aria-pressed", "true")
    await window.seat(2, 2)
    await expect(window.panel.get_by_label("Find a dish")).to_have_value("")
    await expect(dishes).to_have_count(6)


async def test_lines_of_two_waiters_are_merged(floor: Floor) -> None:
    first, second = await floor.open(), await floor.open()
    await first.seat(1, 2)
    await second.open(1)
    for _ in range(5):
        await first.order("Mohinga")
        await second.order("Mohinga", "Samosa")
    state = await floor.agree(first, second)
    ordered: dict[str, int] = {}
    for line in state["tables"]["1"]["orderItems"]:
        ordered[line["name"]] = ordered.get(line["name"], 0) + line["quantity"]
    assert sorted(ordered.values()) == [5, 10]


async def test_a_quantity_is_changed_and_a_line_taken_off(floor: Floor) -> None:
    window = await floor.open()
    await window.seat(1, 2)
    await window.order("Mohinga", "Tea Leaf")
    await window.panel.get_by_role("button", name=re.compile("^One more .*Mohinga")).click()
    await window.panel.get_by_role("button", name=re.compile("^Take .*Tea Leaf Salad off")).click()
    await expect(window.panel.locator(".line")).to_have_count(1)
    table = (await floor.agree(window))["tables"]["1"]
    assert [(line["quantity"], line["price"]) for line in table["orderItems"]] == [(2, 2500)]
    assert table["orderTotal"] == 5000


async def test_who_pays_gets_an_order_in_the_history_and_the_table_is_free(floor: Floor) -> None:
    window, other = await floor.open(), await floor.open()
    execute(
        floor.conninfo,
        """update pos.restaurants set settings = settings || '{"serviceChargeEnabled": true, "serviceCharge": 10}'""",
    )
    await window.seat(3, 2)
    await window.order("Mohinga", "Myanmar Beer")
    await expect(window.panel.locator(".total")).to_have_text("4,274 MMK")  # 3,700, and 10 % of it, and 5 % of both
    await window.button("Pay").click()
    await window.page.get_by_role("dialog").get_by_role("button", name="Cash").click()
    await expect(window.table(3)).to_contain_text("Free")
    await other.go("Orders")
    row = other.page.locator(".order-row")
    await expect(row).to_contain_text("Table 3")
    await expect(row).to_contain_text("4,274 MMK")
    state = await floor.agree(window, other)
    (order,) = state["orders"].values()
    assert (order["status"], order["total"], order["tableNumber"], order["payment"]) == ("completed", 4274, 3, "cash")
    assert [line["quantity"] for line in order["items"]] == [1, 1]
    assert state["tables"]["3"].keys() == {"id", "number", "seats", "status", "version"}
    await row.click()
    await other.page.get_by_role("dialog").get_by_role("button", name="Void").click()
    await other.page.get_by_role("dialog").get_by_role("button", name="Void").click()
    await expect(row).to_contain_text("Void")


async def test_an_order_that_grows_while_it_is_paid_is_shown_again(floor: Floor) -> None:
    window, other = await floor.open(), await floor.open()
    await window.seat(3, 2)
    await window.order("Mohinga")
    await floor.agree(window, other)
    await window.button("Pay").click()
    dialog = window.page.get_by_role("dialog")
    await expect(dialog.locator(".sum.total")).to_contain_text("2,625 MMK")
    await other.open(3)
    await other.order("Myanmar Beer")
    await floor.agree(window, other)
    await expect(dialog).to_contain_text("What is to be paid has changed meanwhile")
    await expect(dialog.locator(".sum.total")).to_contain_text("3,885 MMK")
    await expect(dialog.get_by_role("button", name="Cash")).to_be_hidden()
    await dialog.get_by_role("button", name="Go on with 3,885 MMK").click()
    await dialog.get_by_role("button", name="Cash").click()
    state = await floor.agree(window, other)
    assert [order["total"] for order in state["orders"].values()] == [3885]


async def test_two_who_edit_one_dish_keep_what_each_has_changed(floor: Floor) -> None:
    window, other = await floor.open(), await floor.open()
    for one in (window, other):
        await one.go("Menu")
        await one.page.locator(".dish-row", has_text="Mohinga").click()
    for one, label, value in ((window, "Price", "2600"), (other, "Description", "With lime")):
        await one.page.get_by_role("dialog").get_by_label(label).fill(value)
        await one.page.get_by_role("dialog").get_by_role("button", name="Save").click()
        await floor.agree(window, other)
    dish = (await floor.agree(window, other))["menu"]["1"]
    assert (dish["price"], dish["description"]) == (2600, "With lime")


async def test_a_table_is_reserved_and_the_guests_come(floor: Floor) -> None:
    window = await floor.open()
    dialog = await window.type_reservation(5, "Daw Mya", "19:30")
    await dialog.get_by_role("button", name="Reserve").click()
    await expect(window.table(5)).to_contain_text("Reserved")
    await expect(window.table(5)).to_contain_text("19:30, Daw Mya")
    await expect(window.panel).to_contain_text("For Daw Mya at 19:30")
    await window.button("2 guests").click()
    await expect(window.table(5)).to_contain_text("Occupied")
    table = (await floor.agree(window))["tables"]["5"]
    assert (table["customer"], table["guests"]) == ("Daw Mya", 2)
    await window.button("Clear table").click()
    await expect(window.table(5)).to_contain_text("Free")
    assert "customer" not in (await floor.agree(window))["tables"]["5"]


async def test_a_table_that_was_taken_while_the_name_was_typed_is_not_reserved(floor: Floor) -> None:
    window, other = await floor.open(), await floor.open()
    dialog = await window.type_reservation(5, "Daw Mya")
    await other.seat(5, 3)
    await other.order("Mohinga")
    await floor.agree(window, other)
    await dialog.get_by_role("button", name="Reserve").click()
    await expect(dialog.get_by_role("alert")).to_have_text("Guests were seated at table 5 meanwhile. Take another.")
    await expect(dialog.get_by_label("Name")).to_have_value("Daw Mya")
    table = (await floor.agree(window, other))["tables"]["5"]
    assert (table["status"], table["guests"], len(table["orderItems"])) == ("occupied", 3, 1)
    execute(floor.conninfo, "update pos.tables set status = 'reserved', customer = '\"Ko Ko\"' where number = 5")
    await floor.agree(window, other)
    await dialog.get_by_role("button", name="Reserve").click()
    await expect(dialog.get_by_role("alert")).to_contain_text("Table 5 was reserved meanwhile for Ko Ko.")
    execute(floor.conninfo, "update pos.tables set status = 'available' where number = 5")
    await floor.agree(window, other)
    await dialog.get_by_role("button", name="Reserve").click()
    await expect(window.table(5)).to_contain_text("Daw Mya")
    assert (await floor.agree(window, other))["tables"]["5"]["customer"] == "Daw Mya"


async def test_a_name_that_was_typed_for_a_table_that_is_gone_stays(floor: Floor) -> None:
    window = await floor.open()
    dialog = await window.type_reservation(5, "Daw Mya")
    execute(floor.conninfo, "delete from pos.tables where number = 5")
    await expect(window.table(5)).to_have_count(0)
    await dialog.get_by_role("button", name="Reserve").click()
    await expect(dialog.get_by_role("alert")).to_have_text("Table 5 was deleted meanwhile. Take another.")
    await expect(dialog.get_by_label("Name")).to_have_value("Daw Mya")


async def test_tables_are_added_changed_and_deleted(floor: Floor) -> None:
    window, other = await floor.open(), await floor.open()
    await window.seat(8, 2)
    await window.order("Mohinga")
    await window.button("Edit table").click()
    dialog = window.page.get_by_role("dialog")
    await dialog.get_by_role("button", name="Delete").click()
    await expect(dialog).to_contain_text("1 line of their order will be lost")
    await dialog.get_by_role("button", name="Cancel").click()
    await window.page.keyboard.press("Escape")
    await window.button("Add table").click()
    await dialog.get_by_label("Number").fill("4")
    await dialog.get_by_role("button", name="Save").click()
    await expect(dialog).to_be_visible()  # there is a table 4
    await dialog.get_by_label("Number").fill("40")
    await dialog.get_by_role("button", name="Save").click()
    await expect(other.table(40)).to_contain_text("4 seats")
    await other.open(40)
    await other.button("Edit table").click()
    dialog = other.page.get_by_role("dialog")
    await dialog.get_by_label("Seats").fill("12")
    await dialog.get_by_role("button", name="Save").click()
    await expect(window.table(40)).to_contain_text("12 seats")
    await other.button("Edit table").click()
    await dialog.get_by_role("button", name="Delete").click()
    await other.page.get_by_role("dialog").get_by_role("button", name="Delete").click()
    await expect(window.table(40)).to_have_count(0)
    await floor.agree(window, other)


async def test_the_menu_is_edited_for_everybody(floor: Floor) -> None:
    window, other = await floor.open(), await floor.open()
    await window.go("Menu")
    await other.go("Menu")
    await window.button("Add dish").click()
    dialog = window.page.get_by_role("dialog")
    hostile = "<img src=x onerror=alert(1)> & tea"
    await dialog.get_by_label("Name").fill(hostile)
    await dialog.get_by_label("Price").fill("800")
    await dialog.get_by_label("Category").fill("Dessert")
    await dialog.get_by_role("button", name="Save").click()
    row = other.page.locator(".dish-row", has_text="& tea")
    await expect(row.locator(".dish-name")).to_have_text(hostile)
    await expect(row).to_contain_text("800 MMK")
    await row.click()
    await other.page.get_by_role("dialog").get_by_label("Price").fill("900")
    await other.page.get_by_role("dialog").get_by_role("button", name="Save").click()
    await expect(window.page.locator(".dish-row", has_text="& tea")).to_contain_text("900 MMK")
    await window.button("Categories").click()
    await dialog.get_by_label("New category").fill("Breakfast")
    await dialog.get_by_role("button", name="Add").click()
    await expect(other.button("Breakfast")).to_be_visible()
    await dialog.get_by_role("button", name="Delete the category Breakfast").click()
    await expect(other.button("Breakfast")).to_have_count(0)
    assert len((await floor.agree(window, other))["menu"]) == 7


async def test_settings_that_somebody_types_are_not_overwritten_by_those_of_another(floor: Floor) -> None:
    window, other = await floor.open(), await floor.open()
    await window.go("Settings")
    await window.page.get_by_label("Name", exact=True).fill("Golden Duck")
    await window.button("Save").click()
    await expect(other.page.locator("#restaurant")).to_have_text("Golden Duck")
    await other.go("Settings")
    await other.page.get_by_label("Tax, percent").fill("8")
    await window.page.get_by_label("Tax, percent").fill("7")
    await window.button("Save").click()
    await expect(other.page.locator(".note:visible")).to_contain_text("has set it to 7. Saving overwrites that.")
    await expect(other.page.get_by_label("Tax, percent")).to_have_value("8")
    await other.button("Save").click()
    await expect(window.page.get_by_label("Tax, percent")).to_have_value("8")
    await expect(other.page.get_by_role("status").filter(has_text="Saved")).to_have_text("Saved for every terminal.")
    settings = (await floor.agree(window, other))["settings"]
    assert (settings["restaurantName"], settings["taxRate"]) == ("Golden Duck", 8)


async def test_the_history_of_changes_says_what_a_person_understands(floor: Floor) -> None:
    window = await floor.open()
    entries = window.page.locator(".rail .entry-what")
    for statement, told in (
        ("update pos.menu_items set price = 2600 where id = '1'", "2,500 MMK → 2,600 MMK"),
        ("""update pos.restaurants set settings = settings || '{"taxRate": 8}'""", "set the tax to 8 %"),
        (
            """update pos.restaurants
               set settings = settings || '{"serviceChargeEnabled": true, "serviceCharge": 10}'""",
            "switched the service charge on",
        ),
        ("update pos.tables set status = 'reserved' where number = 1", "reserved table 1"),
        ("update pos.tables set status = 'available' where number = 1", "cancelled the reservation of table 1"),
    ):
        execute(floor.conninfo, statement)
        await expect(entries.first).to_contain_text(told)
    await window.seat(3, 2)
    await window.order("Myanmar Beer")
    await window.button("Clear table").click()
    await window.page.get_by_role("dialog").get_by_role("button", name="Clear it").click()
    await window.page.keyboard.press("Escape")
    await expect(entries.first).to_have_text("You cleared table 3, with 1,200 MMK on its order")
    await window.seat(3, 2)
    await window.order("Myanmar Beer")
    await window.button("Pay").click()
    await window.page.get_by_role("dialog").get_by_role("button", name="Cash").click()
    await expect(entries.first).to_have_text("You freed table 3")
    await expect(entries.nth(1)).to_have_text("You took 1,426 MMK for table 3")


async def test_an_edit_that_follows_one_whose_answer_is_late_is_no_conflict(floor: Floor) -> None:
    window, other = await floor.open(), await floor.open()
    held: list[tuple[WebSocketRoute, str | bytes]] = []

    def hold_answers(terminal: WebSocketRoute) -> None:
        relay = terminal.connect_to_server()
        relay.on_message(lambda text: held.append((terminal, text)) if '"ACK"' in str(text) else terminal.send(text))

    await window.page.route_web_socket("**/ws", hold_answers)
    await window.reload()
    await window.stands("live")
    await window.seat(4, 2)
    await expect(other.table(4)).to_contain_text("2 of 4 seats")
    come = "terminal.confirmed.tables.get('4').guests === 2"
    await until(lambda: window.page.evaluate(come), what="the change whose answer is held back")
    await window.button("One guest more").click()
    await until(lambda: held, what="the answer that is held back")
    for terminal, text in held[:]:
        terminal.send(text)
        held.remove((terminal, text))
    await until(lambda: held, what="the second answer")
    for terminal, text in held:
        terminal.send(text)
    await expect(other.table(4)).to_contain_text("3 of 4 seats")
    await window.agrees(floor.conninfo)
    await expect(window.notice).to_have_count(0)
