"""A standby takes over: one that has everything, or one that has missed the last commits."""

from __future__ import annotations

import asyncio
import time

from tests.chaos.history import epoch_of, heads_of
from tests.chaos.people import tokens
from tests.chaos.staff import Staff, everybody_took, ledger
from tests.chaos.world import DATABASE, World
from tests.standby import Standby
from tests.terminals import Terminal
from tests.waiting import until

ABSENT = 3  # terminals that are switched off meanwhile
AWAY_SECONDS = 30.0  # in which every relay has noticed that its database is gone


async def fail_over(world: World, staff: Staff, *, misses: bool) -> None:
    """Build a standby under load, kill the primary, promote.

    A standby that `misses` the last commits loses what was acknowledged meanwhile, and only that. The other one is
    synchronous: nothing that was acknowledged is lost. Either way every terminal is told of the new history.
    """
    old, absent = world.cluster, dict[str, Terminal]()
    standby = Standby(old, world.other_port)
    world.closing.callback(standby.remove)
    await asyncio.to_thread(standby.start)
    if not misses:
        await asyncio.to_thread(old.say, "alter system set synchronous_standby_names = '*'")
        await asyncio.to_thread(old.say, "select pg_reload_conf()")
        waits = "select exists (select from pg_stat_replication where sync_state = 'sync')"
        await until(lambda: asyncio.to_thread(old.say, waits), within=30.0, what="a synchronous standby")
    kept, sold = staff.mutations(), _sold(staff)
    position = await asyncio.to_thread(old.say, "select pg_current_wal_flush_lsn()::text")
    await until(lambda: asyncio.to_thread(standby.has_all, position), within=30.0, what="the standby to catch up")
    if misses:
        await asyncio.to_thread(standby.stop_copying)
        absent = {slug: await _leave(world, slug) for slug in world.slugs()[:ABSENT]}
        await staff.go_on(2)
    else:
        await staff.go_on()
    epoch = await asyncio.to_thread(epoch_of, world.conninfo)
    await asyncio.to_thread(old.kill)
    for proxy in world.proxies:
        proxy.lead_to(standby.port)
    # By now what was acknowledged before has been heard.
    await until(world.is_without_database, within=AWAY_SECONDS, what="every relay to miss the database")
    acknowledged, all_sold = staff.mutations(), _sold(staff)
    await until(lambda: asyncio.to_thread(standby.has_replayed), within=30.0, what="the end of the replay")
    heads = await asyncio.to_thread(heads_of, standby.conninfo(DATABASE))
    staff.history.over[epoch] = heads
    await asyncio.to_thread(standby.promote)
    promoted = time.monotonic()
    world.cluster, world.other_port = standby, old.port
    await staff.go_on()
    staff.back = time.monotonic() - promoted
    await asyncio.to_thread(old.stop)

    done = await asyncio.to_thread(ledger, world.conninfo)
    lost = acknowledged - staff.lost - done
    assert not lost & kept, f"the standby had these, and they are gone: {sorted(lost & kept)[:5]}"
    found = await asyncio.to_thread(tokens, world.conninfo)
    unsold = {token for token in all_sold if token not in found} - {token for one in staff.people for token in one.lost}
    assert not unsold & sold, f"the standby had these, and they are gone: {sorted(unsold & sold)[:5]}"
    if misses:
        assert lost, "the standby has missed nothing"
    else:
        assert not lost, f"acknowledged by a synchronous standby, and lost: {sorted(lost)[:5]}"
        assert not unsold, f"committed on a synchronous standby, and lost: {sorted(unsold)[:5]}"
    staff.lost |= lost
    for person in staff.people:
        person.lost |= unsold & person.committed.keys()
    epoch = await asyncio.to_thread(epoch_of, world.conninfo)
    await everybody_took(staff, epoch)
    for slug, terminal in absent.items():
        await _come_back(world, slug, terminal, epoch)
        staff.visitors[slug].append(terminal)


async def _leave(world: World, slug: str) -> Terminal:
    """A terminal that has seen what is about to be lost, and is switched off."""
    terminal = await Terminal(f"{world.nginx.url}?restaurant={slug}").connect()
    await terminal.reaches(terminal.revision + 5)
    await terminal.close()
    return terminal


async def _come_back(world: World, slug: str, terminal: Terminal, epoch: str) -> None:
    """It comes when there is something else at its revision, and goes when it has more than that."""
    await until(lambda: asyncio.to_thread(lambda: heads_of(world.conninfo)[slug] > terminal.revision), within=30.0)
    await terminal.connect()
    assert terminal.epoch == epoch, (
        f"{slug}: it was let into the new history at revision {terminal.revision} of the old"
    )
    await terminal.reaches(terminal.revision + 2)
    await terminal.close()
    assert terminal.faults == [], terminal.faults


def _sold(staff: Staff) -> set[str]:
    return {token for person in staff.people for token in person.committed}
