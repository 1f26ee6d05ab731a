"""protocol: what a terminal's text means, what is refused and to whom, and the texts that go back."""

from __future__ import annotations

import json

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from relay import bodies, protocol
from relay.errors import Refusal
from relay.protocol import Hello, Message, Relayed, SyncRequest, Update

NOW = 1767323045000
ROW = '{ "id":"7", "price": 1.10,"n":1E2,\n"u":"\\u1019\\u002d", "big":123456789012345678901234567890.0 }'


def message(type_: str, data: object = None, **envelope: object) -> str:
    return json.dumps({"type": type_, **envelope} | ({} if data is None else {"data": data}))


def refused(text: str) -> Refusal:
    with pytest.raises(Refusal) as caught:
        protocol.parse(text)
    protocol.error(caught.value, now_ms=NOW).encode()
    return caught.value


def update(text: str) -> Update:
    parsed = protocol.parse(text)
    assert isinstance(parsed, Update)
    return parsed


@pytest.mark.parametrize("type_", ["HEARTBEAT", "CLIENT_DISCONNECTED", "NEXT_ORDER_ID"])
@pytest.mark.parametrize("data", ["", ',"data":null', ',"data":{}'])
def test_data_may_be_missing_where_nothing_is_needed(type_: str, data: str) -> None:
    expected = Message(type=type_, client_id=None, id=None, if_version=None, data={}, data_text="{}", traceparent=None)
    assert protocol.parse(f'{{"type":"{type_}"{data}}}') == expected


def test_an_envelope_is_read_whole() -> None:
    text = message("HEARTBEAT", {"response": True}, clientId="till", id="m1", ifVersion=3.0, timestamp="?", x=[1])
    parsed = protocol.parse(text)
    assert (parsed.client_id, parsed.id, parsed.if_version) == ("till", "m1", 3)
    assert (parsed.data, parsed.data_text) == ({"response": True}, '{"response": true}')


def test_null_in_the_envelope_is_as_good_as_missing() -> None:
    parsed = protocol.parse('{"type":"HEARTBEAT","clientId":null,"id":null,"ifVersion":null}')
    assert (parsed.client_id, parsed.id, parsed.if_version) == (None, None, None)


@pytest.mark.parametrize(
    ("text", "code", "field"),
    [
        ("", "INVALID_MESSAGE", None),
        ("hello", "INVALID_MESSAGE", None),
        ("[]", "INVALID_MESSAGE", None),
        ('"HEARTBEAT"', "INVALID_MESSAGE", None),
        ("{}", "VALIDATION", "type"),
        (message("HEARTBEAT", type=5), "VALIDATION", "type"),
        (message("NO_SUCH"), "UNKNOWN_TYPE", "type"),
        (message("heartbeat"), "UNKNOWN_TYPE", "type"),
        (message("HEARTBEAT", []), "VALIDATION", "data"),
        (message("HEARTBEAT", "ping"), "VALIDATION", "data"),
        (message("HEARTBEAT", clientId=5), "VALIDATION", "clientId"),
        (message("HEARTBEAT", clientId=""), "VALIDATION", "clientId"),
        (message("HEARTBEAT", clientId="x" * 129), "VALIDATION", "clientId"),
        (message("HEARTBEAT", id=5), "VALIDATION", "id"),
        (message("HEARTBEAT", id=""), "VALIDATION", "id"),
        (message("HEARTBEAT", id="x" * 65), "VALIDATION", "id"),
        (message("HEARTBEAT", ifVersion="1"), "VALIDATION", "ifVersion"),
        (message("HEARTBEAT", ifVersion=1.5), "VALIDATION", "ifVersion"),
        (message("HEARTBEAT", ifVersion=True), "VALIDATION", "ifVersion"),
        (message("HEARTBEAT", ifVersion=2**63), "VALIDATION", "ifVersion"),
        (message("CLIENT_CONNECTED", {}), "VALIDATION", "data.clientId"),
        (message("CLIENT_CONNECTED", {"clientId": 5}, clientId="a"), "VALIDATION", "data.clientId"),
        (message("CLIENT_CONNECTED", {"clientId": "a", "name": 5}), "VALIDATION", "data.name"),
        (message("CLIENT_CONNECTED", {"clientId": "a", "token": []}), "VALIDATION", "data.token"),
        (message("CLIENT_CONNECTED", {"clientId": "a", "protocol": "1"}), "VALIDATION", "data.protocol"),
        (message("SYNC_REQUEST", {"epoch": 5, "revision": 1}), "VALIDATION", "data.epoch"),
        (message("SYNC_REQUEST", {"epoch": "e", "revision": "1"}), "VALIDATION", "data.revision"),
        (message("SYNC_REQUEST", {"epoch": "e", "revision": -1}), "VALIDATION", "data.revision"),
        (message("MESSAGE", {"to": 5}), "VALIDATION", "data.to"),
        (message("MESSAGE", {"text": "မ" * 1400}), "TOO_LARGE", "data"),
        (message("UPDATE_TABLE"), "VALIDATION", "id"),
        (message("UPDATE_TABLE", []), "VALIDATION", "data"),
        (message("UPDATE_TABLE", {"action": "explode", "data": {"id": "1"}}), "UNKNOWN_ACTION", "data.action"),
        (message("UPDATE_TABLE", {"action": ["add"], "data": {"id": "1"}}), "UNKNOWN_ACTION", "data.action"),
        (message("UPDATE_TABLE", {"action": "update", "data": None}), "VALIDATION", "data.data"),
        (message("UPDATE_TABLE", {"action": "update", "data": {"id": "1", "seats": "x"}}), "VALIDATION", "seats"),
        (message("UPDATE_MENU", "Soups"), "VALIDATION", "data"),
        (message("UPDATE_MENU", {"action": "add_item", "data": "Soups"}), "VALIDATION", "data.data"),
        (message("UPDATE_MENU", {"action": "add_category", "data": 5}), "VALIDATION", "data.data"),
        (message("UPDATE_MENU", {"action": "add_category", "data": ""}), "VALIDATION", "name"),
        (message("UPDATE_SETTINGS", {"taxRate": "5"}), "VALIDATION", "taxRate"),
        ('{"type":"UPDATE_MENU","data":{"data":{"id":"1","price":1e999}}}', "VALIDATION", "data.data.price"),
    ],
)
def test_a_refusal_has_a_code_and_names_the_field(text: str, code: str, field: str | None) -> None:
    refusal = refused(text)
    assert (refusal.code, refusal.field) == (code, field)


@pytest.mark.parametrize(
    ("text", "ref"),
    [
        (message("NO_SUCH", id="m1"), "m1"),
        (message("UPDATE_TABLE", {"action": "update", "data": {"id": 5}}, id="m1"), "m1"),
        (message("HEARTBEAT", clientId=5, id="m1"), "m1"),
        ('{"id":"m1","type":"UPDATE_MENU","data":{"id":"1","price":NaN}}', "m1"),
        ('{"id":"m1","type":"UPDATE_MENU","data":{"id":"1","price":%s}}' % ("9" * 5000), "m1"),
        ('{"id":"m1","type":"UPDATE_MENU","data":{"id":"1","name":"\\ud800"}}', "m1"),
        ('{"id":"m1","data":' + "[" * 100 + "]" * 100 + "}", "m1"),
        ('{"id":"m1","data":' + "[" * 10_000 + "]" * 10_000 + "}", None),
        ('{"id":"\\ud800"}', None),
        ('{"id":"m1",', None),
        ('{"id":5}', None),
        ('{"id":null}', None),
        ('["m1"]', None),
        ("5", None),
    ],
)
def test_a_refusal_carries_the_messages_id_where_it_can_be_read(text: str, ref: str | None) -> None:
    assert refused(text).ref == ref


def test_a_hello_says_who_is_there() -> None:
    hello = protocol.parse(message("CLIENT_CONNECTED", {"clientId": "a", "name": "Till", "token": "t", "protocol": 1}))
    assert isinstance(hello, Hello)
    assert (hello.client_id, hello.name, hello.token, hello.protocol) == ("a", "Till", "t", 1)


@pytest.mark.parametrize("data", [None, {}, {"clientId": None}])
def test_a_hello_without_a_client_id_has_the_envelopes(data: object) -> None:
    hello = protocol.parse(message("CLIENT_CONNECTED", data, clientId="envelope"))
    assert (hello.client_id, hello.type) == ("envelope", "CLIENT_CONNECTED")


@pytest.mark.parametrize(
    ("data", "cursor"),
    [
        (None, (None, None)),
        ({}, (None, None)),
        ({"epoch": "e", "revision": 0}, ("e", 0)),
        ({"epoch": "e", "revision": 7.0}, ("e", 7)),
        ({"epoch": "e"}, (None, None)),
        ({"revision": 5}, (None, None)),
        ({"epoch": None, "revision": None}, (None, None)),
    ],
)
def test_a_sync_request_has_a_whole_cursor_or_none(data: object, cursor: tuple[str | None, int | None]) -> None:
    request = protocol.parse(message("SYNC_REQUEST", data))
    assert isinstance(request, SyncRequest)
    assert (request.epoch, request.revision) == cursor


def test_a_message_to_others_may_fill_four_kibibytes() -> None:
    data = json.dumps({"to": "kitchen", "text": ""})
    data = data.replace('""', '"%s"' % ("x" * (4096 - len(data))))
    relayed = protocol.parse(f'{{"type":"MESSAGE","data":{data}}}')
    assert isinstance(relayed, Relayed)
    assert (relayed.to, relayed.data_text) == ("kitchen", data)


@pytest.mark.parametrize(
    ("text", "action", "body"),
    [
        (f'{{"type":"UPDATE_TABLE","data": {{"action":"delete","data" : {ROW} }} }}', "delete", ROW),
        (f'{{"data":{{"data":{ROW},"action":"add_item"}},"type":"UPDATE_MENU"}}', "add_item", ROW),
        (f'{{"type":"UPDATE_MENU","d\\u0061ta":{{"data":{ROW},"action":null}}}}', "update_item", ROW),
        (f'{{"type":"UPDATE_TABLE","data":{{"data":{ROW}}}}}', "update", ROW),
        (f'{{"type":"UPDATE_TABLE","data":{ROW}}}', "update", ROW),
        (f'{{"type":"UPDATE_MENU","data":{ROW}}}', "update_item", ROW),
        (f'{{"type":"UPDATE_ORDER","data":{ROW}}}', "add", ROW),
        (f'{{"type":"UPDATE_SETTINGS","data":{ROW}}}', "update", ROW),
        (f'{{"type":"UPDATE_SETTINGS","data":{{"action":"update","data":{ROW}}}}}', "update", ROW),
        ('{"type":"UPDATE_SETTINGS","data":{"data":{},"action":"x"}}', "update", '{"data":{},"action":"x"}'),
        ('{"type":"UPDATE_SETTINGS"}', "update", "{}"),
        ('{"type":"UPDATE_TABLE","data":{"action":"add", "id":"1"}}', "add", '{"action":"add", "id":"1"}'),
        ('{"type":"UPDATE_TABLE","data":{"id":"1", "data":{}}}', "update", '{"id":"1", "data":{}}'),
        (
            '{"type":"UPDATE_MENU","data":{"action":"add_category","data":"\\u0041"}}',
            "add_category",
            '{"name":"\\u0041"}',
        ),
        ('{"type":"UPDATE_MENU","data":{"action":"delete_category","name":"A"}}', "delete_category", None),
        ('{"type":"UPDATE_ORDER","data":{"action":"clear"}}', "clear", "{}"),
        ('{"type":"UPDATE_ORDER","data":{"action":"clear","data":null}}', "clear", "{}"),
    ],
)
def test_a_row_is_found_wherever_it_stands_and_kept_as_it_arrived(text: str, action: str, body: str | None) -> None:
    parsed = update(text)
    assert parsed.action == action
    assert parsed.body == (parsed.data_text if body is None else body)
    assert parsed.row == json.loads(parsed.body)


def test_every_action_of_the_protocol_is_known() -> None:
    assert set(bodies.TABLE) == {"add", "update", "delete", "add_items", "update_item", "void_item"}
    assert set(bodies.MENU) == {"add_item", "update_item", "delete_item", "add_category", "delete_category"}
    assert set(bodies.ORDER) == {"add", "clear", "update", "void"}


def test_a_profile_can_add_types_of_its_own() -> None:
    spec = bodies.Spec({"id": bodies.text(1)}, required=("id",))
    kinds = {**protocol.KINDS, "UPDATE_USERS": protocol.updates({"add": spec}, default="add")}
    text = message("UPDATE_USERS", {"id": "1"})
    assert isinstance(protocol.parse(text, kinds), Update)
    assert refused(text).code == "UNKNOWN_TYPE"


@given(
    st.dictionaries(
        st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"])),
        st.recursive(st.none() | st.booleans() | st.integers(-(10**300), 10**300), st.lists),
    ),
    st.sampled_from([None, 0, 3]),
    st.booleans(),
)
def test_any_row_goes_through_digit_for_digit(extra: dict[str, object], indent: int | None, ascii_only: bool) -> None:
    row = json.dumps({"x": extra, "id": "1"}, indent=indent, ensure_ascii=ascii_only)
    parsed = update(f'{{"type":"UPDATE_TABLE", "data":\t{{"action":"update","data":{row} }}}}')
    assert (parsed.body, parsed.row) == (row, {"x": extra, "id": "1"})


WORDS = st.sampled_from([*protocol.KINDS, *bodies.TABLE, *bodies.MENU, *bodies.ORDER, "1", ""])
VALUES = st.recursive(
    st.none() | st.booleans() | st.floats() | st.integers() | st.text() | WORDS,
    lambda inner: (
        st.lists(inner) | st.dictionaries(st.text() | st.sampled_from(["id", "action", "data", "items", "name"]), inner)
    ),
    max_leaves=10,
)
ENVELOPES = st.fixed_dictionaries(
    {"type": WORDS | VALUES}, optional={"data": VALUES, "id": VALUES, "clientId": VALUES, "ifVersion": VALUES}
)


@given(st.text() | ENVELOPES.map(json.dumps) | VALUES.map(json.dumps))
@example('{"type":"HEARTBEAT","x":"\ud800"}')
@example('{"type":"\\ud800"}')
def test_no_text_raises_anything_but_a_refusal(text: str) -> None:
    try:
        protocol.parse(text)
    except Refusal as refusal:
        protocol.error(refusal, now_ms=NOW).encode()


def test_a_refused_type_is_not_sent_back_whole() -> None:
    assert "x" * 65 not in refused(message("x" * 1000)).message


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (
            protocol.welcome(
                epoch="e", revision=7, restaurant="r", heartbeat_seconds=20, max_message_bytes=1048576, now_ms=NOW
            ),
            '{"type":"WELCOME","data":{"epoch":"e","revision":7,"restaurant":"r","heartbeatSeconds":20,'
            '"maxMessageBytes":1048576},"timestamp":1767323045000,"clientId":"server"}',
        ),
        (
            protocol.welcome(
                epoch="e",
                revision=7,
                restaurant="r",
                role="display",
                heartbeat_seconds=20,
                max_message_bytes=99,
                now_ms=NOW,
            ),
            '{"type":"WELCOME","data":{"epoch":"e","revision":7,"restaurant":"r","role":"display",'
            '"heartbeatSeconds":20,"maxMessageBytes":99},"timestamp":1767323045000,"clientId":"server"}',
        ),
        (
            protocol.ack("m1", 7, 2, now_ms=NOW),
            '{"type":"ACK","data":{"revision":7,"version":2},"timestamp":1767323045000,"clientId":"server","ref":"m1"}',
        ),
        (
            protocol.ack(None, 7, extra={"orderId": "POS-01022026-001"}, now_ms=NOW),
            '{"type":"ACK","data":{"revision":7,"orderId":"POS-01022026-001"},'
            '"timestamp":1767323045000,"clientId":"server"}',
        ),
        (
            protocol.error(Refusal("BUSY", "later"), "m1", now_ms=NOW),
            '{"type":"ERROR","data":{"code":"BUSY","message":"later","retryable":true},'
            '"timestamp":1767323045000,"clientId":"server","ref":"m1"}',
        ),
        (
            protocol.error(
                Refusal("CONFLICT", 'no "4"', field="number", details={"current": '{"n":1.10}'}), now_ms=NOW
            ),
            '{"type":"ERROR","data":{"code":"CONFLICT","message":"no \\"4\\"","field":"number","retryable":false,'
            '"current":{"n":1.10}},"timestamp":1767323045000,"clientId":"server"}',
        ),
        (
            protocol.heartbeat(0, 9, now_ms=NOW),
            '{"type":"HEARTBEAT","data":{"response":true,"revision":0,"head":9},'
            '"timestamp":1767323045000,"clientId":"server"}',
        ),
        (
            protocol.sync_changes("e", 3, 9, ref="m1", now_ms=NOW),
            '{"type":"SYNC_RESPONSE","data":{"mode":"changes","epoch":"e","from":3,"revision":9},'
            '"timestamp":1767323045000,"clientId":"server","ref":"m1"}',
        ),
        (
            protocol.change("UPDATE_TABLE", "update", '{"n":1.10}', client_id='t"1', timestamp=NOW, revision=9),
            '{"type":"UPDATE_TABLE","data":{"action":"update","data":{"n":1.10}},'
            '"timestamp":1767323045000,"clientId":"t\\"1","revision":9}',
        ),
        (
            protocol.change("UPDATE_SETTINGS", "update", '{"n":1.10}', client_id="database", timestamp=NOW, revision=9),
            '{"type":"UPDATE_SETTINGS","data":{"n":1.10},"timestamp":1767323045000,"clientId":"database","revision":9}',
        ),
        (
            protocol.message("MESSAGE", '{"bell": true}', NOW, "a"),
            '{"type":"MESSAGE","data":{"bell": true},"timestamp":1767323045000,"clientId":"a"}',
        ),
    ],
)
def test_the_relays_messages_are_spelt_as_the_protocol_says(text: str, expected: str) -> None:
    assert text == expected
    assert isinstance(json.loads(text)["data"], dict)


def test_an_error_takes_the_ref_the_refusal_carries() -> None:
    refusal = refused(message("NO_SUCH", id="m1"))
    assert json.loads(protocol.error(refusal, now_ms=NOW))["ref"] == "m1"


def test_a_snapshot_is_spliced_from_its_parts() -> None:
    members = protocol.state(
        tables='[{"n":1.10}]', menu_items="[]", categories='["မ"]', settings="{ }", order_history="[]"
    )
    head, tail = protocol.snapshot_parts("first-sync", "e", 9, now_ms=NOW)
    assert f"{head}{members}{tail}" == (
        '{"type":"SYNC_RESPONSE","data":{"tables":[{"n":1.10}],"menuItems":[],"categories":["မ"],"settings":{ },'
        '"orderHistory":[],"mode":"snapshot","reason":"first-sync","epoch":"e","revision":9},'
        '"timestamp":1767323045000,"clientId":"server"}'
    )
