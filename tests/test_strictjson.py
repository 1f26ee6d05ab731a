"""strictjson: what is read, what is refused, and which path a refusal names."""

from __future__ import annotations

import json

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from relay import strictjson
from relay.errors import Refusal

TEXT = st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]))
NUMBERS = st.integers(-(10**300), 10**300) | st.floats(-1e40, 1e40).filter(lambda n: n == 0 or abs(n) > 1e-40)
SCALARS = st.none() | st.booleans() | NUMBERS | TEXT
VALUES = st.recursive(SCALARS, lambda inner: st.lists(inner) | st.dictionaries(TEXT, inner), max_leaves=30)
# Fragments that are each a step away from JSON, so that arbitrary joins reach the second reading.
FRAGMENTS = st.sampled_from(
    ['{"a":', '{"a":1,"a":', "[", "]", "}", ",", ":", '"', '"b"', "\\", "NaN", "-Infinity", "1e999", "1e9x", "01", "-",
     "9" * 401, '"\\ud800"', "\\u0000", '"\\u0000":', "\ud800", "\0", " ", "\n", "true", "null", "٣", "[" * 70]
)  # fmt: skip


def refusal(text: str) -> Refusal:
    with pytest.raises(Refusal) as caught:
        strictjson.parse(text)
    json.dumps([caught.value.message, caught.value.field], ensure_ascii=False).encode()  # can be sent
    return caught.value


def nested(depth: int) -> str:
    return "[" * depth + "]" * depth


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ('{"a": [1, -2.5, true, null, "မုန့်"]}', {"a": [1, -2.5, True, None, "မုန့်"]}),
        (r'"\ud83d\ude00"', "\N{GRINNING FACE}"),
        (r'"\\u0000 \\ud800"', r"\u0000 \ud800"),
        ('{"a":1,"b":{"a":1},"c":[{"a":1},{"a":1}]}', {"a": 1, "b": {"a": 1}, "c": [{"a": 1}, {"a": 1}]}),
        ('["[[", "NaN", "\\"{", "1e999"]', ["[[", "NaN", '"{', "1e999"]),
        ("1e40", 1e40),
        ("9" * 308, int("9" * 308)),
        (' "" ', ""),
        (nested(64), json.loads(nested(64))),
        (f"[{','.join(['[]'] * 1000)}]", [[]] * 1000),
    ],
)
def test_what_jsonb_can_hold_is_read(text: str, value: object) -> None:
    assert strictjson.parse(text) == value


@pytest.mark.parametrize(
    "text",
    ["", " ", "{", "nul", "{'a':1}", '{"a":1,}', "[1 2]", "01", "+1", ".5", "1.", '"\n"', r'"\x"', r'"\u12"',
     "\ufeff{}", "1 1", "NaN", "-Infinity", "1e999", r'"\ud800"', "1e9x", "\ud800", '"\ud800"', "9" * 5000],
)  # fmt: skip
def test_a_fault_of_the_whole_text_is_an_invalid_message(text: str) -> None:
    fault = refusal(text)
    assert (fault.code, fault.field) == ("INVALID_MESSAGE", None)


@pytest.mark.parametrize(
    ("text", "field", "sentence"),
    [
        ('{"data":{"price":1,"price":2}}', "data.price", "the key 'price' appears twice"),
        ('{"data":{"a":{},"b":[],"\\u0061":{}}}', "data.a", "the key 'a' appears twice"),
        ('{"data":{"price":NaN}}', "data.price", "NaN is not a JSON number"),
        ('{"data":[0,{"x":1},-Infinity]}', "data.2", "-Infinity is not a JSON number"),
        ('{"data":{"items":[{},[],{"n":"a,b","price":1e999}]}}', "data.items.2.price", "±40"),
        ('{"a":1E-41}', "a", "±40"),
        ('{"a":1e%s}' % ("0" * 5000), "a", "400 characters"),
        ('{"a":%s}' % ("9" * 309), "a", "±40"),
        ('{"a":%s}' % ("9" * 5000), "a", "400 characters"),
        ('{"a":0.%s}' % ("1" * 5000), "a", "400 characters"),
        ('{"a":[true,null,false,"\\ud800"]}', "a.3", "surrogate"),
        ('{"a":"\\udc00\\ud800"}', "a", "surrogate"),
        ('{"a":{"\\ud83d":1}}', "a.?", "surrogate"),
        ('{"a":"\udfff"}', "a", "surrogate"),
        ('{"a":"x\\u0000y"}', "a", "\\u0000"),
        ('{"a":{"\\u0000":1}}', "a.\0", "\\u0000"),
        ('{"a":' + nested(64) + "}", "a" + ".0" * 63, "64 levels"),
        ('{"a":' + nested(10_000) + "}", "a" + ".0" * 63, "64 levels"),
        ('{"a":[],"b":' + nested(19_000) + "}", "b" + ".0" * 63, "64 levels"),
        ("[" * 19_000, ".".join("0" * 64), "64 levels"),
        ('{"k":' * 10_000 + "1" + "}" * 10_000, ".".join("k" * 64), "64 levels"),
    ],
)
def test_a_fault_at_a_field_names_its_path(text: str, field: str, sentence: str) -> None:
    fault = refusal(text)
    assert (fault.code, fault.field) == ("VALIDATION", field)
    assert sentence in fault.message


def test_more_values_than_anybody_needs_are_refused() -> None:
    most = strictjson.MAX_VALUES
    for item, tail in (("0", ""), ("{}", ""), ('""', ',"\\ud83d\\ude00"'), ('"a,b"', "")):
        text = f"[{','.join([item] * (most + 1))}{tail}]"
        assert refusal(text).code == "INVALID_MESSAGE"
    picture = json.dumps("<path d='" + "1,2 " * most + "[{'>")
    assert strictjson.parse(f"[{','.join(['0'] * (most - 1))},{picture}]")


def test_a_path_is_no_longer_than_the_sender_deserves() -> None:
    fault = refusal('{"%s":NaN}' % ("k" * 100_000))
    assert fault.field == "k" * strictjson.MAX_PATH_LENGTH


@given(VALUES, st.booleans())
def test_any_json_value_is_read_as_it_was_written(value: object, ascii_only: bool) -> None:
    assert strictjson.parse(json.dumps(value, ensure_ascii=ascii_only)) == value


@given(st.text() | st.lists(FRAGMENTS).map("".join))
@example('{"a":1e999x')
@example('{"a":NaNx}]')
@example('{"a":{"b":1,"b":2}}]]')
def test_no_text_raises_anything_but_a_refusal(text: str) -> None:
    try:
        strictjson.parse(text)
    except Refusal as fault:
        json.dumps([fault.message, fault.field], ensure_ascii=False).encode()
    else:
        assert not any(surrogate in text for surrogate in ("\ud800", "NaN", "Infinity"))
