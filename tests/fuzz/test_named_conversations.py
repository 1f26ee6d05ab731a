"""Conversations and upgrades with names, each held with a relay process: what must come of them is written down."""

from __future__ import annotations

from dataclasses import replace
from random import Random

import psycopg
import pytest

from tests.cluster import TestCluster
from tests.fuzz.conversations import Conversation
from tests.fuzz.driving import Driver, expected
from tests.fuzz.frame_rules import Outcome
from tests.fuzz.named_frames import Named, control, lengths, pieces, reserved, said, sizes
from tests.fuzz.named_texts import closes, texts
from tests.fuzz.named_upgrades import NAMED as UPGRADES
from tests.fuzz.named_upgrades import Upgrade
from tests.fuzz.raw_frames import TEXT, Frame, binary, close, cut, fragments, ping, text
from tests.fuzz.raw_terminal import RawTerminal
from tests.relays import RelayProcess
from tests.waiting import wait_until

NAMED = [named for table in (lengths, reserved, control, pieces, sizes, texts, closes) for named in table()]
RNG = Random(0)  # cuts nothing here: the named ones say how they are cut


@pytest.mark.parametrize("named", NAMED, ids=lambda named: named.name)
def test_a_named_conversation_ends_as_it_is_written(driver: Driver, named: Named) -> None:
    assert driver.hold(named.talk, RNG, outcome_at(named)) == []


def outcome_at(named: Named) -> Outcome:
    """The outcome as written, and at which frame the rules see it."""
    rules = expected(named.talk)
    return replace(named.outcome, end_at=rules.end_at, unfinished=rules.unfinished, crowded=rules.crowded)


def test_the_rules_come_to_every_outcome_that_is_written() -> None:
    assert len({named.name for named in NAMED}) == len(NAMED) >= 250
    for named in NAMED:
        assert expected(named.talk) == outcome_at(named), named.name


@pytest.mark.parametrize("upgrade", UPGRADES, ids=lambda upgrade: upgrade.name)
def test_an_upgrade_is_answered_as_it_is_written(driver: Driver, upgrade: Upgrade) -> None:
    assert driver.ask(upgrade) == []


def test_a_conversation_is_read_alike_wherever_it_is_cut(driver: Driver) -> None:
    parts = fragments(TEXT, said("ဟ"), [9, 20])
    frames = (ping("1"), parts[0], ping("2"), *parts[1:], binary(b"x"), text("", length_bytes=2), text(said("b")))
    for border in range(len(b"".join(map(bytes, frames)))):
        assert driver.hold(Conversation(frames, segments=border, paced=True), RNG) == [], border
    assert driver.hold(Conversation(frames, segments="bytes", paced=True), RNG) == []


def test_an_upgrade_is_read_alike_wherever_it_is_cut(driver: Driver) -> None:
    whole = UPGRADES[0]
    for border in range(1, len(whole.data)):
        assert driver.ask(replace(whole, segments=tuple(cut(whole.data, [border])), paced=True)) == [], border
    assert driver.ask(replace(whole, segments=tuple(cut(whole.data, range(len(whole.data)))), paced=True)) == []


@pytest.mark.parametrize(
    "last", [close(1000), Frame(3), text(b"\xff")], ids=["a close", "an illegal frame", "bad UTF-8"]
)
def test_what_was_asked_for_before_the_end_is_done(cluster: TestCluster, relay: RelayProcess, last: Frame) -> None:
    names = [f"{number}-before-{bytes(last).hex()}" for number in range(3)]
    update = '{"type":"UPDATE_MENU","data":{"action":"add_category","data":{"name":"%s"}}}'
    with RawTerminal(relay.port) as terminal:
        terminal.upgrade()
        terminal.send([b"".join(bytes(text(update % name)) for name in names) + bytes(last)])
        terminal.hear_end()
    with psycopg.connect(cluster.conninfo("fuzz"), autocommit=True) as connection:
        query = "select count(*) = %s from pos.categories where name = any (%s)"
        wait_until(lambda: connection.execute(query, [len(names), names]).fetchone() == (True,))
