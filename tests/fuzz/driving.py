"""Holds conversations with a relay and judges what came of them; what failed is cut down and printed for a replay."""

from __future__ import annotations

import time
from dataclasses import dataclass, field, replace
from random import Random

from tests.fuzz.conversations import Conversation, conversation
from tests.fuzz.frame_rules import GOODBYE, NO_CODES, Outcome, outcome_of
from tests.fuzz.named_upgrades import Upgrade, generated_upgrade
from tests.fuzz.raw_frames import TEXT, Frame
from tests.fuzz.raw_terminal import BARRIER, PATIENCE, RawTerminal

UPGRADES = 0.04  # of all cases
FAILURES = 2  # after which it stops
SHRINK_SECONDS = 10.0  # to cut a failure down …
SHRINK_PATIENCE = 1.0  # … where a relay that hangs is waited for no longer than this


@dataclass(slots=True)
class Tally:
    """What was done. An upgrade counts as one frame."""

    frames: int = 0
    cases: int = 0
    failures: list[str] = field(default_factory=list)


def fuzz(port: int, seed: str, first: int, step: int, frames: int) -> Tally:
    """Hold the seed's cases `first`, `first + step`, … until this many frames were sent, or something failed."""
    tally = Tally()
    with Driver(port) as driver:
        number = first
        while tally.frames < frames and len(tally.failures) < FAILURES:
            rng = Random(f"{seed}/{number}")
            if rng.random() < UPGRADES:
                upgrade = generated_upgrade(rng)
                problems = driver.ask(upgrade)
                failure, sent = f"{upgrade}", 1
            else:
                talk = conversation(rng)
                problems = driver.hold(talk, Random(f"{seed}/{number}/cuts"))
                sent = len(talk.frames)
                failure = driver.shrunk(talk, f"{seed}/{number}/cuts") if problems else ""
            tally.frames += sent
            tally.cases += 1
            if problems:
                tally.failures.append(
                    f"FUZZ_SEED={seed} FUZZ_CASE={number}: {'; '.join(problems)}\nminimal replay: {failure}"
                )
            number += step
    return tally


class Driver:
    """Talks to one relay; a connection that is still good is used again."""

    def __init__(self, port: int) -> None:
        self._port = port
        self._terminal: RawTerminal | None = None
        self._pacer = RawTerminal(port)
        self._patience = PATIENCE

    def __enter__(self) -> Driver:
        self._pacer.upgrade()
        return self

    def __exit__(self, *_: object) -> None:
        self._drop()
        self._pacer.__exit__(None, None, None)

    # Conversations

    def hold(self, talk: Conversation, rng: Random, outcome: Outcome | None = None) -> list[str]:
        """Hold a conversation; what is wrong with what came of it."""
        outcome = outcome or expected(talk)
        if self._terminal is None:
            self._terminal = RawTerminal(self._port, self._patience)
            self._terminal.upgrade()
        terminal = self._terminal
        terminal.answers_close = outcome.echo is None
        try:
            self._converse(terminal, talk, rng, outcome)
        except TimeoutError:
            problems = [f"the relay hangs; {_heard(terminal, outcome)}"]
        else:
            problems = judge(terminal, outcome, settled=talk.settled, missing=bool(talk.missing))
        if problems or terminal.ended or outcome.unfinished:
            self._drop()
        else:
            terminal.forget()
        return problems

    def _converse(self, terminal: RawTerminal, talk: Conversation, rng: Random, outcome: Outcome) -> None:
        pace = self._pacer.round_trip if talk.paced else None
        at = outcome.end_at if talk.settled and outcome.end_at else 0
        if at:
            terminal.send(talk.cut(rng, 0, at), pace)
            before = outcome_of(talk.frames[:at])
            self._settle(terminal, before, message=False, ask=not before.crowded)
        terminal.send(talk.cut(rng, at), pace)
        if not outcome.ends:
            self._settle(terminal, outcome, message=not outcome.unfinished, ask=not (talk.missing or outcome.crowded))
        if talk.missing:
            terminal.half_close()
        if outcome.ends or talk.missing:
            terminal.hear_end()

    def _settle(self, terminal: RawTerminal, outcome: Outcome, *, message: bool, ask: bool = True) -> None:
        """Wait until all is answered, and with `message` until nothing else can come."""
        if ask:
            terminal.ask_whether_all_is_answered(message=message)
        pongs = len(outcome.pongs) + ask
        answers = len(outcome.answers) + (ask and message)
        terminal.hear(
            lambda: len(terminal.pongs) >= pongs and len(terminal.answers) >= answers and terminal.acks >= outcome.acks
        )

    def _drop(self) -> None:
        if self._terminal is not None:
            self._terminal.__exit__(None, None, None)
        self._terminal = None

    # Upgrades

    def ask(self, upgrade: Upgrade) -> list[str]:
        """Ask for an upgrade; what is wrong with what came of it."""
        with RawTerminal(self._port) as terminal:
            try:
                terminal.send(upgrade.segments, self._pacer.round_trip if upgrade.paced else None)
                if upgrade.half_closed:
                    terminal.half_close()
                terminal.hear_status()
                if terminal.status not in upgrade.statuses:
                    return [f"answered with {terminal.status}, not {sorted(upgrade.statuses)}: {terminal.head!r}"]
                if terminal.status != 101 or upgrade.half_closed:
                    return []
                if upgrade.closes is not None:
                    terminal.hear_end()
                    return judge(terminal, Outcome(ends=frozenset({upgrade.closes})))
                self._settle(terminal, Outcome(), message=True)
                wrong = [] if terminal.granted_rightly else [f"granted wrongly: {terminal.head!r}"]
                return wrong + judge(terminal, Outcome())
            except TimeoutError:
                return [f"the relay hangs after {terminal.status}"]

    # A failure

    def shrunk(self, talk: Conversation, seed: str) -> str:
        """The shortest conversation found that fails too, for people and for a replay."""

        def fails(one: Conversation) -> list[str]:
            self._drop()
            self._patience = SHRINK_PATIENCE
            try:
                return self.hold(one, Random(seed))
            finally:
                self._patience = PATIENCE
                self._drop()

        def attempts(one: Conversation) -> list[Conversation]:
            simpler = [replace(one, segments="whole", paced=False), replace(one, settled=False)]
            fewer = [one.frames[:at] + one.frames[at + 1 :] for at in range(len(one.frames))]
            return [c for c in simpler if c != one] + [replace(one, frames=f, missing=0) for f in fewer if f]

        found = fails(talk)
        if not found:
            return f"{told(talk)}\n  (it does not fail alone, on a connection of its own)"
        deadline = time.monotonic() + SHRINK_SECONDS
        candidates = attempts(talk)
        while candidates and time.monotonic() < deadline:
            candidate = candidates.pop(0)
            if problems := fails(candidate):
                talk, found = candidate, problems
                candidates = attempts(talk)
        return f"{told(talk)}\n  {'; '.join(found)}"


def expected(talk: Conversation) -> Outcome:
    """What must come of a conversation; of one whose last frame is cut off, nothing more than of the others."""
    outcome = outcome_of(talk.frames)
    if not talk.missing or (outcome.end_at is not None and outcome.end_at < len(talk.frames) - 1):
        return outcome
    before = outcome_of(talk.frames[:-1])
    return replace(before, may_end=before.may_end | outcome.ends | outcome.may_end)


def judge(terminal: RawTerminal, outcome: Outcome, *, settled: bool = False, missing: bool = False) -> list[str]:
    """What is wrong with what a terminal heard; `settled`: all answers had their time before the end."""
    pongs = [payload for payload in terminal.pongs if payload != BARRIER.encode()]
    answers = [answer for answer in terminal.answers if answer.ref != BARRIER]
    code, ends = terminal.close_code, outcome.ends or NO_CODES
    problems = list(terminal.faults)
    early = code is not None and code in outcome.may_end
    if ends and not early and code not in ends:
        problems.append(f"closed with {code}, not with {sorted(ends)}")
    if not ends and not early and (code is not None or (terminal.ended and not missing)):
        problems.append(f"closed with {code}, where it must go on")
    if outcome.echo is not None and code == _code_of(outcome.echo) and terminal.close != outcome.echo:
        problems.append(f"the close {outcome.echo!r} was answered with {terminal.close!r}")
    complete = not early and (settled or not ends or ends == {GOODBYE} != {_code_of(outcome.echo)})
    if answers != list(outcome.answers)[: None if complete else len(answers)]:
        problems.append("wrong answers")
    if not terminal.acks <= outcome.acks or (complete and terminal.acks != outcome.acks):
        problems.append(f"acknowledged {terminal.acks}, not {set(outcome.acks)}")
    due = [*outcome.pongs, *outcome.spare_pongs]
    if pongs != due[: len(pongs)] or (not early and len(pongs) < len(outcome.pongs)):
        problems.append("wrong pongs")
    return [*problems, _heard(terminal, outcome)] if problems else []


def _code_of(echo: bytes | None) -> int | None:
    return int.from_bytes(echo[:2]) if echo else None


def _heard(terminal: RawTerminal, outcome: Outcome) -> str:
    return (
        f"heard {terminal.answers}, {terminal.pongs}, {terminal.acks}, {terminal.close!r}, ended={terminal.ended}, "
        f"where {outcome} was due"
    )


def told(talk: Conversation) -> str:
    """A conversation for people and for a replay."""
    how = f"segments={talk.segments} paced={talk.paced} settled={talk.settled} missing={talk.missing}"
    return "\n  ".join([how, *map(_short, talk.frames)])


def _short(frame: Frame) -> str:
    data = bytes(frame)
    if len(data) > 400:
        return f"{frame.opcode=} {frame.length=} {data[:60].hex()}… {frame.payload[-60:]!r}"
    return f"{data.hex()}  {frame.payload!r}" if frame.opcode == TEXT else data.hex()
