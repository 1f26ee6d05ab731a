"""Card numbers in free text: each is seen, and nearly nothing else is taken for one."""

from __future__ import annotations

import json
import logging
import random
from collections.abc import Callable
from typing import Any

import pytest

from relay import cards, protocol
from tests.e2e.apps import sql
from tests.relays import local_relay
from tests.terminals import Terminal
from tests.test_metrics import growth

# What the networks and payment providers publish for tests, and numbers made as theirs are.
PUBLISHED = """
    4111111111111111 4012888888881881 4222222222222 4242424242424242 4000056655665556 4917610000000000
    4484070000000000 4917300800000000 4005519200000004 4009348888881881 4012000033330026 4012000077777777
    4217651111111119 4500600000000061 5555555555554444 5105105105105100 5200828282828210 2223003122003222
    2223000048400011 5431111111111111 5454545454545454 378282246310005 371449635398431 378734493671000
    343434343434343 341111111111111 30569309025904 38520000023237 3530111333300000 3566002020360505
    3566111111111113 6011111111111117 6011000990139424 6011601160116611 36227206271667 6445644564456445
    6250941006528599 6200000000000005 6759649826438453 6799990100000000019 5019717010103742
"""
PREFIXES = ("4", "51", "55", "2221", "2720", "34", "37", "36", "3528", "6011", "65", "62", "81", "6304", "2200", "9503")
LENGTHS = {"34": 15, "37": 15, "36": 14}


def with_check_digit(digits: str) -> str:
    return next(digits + last for last in "0123456789" if _luhn(digits + last))


def _luhn(digits: str) -> bool:
    total = 0
    for place, digit in enumerate(reversed(digits)):
        value = int(digit) * (2 if place % 2 else 1)
        total += value - 9 if value > 9 else value
    return total % 10 == 0


def made(count: int) -> list[str]:
    chance = random.Random(1)
    found = []
    for number in range(count):
        prefix = PREFIXES[number % len(PREFIXES)]
        length = LENGTHS.get(prefix, 16) - len(prefix) - 1
        found.append(with_check_digit(prefix + "".join(chance.choices("0123456789", k=length))))
    return found


CARDS = [*PUBLISHED.split(), *made(100 - len(PUBLISHED.split()))]


def ways(card: str) -> list[str]:
    """How people write one."""
    fours = [card[at : at + 4] for at in range(0, len(card), 4)]
    return [
        card,
        " ".join(fours),
        "-".join(fours),
        f"Visa {card} exp 12/27",
        f"{' '.join(fours)} 12/27 cvc 123",
        f"5 {card}",
        f"card:{card}.",
        f"({card})",
        f"ကတ် {card}",
        card.translate(str.maketrans("0123456789", "၀၁၂၃၄၅၆၇၈၉")),
    ]


@pytest.mark.parametrize("card", CARDS)
def test_a_card_number_is_seen_in_every_text_however_it_is_written(card: str) -> None:
    for text in ways(card):
        assert cards.holds_card(text), text
        for row in (
            {"customerName": text},
            {"notes": {"of": [text]}},
            {"items": [{"id": "1", "note": text}]},
            {"items": json.dumps([{"id": "1", "note": text}])},
            {text: "x"},
            {"cardNumber": text},
        ):
            assert cards.places(row), row


def test_one_wrong_digit_is_no_card() -> None:
    for card in CARDS:
        assert not cards.holds_card(card[:-1] + str((int(card[-1]) + 1) % 10))


def test_a_hundred_cards_are_there() -> None:
    assert len(set(CARDS)) == 100
    assert all(_luhn(card) for card in CARDS)


CHANCE = random.Random(2)
ORDER_NUMBERS: dict[str, Callable[[int], str]] = {
    "as the app makes them": lambda n: f"POS-{1 + n % 12:02}{1 + n % 28:02}2026-{n:03}",
    "of milliseconds": lambda n: f"{1_700_000_000_000 + n * 977}",
    "of a date and a count": lambda n: f"2026{1 + n % 12:02}{1 + n % 28:02}{n:08}",
    "of a date, a time and a count": lambda n: f"ORD-2026-11-{1 + n % 28:02}-{n % 24:02}{n % 60:02}{n:06}",
    "counted": lambda n: f"{10_000_000_000_000 + n}",
    "of letters and digits": lambda _: f"T{CHANCE.randrange(10**15):015}",
    "telephone numbers": lambda _: f"+959{CHANCE.randrange(10**9):09} 09{CHANCE.randrange(10**9):09}",
    "tables and items": lambda n: f"table_{1_700_000_000_000 + n} item_{1_700_000_000_000 + n}",
}


@pytest.mark.parametrize("kind", ORDER_NUMBERS)
def test_order_numbers_are_not_taken_for_cards(kind: str) -> None:
    texts = [ORDER_NUMBERS[kind](number) for number in range(20_000)]
    assert sum(map(cards.holds_card, texts)) <= 0.01 * len(texts)


@pytest.mark.parametrize(
    "row",
    [
        {"id": "CARD"},
        {"orderId": "CARD"},
        {"order_id": "CARD"},
        {"orderNumber": "CARD"},
        {"items": [{"id": "CARD", "menuItemId": "CARD"}]},
        {"items": '[{"id": "CARD"}]'},
        {"total": 4111111111111111},
        {"image": "CARD", "logo": "CARD"},
        {"picture2": "data:image/png;base64,CARD"},
        {"note": "AbCARDxyz/CARD+CARD"},
        {"note": "CARD CARD"[:3]},
        {"note": None, "flag": True, "price": 1.5, "list": [], "none": ""},
    ],
)
def test_ids_numbers_and_pictures_are_never_looked_at(row: dict[str, object]) -> None:
    assert list(cards.places(json.loads(json.dumps(row).replace("CARD", CARDS[0])))) == []


def test_a_place_that_is_named_by_a_card_does_not_show_it() -> None:
    row: dict[str, Any] = {CARDS[0]: {"x": CARDS[1]}}
    found = cards.places(row)
    assert len(found) == 2
    assert not any(card[:4] in place for place in found for card in CARDS[:2])


def test_a_text_that_is_nested_deeper_than_python_goes_is_let_through() -> None:
    # Just before json gives up, and from Python 3.12 on long before that.
    for depth in (*range(700, 1000), 5000):
        cards.places({"note": "[" * depth + "]" * depth})


def test_a_text_that_is_hostile_takes_no_time(monkeypatch: pytest.MonkeyPatch) -> None:
    looked = 0

    def counted(_digits: str) -> bool:
        nonlocal looked
        looked += 1
        return False

    monkeypatch.setattr(cards, "is_card", counted)
    assert cards.places({"notes": ["4111 1111 1111 1112"] * 50_000}) == []
    assert looked == cards.CANDIDATES
    monkeypatch.undo()
    assert not cards.holds_card("4 " * 100_000)
    assert not cards.holds_card("4" * 1_000_000)
    assert not cards.holds_card("4-" * 100_000 + "x")
    assert not cards.holds_card("4111 " * 200_000)
    assert cards.places({"note": "[" * 100_000}) == []


@pytest.mark.parametrize(
    ("type_", "data"),
    [
        ("UPDATE_ORDER", {"action": "add", "data": {"id": "o1", "customerName": "CARD"}}),
        ("UPDATE_TABLE", {"action": "update", "data": {"id": "t1", "customer": {"note": "CARD"}}}),
        ("UPDATE_MENU", {"action": "add_item", "data": {"id": "d1", "name": "CARD"}}),
        ("UPDATE_SETTINGS", {"description": "CARD"}),
        ("MESSAGE", {"note": "CARD"}),
    ],
)
def test_every_message_with_text_is_looked_at_and_the_log_never_has_the_digits(
    caplog: pytest.LogCaptureFixture, type_: str, data: object
) -> None:
    text = json.dumps({"type": type_, "data": data}).replace("CARD", CARDS[0])
    with caplog.at_level(logging.WARNING):
        cards.warn(protocol.parse(text), "bistro")
    (record,) = caplog.records
    told = record.__dict__["fields"]
    assert (told["restaurant"], told["type"]) == ("bistro", type_)
    assert told["fields"] in ("customerName", "customer.note", "name", "description", "note")
    assert CARDS[0][:6] not in str(record.__dict__)


async def test_a_relay_warns_where_it_is_told_to_and_stores_the_text_all_the_same(
    database: str, caplog: pytest.LogCaptureFixture
) -> None:
    row = {"id": "t1", "number": 1, "seats": 4, "status": "available", "note": f"paid with {CARDS[0]}"}
    async with local_relay(database, card_warning=True) as relay, Terminal(relay.url) as one:
        grown = await growth(relay)
        await one.table("add", row)
        assert await grown.of("relay_card_warnings_total") == 1
    assert len([record for record in caplog.records if record.name == "relay.cards"]) == 1
    assert sql(database, "select extra ->> 'note' from pos.tables") == [(row["note"],)]


async def test_by_default_no_text_is_looked_at(database: str, caplog: pytest.LogCaptureFixture) -> None:
    async with local_relay(database) as relay, Terminal(relay.url) as one:
        await one.table("add", {"id": "t1", "number": 1, "seats": 4, "status": "available", "note": CARDS[0]})
    assert [record for record in caplog.records if record.name == "relay.cards"] == []
