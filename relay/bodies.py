"""What the fields of a body may hold.

Only what was sent is looked at. Which fields make a row depends on whether the row is there already, and only the
database knows that; so presence is checked there, apart from what nothing can be found without (`id`, `name`).

A refusal's `field` is the path inside the body as the sender wrote it: `price`, `items.2.id`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TypeGuard

from . import strictjson
from .errors import Refusal

MAX_INT = 2**31 - 1  # PostgreSQL's integer
MAX_BIGINT = 2**63 - 1

Check = Callable[[str, object], None]  # takes the path and the value, raises Refusal


@dataclass(frozen=True, slots=True)
class Spec:
    """The fields that are known, and those that must be there. Other fields are free."""

    fields: Mapping[str, Check] = field(default_factory=dict)
    required: tuple[str, ...] = ()


def check(spec: Spec, body: Mapping[str, object], path: str = "") -> None:
    """Raise Refusal (VALIDATION, with the field's path after `path`) for the first field that is not as `spec` says."""
    for name in spec.required:
        if name not in body:
            raise Refusal("VALIDATION", f"{path}{name} is required", field=path + name)
    for name, complain in spec.fields.items():
        if name in body:
            complain(path + name, body[name])


def must_be(wanted: str, holds: Callable[[object], bool], *, null: bool = False) -> Check:
    """A check that ends in `price must be <wanted>` where `holds` says no."""
    sentence = f"{wanted} or null" if null else wanted

    def complain(path: str, value: object) -> None:
        if not (holds(value) or (null and value is None)):
            raise Refusal("VALIDATION", f"{path} must be {sentence}", field=path)

    return complain


def text(least: int = 0, most: int | None = None, *, null: bool = False) -> Check:
    """Text of `least` to `most` characters."""
    return must_be(
        "text" if most is None else f"text of {least} to {most} characters",
        lambda value: isinstance(value, str) and least <= len(value) and (most is None or len(value) <= most),
        null=null,
    )


def number(least: float | None = None, *, null: bool = False) -> Check:
    """A number, of at least `least`. true and false are none."""
    return must_be(
        "a number" if least is None else f"a number of at least {least:g}",
        lambda value: _is_number(value) and (least is None or value >= least),
        null=null,
    )


def whole(least: int, most: int, *, null: bool = False) -> Check:
    """A whole number from `least` to `most`, however it is written: 4, 4.0 and 0.4e1 are the same."""
    return must_be(
        f"a whole number from {least} to {most}",
        lambda value: _is_number(value) and least <= value <= most and value == int(value),
        null=null,
    )


def lines(spec: Spec, least: int = 0, *, as_text: bool = False, null: bool = False) -> Check:
    """An array of objects that `spec` describes; with `as_text` it may also arrive as the JSON text of one."""
    is_array = must_be(
        "an array of objects" if least == 0 else f"an array of at least {least} object",
        lambda value: isinstance(value, list) and len(value) >= least,
        null=null,
    )
    is_object = must_be("an object", lambda value: isinstance(value, dict))

    def complain(path: str, value: object) -> None:
        if as_text and isinstance(value, str):
            value = _parsed(path, value)
        is_array(path, value)
        for index, line in enumerate(value if isinstance(value, list) else ()):
            is_object(f"{path}.{index}", line)
            check(spec, line, f"{path}.{index}.")

    return complain


def _is_number(value: object) -> TypeGuard[float]:
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def _parsed(path: str, json_text: str) -> object:
    try:
        return strictjson.parse(json_text)
    except Refusal as fault:
        place = f"{path}.{fault.field}" if fault.field else path
        raise Refusal("VALIDATION", f"{place}: {fault.message}", field=place) from None


_STATUSES = ("available", "occupied", "reserved")
_ID = text(1, 128)
_BY_ID = Spec({"id": _ID}, required=("id",))
_ANY_LINES = Spec()
_LINE = Spec({"id": _ID, "price": number(0), "quantity": number(0)}, required=("id",))
_LINES = Spec({"id": _ID, "orderId": text(0, 128, null=True), "items": lines(_LINE, least=1)}, required=("id", "items"))
_TABLE = Spec(
    {
        "id": _ID,
        "number": whole(0, MAX_INT),
        "seats": whole(0, 1000),
        "status": must_be("one of " + ", ".join(_STATUSES), lambda value: value in _STATUSES),
        "orderId": text(0, 128, null=True),
        "reservationTime": text(null=True),
        "orderItems": lines(_ANY_LINES, as_text=True, null=True),
        "orderTotal": number(null=True),
    },
    required=("id",),
)
_MENU_ITEM = Spec(
    {
        "id": _ID,
        "name": text(1, 1000),
        "price": number(0),
        "category": text(),
        "description": text(),
        "image": text(null=True),
    },
    required=("id",),
)
_CATEGORY = Spec({"name": text(1, 200)}, required=("name",))
_ORDER = Spec(
    {
        "id": _ID,
        "tableNumber": whole(0, MAX_INT, null=True),
        "customerName": text(null=True),
        "orderDate": text(null=True),
        "status": text(1, 64),
        "total": number(),
        "items": lines(_ANY_LINES, as_text=True),
        "createdAt": must_be("text or a number", lambda value: isinstance(value, str) or _is_number(value), null=True),
    },
    required=("id",),
)

# By action: what may be in the body of each.
TABLE: Mapping[str, Spec] = {
    "add": _TABLE,
    "update": _TABLE,
    "delete": _BY_ID,
    "add_items": _LINES,
    "update_item": _LINES,
    "void_item": _LINES,
}
MENU: Mapping[str, Spec] = {
    "add_item": _MENU_ITEM,
    "update_item": _MENU_ITEM,
    "delete_item": _BY_ID,
    "add_category": _CATEGORY,
    "delete_category": _CATEGORY,
}
ORDER: Mapping[str, Spec] = {"add": _ORDER, "clear": Spec(), "update": _ORDER, "void": _BY_ID}
SETTINGS = Spec(
    {
        "restaurantName": text(),
        "description": text(),
        "currency": text(),
        "theme": text(),
        "language": text(),
        "logo": text(null=True),
        "taxRate": number(),
        "serviceCharge": number(),
        "serviceChargeEnabled": must_be("true or false", lambda value: isinstance(value, bool)),
        "sessionTimeout": number(),
    }
)
