"""bodies: which values a field takes, and how a refusal names the one it does not take."""

from __future__ import annotations

from collections.abc import Mapping

import pytest

from relay import bodies
from relay.bodies import MENU, ORDER, SETTINGS, TABLE, Spec
from relay.errors import Refusal

LONG_ID = "x" * 128
FULL: list[tuple[Spec, dict[str, object]]] = [
    (
        TABLE["add"],
        {
            "id": LONG_ID,
            "number": 4,
            "seats": 1000,
            "status": "occupied",
            "orderId": "POS-01022026-001",
            "reservationTime": "19:30",
            "customer": {"name": "မမ"},
            "orderItems": [{"id": "1", "price": "free"}],
            "orderTotal": -2.5,
        },
    ),
    (MENU["add_item"], {"id": "1", "name": "x", "price": 0, "category": "", "description": "", "image": "data:,"}),
    (
        ORDER["add"],
        {
            "id": "1",
            "tableNumber": 2**31 - 1,
            "customerName": "",
            "orderDate": "",
            "status": "completed",
            "total": -1,
            "items": [{}],
            "createdAt": "2026-01-02T03:04:05Z",
        },
    ),
    (
        SETTINGS,
        {
            "restaurantName": "",
            "description": "",
            "logo": "",
            "currency": "MMK",
            "taxRate": 5,
            "serviceCharge": 0.5,
            "serviceChargeEnabled": False,
            "theme": "light",
            "language": "en",
            "sessionTimeout": 60,
        },
    ),
]


def field_of_refusal(spec: Spec, body: Mapping[str, object]) -> str:
    with pytest.raises(Refusal) as caught:
        bodies.check(spec, body)
    assert caught.value.code == "VALIDATION"
    assert caught.value.field is not None
    assert caught.value.field in caught.value.message
    return caught.value.field


@pytest.mark.parametrize(("spec", "body"), FULL)
def test_a_full_row_is_accepted(spec: Spec, body: dict[str, object]) -> None:
    bodies.check(spec, body)


@pytest.mark.parametrize(("spec", "body", "name"), [(spec, body, name) for spec, body in FULL for name in spec.fields])
def test_every_known_field_refuses_a_wrong_type(spec: Spec, body: dict[str, object], name: str) -> None:
    wrong: list[object] = [{}, {"a": 1}, [1], 1 if body[name] is False else True]
    for value in wrong:
        assert field_of_refusal(spec, body | {name: value}).split(".")[0] == name


@pytest.mark.parametrize(
    ("spec", "nullable"),
    [
        (TABLE["update"], {"orderId", "reservationTime", "orderItems", "orderTotal"}),
        (MENU["update_item"], {"image"}),
        (ORDER["update"], {"tableNumber", "customerName", "orderDate", "createdAt"}),
        (SETTINGS, {"logo"}),
    ],
)
def test_null_is_taken_only_where_a_field_may_be_empty(spec: Spec, nullable: set[str]) -> None:
    for name in spec.fields:
        if name in nullable:
            bodies.check(Spec(spec.fields), {name: None})
        else:
            assert field_of_refusal(Spec(spec.fields), {name: None}) == name


@pytest.mark.parametrize(
    ("spec", "body"),
    [
        (TABLE["update"], {"id": "1"}),
        (TABLE["update"], {"id": "1", "customer": None}),
        (TABLE["update"], {"id": "1", "number": 4.0, "seats": 1e2}),
        (TABLE["update"], {"id": "1", "orderItems": '[{"id":"a","price":1.10}]'}),
        (TABLE["update"], {"id": "1", "version": "x", "revision": [], "action": 5, "colour": {"any": ["thing"]}}),
        (TABLE["delete"], {"id": "1", "number": "four"}),
        (
            TABLE["add_items"],
            {"id": "1", "orderId": "o", "items": [{"id": "a", "price": 0, "quantity": 2, "note": []}]},
        ),
        (TABLE["void_item"], {"id": "1", "orderId": None, "items": [{"id": "a"}]}),
        (MENU["delete_item"], {"id": "1"}),
        (MENU["add_category"], {"name": "x" * 200}),
        (ORDER["clear"], {}),
        (ORDER["void"], {"id": "1", "status": 5}),
        (ORDER["add"], {"id": "1", "items": "[]", "createdAt": 1767323045000}),
        (SETTINGS, {}),
        (SETTINGS, {"id": 1, "printer": {"port": 9100}}),
    ],
)
def test_what_the_protocol_allows_is_accepted(spec: Spec, body: dict[str, object]) -> None:
    bodies.check(spec, body)


@pytest.mark.parametrize(
    ("spec", "body", "field"),
    [
        (TABLE["add"], {}, "id"),
        (TABLE["add"], {"id": ""}, "id"),
        (TABLE["add"], {"id": LONG_ID + "x"}, "id"),
        (TABLE["add"], {"id": 1}, "id"),
        (TABLE["add"], {"id": None}, "id"),
        (TABLE["delete"], {"number": 4}, "id"),
        (TABLE["add"], {"id": "1", "number": 2**31}, "number"),
        (TABLE["add"], {"id": "1", "number": -1}, "number"),
        (TABLE["add"], {"id": "1", "number": 4.5}, "number"),
        (TABLE["add"], {"id": "1", "number": "4"}, "number"),
        (TABLE["add"], {"id": "1", "number": True}, "number"),
        (TABLE["add"], {"id": "1", "seats": 1001}, "seats"),
        (TABLE["add"], {"id": "1", "status": "free"}, "status"),
        (TABLE["add"], {"id": "1", "orderItems": [{}, 5]}, "orderItems.1"),
        (TABLE["add"], {"id": "1", "orderItems": '{"id":"a"}'}, "orderItems"),
        (TABLE["add"], {"id": "1", "orderItems": "two beers"}, "orderItems"),
        (TABLE["add"], {"id": "1", "orderItems": '[{"price":NaN}]'}, "orderItems.0.price"),
        (TABLE["add_items"], {"id": "1"}, "items"),
        (TABLE["add_items"], {"id": "1", "items": []}, "items"),
        (TABLE["add_items"], {"id": "1", "items": "[]"}, "items"),
        (TABLE["add_items"], {"id": "1", "items": None}, "items"),
        (TABLE["add_items"], {"id": "1", "items": [{"id": "a"}, {"name": "x"}]}, "items.1.id"),
        (TABLE["update_item"], {"id": "1", "items": [{"id": 7}]}, "items.0.id"),
        (TABLE["update_item"], {"id": "1", "items": [{"id": "a", "price": -1}]}, "items.0.price"),
        (TABLE["update_item"], {"id": "1", "items": [{"id": "a", "quantity": "2"}]}, "items.0.quantity"),
        (TABLE["void_item"], {"id": "1", "orderId": 5, "items": [{"id": "a"}]}, "orderId"),
        (MENU["add_item"], {"id": "1", "name": ""}, "name"),
        (MENU["add_item"], {"id": "1", "name": "x" * 1001}, "name"),
        (MENU["add_item"], {"id": "1", "price": -0.01}, "price"),
        (MENU["add_item"], {"id": "1", "price": "2500"}, "price"),
        (MENU["add_category"], {}, "name"),
        (MENU["delete_category"], {"name": ""}, "name"),
        (MENU["add_category"], {"name": "x" * 201}, "name"),
        (ORDER["add"], {"id": "1", "status": ""}, "status"),
        (ORDER["add"], {"id": "1", "items": [1]}, "items.0"),
        (ORDER["add"], {"id": "1", "items": "[1]"}, "items.0"),
        (ORDER["add"], {"id": "1", "items": '[{"a":1,"a":2}]'}, "items.0.a"),
        (ORDER["void"], {}, "id"),
        (SETTINGS, {"serviceChargeEnabled": 0}, "serviceChargeEnabled"),
        (SETTINGS, {"taxRate": False}, "taxRate"),
    ],
)
def test_a_refusal_names_the_field_inside_the_body(spec: Spec, body: dict[str, object], field: str) -> None:
    assert field_of_refusal(spec, body) == field


def test_a_refusal_says_what_the_field_must_be() -> None:
    with pytest.raises(Refusal, match=r"^price must be a number of at least 0$"):
        bodies.check(MENU["update_item"], {"id": "1", "price": "free"})
    with pytest.raises(Refusal, match=r"^data\.orderId must be text of 0 to 128 characters or null$"):
        bodies.check(TABLE["update"], {"id": "1", "orderId": 1}, "data.")
