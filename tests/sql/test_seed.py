"""The built-in data: PROTOCOL.md section 6, once, and only where nobody has been before."""

from __future__ import annotations

import asyncio
from concurrent.futures import ThreadPoolExecutor

import pytest

from relay import schema
from tests.sql.shop import NEW_TABLE, Shop, waiting
from tests.waiting import wait_until


@pytest.fixture
def shop(alone: Shop) -> Shop:
    """The only restaurant: these tests look at all of the database."""
    return alone


CATEGORIES = ["Appetizers", "Main Menu", "Pasta", "Pizza", "Dessert", "Beverage"]
SETTINGS = {
    "id": 1,
    "restaurantName": "MiniPOS",
    "description": "Professional Point of Sale System",
    "currency": "MMK",
    "taxRate": 5,
    "serviceCharge": 0,
    "serviceChargeEnabled": False,
    "theme": "light",
    "language": "en",
    "sessionTimeout": 60,
}
DISHES = [
    ("1", "မုန့်ဟင်းခါး / Mohinga", 2500, "Appetizers", "Traditional fish noodle soup / ရိုးရာငါးမုန့်ဟင်းခါး"),
    ("2", "ဆမူဆာသုပ် / Samosa Thoke", 2000, "Appetizers", "Samosa salad with chickpeas / ကုလားပဲနှင့်ဆမူဆာသုပ်"),
    ("3", "ရှမ်းခေါက်ဆွဲ / Shan Noodles", 3500, "Main Menu", "Traditional Shan style noodles / ရိုးရာရှမ်းခေါက်ဆွဲ"),
    ("4", "လပက်သုပ် / Tea Leaf Salad", 2800, "Appetizers", "Traditional Myanmar tea leaf salad / ရိုးရာမြန်မာလပက်သုပ်"),
    ("5", "အုန်းထမင်း / Coconut Rice", 1500, "Main Menu", "Fragrant coconut rice with curry / ဟင်းနှင့်အုန်းထမင်း"),
    ("6", "မြန်မာဘီယာ / Myanmar Beer", 1200, "Beverage", "Local Myanmar beer / ပြည်တွင်းဘီယာ"),
]


def seed(shop: Shop) -> None:
    asyncio.run(schema.seed(shop.conninfo))


def test_the_seed_is_what_the_app_starts_with(shop: Shop) -> None:
    seed(shop)
    state = shop.snapshot()
    assert state["tables"] == [
        {"id": str(n), "number": n, "seats": seats, "status": "available", "version": 1}
        for n, seats in enumerate([2, 4, 6, 4, 2, 6, 2, 4], start=1)
    ]
    assert state["categories"] == CATEGORIES
    assert state["settings"] == SETTINGS
    assert state["menu_items"] == [
        {"id": id, "name": name, "price": price, "category": category, "description": description, "version": 1}
        for id, name, price, category, description in DISHES
    ]
    assert state["orders"] == []
    assert shop.one("select complete from pos.restaurants")
    shop.check()


def test_seeding_again_changes_nothing(shop: Shop) -> None:
    seed(shop)
    shop.table("delete", {"id": "8"})
    shop.settings({"theme": "dark"})
    before = shop.snapshot()
    seed(shop)
    assert shop.snapshot() == before


def test_two_seeds_at_once_seed_once(shop: Shop) -> None:
    with shop.again(autocommit=False) as holder, ThreadPoolExecutor(2) as pool:
        # Both have begun before either can end.
        holder.sql("select from pos.restaurants for no key update")
        seeds = [pool.submit(seed, shop) for _ in range(2)]
        wait_until(lambda: waiting(shop) == 2, what="two seeds that wait")
        holder.connection.rollback()
        for each in seeds:
            each.result()
    assert shop.head == 8 + 6 + 6 + 1


def test_what_is_there_already_stays(shop: Shop) -> None:
    shop.table("add", {**NEW_TABLE, "id": "mine", "number": 3, "seats": 12})
    shop.table("add", {**NEW_TABLE, "id": "5", "number": 50})
    shop.dish("add_item", {"id": "6", "name": "Tiger Beer", "price": 1, "category": "Beverage", "description": ""})
    shop.dish("add_category", {"name": "Pizza"})
    shop.settings({"currency": "THB", "motto": "Slow food"})
    seed(shop)
    assert {row["id"]: row["seats"] for row in shop.snapshot()["tables"] if row["number"] in (3, 50)} == {
        "mine": 12,
        "5": 4,
    }
    assert shop.row("menu_items", "6")["name"] == "Tiger Beer"
    assert shop.snapshot()["settings"] == {**SETTINGS, "currency": "THB", "motto": "Slow food"}
    assert len(shop.snapshot()["categories"]) == 6
    shop.check()


@pytest.mark.parametrize("reason", ["it is complete", "it is not the default one"])
def test_another_restaurant_is_left_alone(shop: Shop, reason: str) -> None:
    if reason == "it is complete":
        shop.sql("update pos.restaurants set complete = true")
        seed(shop)
        assert (shop.head, shop.snapshot()["tables"]) == (0, [])
    else:
        with shop.open("other") as other:
            seed(shop)
            assert (other.head, other.snapshot()["settings"]) == (0, {})
            assert not other.one("select complete from pos.restaurants where slug = 'other'")
