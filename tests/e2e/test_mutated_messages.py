"""Valid messages, changed at random: each is applied or answered, and none closes the connection."""

from __future__ import annotations

import copy
import json
import re
import secrets
from typing import Any

import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

from relay import protocol
from relay.errors import RETRYABLE, Refusal
from relay.protocol import Message
from tests.relays import LocalRelay
from tests.terminals import Terminal, agree, terminals

TABLE = {"id": "t1", "number": 1, "seats": 4, "status": "occupied", "orderId": "POS-1", "orderTotal": 2.50}
LINE = {"id": "l1", "name": "Tea", "price": 5, "quantity": 2}
DISH = {"id": "d1", "name": "Tea", "price": 5, "category": "Drinks", "description": "Hot", "image": "data:,"}
ORDER = {
    "id": "POS-1", "tableNumber": 1, "customerName": "Mya", "orderDate": "2026-01-02", "status": "pending", "total": 10,
    "items": [LINE], "createdAt": "2026-01-02T03:04:05Z",
}  # fmt: skip
VALID: list[tuple[str, Any]] = [
    ("CLIENT_CONNECTED", {"clientId": "fuzz", "name": "x", "protocol": 1}),
    ("HEARTBEAT", {"ping": True}),
    ("SYNC_REQUEST", {"epoch": "e", "revision": 1}),
    ("UPDATE_TABLE", {"action": "add", "data": TABLE | {"orderItems": [LINE], "customer": {"name": "x"}}}),
    ("UPDATE_TABLE", {"action": "update", "data": TABLE}),
    ("UPDATE_TABLE", {"action": "delete", "data": {"id": "t1"}}),
    ("UPDATE_TABLE", {"action": "add_items", "data": {"id": "t1", "orderId": "POS-1", "items": [LINE]}}),
    ("UPDATE_TABLE", {"action": "update_item", "data": {"id": "t1", "items": [LINE]}}),
    ("UPDATE_TABLE", {"action": "void_item", "data": {"id": "t1", "items": [{"id": "l1"}]}}),
    ("UPDATE_MENU", {"action": "add_item", "data": DISH}),
    ("UPDATE_MENU", {"action": "update_item", "data": DISH}),
    ("UPDATE_MENU", {"action": "delete_item", "data": {"id": "d1"}}),
    ("UPDATE_MENU", {"action": "add_category", "data": {"name": "Drinks"}}),
    ("UPDATE_MENU", {"action": "delete_category", "data": {"name": "Drinks"}}),
    ("UPDATE_ORDER", {"action": "add", "data": ORDER}),
    ("UPDATE_ORDER", {"action": "update", "data": ORDER | {"items": json.dumps([LINE])}}),
    ("UPDATE_ORDER", {"action": "void", "data": {"id": "POS-1"}}),
    ("UPDATE_ORDER", {"action": "clear"}),
    ("UPDATE_SETTINGS", {"currency": "MMK", "taxRate": 5}),
    ("NEXT_ORDER_ID", {}),
    ("MESSAGE", {"to": "fuzz", "bell": 1}),
]
ODD_TEXT = st.sampled_from(
    ["", "t1", "t2", "POS-1", "POS-9", "add", "update", "data", "\x00", "\ud800", "\U0001f355", "\u202eabc", "a\n\"'\\",
     "x" * 129, "1e5", "[1]", "{}", "null", "2026-13-45", "infinity", "%s", "'; drop table pos.tables; --"]
)  # fmt: skip
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | ODD_TEXT | st.text(max_size=10)
    | st.sampled_from([-1, 0, 2**31, 2**63, 10**400, 1e308, 5e-324, -0.0]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(ODD_TEXT | st.text(max_size=5), inner, max_size=3),
    max_leaves=6,
)  # fmt: skip


def places(value: Any) -> list[tuple[Any, Any]]:
    """Every container inside a value with each of its keys or indices."""
    found: list[tuple[Any, Any]] = []
    if isinstance(value, (dict, list)):
        for key in value if isinstance(value, dict) else range(len(value)):
            found += [(value, key), *places(value[key])]
    return found


@st.composite
def mutated(draw: st.DrawFn) -> str:
    """The text of a valid message, changed in one to three places of its tree or of its text."""
    type_, data = draw(st.sampled_from(VALID))
    message = {"type": type_, "data": copy.deepcopy(data), "clientId": "fuzz", "id": "@", "timestamp": 1}
    for _ in range(draw(st.integers(0, 3))):
        container, key = draw(st.sampled_from(places(message) or [({"": 0}, "")]))
        match draw(st.sampled_from(["replace", "replace", "replace", "remove", "add"])):
            case "replace":
                container[key] = draw(VALUES)
            case "remove":
                del container[key]
            case _ if isinstance(container, dict):
                container[draw(ODD_TEXT)] = draw(VALUES)
            case _:
                container.append(draw(VALUES))
    text = json.dumps(message)
    if draw(st.integers(0, 4)) == 0:
        start = draw(st.integers(0, len(text)))
        end = min(len(text), start + draw(st.integers(0, 12)))
        text = text[:start] + draw(st.sampled_from(["", text[start:end] * 2, '"', "{", "9" * 30])) + text[end:]
    return text.replace('"@"', f'"{secrets.token_hex(8)}"')


def understood(text: str) -> Message | None:
    try:
        return protocol.parse(text)
    except Refusal:
        return None


async def check(fuzz: Terminal, text: str, message: Message | None) -> None:
    before = len(fuzz.received)
    await fuzz.send_text(text)
    fence = await fuzz.ask("NEXT_ORDER_ID", clientId="fuzz")
    assert fence["type"] == "ACK"
    heard = [m for m in fuzz.received[before:] if m["type"] in ("ACK", "ERROR") and m is not fence]
    assert fuzz.close_code is None
    assert len(heard) <= 1
    if message is None:
        assert heard, "refused, and not answered"
    elif message.id is not None and message.type.startswith(("UPDATE_", "NEXT_", "MESSAGE")):
        assert heard, "with an id, and not answered"
        assert heard[0]["ref"] == message.id
    for error in (m["data"] for m in heard if m["type"] == "ERROR"):
        assert error["code"] not in ("INTERNAL", "UNAVAILABLE", "BUSY"), error
        assert error["retryable"] is (error["code"] in RETRYABLE)
        field = error.get("field", "")
        assert error["code"] != "VALIDATION" or field, error
        assert not re.fullmatch("[a-z]+(_[a-z]+)+", field), f"a column's name, not a field's: {error}"


@pytest.mark.timeout(180)
@settings(max_examples=250, deadline=None, suppress_health_check=list(HealthCheck))
@given(text=mutated())
async def test_a_message_changed_at_random_is_applied_or_answered(relay: LocalRelay, database: str, text: str) -> None:
    message = understood(text)
    assume(message is None or message.type != "CLIENT_DISCONNECTED")
    async with terminals(relay.url, 1) as (watcher,), Terminal(relay.url, "fuzz") as fuzz:
        await check(fuzz, text, message)
        await agree(database, watcher)
