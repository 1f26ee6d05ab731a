"""The floors: the web app's sessions of one restaurant on this instance, and the lists that they are owed.

A list replaces what a browser holds. So it is sent only where the database holds all lists, never from before a change
that was sent already, and never while the browser waits for the answer to a change of its own.
"""

from __future__ import annotations

import asyncio
import json
import logging
from collections import Counter
from collections.abc import Collection, Iterable, Sequence

from . import appmessages
from .appdata import AppData, Lists
from .auth import sees_users
from .errors import DatabaseUnavailable, UnknownRestaurant
from .frames import Frames, decode, encode
from .hub import Room
from .logs import fields
from .session import Session
from .staff import Staff, User, changes_between, read_staff
from .syncer import now_ms
from .vault import Vault
from .window import Change

log = logging.getLogger("relay.floors")

GATHER_SECONDS = 0.15  # from a change to the list that follows it, for all changes of that time
NAMED_ORDERS = 500  # in a list; of more, the newest are sent
FAULT_SECONDS = 5.0  # after a fault of ours
RETRY_SECONDS = 0.25  # until a list is offered again to a session that could not take it


def text_of(change: Change) -> bytes:
    """The message that a change is."""
    return b"".join(piece for _, piece in decode(b"".join(change.frames)))


class Member:
    """An app session on a floor: the lists that it is owed, and those that it was sent."""

    def __init__(self, session: Session) -> None:
        self.session = session
        self.owed: set[str] = set()  # lists that are due, and "users"
        self.order_ids: set[str] | None = set()  # of the orders that are due; None: the newest
        self.busy: Counter[str] = Counter()  # its own mutations under way, by the list that they change
        self._sent_at: dict[str, int] = {}  # revision of the last list of each kind that it was sent
        self._clear = False  # what it shows of orders is wrong: they are cleared before the newest are sent

    @property
    def sees_users(self) -> bool:
        """Whether it may be sent the app's users."""
        return sees_users(self.session.role)

    @property
    def due(self) -> set[str]:
        """What of it can be sent now."""
        return {kind for kind in self.owed if not self.busy[kind]} if self.session.ready else set()

    def owe(self, kinds: Iterable[str], order_ids: Collection[str] | None) -> None:
        """These lists are due; of the orders those named, None: the newest."""
        self.owed.update(kind for kind in kinds if kind != "users" or self.sees_users)
        if order_ids is None or self.order_ids is None or len(self.order_ids) + len(order_ids) > NAMED_ORDERS:
            self.order_ids = None
        else:
            self.order_ids.update(order_ids)

    def clear_first(self) -> None:
        """A merge removes nothing: its orders are to be cleared before the newest are sent."""
        self._clear = True
        self.owe(["orders"], None)

    def forgive(self) -> None:
        """The database does not hold all lists: none may be sent."""
        self.owed.clear()
        self.order_ids = set()
        self._clear = False

    def pay(self, kinds: Collection[str], frames: Frames, revision: int, order_ids: Collection[str] | None) -> None:
        """Send lists of these kinds as they were at a revision; of the orders those named, None: the newest."""
        if "orders" in kinds and self._clear and order_ids is None:
            self.session.push(encode(appmessages.clear(revision, now_ms=now_ms())))
            self._clear = False
        self.session.push(frames)
        self.owed.difference_update(kinds)
        for kind in kinds:
            self._sent_at[kind] = revision
        self.session.seen = max(self.session.seen, revision)
        if "orders" in kinds:
            if order_ids is None:
                self.order_ids = set()
            elif self.order_ids is not None:
                self.order_ids.difference_update(order_ids)
            if self.order_ids is None or self.order_ids:
                self.owed.add("orders")

    def frames_of(self, change: Change, *, in_lists: bool) -> Frames:
        """What it is sent of a change: nothing of its own, nor what a list held already.

        The app would multiply an add: it comes in the list, or as an update where lists are not sent. That is right for
        a browser that has the row, since the first update of a row makes it in the database; others leave it alone.
        """
        if change.client_id == self.session.client_id:
            return ()
        if (change.type, change.action) in appmessages.ADDS:
            return () if in_lists else encode(appmessages.as_update(text_of(change)))
        if change.action == "clear":
            return change.frames  # no list can stand for it
        if change.type == "UPDATE_SETTINGS" and not appmessages.changes_all_settings(text_of(change)):
            return ()
        kind = appmessages.list_of(change.type, change.action)
        return change.frames if kind is None or change.revision > self._sent_at.get(kind, 0) else ()

    def begin(self) -> None:
        """It is sent a state: what it was sent before is over."""
        self._sent_at.clear()


class Floor:
    """The app's sessions of one restaurant on this instance."""

    def __init__(self, data: AppData, vault: Vault, room: Room, orders: int) -> None:
        self.room = room
        self.members: set[Member] = set()
        self.staff: Staff | None = None
        self.staff_is_old = True
        self._data = data
        self._vault = vault
        self._orders = orders  # in a list
        self._reading = asyncio.Lock()
        self._window = room.window
        self._changed_at: dict[str, int] = {}  # revision of the newest change of each list that was taken
        self._task: asyncio.Task[None] | None = None

    @property
    def complete(self) -> bool:
        """Whether the database holds all lists: only then may one be sent, for it replaces the browser's."""
        return self.staff is not None and self.staff.complete

    def changed(self, changes: Sequence[Change]) -> None:
        """The room has taken changes: their lists are due to everyone."""
        self._keep_up()
        kinds, order_ids = set(), set()
        for change in changes:
            kind = appmessages.list_of(change.type, change.action)
            if kind is not None:
                self._changed_at[kind] = change.revision
            if kind == "orders" and change.row_id is not None:
                order_ids.add(change.row_id)
            # A clear has no orders to send.
            if kind is not None and (kind != "orders" or order_ids):
                kinds.add(kind)
        self.owe(kinds, order_ids)

    def _keep_up(self) -> None:
        if self._window is not self.room.window:
            self._window = self.room.window  # it began anew, perhaps in another history
            self._changed_at.clear()
            self.staff_is_old = True  # although their count may be the same

    def owe(self, kinds: Iterable[str], order_ids: Collection[str] | None = ()) -> None:
        """These lists are due to every session; of the orders those named, None: the newest."""
        for member in self.members:
            member.owe(kinds, order_ids)
        self.wake()

    def wake(self) -> None:
        """See to it that what is due is sent, and that the users are those of the database."""
        # A task that has ended is still there until its callbacks have run.
        if self._task is None or self._task.done():
            self._task = asyncio.create_task(self._serve(), name="app lists")

    async def _serve(self) -> None:
        pause = GATHER_SECONDS
        while self.members and (self._must_read_staff or any(member.owed for member in self.members)):
            await asyncio.sleep(pause)
            try:
                pause = GATHER_SECONDS if await self._push() else RETRY_SECONDS
            except DatabaseUnavailable:
                pause = RETRY_SECONDS
            except UnknownRestaurant:
                return  # it was deleted; its terminals are told so when they sync
            except Exception:
                log.exception("lists could not be sent", extra=fields(restaurant=self.room.slug))
                pause = FAULT_SECONDS

    async def _push(self) -> bool:
        """Send what is due to those who can take it now; whether there was anything."""
        await self.load_staff()
        if not self.complete:
            for member in self.members:
                member.forgive()
            return True
        waiting = [member for member in self.members if member.due]
        if not waiting:
            return False
        kinds = set().union(*(member.due for member in waiting)) & set(appmessages.LISTS)
        wanted = [member.order_ids for member in waiting]
        order_ids = None if None in wanted else frozenset[str]().union(*filter(None, wanted))
        lists = None
        if kinds:
            lists = await self._data.read_lists(self.room.restaurant_id, kinds, order_ids, self._orders)
            if not lists.complete or lists.epoch != self.room.epoch:
                return False  # the mark was just taken off, or the history is another: that is on its way here
        texts = self._texts(lists) if lists else {}
        frames: dict[frozenset[str], Frames] = {}
        for member in waiting:
            # Nor is a list sent from before a change of its own that the room has not taken yet.
            is_new = lists is not None and lists.revision >= member.session.seen
            paid = frozenset(kind for kind in member.due if kind == "users" or (is_new and kind in texts))
            if not paid:
                continue
            if paid not in frames:
                frames[paid] = self._frames(paid, texts, lists.revision if lists else None)
            member.pay(paid, frames[paid], lists.revision if lists else 0, order_ids)
        return True

    def _frames(self, kinds: Collection[str], texts: dict[str, str], revision: int | None) -> Frames:
        lists = {kind: text for kind, text in texts.items() if kind in kinds and text}
        users = self.users_text if "users" in kinds else None
        if not lists and users is None:
            return ()
        head, tail = appmessages.sync_response_parts(users, revision, ref=None, now_ms=now_ms())
        return encode(head + appmessages.members(lists) + tail)

    def _texts(self, lists: Lists) -> dict[str, str]:
        """The lists that are paid by what was read; one that must not be sent is empty."""
        self._keep_up()
        found = {}
        for kind in appmessages.LISTS:
            text: str | None = getattr(lists, kind)
            # A list from before a change that was sent already would move terminals back; that change owes a new one.
            if text is None or lists.revision < self._changed_at.get(kind, 0):
                continue
            found[kind] = "" if kind == "settings" and not appmessages.has_all_settings(text) else text
        return found

    # Staff

    @property
    def users_text(self) -> str | None:
        """The users as JSON text; None where they must not be sent: an empty list would lock everybody out."""
        return self.staff.text if self.staff and self.complete else None

    @property
    def _must_read_staff(self) -> bool:
        if self.staff is None or self.staff_is_old:
            return True
        return self.room.staff >= 0 and self.staff.count != self.room.staff

    async def load_staff(self) -> None:
        """Read the users unless they are as they were; who changed is told to the others.

        Raises DatabaseUnavailable, UnknownRestaurant.
        """
        async with self._reading:
            self._keep_up()
            if not self._must_read_staff:
                return
            old, self.staff_is_old = self.staff, False
            try:
                self.staff = await read_staff(self._data, self._vault, self.room.restaurant_id)
            except BaseException:
                self.staff_is_old = True
                raise
        if old is None:
            return
        for action, user, by in changes_between(old, self.staff):
            # As with tables: where not all are here, the first change of a user makes the row.
            self._tell("update" if action == "add" and not self.complete else action, user, by)
        if not old.complete:
            self.owe(("users", *appmessages.LISTS), None)
        elif old.text != self.staff.text:
            self.owe(("users",))

    def _tell(self, action: str, user: User, by: str) -> None:
        frames = encode(appmessages.update_users(action, json.dumps(user, ensure_ascii=False), by, now_ms=now_ms()))
        for member in self.members:
            if member.sees_users and member.session.ready and member.session.client_id != by:
                member.session.push(frames)
