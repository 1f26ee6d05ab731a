"""relay import: what is no export changes nothing and is told where it is wrong, and what a good one does."""

from __future__ import annotations

import asyncio
import copy
import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psycopg
import pytest

from relay import backups, schema
from relay.errors import BackupError, UnknownRestaurant
from relay.vault import Vault
from tests.sql.shop import Mutation, Shop

SECRET = "a secret of some length"

BACKUP: dict[str, Any] = {
    "settings": {
        "id": 1,
        "restaurantName": "ရွှေ Palace",
        "description": "",
        "currency": "MMK",
        "taxRate": 5.50,
        "serviceCharge": 0,
        "serviceChargeEnabled": False,
        "theme": "dark",
        "language": "my",
        "sessionTimeout": 60,
    },
    "users": [
        {"id": "1", "name": "Admin", "username": "admin", "roleId": "admin", "password": "s3cret", "isActive": True},
        {"id": "1700000000001", "name": "May", "username": "may", "roleId": "waiter", "password": "m4y"},
    ],
    "roles": [{"id": "admin"}],
    "menuItems": [
        {"id": "7", "name": "Tea", "price": 1.10, "category": "Drinks", "description": "", "image": "data:x"},
        {"id": "3", "name": "Rice", "price": 800, "category": "Main", "description": "fried", "spicy": True},
    ],
    "categories": ["Main", "Drinks"],
    "orderHistory": [
        {
            "id": "POS-01022026-002",
            "tableNumber": 2,
            "customerName": "B",
            "orderDate": "2026-01-02",
            "status": "completed",
            "total": 2,
            "items": '[{"id":"7","quantity":2}]',
            "createdAt": "2026-01-02T02:00:00Z",
        },
        {
            "id": "POS-01022026-001",
            "tableNumber": 1,
            "customerName": "A",
            "orderDate": "2026-01-02",
            "status": "completed",
            "total": 1,
            "items": "[]",
            "createdAt": "2026-01-02T01:00:00Z",
        },
    ],
    "tables": [
        {"id": "1", "number": 1, "seats": 2, "status": "available"},
        {"id": "2", "number": 2, "seats": 4, "status": "occupied", "orderId": "POS-01022026-003", "orderItems": []},
    ],
    "exportDate": "2026-01-02T03:00:00Z",
    "version": "1.2.0",
}


@pytest.fixture
def folder(tmp_path: Path) -> Callable[[Any], Path]:
    def write(content: Any) -> Path:
        path = tmp_path / "backup.json"
        path.write_bytes(content if isinstance(content, bytes) else json.dumps(content).encode())
        return path

    return write


def load(conninfo: str, content: Any, *, replace: bool = False, secret: str = "", slug: str = "default") -> Any:
    backup = backups.Backup(json.dumps(content), content["users"])
    return asyncio.run(backups.load(conninfo, slug, backup, Vault(secret), replace=replace))


def edited(edit: Callable[[Any], Any]) -> dict[str, Any]:
    backup = copy.deepcopy(BACKUP)
    edit(backup)
    return backup


FAULTS: list[tuple[str, Any, str]] = [
    ("cut off", json.dumps(BACKUP).encode()[:500], r"this is not JSON: .* line 1 column"),
    ("no text", b"\xff\xfe\x00", "not UTF-8 text: it is damaged at byte 0"),
    ("another program's", {"orders": []}, "no export of the MiniPOS app: it has no version"),
    ("a list", [], "no export of the MiniPOS app"),
    ("a later version", edited(lambda b: b.update(version="2.0.0")), "version '2.0.0'"),
    ("no tables", edited(lambda b: b.pop("tables")), "tables must be an array"),
    ("no users", edited(lambda b: b.pop("users")), "users must be an array"),
    ("half the settings", edited(lambda b: b["settings"].pop("currency")), "settings.currency is required"),
    ("a wrong setting", edited(lambda b: b["settings"].update(taxRate="5")), "settings.taxRate must be a number"),
    ("a wrong price", edited(lambda b: b["menuItems"][1].update(price="8")), "menuItems.1.price must be a number"),
    ("no status", edited(lambda b: b["tables"][0].pop("status")), "tables.0.status is required"),
    ("a category that is none", edited(lambda b: b["categories"].append(7)), "categories.2 must be text"),
    ("an id twice", edited(lambda b: b["tables"][1].update(id="1")), r"tables.\*.id: '1' is there twice"),
    ("items that are none", edited(lambda b: b["orderHistory"][0].update(items="[{")), "orderHistory.0.items"),
    ("what jsonb cannot hold", edited(lambda b: b["tables"][0].update(note="\0")), "tables.0.note"),
]


@pytest.mark.parametrize(("content", "sentence"), [row[1:] for row in FAULTS], ids=[row[0] for row in FAULTS])
def test_a_file_that_is_no_export_is_told_where_it_is_wrong(
    folder: Callable[[Any], Path], content: Any, sentence: str
) -> None:
    with pytest.raises(BackupError, match=sentence):
        backups.read(folder(content))


def test_an_export_is_read_as_it_stands(folder: Callable[[Any], Path]) -> None:
    assert json.loads(backups.read(folder(BACKUP)).text) == BACKUP
    assert backups.read(folder(b"\xef\xbb\xbf" + json.dumps(BACKUP).encode())).users == BACKUP["users"]


def test_a_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(BackupError, match=r"nothing\.json cannot be read"):
        backups.read(tmp_path / "nothing.json")


# Into a restaurant


@pytest.fixture
def shop(database: str) -> Any:
    with Shop(database) as opened:
        yield opened


def users_of(shop: Shop) -> dict[str, Any]:
    return dict(shop.sql("select id, password from pos.read_staff(1) where id is not null"))


def test_an_export_is_imported_whole_and_a_second_time_changes_nothing(shop: Shop) -> None:
    first = load(shop.conninfo, BACKUP)
    assert first.changes == {"settings": 1, "categories": 2, "dishes": 2, "tables": 2, "orders": 2, "users": 2}
    state = shop.snapshot()
    assert [table["id"] for table in state["tables"]] == ["1", "2"]
    assert [dish["id"] for dish in state["menu_items"]] == ["7", "3"]
    assert state["categories"] == ["Main", "Drinks"]
    assert [order["id"] for order in state["orders"]] == ["POS-01022026-002", "POS-01022026-001"]
    assert state["orders"][0]["items"] == [{"id": "7", "quantity": 2}]
    assert state["settings"] == BACKUP["settings"]
    assert users_of(shop) == {"1": "s3cret", "1700000000001": "m4y"}
    before = shop.log()
    assert set(load(shop.conninfo, BACKUP).changes.values()) == {0}
    assert shop.log() == before
    shop.check()


def test_what_terminals_changed_before_the_import_is_newer_and_stays(shop: Shop) -> None:
    shop.table("update", {"id": "1", "number": 1, "seats": 8, "status": "reserved"})
    shop.table("add", {"id": "9", "number": 2, "seats": 2, "status": "available"})
    shop.dish("add_item", {"id": "3", "name": "Rice", "price": 900, "category": "Main", "description": ""})
    shop.dish("add_item", {"id": "7", "name": "Tea", "price": 1, "category": "Main", "description": ""})
    shop.dish("delete_item", {"id": "7"})
    shop.settings({"theme": "light"})
    load(shop.conninfo, BACKUP)
    assert {row["id"]: row["seats"] for row in shop.snapshot()["tables"]} == {"1": 8, "9": 2, "2": 4}
    assert shop.row("tables", "2")["number"] == 3, "its number was taken meanwhile"
    assert shop.row("menu_items", "3")["price"] == 900
    assert "7" not in shop.rows("menu_items"), "a dish deleted meanwhile does not come back"
    assert shop.snapshot()["settings"] == BACKUP["settings"] | {"theme": "light"}
    shop.check()


def test_two_sales_with_one_id_are_both_kept(shop: Shop) -> None:
    shop.order("add", BACKUP["orderHistory"][0] | {"createdAt": "2026-01-02T09:00:00Z", "total": 99})
    load(shop.conninfo, BACKUP)
    assert sorted(order["total"] for order in shop.snapshot()["orders"]) == [1, 2, 99]


def test_a_complete_restaurant_with_other_data_is_refused_and_untouched(shop: Shop) -> None:
    asyncio.run(schema.seed(shop.conninfo))
    before = shop.log(), users_of(shop)
    with pytest.raises(BackupError, match=r"nothing was imported: .*other data.* --replace"):
        load(shop.conninfo, BACKUP)
    assert (shop.log(), users_of(shop)) == before


def test_with_replace_the_lists_become_the_files_and_no_sale_is_lost(shop: Shop) -> None:
    asyncio.run(schema.seed(shop.conninfo))
    sale = BACKUP["orderHistory"][0]
    shop.order("add", sale | {"id": "POS-02022026-001", "createdAt": "2026-02-02T00:00:00Z"})
    shop.table("update", {"id": "1", "number": 77})
    swapped = edited(lambda b: [b["tables"][0].update(number=2), b["tables"][1].update(number=77)])
    swapped["tables"].append({"id": "3", "number": 1, "seats": 1, "status": "available"})
    load(shop.conninfo, swapped, replace=True)
    assert {row["id"]: row["number"] for row in shop.snapshot()["tables"]} == {"1": 2, "2": 77, "3": 1}
    assert sorted(shop.rows("menu_items")) == ["3", "7"]
    assert sorted(shop.snapshot()["categories"]) == ["Drinks", "Main"]
    assert len(shop.snapshot()["orders"]) == 3
    assert users_of(shop) == {"1": "s3cret", "1700000000001": "m4y"}
    assert set(load(shop.conninfo, swapped, replace=True).changes.values()) == {0}
    shop.check()


def test_a_finished_sale_stays_finished(shop: Shop) -> None:
    load(shop.conninfo, BACKUP)
    done = load(shop.conninfo, edited(lambda b: b["orderHistory"][0].update(status="pending")), replace=True)
    assert (done.changes["orders"], done.kept) == (0, 1)


def test_default_users_that_were_only_announced_give_way_to_the_files(shop: Shop) -> None:
    for number, name in enumerate(("admin", "cashier", "waiter"), 1):
        shop.mutate(Mutation("UPDATE_USERS", "add", {"id": str(number), "username": name, "password": name}))
    load(shop.conninfo, BACKUP)
    assert users_of(shop) == {"1": "s3cret", "1700000000001": "m4y"}
    shop.mutate(Mutation("UPDATE_USERS", "add", {"id": "2", "username": "cashier", "password": "cashier"}))
    assert "2" not in users_of(shop), "the next fresh browser must not bring back whom the shop has deleted"


def test_passwords_are_sealed_where_there_is_a_secret(shop: Shop) -> None:
    load(shop.conninfo, BACKUP, secret=SECRET)
    assert all(password.startswith("sealed:1:") for password in users_of(shop).values())
    assert set(load(shop.conninfo, BACKUP, secret=SECRET).changes.values()) == {0}
    assert "s3cret" not in str(shop.sql("select * from pos.sync_log"))


def test_an_unknown_restaurant_is_named(database: str) -> None:
    with pytest.raises(UnknownRestaurant, match="'bistro'"):
        load(database, BACKUP, slug="bistro")


def test_a_number_that_the_old_server_gave_twice_is_settled(shop: Shop) -> None:
    """It multiplied tables under new ids, and the export is the shop's only copy."""
    doubled = edited(lambda b: b["tables"].append({"id": "table_9", "number": 2, "seats": 1, "status": "available"}))
    load(shop.conninfo, doubled)
    assert {row["id"]: row["number"] for row in shop.snapshot()["tables"]} == {"1": 1, "2": 2, "table_9": 3}
    assert set(load(shop.conninfo, doubled).changes.values()) == {0}


def test_a_user_whom_a_terminal_changed_is_newer_than_the_file(shop: Shop) -> None:
    shop.mutate(Mutation("UPDATE_USERS", "update", {"id": "1", "username": "admin", "password": "changed"}))
    load(shop.conninfo, BACKUP)
    assert users_of(shop)["1"] == "changed"


# The command line


def relay(conninfo: str, *arguments: str | Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "relay", *arguments],
        env={"DATABASE_URL": conninfo, "PATH": ""},
        capture_output=True,
        encoding="utf-8",
        timeout=60,
        check=False,
    )


def test_a_restaurant_is_begun_at_the_command_line(database: str, folder: Callable[[Any], Path]) -> None:
    done = relay(database, "restaurant", "add", "bistro", "--name", "Bistro", "--empty")
    assert (done.returncode, done.stdout) == (0, "restaurant bistro is there: /ws?restaurant=bistro\n")
    again = relay(database, "restaurant", "add", "bistro")
    assert (again.returncode, again.stderr) == (1, "relay: there is a restaurant 'bistro' already\n")
    assert "a slug has letters" in relay(database, "restaurant", "add", "no slug").stderr
    path = folder(BACKUP)
    first = relay(database, "import", path)
    assert (first.returncode, first.stderr) == (0, "")
    assert first.stdout.startswith("imported into default: 1 settings, 2 categories, 2 dishes, 2 tables, 2 orders")
    assert relay(database, "import", path).stdout == "default has all of this already\n"
    listed = relay(database, "restaurant", "list").stdout.splitlines()
    assert listed == ["bistro\tBistro\trevision 0\tcomplete", "default\tDefault restaurant\trevision 9\tcomplete"]
    wrong = relay(database, "import", folder(b"{"))
    assert wrong.returncode == 1
    assert "this is not JSON" in wrong.stderr
    with psycopg.connect(database) as connection:
        row = connection.execute("select settings ->> 'restaurantName' from pos.restaurants where slug = 'bistro'")
        assert row.fetchone() == ("Bistro",)
