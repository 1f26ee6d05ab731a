"""What a terminal says, and what it makes of what it hears. No I/O: the caller has socket, clock and disk."""

from __future__ import annotations

import re
import uuid
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal
from urllib.parse import parse_qsl, urlencode, urlsplit, urlunsplit

from .errors import RETRYABLE
from .outbox import Mutation, Outbox, full_jitter
from .replica import Replica, Row, State, foreseen
from .stores import decode, encode

Condition = Literal["connecting", "catching-up", "live", "offline", "refused"]

ASKS = 3  # for what one hole hides; the last one for everything. Then the connection is given up
RETRY_MOST = 3600.0  # seconds that a relay may send a terminal away for
PATIENCE = 8  # times as long as usual, at most, is waited for a state that arrives slowly
MAX_MESSAGE_BYTES = 1024 * 1024  # until WELCOME tells
# Close codes (RFC 6455, section 7.4.1, and the IANA registry) after which trying again changes nothing.
MEND, POLICY, TOO_LARGE, AWAY = (1002, 1003, 1007, 1010), 1008, 1009, (1012, 1013)


@dataclass(frozen=True)
class Timing:
    """How long a terminal waits, in seconds."""

    first_delay: float = 0.5  # before it connects again: anything from 0 to this, doubled each time
    last_delay: float = 30.0  # and never more than anything from 0 to this
    heartbeat: float | None = None  # None: as WELCOME says
    send: float = 20.0  # for a message to leave, before the connection is given up
    answer: float = 30.0  # for an ACK or a SYNC_RESPONSE, before it asks again; for the latter when something is heard
    check: float = 300.0  # from one checksum to the next


@dataclass(frozen=True)
class Status:
    """How a terminal stands, why, and what a person can do about it."""

    state: Condition
    why: str = ""
    todo: str = ""
    retry_at: float | None = None  # by the clock the caller gives, when it is to connect again


@dataclass
class _Asked:
    """The hole that is asked for."""

    revision: int = -2  # the one held when it was noticed
    times: int = 0
    until: float | None = None  # when to ask again, once something is heard; None: nothing is asked


class Conversation:
    """One terminal's side of the protocol, over all its connections.

    After each call, `out` is to be sent, `told` to be passed on, `replica.unsaved` to be written, `hang_up` to be
    obeyed, and `tick` to be called when `deadline` is over. Times are seconds of any clock that never goes back.
    """

    def __init__(
        self, saved: Mapping[str, Any], *, name: str = "", token: str = "", timing: Timing | None = None
    ) -> None:
        self.timing = timing or Timing()
        self.replica = Replica(saved)
        self.client_id: str = saved.get("client") or f"t-{uuid.uuid4()}"
        if "client" not in saved:
            self.replica.save("client", self.client_id)
        self._restaurant: str | None = saved.get("restaurant")  # whose state this is
        self.role: str | None = saved.get("role")
        self.status = Status("offline", "not started", "start it")
        self.head = 0
        self.out: list[str] = []
        self.told: list[tuple[str, Any]] = []
        self.hang_up = ""
        self._hello = {key: value for key, value in (("name", name), ("token", token)) if value}
        self._view: State | None = None
        self._attempt = 0
        self._patience = 1  # doubled where it hung up on a relay that may have been sending a large state; 1 when live
        self.outbox = Outbox(saved, self.replica, self.timing.first_delay, self.timing.last_delay, self._tell)
        self._reset()

    def _reset(self) -> None:
        self.out.clear()
        self.hang_up = ""
        self._is_elsewhere = False
        self._open = self._welcomed = self._synced = False
        self._target = 0
        self._asked = _Asked()
        self.outbox.disconnected()
        self._answer_by = 0.0
        self._max_bytes = MAX_MESSAGE_BYTES
        self._heartbeat = self.timing.heartbeat or 20.0
        self._beat_at = self._check_at = 0.0
        self._dead_at: float | None = None
        self._beaten: tuple[int, int] | None = None  # head and revision at the last beat

    # What it shows

    @property
    def view(self) -> State:
        """The state with what is pending done to it."""
        if self._view is None:
            self._view = foreseen(self.replica.state, [(one.type, one.data) for one in self.outbox.mutations])
        return self._view

    def _tell(self, what: str, detail: Any) -> None:
        if what == "view":
            self._view = None
            if self.told[-1:] == [("view", None)]:
                return
        self.told.append((what, detail))

    def _stand(self, state: Condition, why: str = "", todo: str = "", retry_at: float | None = None) -> None:
        status = Status(state, why, todo, retry_at)
        if status != self.status:
            self.status = status
            self._tell("state", status)

    # What it is asked to do

    def say(self, data: Row) -> bool:
        """Pass a MESSAGE on; False where there is no connection, for nobody would hear it later."""
        if self._open:
            self._say("MESSAGE", data)
        return self._open

    # Connecting

    def connecting(self) -> None:
        """A socket is being opened."""
        self._reset()
        self._stand("connecting")

    def opened(self, now: float) -> None:
        """The socket is open."""
        self._open = True
        self._say("CLIENT_CONNECTED", {"clientId": self.client_id, "protocol": 1, **self._hello})
        self._beat_at, self._check_at = now + self._heartbeat, now + self.timing.check
        self._ask(now)

    def closed(self, now: float, code: int, reason: str = "") -> None:
        """The socket is closed, or could not be opened (code 1006, RFC 6455, section 7.1.5)."""
        in_flight, why = self.outbox.in_flight, reason or self.hang_up or f"the connection ended ({code})"
        code = POLICY if self._is_elsewhere else code
        self._reset()
        if code in (POLICY, *MEND):
            todo = "correct the address, the restaurant or the token, then start again"
            self._stand(
                "refused", why, todo if code == POLICY else "the terminal or what is between is at fault; mend it"
            )
            return
        if code == TOO_LARGE and in_flight is not None:
            self.outbox.refuse(
                in_flight, {"code": "TOO_LARGE", "message": "the message is larger than what is let through"}
            )
        told = re.search(r"retry after ([0-9]+(?:\.[0-9]+)?) s", reason) if code in AWAY else None
        if told:
            delay = min(float(told[1]), RETRY_MOST)
        else:
            delay = full_jitter(self._attempt, self.timing.first_delay, self.timing.last_delay)
            self._attempt += 1
        self._stand("offline", why, "it connects again by itself; go on working", now + delay)

    def stopped(self) -> None:
        """It is not to connect again until it is started."""
        self._reset()
        self._stand("offline", "stopped", "start it")

    # Hearing

    def hear(self, text: str | bytes, now: float) -> None:
        """Take one message of the relay. Raises KeyError, TypeError, ValueError for what no relay says."""
        if self.hang_up:
            return  # what still comes is of no use any more
        message = decode(text)
        type_, data, ref, revision = message["type"], message["data"], message.get("ref"), message.get("revision")
        self._dead_at = None
        if type_ == "WELCOME":
            self._welcomed = True
            self._max_bytes = data["maxMessageBytes"]
            self._heartbeat = self.timing.heartbeat or float(data["heartbeatSeconds"])
            self._beat_at = now + self._heartbeat
            self._be(data.get("role"))
            self._enter(data["restaurant"])
        elif type_ == "SYNC_RESPONSE":
            self._sync(data, now)
        elif type_ == "HEARTBEAT":
            self._beat(data, now)
        elif type_ == "ACK":
            if found := self.outbox.find(ref):
                self.outbox.acknowledge(found, data)
        elif type_ == "ERROR":
            self._error(self.outbox.find(ref), data, now)
        elif type_ == "MESSAGE":
            self._tell("message", message)
        elif revision is not None:
            self._change(message, now)
        self._ask_again(now)
        self.tick(now)

    def _be(self, role: str | None) -> None:
        if role != self.role:
            self.role = role
            self.replica.save("role", role)
            self._tell("role", role)

    def _enter(self, restaurant: str) -> None:
        """Nothing of one restaurant is sent to another or shown in it, whatever address or token leads there."""
        if other := self.outbox.enter(restaurant):
            self.hang_up = f"what is pending is for restaurant {other!r}, and this is {restaurant!r}"
            self._is_elsewhere = True
            return
        if self._restaurant not in (None, restaurant):
            # The restaurants of a database share its epoch: the cursor would be taken for one of this restaurant.
            self.replica.forget()
            self._tell("view", None)
        if restaurant != self._restaurant:
            self._restaurant = restaurant
            self.replica.save("restaurant", restaurant)

    def _change(self, message: Row, now: float) -> None:
        replica, revision = self.replica, message["revision"]
        self.head = max(self.head, revision)
        if replica.epoch is None or revision <= replica.revision:
            return
        if revision > replica.revision + 1:
            if self._asked.until is None:
                self._ask(now)
            return
        if not replica.apply(message["type"], message["data"], revision):
            self._tell("fault", f"revision {revision} has an older version of a row that is held; it was kept out")
        self.outbox.prune()
        self._tell("view", None)
        self._tell("change", message)
        self._caught_up()

    def _sync(self, data: Row, now: float) -> None:
        self._asked.until = None
        self.head = self._target = data["revision"]
        replica = self.replica
        if data["mode"] == "snapshot":
            ahead = data["reason"] == "ahead" or data["epoch"] != replica.epoch
            if not replica.take(data):
                self._tell(
                    "fault", f"a snapshot of revision {data['revision']} is older than what is held; it was kept out"
                )
                self._ask(now)
                return
            self.outbox.prune(every=ahead)
            self._tell("view", None)
            self._tell("snapshot", data["reason"])
        elif data["epoch"] != replica.epoch or data["from"] > replica.revision:
            self._ask(now, anew=True)
            return
        self._synced = True
        self._caught_up()

    def _caught_up(self) -> None:
        if self._synced and self._asked.until is None and self.replica.revision >= self._target:
            self._attempt, self._patience = 0, 1
            self._stand("live")

    def _ask(self, now: float, *, anew: bool = False) -> None:
        """Ask for what follows the cursor; for everything where that did not help, and in the end hang up."""
        asked = self._asked
        asked.times = asked.times + 1 if asked.revision == self.replica.revision else 1
        asked.revision, asked.until = self.replica.revision, now + self.timing.answer
        if asked.times > ASKS:
            self.hang_up = "the relay does not send what is missing"
            return
        self._stand("catching-up")
        self._say("SYNC_REQUEST", {} if anew or asked.times == ASKS else self.replica.cursor)

    def _ask_again(self, now: float) -> None:
        """Ask the same again where no answer came, as of a relay without its database, for as long as there is life.

        Only when something was heard: while nothing is, the answer may be on its way, and would be sent twice.
        """
        if self._open and self._asked.until is not None and now >= self._asked.until:
            self._asked.times -= 1
            self._ask(now)

    def _error(self, mutation: Mutation | None, data: Row, now: float) -> None:
        retryable = data["retryable"] or data["code"] in RETRYABLE
        if mutation is None:
            if not retryable:
                self._tell("fault", f"{data['code']}: {data['message']}")
        elif retryable:
            after = data.get("retryAfter", 0)
            self.outbox.postpone(mutation, now, min(float(after), RETRY_MOST))
        else:
            self.outbox.refuse(mutation, data)

    def _beat(self, data: Row, now: float) -> None:
        held = self.replica.revision
        self.head = data.get("head", self.head)
        if self._asked.until is not None or data.get("response") is not True:
            return
        beaten, self._beaten = self._beaten, (self.head, held)
        stuck = beaten is not None and held == beaten[1] < min(beaten[0], self.head)
        if data["revision"] > held or stuck:
            self._ask(now)
        elif "checksum" in data and data["revision"] == held:
            self._check_at = now + self.timing.check
            if data["checksum"] != self.replica.state.checksum(data["orders"]):
                self._tell("fault", f"at revision {held} it held something else than the database; it starts over")
                self._ask(now, anew=True)

    # Time

    def tick(self, now: float) -> None:
        """Do what is due."""
        if not self._open:
            return
        if self.outbox.in_flight is not None and now >= self._answer_by:
            self.outbox.disconnected()  # it goes out again, under its id
        if self._dead_at is not None and now >= self._dead_at:
            self.hang_up = "the relay gives no sign of life"
            # Of a state that is on its way nothing is heard before it is whole, and it comes before any other answer.
            if self._welcomed and self._asked.until is not None:
                self._patience = min(2 * self._patience, PATIENCE)
        if now >= self._beat_at:
            self._beat_at = now + self._heartbeat
            self._dead_at = now + self._heartbeat * self._patience if self._dead_at is None else self._dead_at
            self._say("HEARTBEAT", {"ping": True, **({"checksum": True} if now >= self._check_at else {})})
        if self._synced and (mutation := self.outbox.next(now, self._max_bytes)):
            self._answer_by = now + self.timing.answer
            self.out.append(mutation.message)

    @property
    def deadline(self) -> float | None:
        """When `tick` is due again; None: only when something happens."""
        if not self._open:
            return None
        due = [self._beat_at, self._dead_at]
        due.append(self._answer_by if self.outbox.in_flight else self.outbox.deliver_at if self._synced else None)
        return min(at for at in due if at is not None)

    def _say(self, type_: str, data: Row) -> None:
        self.out.append(encode({"type": type_, "data": data, "clientId": self.client_id}))


def with_restaurant(url: str, restaurant: str | None) -> str:
    """A relay's address with the restaurant (a slug) asked for in it."""
    parts = urlsplit(url)
    query = parse_qsl(parts.query) + ([("restaurant", restaurant)] if restaurant else [])
    return urlunsplit(parts._replace(query=urlencode(query)))
