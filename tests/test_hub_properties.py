"""Whatever happens to it, a session receives the changes after its cursor, each once and in order, or is resynced."""

from __future__ import annotations

import asyncio

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from relay.frames import PIECE_BYTES, encode
from relay.hub import Hub, Room
from relay.session import Session, State
from relay.window import CHUNK_CHANGES, Change
from tests.wires import HandMadeWire

SIZES = st.sampled_from([10, 10, 10, 1000, PIECE_BYTES - 10, 3 * PIECE_BYTES])
TAKES = st.sampled_from([None, None, 0, 1, 2, 5])


class Fed:
    """A session and what it must have received: `live N` stands for a snapshot or a sync at revision N."""

    def __init__(self, takes: int | None) -> None:
        self.wire = HandMadeWire(takes)
        self.session = Session(self.wire)

    def check(self) -> int:
        """The last revision it received; what does not follow fails."""
        last = -1
        for text in self.wire.texts:
            word = text.split()[0]
            if word == "live":
                last = int(text.split()[1])
            elif word != "answer":
                assert int(word) == last + 1, f"{word} after {last}"
                last = int(word)
        return last


class FanOut(RuleBasedStateMachine):
    hub: Hub
    room: Room

    def __init__(self) -> None:
        super().__init__()
        self.loop = asyncio.new_event_loop()
        self.fed: list[Fed] = []

    @initialize(
        head=st.integers(0, 5), most=st.integers(1, 3 * CHUNK_CHANGES), size=st.sampled_from([1000, 100_000, 1 << 22])
    )
    def begin(self, head: int, most: int, size: int) -> None:
        self.hub = Hub(most, size)
        self.room = self.hub.open(1, "one")
        self.hub.resync = self._resync
        self.hub.position(self.room, "0", head, 0)

    def teardown(self) -> None:
        try:
            self._all_receive_the_rest()
        finally:
            self.loop.close()

    def _all_receive_the_rest(self) -> None:
        for fed in self.fed:
            self._in_loop(fed.wire.go)
        while self.fed and self.room.behind:
            self._turn()
        for fed in self.fed:
            last = fed.check()
            if fed.session.state is State.LIVE:
                assert last == max(self.room.head, fed.session.cursor)

    def _resync(self, session: Session) -> None:
        assert session.state is State.LIVE
        assert session in self.room.sessions
        session.state = State.HELD

    def _turn(self) -> None:
        self.loop.call_soon(self.loop.stop)
        self.loop.run_forever()

    def _in_loop(self, deed: object, *arguments: object) -> None:
        self.loop.call_soon(deed, *arguments)  # type: ignore[arg-type]
        self._turn()

    def _live(self, session: Session, cursor: int) -> None:
        session.reply(f"live {cursor}")
        self.hub.go_live(self.room, session, cursor)

    @rule(sizes=st.lists(SIZES, min_size=1, max_size=10), many=st.integers(0, 2 * CHUNK_CHANGES))
    def append(self, sizes: list[int], many: int) -> None:
        first = self.room.head + 1
        changes = [
            Change(first + n, encode(f"{first + n} ".ljust(size))) for n, size in enumerate([*sizes, *[10] * many])
        ]
        self._in_loop(self.hub.take, self.room, changes)

    @rule(back=st.integers(0, 100), takes=TAKES)
    def join(self, back: int, takes: int | None) -> None:
        assert self.room.window is not None
        fed = Fed(takes)
        self.fed.append(fed)
        self.hub.enter(fed.session, self.room)
        self._in_loop(self._live, fed.session, max(self.room.window.base, self.room.head - back))

    @precondition(lambda self: self.fed)
    @rule(data=st.data(), back=st.integers(0, 100))
    def answer_a_resync(self, data: st.DataObject, back: int) -> None:
        assert self.room.window is not None
        session = data.draw(st.sampled_from(self.fed)).session
        if session.state is State.HELD:
            self._in_loop(self._live, session, max(self.room.window.base, self.room.head - back))

    @precondition(lambda self: self.fed)
    @rule(data=st.data(), takes=TAKES)
    def stop_or_go(self, data: st.DataObject, takes: int | None) -> None:
        wire = data.draw(st.sampled_from(self.fed)).wire
        if takes == 0:
            wire.stop()
        else:
            self._in_loop(wire.go, takes)

    @precondition(lambda self: self.fed)
    @rule(data=st.data())
    def answer(self, data: st.DataObject) -> None:
        data.draw(st.sampled_from(self.fed)).session.reply("answer")

    @precondition(lambda self: self.fed)
    @rule(data=st.data())
    def leave(self, data: st.DataObject) -> None:
        session = data.draw(st.sampled_from(self.fed)).session
        self.hub.leave(session)
        session.close(1000)

    @rule(head=st.integers(0, 300))
    def begin_anew(self, head: int) -> None:
        self._in_loop(self.hub.position, self.room, f"{self.room.epoch}+", head, 0)

    @rule()
    def turn(self) -> None:
        self._turn()

    @invariant()
    def nobody_who_reads_is_forgotten(self) -> None:
        for session in self.room.sessions:
            if session.ready and session.cursor < self.room.head:
                assert session in self.room.behind

    @invariant()
    def what_waits_is_bounded(self) -> None:
        for session in self.room.sessions:
            waiting = len(session._outbox)
            assert waiting <= 100, f"{waiting} frames wait"


FanOut.TestCase.settings = settings(max_examples=60, stateful_step_count=40, deadline=None)
TestFanOut = FanOut.TestCase
