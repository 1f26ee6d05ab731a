"""What a terminal has asked for and has no answer to: kept in order, sent in order, shown until it has come back."""

from __future__ import annotations

import random
import uuid
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from .replica import Replica, Row
from .stores import decode, encode

ADVICE = {
    "CONFLICT": "show what is there now (current), let the person decide, send anew",
    "GONE": "it was deleted; add it if it is wanted after all",
    "ORDER_ID_TAKEN": "send it again under suggestedId",
    "VALIDATION": "correct the field and send it anew",
    "TOO_LARGE": "send less, such as a smaller picture",
    "FORBIDDEN": "this terminal may not do that; ask a manager",
    "NOT_SENT": "decide about what it builds on, then want it anew",
    "INTERNAL": "report it to whoever runs the relay; its log has the details",
}
# What a terminal says without an id, and gets no ACK for: kept, it would hold up what is behind it for ever.
SAID = ("CLIENT_CONNECTED", "CLIENT_DISCONNECTED", "HEARTBEAT", "SYNC_REQUEST")
NOT_SENT = {"code": "NOT_SENT", "message": "what it builds on was refused"}


@dataclass(eq=False)
class Mutation:
    """What was asked for. `error` is there once it was refused: code, message, todo, and what else the relay told."""

    key: str
    id: str
    client_id: str
    type: str
    data: Row
    if_version: int | None = None
    restaurant: str | None = None  # the one it is for; None: the first that the terminal comes to
    after: tuple[str, ...] = ()  # the ids of those it builds on
    state: Literal["pending", "acknowledged", "refused"] = "pending"
    answer: Row | None = None  # the data of its ACK
    error: Row | None = None
    stored: bool = False

    @property
    def revision(self) -> int:
        """The revision that has it, once it is acknowledged; 0 before."""
        return int(self.answer["revision"]) if self.answer else 0

    @property
    def message(self) -> str:
        """As it goes on the wire, the same however often."""
        version = {} if self.if_version is None else {"ifVersion": self.if_version}
        return encode({"type": self.type, "id": self.id, "clientId": self.client_id, **version, "data": self.data})

    @property
    def kept(self) -> Row:
        """As it is stored."""
        fields: Row = {"id": self.id, "clientId": self.client_id, "type": self.type, "data": self.data}
        fields |= {"ifVersion": self.if_version, "restaurant": self.restaurant}
        return fields | {"after": list(self.after), "error": self.error}

    @classmethod
    def of(cls, key: str, kept: Row) -> Mutation:
        """From what is stored."""
        found = cls(key, kept["id"], kept["clientId"], kept["type"], kept["data"], kept["ifVersion"], stored=True)
        found.restaurant = kept.get("restaurant")
        found.after = tuple(kept.get("after", ()))
        found.error = kept["error"]
        found.state = "refused" if found.error else "pending"
        return found


def full_jitter(attempt: int, first: float, last: float) -> float:
    """Seconds to wait: anything from nothing to a ceiling that doubles, so that a thousand do not come back in step."""
    # The exponent is capped too: 2.0**1024 overflows after one night's outage.
    return random.uniform(0.0, min(last, first * 2.0 ** min(attempt, 20)))  # noqa: S311 - spreads load, keeps no secret


class Outbox:
    """The mutations of one terminal, in the order in which they were wanted.

    `tell` is told what becomes of them: `view`, `acknowledged`, `refused`.
    """

    def __init__(
        self,
        saved: Mapping[str, Any],
        replica: Replica,
        first_delay: float,
        last_delay: float,
        tell: Callable[[str, Any], None],
    ) -> None:
        self._replica = replica
        self._delays = first_delay, last_delay
        self._tell = tell
        found = [Mutation.of(key, value) for key, value in sorted(saved.items()) if key.startswith("outbox/")]
        self.mutations = [one for one in found if one.state == "pending"]
        self.refused = [one for one in found if one.state == "refused"]
        self.restaurant: str | None = saved.get("restaurant")
        self.in_flight: Mutation | None = None
        self._last_key = max((one.key for one in found), default="")
        self._deliver_at = 0.0
        self._refusals = 0  # retryable ones of the first mutation

    def want(
        self,
        client_id: str,
        type_: str,
        data: Row,
        *,
        now_ms: int,
        if_version: int | None,
        after: Sequence[Mutation] = (),
    ) -> Mutation:
        """Take in a mutation; it is sent once `stored`.

        Raises TypeError or ValueError for what is no JSON or no mutation.
        """
        if type_ in SAID:
            raise ValueError(f"{type_} is no mutation")
        # Keys sort in the order of wanting, even if the machine's clock was set back meanwhile.
        last = int(self._last_key[7:22] or 0)
        count = int(self._last_key[23:29]) + 1 if now_ms <= last else 0
        key = f"outbox/{max(now_ms, last):015}-{count:06}-{uuid.uuid4().hex[:4]}"
        mutation = Mutation(key, str(uuid.uuid4()), client_id, type_, decode(encode(data)), if_version, self.restaurant)
        mutation.after = tuple(one.id for one in after)
        mutation.message.encode()
        self._last_key = key
        self.mutations.append(mutation)
        self._replica.save(key, mutation.kept, urgent=True)
        self._tell("view", None)
        if any(one.state == "refused" for one in after):
            self.refuse(mutation, NOT_SENT)
        return mutation

    def unwant(self, mutation: Mutation) -> None:
        """Take it back: it could not be stored."""
        (self.mutations if mutation in self.mutations else self.refused).remove(mutation)
        self._tell("view", None)

    def dismiss(self, mutation: Mutation) -> None:
        """Forget a mutation that was refused: somebody knows."""
        self.refused = [one for one in self.refused if one is not mutation]
        self._replica.save(mutation.key, None)

    def enter(self, restaurant: str) -> str | None:
        """What is wanted from now on is for this restaurant; another one that something pending is for, or None."""
        others = (one.restaurant for one in self.pending if one.restaurant not in (None, restaurant))
        if other := next(others, None):
            return other
        self.restaurant = restaurant
        return None

    @property
    def pending(self) -> list[Mutation]:
        """What has no answer yet."""
        return [one for one in self.mutations if one.state == "pending"]

    def disconnected(self) -> None:
        """Nothing is on its way any more; what was goes out again."""
        self.in_flight = None
        self._deliver_at = 0.0
        self._refusals = 0

    def next(self, now: float, most_bytes: int) -> Mutation | None:
        """The mutation to send now, which is in flight from now on.

        One at a time: the relay may answer one with BUSY and do the next, and then two edits of a row change places.
        """
        while self.in_flight is None and now >= self._deliver_at:
            mutation = next((one for one in self.mutations if one.state == "pending"), None)
            if mutation is None or not mutation.stored:
                break
            if (size := len(mutation.message.encode())) <= most_bytes:
                self.in_flight = mutation
                return mutation
            what = f"the message has {size} bytes, and the relay takes {most_bytes}"
            self.refuse(mutation, {"code": "TOO_LARGE", "message": what})
        return None

    @property
    def deliver_at(self) -> float | None:
        """When `next` has one; None: only when something happens."""
        return self._deliver_at if self.in_flight is None and any(one.stored for one in self.pending) else None

    def find(self, ref: str | None) -> Mutation | None:
        """The mutation with this id, if it waits for an answer."""
        return next((one for one in self.pending if one.id == ref), None)

    def acknowledge(self, mutation: Mutation, data: Row) -> None:
        """It is done, in a revision that may come later: until then it is shown."""
        mutation.state, mutation.answer = "acknowledged", data
        self._replica.save(mutation.key, None)
        self._land(mutation)
        self.prune()
        self._tell("acknowledged", mutation)

    def postpone(self, mutation: Mutation, now: float, after: float = 0.0) -> None:
        """It may be done later: it goes out again, not before `after` seconds, and nothing behind it before."""
        if mutation is self.in_flight:
            self.in_flight = None
            self._deliver_at = now + after + full_jitter(self._refusals, *self._delays)
            self._refusals += 1

    def refuse(self, mutation: Mutation, error: Row) -> None:
        """It is not done, nor is what builds on it, and what was shown of them is rolled back."""
        mutation.state = "refused"
        mutation.error = {**error, "todo": ADVICE.get(error["code"], "mend the terminal")}
        self.mutations.remove(mutation)
        self.refused.append(mutation)
        # Kept until it is dismissed: the person may not be looking.
        self._replica.save(mutation.key, mutation.kept, urgent=True)
        self._land(mutation)
        self._tell("view", None)
        self._tell("refused", mutation)
        for follower in [one for one in self.mutations if mutation.id in one.after]:
            if follower.state == "pending":  # and not yet refused with another that it follows
                self.refuse(follower, NOT_SENT)

    def prune(self, *, every: bool = False) -> None:
        """Drop what is acknowledged and held by now; `every`: also what was acknowledged in another history."""
        held = self._replica.revision
        left = [m for m in self.mutations if m.state == "pending" or (m.revision > held and not every)]
        if len(left) != len(self.mutations):
            self.mutations = left
            self._tell("view", None)

    def _land(self, mutation: Mutation) -> None:
        if mutation is self.in_flight:
            self.in_flight = None
            self._refusals = 0
