"""UPDATE_MENU and UPDATE_SETTINGS by PROTOCOL.md section 2."""

from __future__ import annotations

import pytest

from tests.sql.shop import NEW_DISH, Row, Shop

# Dishes


def test_a_dish_is_stored_as_it_is(shop: Shop) -> None:
    image = "data:image/png;base64," + "QUJD" * 100_000
    row: Row = {**NEW_DISH, "image": image, "spicy": {"level": 3, "ask": None}}
    assert shop.dish("add_item", row).version == 1
    assert shop.row("menu_items", "d") == {**row, "version": 1}
    assert (shop.log()[0].action, len(shop.log()[0].text) > 400_000) == ("add_item", True)
    assert shop.dish("update_item", {"id": "d", "name": "Green tea", "image": None}).version == 2
    assert shop.row("menu_items", "d") == {**NEW_DISH, "name": "Green tea", "image": None, "version": 2}
    shop.dish("update_item", {"id": "d", "price": 600})
    assert shop.row("menu_items", "d") == {**NEW_DISH, "name": "Green tea", "price": 600, "version": 3}
    shop.check()


@pytest.mark.parametrize("digits", ["1.50", "12345678901234567890.123456789", "1e2"])
def test_a_price_keeps_its_digits(shop: Shop, digits: str) -> None:
    shop.dish("add_item", f'{{"id": "d", "name": "Tea", "price": {digits}, "category": "", "description": ""}}')
    assert f'"price": {digits.replace("1e2", "100")},' in shop.rows("menu_items")["d"]


def test_known_unknown_and_deleted_dishes(shop: Shop) -> None:
    assert shop.dish("update_item", NEW_DISH).version == 1
    assert shop.dish("add_item", {**NEW_DISH, "price": 1}).version == 2
    assert shop.dish("add_item", {**NEW_DISH, "price": 1}).version == 2
    assert shop.dish("delete_item", {"id": "d"}).version == 3
    assert shop.log()[-1].data == {"id": "d", "version": 3}
    assert shop.dish("delete_item", {"id": "d"}, if_version=1).code == "OK"
    gone = shop.dish("update_item", NEW_DISH)
    assert (gone.code, gone.field) == ("GONE", "id")
    assert shop.dish("add_item", NEW_DISH).version == 4
    assert [change.action for change in shop.log()] == ["add_item", "update_item", "delete_item", "add_item"]
    shop.check()


def test_a_dish_is_made_only_whole(shop: Shop) -> None:
    for field in ("name", "price", "category", "description"):
        answer = shop.dish("update_item", {k: v for k, v in NEW_DISH.items() if k != field})
        assert (answer.code, answer.field) == ("VALIDATION", field)


def test_an_edit_of_an_older_dish_is_a_conflict(shop: Shop) -> None:
    shop.dish("add_item", NEW_DISH)
    shop.dish("update_item", {"id": "d", "price": 1})
    for action in ("add_item", "update_item", "delete_item"):
        answer = shop.dish(action, {"id": "d", "price": 2}, if_version=1)
        assert (answer.code, answer.field) == ("CONFLICT", "ifVersion"), action
        assert answer.details == {"current": {**NEW_DISH, "price": 1, "version": 2}}


def test_the_menu_stays_in_the_order_it_was_made_in(shop: Shop) -> None:
    for id in ("z", "a", "m"):
        shop.dish("add_item", {**NEW_DISH, "id": id})
        shop.dish("add_category", {"name": id})
    shop.dish("update_item", {"id": "z", "name": "Zebra"})
    shop.sql("update pos.menu_items set price = 1 where restaurant_id = %s and id = 'a'", shop.restaurant_id)
    state = shop.snapshot()
    assert ([row["id"] for row in state["menu_items"]], state["categories"]) == (["z", "a", "m"], ["z", "a", "m"])


# Categories


def test_a_category_is_its_name(shop: Shop) -> None:
    assert shop.dish("add_category", {"name": "Tea", "colour": "green"}, id="m1").version == 1
    again = shop.dish("add_category", {"name": "Tea"})
    assert (again.code, again.revision, again.version) == ("OK", 1, 1)
    assert shop.dish("delete_category", {"name": "Tea"}).version == 2
    assert shop.dish("delete_category", {"name": "Tea"}).code == "OK"
    assert shop.dish("add_category", {"name": "Tea"}).version == 3
    assert [(c.action, c.row_id, c.data) for c in shop.log()] == [
        ("add_category", "Tea", {"name": "Tea"}),
        ("delete_category", "Tea", {"name": "Tea"}),
        ("add_category", "Tea", {"name": "Tea"}),
    ]
    shop.check()


def test_a_category_may_go_while_dishes_name_it(shop: Shop) -> None:
    shop.dish("add_category", {"name": "Beverage"})
    shop.dish("add_item", NEW_DISH)
    assert shop.dish("delete_category", {"name": "Beverage"}).code == "OK"
    assert shop.row("menu_items", "d")["category"] == "Beverage"


def test_an_edit_of_an_older_category_is_a_conflict(shop: Shop) -> None:
    shop.dish("add_category", {"name": "Tea"}, if_version=0)
    for action in ("add_category", "delete_category"):
        answer = shop.dish(action, {"name": "Tea"}, if_version=7)
        assert (answer.code, answer.details) == ("CONFLICT", {"current": {"name": "Tea", "version": 1}})
    assert shop.dish("delete_category", {"name": "Coffee"}, if_version=7).code == "OK"
    assert shop.dish("delete_category", {"name": "Tea"}, if_version=1).code == "OK"


def test_the_current_row_of_a_category_that_is_not_there_is_null(shop: Shop) -> None:
    """Found by the model test: the row was one with the version null, which a terminal would have shown."""
    answer = shop.dish("add_category", {"name": "Tea"}, if_version=1)
    assert (answer.code, answer.field, answer.details) == ("CONFLICT", "ifVersion", {"current": None})


# Settings


def test_settings_merge_by_their_top_level_keys(shop: Shop) -> None:
    shop.settings({"taxRate": 5, "printer": {"kitchen": 1, "bar": 2}, "logo": None})
    answer = shop.settings({"printer": {"bar": 3}, "theme": "dark"})
    assert (answer.revision, answer.version) == (2, 2)
    merged = {"taxRate": 5, "printer": {"bar": 3}, "logo": None, "theme": "dark"}
    assert shop.snapshot()["settings"] == merged
    # The merged settings go out, flat.
    assert (shop.log()[-1].type, shop.log()[-1].data, shop.log()[-1].row_id) == ("UPDATE_SETTINGS", merged, None)
    shop.check()


def test_settings_that_say_nothing_new_are_no_change(shop: Shop) -> None:
    shop.settings({"taxRate": 5, "theme": "dark"})
    answer = shop.settings({"theme": "dark"}, id="m1")
    assert (answer.code, answer.revision, answer.version) == ("OK", 1, 1)
    assert shop.settings({}).revision == 1
    assert shop.settings('{"taxRate": 5.0}').revision == 2
    assert '"taxRate": 5.0' in shop.log()[-1].text


def test_version_and_action_are_no_settings(shop: Shop) -> None:
    shop.settings({"version": 4, "revision": 5, "action": "update", "theme": "dark"})
    assert shop.snapshot()["settings"] == {"theme": "dark"}


def test_an_edit_of_older_settings_is_a_conflict(shop: Shop) -> None:
    shop.settings({"theme": "dark"}, if_version=0)
    answer = shop.settings({"theme": "light"}, if_version=0)
    assert (answer.code, answer.field, answer.details) == ("CONFLICT", "ifVersion", {"current": {"theme": "dark"}})
    assert shop.settings({"theme": "light"}, if_version=1).version == 2
