"""Whatever a terminal sends is answered with a coded ERROR that names the field; it stays, and nothing changes."""

from __future__ import annotations

import json
import secrets

import psycopg
import pytest

from relay import bodies, protocol
from relay.bodies import Spec
from tests.relays import LocalRelay
from tests.terminals import Row, Terminal, agree, terminals
from tests.waiting import until

TABLE = {"id": "t1", "number": 1, "seats": 4, "status": "available"}


def update(type_: str, action: str, row: str) -> str:
    return f'{{"type":"{type_}","id":"m","data":{{"action":"{action}","data":{row}}}}}'


def dish(**fields: str) -> str:
    """UPDATE_MENU add_item with these fields, each as JSON text."""
    row = {"id": '"d1"', "name": '"Tea"', "price": "5", "category": '""', "description": '""', **fields}
    return update("UPDATE_MENU", "add_item", "{" + ",".join(f'"{k}":{v}' for k, v in row.items()) + "}")


def nested(depth: int) -> str:
    return "[" * depth + "]" * depth


WRONG_IDS: list[object] = ["", "x" * 129, "x" * 100_000, None, 5, 5.5, True, ["t1"], {"id": "t1"}]
WRONG_NAMES: list[object] = ["", "x" * 201, None, 5, ["Soups"], {}]
# What is sent, and the ERROR's code and field.
CORPUS: list[tuple[str, str, str | None]] = [
    ("", "INVALID_MESSAGE", None),
    (" ", "INVALID_MESSAGE", None),
    ("hello", "INVALID_MESSAGE", None),
    ("null", "INVALID_MESSAGE", None),
    ("[]", "INVALID_MESSAGE", None),
    ("5", "INVALID_MESSAGE", None),
    ('"HEARTBEAT"', "INVALID_MESSAGE", None),
    ("true", "INVALID_MESSAGE", None),
    ("NaN", "INVALID_MESSAGE", None),
    ("\ufeff{}", "INVALID_MESSAGE", None),
    ("{'type':'HEARTBEAT'}", "INVALID_MESSAGE", None),
    ('{"type":"HEARTBEAT"', "INVALID_MESSAGE", None),
    ('{"type":"HEARTBEAT",}', "INVALID_MESSAGE", None),
    ('{"type":"HEARTBEAT"}{"type":"HEARTBEAT"}', "INVALID_MESSAGE", None),
    ('{"type":"HEARTBEAT","x":"\n"}', "INVALID_MESSAGE", None),
    ('{"type":"HEARTBEAT","x":"\\x"}', "INVALID_MESSAGE", None),
    ('{"type":"HEARTBEAT","x":01}', "INVALID_MESSAGE", None),
    ("{}", "VALIDATION", "type"),
    ('{"type":null}', "VALIDATION", "type"),
    ('{"type":"HEARTBEAT","type":"SYNC_REQUEST"}', "VALIDATION", "type"),
    ('{"type":"SYNC_REQUEST","data":{"epoch":"a","epoch":"b"}}', "VALIDATION", "data.epoch"),
    (dish(price='5,"price":6'), "VALIDATION", "data.data.price"),
    (dish(own='[{"a":{"k":1,"k":2}}]'), "VALIDATION", "data.data.own.0.a.k"),
    (dish(price="NaN"), "VALIDATION", "data.data.price"),
    (dish(own="[1,Infinity]"), "VALIDATION", "data.data.own.1"),
    (dish(own="-Infinity"), "VALIDATION", "data.data.own"),
    (dish(price="1e999"), "VALIDATION", "data.data.price"),
    (dish(price="-1e999"), "VALIDATION", "data.data.price"),
    (dish(price="1e-999"), "VALIDATION", "data.data.price"),
    (dish(price="1e" + "9" * 5000), "VALIDATION", "data.data.price"),
    (dish(price="9" * 5000), "VALIDATION", "data.data.price"),
    (dish(price="0." + "9" * 5000), "VALIDATION", "data.data.price"),
    (dish(own="9" * 5000), "VALIDATION", "data.data.own"),
    (dish(name='"\\ud800"'), "VALIDATION", "data.data.name"),
    (dish(name='"\\udc00\\ud800"'), "VALIDATION", "data.data.name"),
    (dish(name='"\\u0000"'), "VALIDATION", "data.data.name"),
    (dish(own='{"a\\u0000b":1}'), "VALIDATION", "data.data.own.a\0b"),
    (dish(own=nested(10_000)), "VALIDATION", "data.data.own" + ".0" * 61),
    (dish(own='{"a":' * 10_000 + "1" + "}" * 10_000), "VALIDATION", ("data.data.own" + ".a" * 61)),
    (nested(10_000), "VALIDATION", ".".join("0" * 64)),
    ("[" * 19_000, "VALIDATION", ".".join("0" * 64)),
    (dish(own=nested(62)), "VALIDATION", "data.data.own" + ".0" * 61),
    ('{"type":"UPDATE_EVERYTHING","data":{}}', "UNKNOWN_TYPE", "type"),
    ('{"type":"update_table","data":{}}', "UNKNOWN_TYPE", "type"),
    ('{"type":"","data":{}}', "UNKNOWN_TYPE", "type"),
    ('{"type":"SYNC_RESPONSE","data":{}}', "UNKNOWN_TYPE", "type"),
    ('{"type":"__class__","data":{}}', "UNKNOWN_TYPE", "type"),
    (update("UPDATE_TABLE", "explode", "{}"), "UNKNOWN_ACTION", "data.action"),
    (update("UPDATE_TABLE", "add_item", "{}"), "UNKNOWN_ACTION", "data.action"),
    (update("UPDATE_MENU", "add", "{}"), "UNKNOWN_ACTION", "data.action"),
    (update("UPDATE_ORDER", "delete", "{}"), "UNKNOWN_ACTION", "data.action"),
    (update("UPDATE_ORDER", "", "{}"), "UNKNOWN_ACTION", "data.action"),
    ('{"type":"UPDATE_TABLE","data":{"action":5,"data":{"id":"1"}}}', "UNKNOWN_ACTION", "data.action"),
    ('{"type":"UPDATE_TABLE","data":{"action":["add"],"data":{"id":"1"}}}', "UNKNOWN_ACTION", "data.action"),
    ('{"type":"UPDATE_TABLE"}', "VALIDATION", "id"),
    (update("UPDATE_TABLE", "add", "[]"), "VALIDATION", "data.data"),
    (update("UPDATE_TABLE", "add", '"t1"'), "VALIDATION", "data.data"),
    (update("UPDATE_MENU", "add_category", "5"), "VALIDATION", "data.data"),
    (update("UPDATE_TABLE", "add", '{"id":"1"}'), "VALIDATION", "number"),
    (update("UPDATE_TABLE", "add_items", '{"id":"1"}'), "VALIDATION", "items"),
    (update("UPDATE_MENU", "add_item", '{"id":"1"}'), "VALIDATION", "name"),
    (update("UPDATE_ORDER", "add", '{"id":"1"}'), "VALIDATION", "tableNumber"),
    (update("UPDATE_ORDER", "void", '{"id":"unknown"}'), "VALIDATION", "id"),
    (update("UPDATE_ORDER", "add", '{"id":"1","items":"[1,"}'), "VALIDATION", "items"),
    (update("UPDATE_ORDER", "add", '{"id":"1","items":"[NaN]"}'), "VALIDATION", "items.0"),
    (update("UPDATE_ORDER", "add", '{"id":"1","items":"{}"}'), "VALIDATION", "items"),
    (update("UPDATE_ORDER", "add", '{"id":"1","items":"[{\\"a\\":\\"\\\\u0000\\"}]"}'), "VALIDATION", "items.0.a"),
    *(
        (update(type_, action, f'{{"{key}":{json.dumps(value)}}}'), "VALIDATION", key)
        for value in WRONG_IDS
        for type_, action, key in (("UPDATE_TABLE", "delete", "id"), ("UPDATE_MENU", "delete_item", "id"),
                                   ("UPDATE_ORDER", "void", "id"))
    ),
    *(
        (update("UPDATE_MENU", action, f'{{"name":{json.dumps(value)}}}'), "VALIDATION", "name")
        for value in WRONG_NAMES
        for action in ("add_category", "delete_category")
    ),
    ('{"type":"MESSAGE","data":{"text":"%s"}}' % ("x" * 5000), "TOO_LARGE", "data"),
]  # fmt: skip


ENVELOPES: list[tuple[str, Spec, str]] = [
    ("NEXT_ORDER_ID", protocol._ENVELOPE, ""),
    ("CLIENT_CONNECTED", protocol._HELLO, "data."),
    ("CLIENT_DISCONNECTED", protocol._GOODBYE, "data."),
    ("HEARTBEAT", protocol._HEARTBEAT, "data."),
    ("SYNC_REQUEST", protocol._SYNC_REQUEST, "data."),
    ("MESSAGE", protocol._RELAYED, "data."),
]
ROWS = {"UPDATE_TABLE": bodies.TABLE, "UPDATE_MENU": bodies.MENU, "UPDATE_ORDER": bodies.ORDER}


def wrong_types() -> list[tuple[str, str]]:
    """Every message with a wrong type in one field, for every field that is known; and the field's name."""
    found: list[tuple[str, Row, str]] = []
    for type_, spec, path in ENVELOPES:
        for name, value in ((n, v) for n in spec.fields for v in wrong_values(n)):
            known = {"clientId": "x"} if path else {"type": type_}
            message = {"type": type_, "data": known | {name: value}} if path else known | {name: value}
            found.append((type_, message, path + name))
    for type_, actions in ROWS.items():
        for action, spec in actions.items():
            for name, value in ((n, v) for n in spec.fields for v in wrong_values(n)):
                row = {"id": "1", "name": "x", "items": [{"id": "l1"}]} | {name: value}
                found.append((type_, {"type": type_, "data": {"action": action, "data": row}}, name))
    for name, value in ((n, v) for n in bodies.SETTINGS.fields for v in wrong_values(n)):
        found.append(("UPDATE_SETTINGS", {"type": "UPDATE_SETTINGS", "data": {name: value}}, name))
    line = {"items": [{"id": "l1"}, {"id": "l2", "price": "5"}]}
    found.append(("", {"type": "UPDATE_TABLE", "data": {"action": "add_items", "id": "1"} | line}, "items.1.price"))
    return [(json.dumps(message), field) for _, message, field in found]


def wrong_values(name: str) -> list[object]:
    return [{"a": 1}, [1], 1 if name in ("serviceChargeEnabled", "ping", "response", "checksum") else True]


def contents(database: str) -> dict[str, list[str]]:
    """Every row there is, but the notes on batches, and on who a terminal was."""
    with psycopg.connect(database) as connection:
        names = connection.execute(
            "select tablename from pg_tables where schemaname = 'pos' and tablename not in ('batches', 'actors')"
        )
        return {
            name: [row for (row,) in connection.execute(f"select t::text from pos.{name} as t order by 1".encode())]
            for (name,) in names.fetchall()
        }


async def answer_to(terminal: Terminal, text: str | bytes) -> Row:
    before = len(terminal.received)
    await terminal.send_text(text)
    await until(lambda: len(terminal.received) > before or terminal.close_code, what=f"an answer to {text[:200]!r}")
    assert terminal.close_code is None, text[:200]
    return terminal.received[before]


def check_error(answer: Row, text: str | bytes, code: str, field: str | None) -> None:
    assert answer["type"] == "ERROR", (text[:200], answer)
    error = answer["data"]
    assert (error["code"], error.get("field")) == (code, field), (text[:200], error)
    assert error["retryable"] is False
    assert 0 < len(error["message"]) < 1000
    assert answer["clientId"] == "server"
    assert isinstance(answer["timestamp"], int)


async def test_hostile_input_is_refused_by_code_and_field_and_hurts_nobody(relay: LocalRelay, database: str) -> None:
    async with terminals(relay.url, 2) as (hostile, other):
        await other.table("add", TABLE)
        await hostile.reaches(1)
        before = contents(database)
        for text, code, field in CORPUS:
            check_error(await answer_to(hostile, text), text, code, field)
        assert contents(database) == before
        await hostile.table("update", {"id": "t1", "seats": 6})
        await agree(database, hostile, other)
        assert [m for m in other.received if m["type"] == "ERROR"] == []


async def test_a_wrong_type_in_any_known_field_is_refused_by_name(relay: LocalRelay, database: str) -> None:
    async with terminals(relay.url, 1) as (hostile,):
        before = contents(database)
        said = wrong_types()
        assert len(said) > 200
        heard = len(hostile.received)
        for text, _ in said:
            await hostile.send_text(text)
        await until(lambda: len(hostile.received) == heard + len(said) or hostile.close_code, within=15.0)
        for (text, field), answer in zip(said, hostile.received[heard:], strict=True):
            named = answer["data"].get("field", "")
            # A wrong element of an array is named by its place.
            check_error(answer, text, "VALIDATION", f"{field}.0" if named == f"{field}.0" else field)
        assert contents(database) == before
        await hostile.table("add", TABLE)
        await agree(database, hostile)


async def test_a_binary_frame_is_refused_and_the_connection_stays_open(relay: LocalRelay, database: str) -> None:
    async with terminals(relay.url, 1) as (hostile,):
        for frame in (b"", b"\x00\xff", b'{"type": "HEARTBEAT"}', b"x" * 100_000):
            check_error(await answer_to(hostile, frame), frame, "INVALID_MESSAGE", None)
        await hostile.table("add", TABLE)
        await agree(database, hostile)


async def test_the_id_of_a_refused_message_comes_back_wherever_it_can_be_read(relay: LocalRelay) -> None:
    async with terminals(relay.url, 1) as (hostile,):
        for text in (
            '{"id":"m1","type":"NO_SUCH"}',
            '{"id":"m1","type":"UPDATE_MENU","data":{"id":"1","price":NaN}}',
            '{"id":"m1","type":"UPDATE_MENU","data":{"id":"1","price":%s}}' % ("9" * 5000),
            '{"id":"m1","type":"UPDATE_MENU","data":{"id":"1","name":"\\ud800"}}',
            '{"id":"m1","type":"UPDATE_TABLE","data":{"id":"1","seats":4}}',
        ):
            assert (await answer_to(hostile, text))["ref"] == "m1"
        for text in ('{"id":5,"type":"NO_SUCH"}', '{"id":"m1","type":', '{"id":"%s","type":"NO_SUCH"}' % ("x" * 65)):
            assert "ref" not in await answer_to(hostile, text)


async def test_an_order_id_that_no_order_can_have_is_refused_by_name(relay: LocalRelay, database: str) -> None:
    async with terminals(relay.url, 1) as (hostile,):
        await hostile.table("add", TABLE)
        await hostile.reaches(1)
        before = contents(database)
        for length in (129, 6000, 300_000):
            order_id = secrets.token_hex(length)[:length]
            for action, more in (("add", {}), ("update", {}), ("add_items", {"items": [{"id": "l1"}]})):
                row = TABLE | more | {"orderId": order_id}
                text = update("UPDATE_TABLE", action, json.dumps(row))
                check_error(await answer_to(hostile, text), text, "VALIDATION", "orderId")
        assert contents(database) == before


@pytest.mark.parametrize("prefix", ["[" * 3000, '{"x":NaN,'])
async def test_no_text_keeps_the_relay_from_its_work(relay: LocalRelay, prefix: str) -> None:
    async with terminals(relay.url, 2) as (hostile, other):
        await hostile.send_text(prefix + '"' + '\\"' * 20_000)  # a text that does not end
        await other.ask("NEXT_ORDER_ID", within=5.0)
        await hostile.hears("ERROR")
