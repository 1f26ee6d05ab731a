"""Who may come in: each cap, what is counted as one address, and how long whoever is refused is sent away for."""

from __future__ import annotations

import dataclasses
import logging
from typing import Any

import pytest

from relay.admission import Admission
from relay.errors import ComeBack
from relay.settings import Settings

NOW = 1_000_000.0
DEFAULT = Settings.read({})


def admission(**settings: Any) -> Admission:
    none = dict.fromkeys(
        ("handshakes", "connections", "restaurant_connections", "address_connections", "terminal_connections"), 0
    )
    return Admission(dataclasses.replace(DEFAULT, **none | settings))


def let_in(door: Admission, address: str, times: int, now: float = NOW) -> int:
    """How many of so many come in and stay."""
    found = 0
    for _ in range(times):
        if door.knock(address, 0, now) is None:
            door.enter(address)
            found += 1
    return found


def test_a_storm_of_five_thousand_is_let_in_at_once_and_then_a_thousand_a_second() -> None:
    door = Admission(DEFAULT)
    assert let_in(door, "127.0.0.1", 20_000) == 5000
    assert let_in(door, "127.0.0.1", 20_000, NOW + 1) == 1000


def test_a_storm_of_twenty_thousand_apps_is_in_when_each_has_tried_for_the_last_time() -> None:
    # PROTOCOL.md, section 6: the app tries at 1, 3, 7, 15 and 31 seconds, and then never again.
    door, outside = admission(handshakes=DEFAULT.handshakes), 20_000
    for second in (0, 1, 3, 7, 15, 31):
        outside -= let_in(door, "127.0.0.1", outside, NOW + second)
    assert outside == 0


def test_whoever_is_refused_is_told_to_come_back_in_turns() -> None:
    door = admission(handshakes=100)
    found = [door.knock("127.0.0.1", 0, NOW) for _ in range(500 + 450)]
    assert found[:500] == [None] * 500
    told = [closed.retry_after for closed in found[500:] if closed is not None]
    assert [told.count(seconds) for seconds in range(1, 6)] == [99, 100, 100, 100, 51]
    assert max(told) <= 10


def test_a_relay_that_is_full_says_so() -> None:
    door = admission(connections=10)
    assert door.knock("203.0.113.7", 9, NOW) is None
    closed = door.knock("203.0.113.7", 10, NOW)
    assert closed is not None
    assert "RELAY_CONNECTIONS" in closed.why


def test_an_address_has_so_many_connections_and_no_other_suffers() -> None:
    door = admission(address_connections=3)
    assert let_in(door, "203.0.113.7", 10) == 3
    assert let_in(door, "203.0.113.8", 10) == 3
    door.leave(door.place("203.0.113.7"))
    assert let_in(door, "203.0.113.7", 10) == 1


def test_an_address_that_comes_and_goes_is_let_in_twice_as_often_within_ten_seconds() -> None:
    door = admission(address_connections=3)

    def come_and_go(now: float) -> int:
        found = 0
        for _ in range(50):
            if door.knock("203.0.113.7", 0, now) is None:
                door.leave(door.enter("203.0.113.7"))
                found += 1
        return found

    assert [come_and_go(NOW + second) for second in (0, 5, 10.1, 20.3)] == [6, 0, 6, 6]


def test_whoever_is_refused_for_the_address_takes_nothing_from_the_others() -> None:
    door = admission(address_connections=3, handshakes=1)
    assert let_in(door, "203.0.113.7", 100) == 3
    assert let_in(door, "203.0.113.8", 100) == 2


@pytest.mark.parametrize("address", ["", "127.0.0.1", "::1", "::ffff:127.0.0.1", "10.0.0.7", "192.168.7.255"])
def test_an_address_that_stands_for_many_is_not_counted(address: str) -> None:
    door = admission(address_connections=3, proxies=("10.0.0.7", "192.168.7.0/24"))
    assert let_in(door, address, 100) == 100


@pytest.mark.parametrize("address", ["10.0.0.8", "127.0.0.2", "somebody", "::2", "192.168.8.1"])
def test_every_other_address_is_counted(address: str) -> None:
    door = admission(address_connections=3, proxies=("10.0.0.7", "192.168.7.0/24"))
    assert let_in(door, address, 100) == 3


def test_where_every_proxy_is_trusted_what_they_name_is_counted() -> None:
    door = admission(address_connections=3, proxies=("*",))
    assert [let_in(door, address, 100) for address in ("203.0.113.7", "10.0.0.7", "127.0.0.1")] == [3, 3, 100]


def test_one_network_of_ipv6_is_one_address() -> None:
    door = admission(address_connections=3)
    assert sum(let_in(door, f"2001:db8:1:2::{n}", 1) for n in range(1, 50)) == 3
    assert let_in(door, "2001:db8:1:3::1", 1) == 1
    assert let_in(door, "::ffff:203.0.113.7", 2) + let_in(door, "203.0.113.7", 2) == 3


def test_a_client_id_has_so_many_connections_in_its_restaurant() -> None:
    door = admission(terminal_connections=2)
    known = [door.introduce("bistro", "", "till", NOW) for _ in range(2)]
    with pytest.raises(ComeBack, match=r"RELAY_TERMINAL_CONNECTIONS allows; retry after 5 s"):
        door.introduce("bistro", "", "till", NOW)
    door.introduce("cafe", "", "till", NOW)
    door.introduce("bistro", "Bar 1", "till", NOW)  # with a token of its own
    door.forget(known[0])
    door.introduce("bistro", "", "till", NOW)


def test_a_restaurant_has_so_many_connections() -> None:
    door = admission(restaurant_connections=2)
    assert [door.has_room(count) for count in (0, 1, 2, 3)] == [True, True, False, False]
    assert "RELAY_RESTAURANT_CONNECTIONS" in str(door.turn_away("bistro", NOW))


def test_nothing_is_kept_of_those_who_left() -> None:
    door = admission(address_connections=3, terminal_connections=3)
    for number in range(100):
        place = door.enter(f"203.0.113.{number}")
        known = door.introduce("bistro", "", str(number), NOW)
        door.leave(place)
        door.forget(known)
    assert not door._inside
    assert not door._terminals


def test_a_storm_of_refusals_is_one_line_in_the_log(caplog: pytest.LogCaptureFixture) -> None:
    door = admission(address_connections=1)
    with caplog.at_level(logging.WARNING, "relay.admission"):
        for number in range(1000):
            let_in(door, "203.0.113.7", 2, NOW + number / 1000)
        assert len(caplog.records) == 1
        let_in(door, "203.0.113.7", 2, NOW + 30)
    assert len(caplog.records) == 2
    assert "FORWARDED_ALLOW_IPS" in str(caplog.records[0].__dict__["fields"])
