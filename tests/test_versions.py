"""Which versions of PostgreSQL are warned of."""

from __future__ import annotations

import pytest

from relay.versions import complaint


@pytest.mark.parametrize(
    ("number", "upgrade"),
    [(150015, "15.16"), (150000, "15.16"), (160011, "16.12"), (170007, "17.8"), (180001, "18.2"), (180000, "18.2")],
)
def test_a_version_with_the_fault_is_told_where_to_go(number: int, upgrade: str) -> None:
    said = complaint(number)
    assert said is not None
    assert f"PostgreSQL {number // 10_000}.{number % 10_000} " in said
    assert f"upgrade to {upgrade} or later" in said


@pytest.mark.parametrize("number", [150016, 150018, 160012, 170008, 180002, 180006, 190000, 200001])
def test_a_version_without_the_fault_is_not_complained_of(number: int) -> None:
    assert complaint(number) is None
