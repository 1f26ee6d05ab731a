"""The MiniPOS web app's profile: how the app is served as it is (PROTOCOL.md, section 6).

An app session is sent the other terminals' changes as they are, except those that the app would apply wrongly, and
after every change the list it belongs to, the sender included: two edits that crossed end alike everywhere. The core
knows a Profile and nothing of all this.
"""

from __future__ import annotations

import asyncio
import json
import logging
import re
import time
from asyncio import Future
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass

from msgspec.structs import replace

from . import appmessages
from .answers import Answer
from .appdata import AppData
from .errors import DatabaseUnavailable, Refusal
from .floors import Floor, Member
from .frames import Frames, encode
from .hub import Hub, Room
from .protocol import Message, Mutation, Update
from .session import Deed, Session, State, Submit, Sync
from .settings import Settings
from .snapshots import Snapshot
from .syncer import now_ms
from .vault import Vault
from .window import Change

log = logging.getLogger("relay.webapp")

ITS_ID = re.compile(r"client_[0-9]{13}_[0-9a-z]+")
NOTE_SECONDS = 20.0  # between notes of what each terminal has seen
NEVER_HERE = 2**63 - 1  # above every revision


@dataclass(frozen=True, slots=True)
class UsersAsked(Sync):
    """The app asks for its users, which come with a full SYNC_RESPONSE."""


class WebApp:
    """All app sessions of this instance, and the floors they are on."""

    name = "app"

    def __init__(self, data: AppData, hub: Hub, settings: Settings) -> None:
        self.data = data
        self.vault = Vault(settings.secret)
        # A ping and the wait for its pong: by then a terminal that has not read is cut off.
        self.certain_seconds = 2 * settings.heartbeat_seconds + NOTE_SECONDS
        self.sessions: set[AppSession] = set()
        self._hub = hub
        self._orders = settings.snapshot_orders
        self._floors: dict[int, Floor] = {}
        hub.on_changes = self._changed
        hub.on_staff.append(self._staff_changed)

    def profile_of(self, session: Session, wanted: str | None) -> AppSession | None:
        """The profile of a session that has named itself: the app's ids have a form of their own."""
        if wanted == self.name or (wanted != "core" and ITS_ID.fullmatch(session.client_id)):
            return AppSession(self, session)
        return None

    def enter(self, app: AppSession) -> Floor:
        """The floor of the session's restaurant, with the session on it."""
        restaurant_id = app.member.session.restaurant_id
        floor = self._floors.get(restaurant_id)
        if floor is None:
            room = self._hub.rooms[restaurant_id]
            floor = self._floors[restaurant_id] = Floor(self.data, self.vault, room, self._orders)
        floor.members.add(app.member)
        self.sessions.add(app)
        return floor

    def leave(self, app: AppSession, floor: Floor) -> None:
        """A session is gone."""
        self.sessions.discard(app)
        floor.members.discard(app.member)
        if not floor.members:
            self._floors.pop(floor.room.restaurant_id, None)

    async def run(self) -> None:
        """Note what each terminal has seen, until cancelled: who was away during a clear is sent it first."""
        while True:
            await asyncio.sleep(NOTE_SECONDS)
            noted = {app.name_in_database: app.certainly_seen() for app in self.sessions}
            seen = {name: revision for name, revision in noted.items() if revision is not None}
            if seen:
                try:
                    await self.data.note_terminals(seen)
                except DatabaseUnavailable:
                    continue
                except Exception:
                    log.exception("what terminals have seen could not be noted")  # a clear is sent once too often

    def _changed(self, room: Room, changes: Sequence[Change]) -> None:
        if (floor := self._floors.get(room.restaurant_id)) is not None:
            floor.changed(changes)

    def _staff_changed(self, room: Room) -> None:
        if (floor := self._floors.get(room.restaurant_id)) is not None:
            floor.wake()


class AppSession:
    """The profile of one session of the app."""

    name = WebApp.name
    kinds = appmessages.KINDS

    def __init__(self, webapp: WebApp, session: Session) -> None:
        self.member = Member(session)
        self._session = session
        self._webapp = webapp
        self._floor: Floor | None = None
        self._met = False
        self._known = 0  # a revision that this terminal has certainly seen, on this socket or before
        self._epoch = ""  # of the last state that it was sent
        self._cleared = False  # it is sent all its orders anew, or its next socket is
        self._cursors: deque[tuple[float, int]] = deque()  # what was written to it, and when

    # What it says

    def deed(self, message: Message, deed: Deed) -> Deed:
        """What is to be done about a message of the app."""
        if self._floor is None and self._session.restaurant_id:
            self._floor = self._webapp.enter(self)
        if isinstance(deed, Submit):
            mutation = deed.mutation
            if isinstance(message, Update):
                mutation = appmessages.taken_from(mutation, message.row)
            if mutation.type == "UPDATE_USERS":
                mutation = replace(mutation, body=self._sealed(mutation))
            return replace(deed, mutation=mutation)
        if message.type == "USER_SYNC" and message.data.get("action") == "request_users":
            return UsersAsked(None, None, message.id)
        return deed

    def _sealed(self, mutation: Mutation) -> str:
        user = json.loads(mutation.body)
        password = user.get("password")
        if password is not None:
            try:
                user["password"] = self._webapp.vault.seal(password, mutation.restaurant_id, user["id"])
            except ValueError as error:
                raise Refusal("VALIDATION", str(error), field="password") from None
        return json.dumps(user, ensure_ascii=False)

    def heartbeat(self) -> str:
        """The answer to a HEARTBEAT: to the app a HEARTBEAT would be one to answer."""
        return appmessages.pong(now_ms=now_ms())

    def submitted(self, mutation: Mutation, answer: Future[Answer]) -> None:
        """Send no list that a mutation under way would contradict; when it is settled the list goes to all."""
        kind = appmessages.list_of(mutation.type, mutation.action or "")
        if kind is not None:
            self.member.busy[kind] += 1
            answer.add_done_callback(lambda future: self._settled(mutation, kind, future))

    def _settled(self, mutation: Mutation, kind: str, answer: Future[Answer]) -> None:
        assert self._floor is not None
        self.member.busy[kind] -= 1
        applied = answer.exception() is None
        if kind == "users" and applied:
            self._floor.staff_is_old = True
        if kind != "orders":
            self._floor.owe([kind])
        elif mutation.action == "clear":
            # Another terminal's sale may have come between its own clear and the one that all others are sent.
            if applied:
                self._clear_first()
        else:
            if applied and "orderId" in answer.result().details_parsed():
                self._clear_first()
            self._floor.owe(["orders"], [json.loads(mutation.body)["id"]])

    def _clear_first(self) -> None:
        self._cleared = True
        self.member.clear_first()
        if self._floor is not None:
            self._floor.wake()

    def refused(self, type_: str) -> None:
        """The browser shows what was refused, and others may show it too: the list puts them right."""
        if self._floor is not None:
            # Orders are merged by id: there is nothing to put right of one that is not known.
            self._floor.owe([kind for kind in appmessages.CHANGED.get(type_, ()) if kind != "orders"])

    def frames_of(self, change: Change) -> Frames:
        """What it is sent of a change."""
        return self.member.frames_of(change, in_lists=self._floor is not None and self._floor.complete)

    # Syncing

    async def prepare(self) -> None:
        """Know the users, and what this terminal has seen before. Raises DatabaseUnavailable."""
        assert self._floor is not None
        await self._floor.load_staff()
        if not self._met:
            known = await self._webapp.data.meet_terminal(self._session.restaurant_id, self._session.client_id)
            # A terminal that was never here has no order that was cleared.
            self._known = NEVER_HERE if known is None else known
            self._met = True

    def snapshot(self, snapshot: Snapshot, sync: Sync) -> Frames:
        """The state as the app reads it, after a clear that it missed; without lists where not all are there."""
        assert self._floor is not None
        state, now = snapshot.state, now_ms()
        frames: tuple[bytes, ...] = ()
        if not state.complete:
            head, tail = appmessages.sync_response_parts(None, None, ref=sync.ref, now_ms=now)
            return encode(head + tail)
        if self._epoch == snapshot.epoch:
            self._known = max(self._known, self._session.cursor)
        elif self._epoch:
            self._known = 0  # what it has seen was of another history
            self._cursors.clear()
        self._epoch = snapshot.epoch
        if self._known < state.cleared_revision:
            frames += encode(appmessages.clear(state.cleared_revision, now_ms=now))
        self._known = snapshot.revision
        users = self._floor.users_text if self.member.sees_users else None
        if users is not None and isinstance(sync, UsersAsked):
            frames += encode(appmessages.user_sync(users, now_ms=now))
        head, tail = appmessages.sync_response_parts(users, snapshot.revision, ref=sync.ref, now_ms=now)
        if appmessages.has_all_settings(state.settings):
            frames += snapshot.inside(head, tail)
        else:
            lists = {kind: getattr(state, kind) for kind in appmessages.LISTS if kind != "settings"}
            frames += encode(head + appmessages.members(lists) + tail)
        self.member.begin()
        return frames

    @property
    def name_in_database(self) -> tuple[int, str]:
        """Its restaurant and client id."""
        return self._session.restaurant_id, self._session.client_id

    def certainly_seen(self) -> int | None:
        """A revision that this terminal has surely received: written so long ago that a dead socket was noticed."""
        # Of a renamed order the next socket must still hear. A history that is over is nobody's, until it is resynced.
        if self._session.state is not State.LIVE or not self._session.epoch or not self._met or self._cleared:
            return None
        now = time.monotonic()
        if not self._session.lagging:
            self._cursors.append((now, self._session.cursor))
        seen = None
        while self._cursors and now - self._cursors[0][0] > self._webapp.certain_seconds:
            seen = self._cursors.popleft()[1]
        return seen

    def left(self) -> None:
        """Its socket is closed."""
        if self._floor is not None:
            self._webapp.leave(self, self._floor)
