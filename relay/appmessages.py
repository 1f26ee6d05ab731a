"""The web app's own messages: what it says beside the protocol, and the texts it is sent (PROTOCOL.md, section 6).

It finds lists only in `data.data` and users only in `data.users` of a SYNC_RESPONSE. A key that is absent is left
alone there, a list replaces what the browser holds, and orders are merged by id.
"""

from __future__ import annotations

from collections.abc import Mapping

import msgspec
from msgspec.structs import replace

from . import bodies, protocol
from .bodies import Spec
from .errors import Refusal
from .protocol import Envelope, Kind, Mutation, Relayed

MAX_RELAYED_BYTES = 64 * 1024

# Which of the lists (fields of appdata.Lists) a message changes.
LISTS = ("tables", "menu_items", "categories", "settings", "orders")
CHANGED: Mapping[str, tuple[str, ...]] = {
    "UPDATE_TABLE": ("tables",),
    "UPDATE_MENU": ("menu_items", "categories"),
    "UPDATE_ORDER": ("orders",),
    "UPDATE_SETTINGS": ("settings",),
    "UPDATE_USERS": ("users",),
}
NAMES: Mapping[str, str] = {"menu_items": "menuItems", "orders": "orderHistory"}  # where the app calls it otherwise
# The app applies these several times, each under a new id of its own: it gets the whole list instead.
ADDS = frozenset({("UPDATE_TABLE", "add"), ("UPDATE_MENU", "add_item")})
# Where an id that is taken means another row, or another order; and one that is unknown may be in every browser.
APART = ADDS | {
    ("UPDATE_TABLE", "update"),
    ("UPDATE_TABLE", "delete"),
    ("UPDATE_MENU", "delete_item"),
    ("UPDATE_MENU", "delete_category"),
}
# What the app may leave out of a new row, and how it is stored then.
LEFT_OUT: Mapping[tuple[str, str | None], Mapping[str, str]] = {
    ("UPDATE_MENU", "add_item"): {"description": '""'},
    ("UPDATE_ORDER", "add"): {"tableNumber": "null", "customerName": "null", "orderDate": "null"},
}
# The app has no settings but all of them.
SETTINGS = frozenset(
    {
        "restaurantName",
        "description",
        "currency",
        "taxRate",
        "serviceCharge",
        "serviceChargeEnabled",
        "theme",
        "language",
        "sessionTimeout",
    }
)
SESSION_MESSAGES = (
    "USER_LOGIN",
    "USER_LOGOUT",
    "SESSION_UPDATE",
    "SESSION_SYNC",
    "REFRESH_SESSIONS",
    "FORCE_LOGOUT",
    "TERMINATE_SESSION",
)

# What may be in a user.
USER = Spec(
    {
        "id": bodies.text(1, 128),
        "name": bodies.text(0, 1000, null=True),
        "username": bodies.text(1, 1000),
        "email": bodies.text(0, 1000, null=True),
        "roleId": bodies.text(0, 1000, null=True),
        "password": bodies.text(0, 1000, null=True),
    },
    required=("id",),
)
_BY_ID = Spec({"id": bodies.text(1, 128)}, required=("id",))


def _session_message(envelope: Envelope) -> Relayed:
    if len(envelope.data_text.encode()) > MAX_RELAYED_BYTES:
        raise Refusal("TOO_LARGE", f"data may have {MAX_RELAYED_BYTES} bytes, not more", field="data")
    return Relayed(*envelope, to=None)


KINDS: Mapping[str, Kind] = {
    **protocol.KINDS,
    **dict.fromkeys(SESSION_MESSAGES, _session_message),
    "UPDATE_USERS": protocol.updates({"add": USER, "update": USER, "delete": _BY_ID}, default="update"),
    "USER_SYNC": protocol.plain,
}


def list_of(type_: str, action: str) -> str | None:
    """The list that a change belongs to."""
    if type_ == "UPDATE_MENU":
        return "categories" if "_category" in action else "menu_items"
    return CHANGED[type_][0] if type_ in CHANGED else None


def taken_from(mutation: Mutation, row: Mapping[str, object]) -> Mutation:
    """A mutation as one of the app; `row` is what its body says.

    The app's terminals choose ids without knowing of each other, and it leaves out what was not filled in: a sale
    without a guest's name is a sale.
    """
    what = (mutation.type, mutation.action)
    missing = "".join(f',"{name}":{text}' for name, text in LEFT_OUT.get(what, {}).items() if name not in row)
    body = mutation.body.rstrip().removesuffix("}") + missing + "}" if missing else mutation.body
    return replace(mutation, body=body, action=f"{mutation.action}_apart" if what in APART else mutation.action)


def as_update(text: bytes) -> bytes:
    """The text of an UPDATE_TABLE add or UPDATE_MENU add_item as an update of the row."""
    return text.replace(b'"action":"add', b'"action":"update', 1)


def has_all_settings(settings: str | bytes) -> bool:
    """Whether these are settings, as JSON, that the app may be sent: they replace all of its own."""
    return _fields(settings).keys() >= SETTINGS


def changes_all_settings(message: bytes) -> bool:
    """The same of the text of an UPDATE_SETTINGS."""
    return has_all_settings(bytes(_fields(message).get("data", b"{}")))


def _fields(text: str | bytes) -> dict[str, msgspec.Raw]:
    """An object's fields, as they are written; none of what cannot be read even so, such as 3,000 levels.

    People may write a value that Python does not take: a number of 5,000 digits.
    """
    try:
        return msgspec.json.decode(text, type=dict[str, msgspec.Raw])
    except (msgspec.DecodeError, RecursionError):
        return {}


def members(lists: Mapping[str, str]) -> str:
    """The members of `data.data`, from the JSON texts of lists by kind."""
    return ",".join(f'"{NAMES.get(kind, kind)}":{text}' for kind, text in lists.items())


def sync_response_parts(users: str | None, revision: int | None, *, ref: str | None, now_ms: int) -> tuple[str, str]:
    """What stands before and after the members of `data.data` in a SYNC_RESPONSE; `users` is a JSON text."""
    more = ("" if users is None else f',"users":{users}') + ("" if revision is None else f',"revision":{revision}')
    frame = protocol.message("SYNC_RESPONSE", f'{{"data":{{}}{more}}}', now_ms, ref=ref)
    cut = frame.index("{}") + 1
    return frame[:cut], frame[cut:]


def user_sync(users: str, *, now_ms: int) -> str:
    """The answer to a USER_SYNC that asks for the users."""
    return protocol.message("USER_SYNC", f'{{"action":"users_response","users":{users}}}', now_ms)


def update_users(action: str, user: str, client_id: str, *, now_ms: int) -> str:
    """A changed user, for the other sessions."""
    return protocol.message("UPDATE_USERS", f'{{"action":"{action}","data":{user}}}', now_ms, client_id)


def clear(revision: int, *, now_ms: int) -> str:
    """An UPDATE_ORDER clear: a merge removes nothing, so this comes before the orders that are left."""
    return protocol.message("UPDATE_ORDER", '{"action":"clear","data":{}}', now_ms, revision=revision)


def pong(*, now_ms: int) -> str:
    """The answer to a HEARTBEAT. The app answers every HEARTBEAT that it is sent, without end."""
    return protocol.message("PONG", '{"response":true}', now_ms)
