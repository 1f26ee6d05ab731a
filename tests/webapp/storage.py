"""What the MiniPOS web app has in its browser: localStorage, the data it is built with, and a clock."""

from __future__ import annotations

import itertools
import json
import time
from typing import Any

Row = dict[str, Any]

SEATS = (2, 4, 6, 4, 2, 6, 2, 4)
DISHES = (
    ("မုန့်ဟင်းခါး / Mohinga", 2500, "Appetizers", "Traditional fish noodle soup / ရိုးရာငါးမုန့်ဟင်းခါး"),
    ("ဆမူဆာသုပ် / Samosa Thoke", 2000, "Appetizers", "Samosa salad with chickpeas / ကုလားပဲနှင့်ဆမူဆာသုပ်"),
    ("ရှမ်းခေါက်ဆွဲ / Shan Noodles", 3500, "Main Menu", "Traditional Shan style noodles / ရိုးရာရှမ်းခေါက်ဆွဲ"),
    ("လပက်သုပ် / Tea Leaf Salad", 2800, "Appetizers", "Traditional Myanmar tea leaf salad / ရိုးရာမြန်မာလပက်သုပ်"),
    ("အုန်းထမင်း / Coconut Rice", 1500, "Main Menu", "Fragrant coconut rice with curry / ဟင်းနှင့်အုန်းထမင်း"),
    ("မြန်မာဘီယာ / Myanmar Beer", 1200, "Beverage", "Local Myanmar beer / ပြည်တွင်းဘီယာ"),
)
ROLES = ("admin", "cashier", "waiter")

TABLES = "tables"
MENU = "menuItems"
CATEGORIES = "categories"
SETTINGS = "settings"
ORDERS = "orderHistory"
USERS = "users"

BUILT_IN: Row = {
    TABLES: [
        {"id": str(number), "number": number, "seats": seats, "status": "available"}
        for number, seats in enumerate(SEATS, 1)
    ],
    MENU: [
        {"id": str(number), "name": name, "price": price, "category": category, "description": description}
        for number, (name, price, category, description) in enumerate(DISHES, 1)
    ],
    CATEGORIES: ["Appetizers", "Main Menu", "Pasta", "Pizza", "Dessert", "Beverage"],
    SETTINGS: {
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
    },
    ORDERS: [],
    USERS: [
        {
            "id": str(number),
            "name": f"{role.title()} User",
            "username": role,
            "email": f"{role}@restaurant.com",
            "roleId": role,
            "password": role,
            "isActive": True,
        }
        for number, role in enumerate(ROLES, 1)
    ],
}


class Storage:
    """localStorage: texts under keys, so that what is read is a copy, and outlives the page."""

    def __init__(self) -> None:
        self._texts: dict[str, str] = {}
        self.writes = 0

    @property
    def is_empty(self) -> bool:
        """Whether no page of the app was ever opened on it."""
        return not self._texts

    def read(self, key: str) -> Any:
        """What is kept under a key, or what the app is built with."""
        text = self._texts.get(key)
        return json.loads(text if text is not None else json.dumps(BUILT_IN[key]))

    def write(self, key: str, value: object) -> None:
        self._texts[key] = json.dumps(value)
        self.writes += 1


class Clock:
    """A browser's clock in milliseconds; it never tells one time twice, as a person is never that quick."""

    _made = itertools.count()

    def __init__(self) -> None:
        self._ahead = next(self._made) % 100 * 17  # no two devices tell the same
        self._last = 0
        self._is_set = False

    def now(self) -> int:
        wall = time.time_ns() // 1_000_000 + self._ahead
        self._last = self._last + 1 if self._is_set else max(self._last + 1, wall)
        return self._last

    def set(self, milliseconds: int) -> None:
        """Let the next `now` tell exactly this, and go on from there: two browsers can make one id."""
        self._is_set, self._last = True, milliseconds - 1
