"""The messages: what a terminal's text says, and the texts the relay answers with (PROTOCOL.md).

The row of an UPDATE_* goes on as the very text that arrived, and rows from the database leave as the text they came as:
nothing on the way reads a number and writes it again.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from typing import NamedTuple, cast

import msgspec

from . import bodies, strictjson
from .bodies import Spec
from .errors import Refusal

MAX_RELAYED_BYTES = 4096

_CLIENT_ID = bodies.text(1, 128, null=True)
_COUNTER = bodies.whole(0, bodies.MAX_BIGINT, null=True)
_ENVELOPE = Spec(
    {"type": bodies.text(), "clientId": _CLIENT_ID, "id": bodies.text(1, 64, null=True), "ifVersion": _COUNTER},
    required=("type",),
)
_REF = Spec({"id": bodies.text(1, 64)})
_HELLO = Spec(
    {
        "clientId": _CLIENT_ID,
        "name": bodies.text(0, 200, null=True),
        "token": bodies.text(null=True),
        "protocol": bodies.whole(0, bodies.MAX_INT, null=True),
    }
)
_SYNC_REQUEST = Spec({"epoch": bodies.text(null=True), "revision": _COUNTER})
_GOODBYE = Spec({"clientId": _CLIENT_ID})
_SWITCH = bodies.must_be("true or false", lambda value: isinstance(value, bool), null=True)
_HEARTBEAT = Spec(dict.fromkeys(("ping", "response", "checksum"), _SWITCH))
_RELAYED = Spec({"to": _CLIENT_ID})


# A Struct, as all that is made for each mutation or change: a frozen dataclass takes ten times as long to make.
class Message(msgspec.Struct, frozen=True):
    """What every message has. `data` is {} where it is missing, `data_text` its JSON text as it arrived."""

    type: str
    client_id: str | None
    id: str | None
    if_version: int | None
    data: dict[str, object]
    data_text: str
    traceparent: object  # as it came; whoever traces looks at it


class Hello(Message, frozen=True):
    """CLIENT_CONNECTED. Its `client_id` is the one in the data, or else the envelope's, and never None."""

    name: str | None
    token: str | None
    protocol: int | None


class SyncRequest(Message, frozen=True):
    """SYNC_REQUEST. The cursor's two parts are both there or both None."""

    epoch: str | None
    revision: int | None


class Relayed(Message, frozen=True):
    """MESSAGE: passed on to one terminal, or to all others where `to` is None."""

    to: str | None


class Update(Message, frozen=True):
    """UPDATE_*. `body` is the row's JSON text digit for digit, `row` what it says.

    Where the row stood directly in `data`, both still have the key `action` if that stood beside its fields.
    """

    action: str
    body: str
    row: dict[str, object]


class Actor(NamedTuple):
    """Who is at a session: the terminal's name, its role and its address, each empty where it is not known."""

    terminal: str = ""
    role: str = ""
    address: str = ""


NOBODY = Actor()


class Mutation(msgspec.Struct, frozen=True):
    """What a terminal asks for, as the database takes it: `body` is the row's JSON text.

    `role` is its terminal's; None where authentication is off, and everything is allowed.
    """

    restaurant_id: int
    client_id: str
    id: str | None
    type: str
    action: str | None
    body: str
    if_version: int | None
    role: str | None = None
    actor: Actor = NOBODY
    traceparent: object = None  # what the message says its trace is


class Envelope(NamedTuple):
    """What is known of a message before its type is looked at: the fields of Message, `data` still anything."""

    type: str
    client_id: str | None
    id: str | None
    if_version: int | None
    data: dict[str, object]
    data_text: str
    traceparent: object


Kind = Callable[[Envelope], Message]  # raises Refusal


class _Data(msgspec.Struct):
    data: msgspec.Raw = msgspec.Raw()


_DATA = msgspec.json.Decoder(_Data)


def parse(text: str, kinds: Mapping[str, Kind] | None = None) -> Message:
    """Return the message a frame's text holds, every field of it checked; `kinds` are the types known (KINDS).

    Raises Refusal (INVALID_MESSAGE, VALIDATION, UNKNOWN_TYPE, UNKNOWN_ACTION, TOO_LARGE) with the message's id in
    `ref` where that could be read. `field` is a path from the message's root (`data.action`), except for a field of a
    row, which is named by its path inside the row (`price`).
    """
    type_ = None
    try:
        envelope = _envelope(text)
        type_ = envelope.type
        kind = (KINDS if kinds is None else kinds).get(envelope.type)
        if kind is None:
            raise Refusal("UNKNOWN_TYPE", f"the message type {envelope.type[:64]!r} is not known", field="type")
        return kind(envelope)
    except Refusal as refusal:
        refusal.ref, refusal.type = ref_of(text), type_
        raise


def ref_of(text: str | bytes) -> str | None:
    """The id of a message that was refused, as far as a more tolerant reader can tell."""
    try:
        ref: str = json.loads(text, parse_int=float)["id"]
        bodies.check(_REF, {"id": ref})
        ref.encode()  # half a surrogate pair cannot go back
    except (ValueError, TypeError, LookupError, RecursionError, Refusal):
        return None
    return ref


def would_be_lost(text: str | bytes) -> bool:
    """Whether a message asks for a change and gives no id: its terminal would not send it again if it were refused."""
    try:
        message = json.loads(text)
        return str(message["type"]).startswith("UPDATE_") and message.get("id") is None
    except (ValueError, TypeError, LookupError, RecursionError, AttributeError):
        return False


def _envelope(text: str) -> Envelope:
    message = strictjson.parse(text)
    if not isinstance(message, dict):
        raise Refusal("INVALID_MESSAGE", "a message must be a JSON object")
    bodies.check(_ENVELOPE, message)
    data = message.get("data")
    if data is None:
        data, data_text = {}, "{}"
    else:
        data_text = _data_text(text)
    if not isinstance(data, dict):
        raise Refusal("VALIDATION", "data must be an object", field="data")
    return Envelope(
        message["type"], message.get("clientId"), message.get("id"), _int(message.get("ifVersion")), data, data_text,
        message.get("traceparent"),
    )  # fmt: skip


def _data_text(text: str) -> str:
    return bytes(_DATA.decode(text).data).decode()


def _int(value: object) -> int | None:
    """A checked number: 4.0 is 4."""
    return None if value is None else int(cast(float, value))


def plain(envelope: Envelope) -> Message:
    """A kind of message of which nothing but the envelope is looked at."""
    return Message(*envelope)


def _goodbye(envelope: Envelope) -> Message:
    bodies.check(_GOODBYE, envelope.data, "data.")
    return Message(*envelope)


def _heartbeat(envelope: Envelope) -> Message:
    # Two sides that do not agree on what `response` says would answer each other for ever.
    bodies.check(_HEARTBEAT, envelope.data, "data.")
    return Message(*envelope)


def _hello(envelope: Envelope) -> Hello:
    data = envelope.data
    bodies.check(_HELLO, data, "data.")
    client_id = data.get("clientId") or envelope.client_id
    if client_id is None:
        raise Refusal("VALIDATION", "data.clientId is required", field="data.clientId")
    return Hello(
        *envelope._replace(client_id=cast(str, client_id)),
        name=cast("str | None", data.get("name")),
        token=cast("str | None", data.get("token")),
        protocol=_int(data.get("protocol")),
    )


def _sync_request(envelope: Envelope) -> SyncRequest:
    bodies.check(_SYNC_REQUEST, envelope.data, "data.")
    epoch = cast("str | None", envelope.data.get("epoch"))
    revision = _int(envelope.data.get("revision"))
    if epoch is None or revision is None:  # half a cursor points nowhere; a snapshot is right for whoever sent it
        epoch = revision = None
    return SyncRequest(*envelope, epoch=epoch, revision=revision)


def _relayed(envelope: Envelope) -> Relayed:
    if len(envelope.data_text.encode()) > MAX_RELAYED_BYTES:
        raise Refusal("TOO_LARGE", f"data may have {MAX_RELAYED_BYTES} bytes, not more", field="data")
    bodies.check(_RELAYED, envelope.data, "data.")
    return Relayed(*envelope, to=cast("str | None", envelope.data.get("to")))


def updates(actions: Mapping[str, Spec], *, default: str) -> Kind:
    """A kind of message whose data is `{action, data: row}`, or the row itself with or without `action` beside it.

    `actions` says what each one's row may hold; without `action` it is `default`.
    """

    def kind(envelope: Envelope) -> Update:
        data = envelope.data
        action = data.get("action")
        if action is None:
            action = default
        if not isinstance(action, str) or action not in actions:
            known = ", ".join(actions)
            raise Refusal("UNKNOWN_ACTION", f"{envelope.type} has the actions {known}", field="data.action")
        body, row = _row(envelope, action)
        bodies.check(actions[action], row)
        return Update(*envelope, action=action, body=body, row=row)

    return kind


def _row(envelope: Envelope, action: str) -> tuple[str, dict[str, object]]:
    if action == "clear":
        return "{}", {}
    data = envelope.data
    # A row may have a field of its own called `data`; then its `id` stands beside it and no `action` does.
    if "data" not in data or ("id" in data and "action" not in data):
        return envelope.data_text, data
    row, body = data["data"], _data_text(envelope.data_text)
    if isinstance(row, str) and action.endswith("_category"):
        return f'{{"name":{body}}}', {"name": row}
    if not isinstance(row, dict):
        raise Refusal("VALIDATION", "data.data must be an object", field="data.data")
    return body, row


def _settings(envelope: Envelope) -> Update:
    body, row = envelope.data_text, envelope.data
    nested = row.get("data")
    if row.keys() == {"action", "data"} and row["action"] == "update" and isinstance(nested, dict):
        body, row = _data_text(body), nested
    bodies.check(bodies.SETTINGS, row)
    return Update(*envelope, action="update", body=body, row=row)


KINDS: Mapping[str, Kind] = {
    "CLIENT_CONNECTED": _hello,
    "CLIENT_DISCONNECTED": _goodbye,
    "HEARTBEAT": _heartbeat,
    "SYNC_REQUEST": _sync_request,
    "UPDATE_TABLE": updates(bodies.TABLE, default="update"),
    "UPDATE_MENU": updates(bodies.MENU, default="update_item"),
    "UPDATE_ORDER": updates(bodies.ORDER, default="add"),
    "UPDATE_SETTINGS": _settings,
    "NEXT_ORDER_ID": plain,
    "MESSAGE": _relayed,
}


def _dumps(value: object) -> str:
    # A tenth of the standard library's time, and done several times for each mutation.
    return msgspec.json.encode(value).decode()


def message(type_: str, data_text: str, now_ms: int, client_id: str = "server", **more: object) -> str:
    """A message as its text; `data_text` is JSON, and of what stands in `more` the None are left out."""
    tail = {"timestamp": now_ms, "clientId": client_id} | {k: v for k, v in more.items() if v is not None}
    return f'{{"type":{_dumps(type_)},"data":{data_text},{_dumps(tail)[1:]}'


def welcome(
    *,
    epoch: str,
    revision: int,
    restaurant: str,
    role: str | None = None,
    heartbeat_seconds: float,
    max_message_bytes: int,
    now_ms: int,
) -> str:
    """WELCOME, the answer to a CLIENT_CONNECTED with `protocol: 1`; without a `role` it says nothing of one."""
    place = {"epoch": epoch, "revision": revision, "restaurant": restaurant} | ({"role": role} if role else {})
    limits = {"heartbeatSeconds": heartbeat_seconds, "maxMessageBytes": max_message_bytes}
    return message("WELCOME", _dumps(place | limits), now_ms)


def ack(
    ref: str | None,
    revision: int,
    version: int | None = None,
    extra: Mapping[str, object] | None = None,
    *,
    now_ms: int,
) -> str:
    """ACK to the message with the id `ref`; `extra` are further keys of its data (`orderId`)."""
    data = {"revision": revision} | ({} if version is None else {"version": version}) | dict(extra or {})
    return message("ACK", _dumps(data), now_ms, ref=ref)


def error(refusal: Refusal, ref: str | None = None, *, now_ms: int) -> str:
    """ERROR for a refusal, with its details spliced in; without `ref`, the one the refusal carries."""
    data: dict[str, object] = {"code": refusal.code, "message": refusal.message}
    if refusal.field is not None:
        data["field"] = refusal.field
    data["retryable"] = refusal.retryable
    details = "".join(f",{_dumps(key)}:{text}" for key, text in refusal.details.items())
    return message("ERROR", f"{_dumps(data)[:-1]}{details}}}", now_ms, ref=ref or refusal.ref)


def heartbeat(revision: int, head: int, *, now_ms: int, **check: int) -> str:
    """The answer to a HEARTBEAT: the last revision written to this terminal, and the restaurant's.

    `check` are the further keys of one that has a checksum (`checksum`, `orders`); its `revision` is the checksum's.
    """
    return message("HEARTBEAT", _dumps({"response": True, "revision": revision, "head": head, **check}), now_ms)


def sync_changes(epoch: str, from_: int, revision: int, *, ref: str | None = None, now_ms: int) -> str:
    """SYNC_RESPONSE that announces the changes after `from_` up to `revision`."""
    data = {"mode": "changes", "epoch": epoch, "from": from_, "revision": revision}
    return message("SYNC_RESPONSE", _dumps(data), now_ms, ref=ref)


def state(*, tables: str, menu_items: str, categories: str, settings: str, order_history: str) -> str:
    """The members of a snapshot's data, from their JSON texts; without braces, since its reason and cursor follow."""
    return (
        f'"tables":{tables},"menuItems":{menu_items},"categories":{categories},'
        f'"settings":{settings},"orderHistory":{order_history}'
    )


def snapshot_parts(reason: str, epoch: str, revision: int, *, ref: str | None = None, now_ms: int) -> tuple[str, str]:
    """What stands before and after the `state` in a SYNC_RESPONSE: all that differs from terminal to terminal."""
    data = {"mode": "snapshot", "reason": reason, "epoch": epoch, "revision": revision}
    frame = message("SYNC_RESPONSE", _dumps(data), now_ms, ref=ref)
    cut = frame.index('"mode"')
    return frame[:cut], f",{frame[cut:]}"


def change(type_: str, action: str, data_text: str, *, client_id: str, timestamp: int, revision: int) -> str:
    """An UPDATE_* as all terminals receive it; `data_text` is the row's JSON text, or all settings."""
    if type_ != "UPDATE_SETTINGS":
        data_text = f'{{"action":{_dumps(action)},"data":{data_text}}}'
    return message(type_, data_text, timestamp, client_id, revision=revision)
