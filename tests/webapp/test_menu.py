"""The menu: dishes with photographs, and categories."""

from __future__ import annotations

from tests.webapp.restaurant import PHOTO, Restaurant
from tests.webapp.storage import ORDERS, TABLES

NOON = 1_795_000_000_000
MOHINGA = "မုန့်ဟင်းခါး / Mohinga"


async def test_a_new_dish_with_its_photograph_is_in_every_window_once(restaurant: Restaurant) -> None:
    mya, _, khin = restaurant.browsers
    row = mya.add_dish("ဘဲကင် / Roast duck", 9000.5, "Main Menu", "With plum sauce / ဆီးချဉ်", image=PHOTO)
    await restaurant.agree()
    assert {**khin.dish("ဘဲကင် / Roast duck"), "version": 0} == row | {"version": 0}
    assert len(PHOTO) > 30_000


async def test_a_dish_is_edited_and_gets_another_photograph_and_then_none(restaurant: Restaurant) -> None:
    mya, hla, khin = restaurant.browsers
    mya.change_dish(mya.dish(MOHINGA), price=2750.25, image=PHOTO)
    await restaurant.agree()
    assert (khin.dish(MOHINGA)["price"], khin.dish(MOHINGA)["image"]) == (2750.25, PHOTO)
    hla.change_dish(hla.dish(MOHINGA), image=PHOTO.replace("4", "5"))
    await restaurant.agree()
    assert khin.dish(MOHINGA)["image"] == PHOTO.replace("4", "5")
    mya.change_dish(mya.dish(MOHINGA), image=None)
    await restaurant.agree()
    assert "image" not in khin.dish(MOHINGA)


async def test_a_deleted_dish_is_gone_everywhere(restaurant: Restaurant) -> None:
    mya, hla, khin = restaurant.browsers
    mya.delete_dish(mya.dish(MOHINGA))
    await restaurant.agree()
    assert [dish["id"] for dish in khin.menu] == ["2", "3", "4", "5", "6"]
    hla.change_dish({"id": "1", "name": MOHINGA, "price": 1, "category": "Appetizers", "description": ""})
    await restaurant.agree()
    assert len(khin.menu) == 5


async def test_one_dish_id_made_in_the_same_millisecond_becomes_two_dishes(restaurant: Restaurant) -> None:
    mya, hla, khin = restaurant.browsers
    for browser, name in ((mya, "Duck"), (hla, "Goose")):
        browser.clock.set(NOON)
        assert browser.add_dish(name, 9000, "Main Menu", image=PHOTO)["id"] == f"item_{NOON}"
    await restaurant.agree()
    assert khin.dish("Duck")["id"] != khin.dish("Goose")["id"]
    hla.change_dish(hla.dish("Duck"), price=1)
    mya.change_dish(mya.dish("Goose"), price=2)
    await restaurant.agree()
    assert (khin.dish("Duck")["price"], khin.dish("Goose")["price"]) == (1, 2)


async def test_two_dishes_added_at_once_are_both_there(restaurant: Restaurant) -> None:
    mya, hla, khin = restaurant.browsers
    mya.add_dish("Duck", 9000, "Main Menu", image=PHOTO)
    hla.add_dish("Goose", 9500, "Main Menu")
    await restaurant.agree()
    assert {dish["name"] for dish in khin.menu} >= {"Duck", "Goose"}


async def test_crossing_edits_of_one_dish_leave_one_of_them(restaurant: Restaurant) -> None:
    mya, hla, khin = restaurant.browsers
    for round_ in range(3):
        mya.change_dish(mya.dish(MOHINGA), price=1000 + round_)
        hla.change_dish(hla.dish(MOHINGA), price=2000 + round_, image=PHOTO)
        await restaurant.agree()
        assert khin.dish(MOHINGA)["price"] in (1000 + round_, 2000 + round_)


async def test_categories_come_and_go_in_their_order(restaurant: Restaurant) -> None:
    mya, hla, khin = restaurant.browsers
    mya.add_category("ဒီနေ့ / Tonight")
    await restaurant.agree()
    hla.delete_category("Pizza")
    hla.add_category("Soups")
    await restaurant.agree()
    assert khin.categories == [
        "Appetizers",
        "Main Menu",
        "Pasta",
        "Dessert",
        "Beverage",
        "ဒီနေ့ / Tonight",
        "Soups",
    ]


async def test_one_category_added_at_two_terminals_is_there_once(restaurant: Restaurant) -> None:
    mya, hla, khin = restaurant.browsers
    mya.add_category("Soups")
    hla.add_category("Soups")
    await restaurant.agree()
    assert khin.categories.count("Soups") == 1


async def test_a_renamed_category_takes_its_dishes_along(restaurant: Restaurant) -> None:
    mya, _, khin = restaurant.browsers
    mya.change_dish(mya.dish(MOHINGA), image=PHOTO)
    mya.rename_category("Appetizers", "Starters / အစ")
    await restaurant.agree()
    assert [dish["id"] for dish in khin.menu if dish["category"] == "Starters / အစ"] == ["1", "2", "4"]
    assert khin.dish(MOHINGA)["image"] == PHOTO
    assert "Appetizers" not in khin.categories
    assert "Starters / အစ" in khin.categories


async def test_two_terminals_rename_two_categories_at_once(restaurant: Restaurant) -> None:
    mya, hla, khin = restaurant.browsers
    mya.rename_category("Appetizers", "Starters")
    hla.rename_category("Main Menu", "Mains")
    await restaurant.agree()
    assert {dish["category"] for dish in khin.menu} == {"Starters", "Mains", "Beverage"}
    assert {"Starters", "Mains"} <= {*khin.categories}


async def test_two_terminals_rename_one_category_at_once(restaurant: Restaurant) -> None:
    mya, hla, khin = restaurant.browsers
    mya.rename_category("Appetizers", "Starters")
    hla.rename_category("Appetizers", "First courses")
    await restaurant.agree()
    assert "Appetizers" not in khin.categories
    assert {dish["category"] for dish in khin.menu} <= {"Starters", "First courses", "Main Menu", "Beverage"}


async def test_a_menu_of_fifty_photographs_reaches_a_fresh_browser(restaurant: Restaurant) -> None:
    mya, *_ = restaurant.browsers
    for number in range(50):
        mya.add_dish(f"Dish {number}", 1000 + number, "Main Menu", image=f"{PHOTO}{number}")
    await restaurant.agree()
    late = await restaurant.open()
    await restaurant.agree()
    assert late.dish("Dish 49")["image"] == f"{PHOTO}49"


async def test_an_edit_of_the_menu_sends_no_tables_and_no_orders(restaurant: Restaurant) -> None:
    mya, hla, _ = restaurant.browsers
    before = hla.syncs(TABLES), hla.syncs(ORDERS)
    mya.change_dish(mya.dish(MOHINGA), price=1)
    await restaurant.agree()
    assert (hla.syncs(TABLES), hla.syncs(ORDERS)) == before


async def test_a_photograph_as_large_as_a_message_may_be_arrives(restaurant: Restaurant) -> None:
    mya, _, khin = restaurant.browsers
    image = PHOTO * 30
    mya.add_dish("Duck", 9000, "Main Menu", image=image)
    await restaurant.agree()
    assert khin.dish("Duck")["image"] == image
    assert len(image) > 900_000


async def test_a_photograph_that_is_too_large_is_nowhere_and_harms_nobody(restaurant: Restaurant) -> None:
    mya, hla, khin = restaurant.browsers
    mya.add_dish("Duck", 9000, "Main Menu", image=PHOTO * 50)
    mya.seat(mya.table(1))
    hla.change_dish(hla.dish(MOHINGA), price=1)
    await restaurant.agree()
    assert {dish["name"] for dish in mya.menu} == {dish["name"] for dish in khin.menu}
    assert "Duck" not in {dish["name"] for dish in mya.menu}
