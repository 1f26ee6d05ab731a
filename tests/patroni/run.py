"""Kill the leader of a Patroni cluster again and again, under load.

    python -m tests.patroni.run [--kills 10] [--seed 7]

Every other time the Patroni beside it is killed too, as when the machine is gone. In synchronous mode nothing that was
acknowledged may be lost or done twice, and every terminal applies what the log holds, in its order.
"""

from __future__ import annotations

import argparse
import asyncio
import statistics
import time
from collections.abc import Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass
from functools import partial

import psycopg
from psycopg.conninfo import make_conninfo

from tests.chaos.staff import Staff, at_work
from tests.chaos.world import DATABASE, furnish, slugs_of
from tests.nginx import Nginx
from tests.patroni.cluster import MISSING, Node, PatroniCluster, is_installed, running_patroni
from tests.relays import RelayProcess, running
from tests.waiting import until

RESTAURANTS = 8
RELAYS = 3
LEADER_SECONDS = 90.0  # from a kill to the next leader that takes changes
SAFE_SECONDS = 120.0  # until the killed one is back and a standby is synchronous
FOLLOWED_SECONDS = 5.0  # from the first commit of the new leader to the next ACK of every till


@dataclass
class Hall:
    """Relays of the cluster behind nginx."""

    cluster: PatroniCluster
    relays: Sequence[RelayProcess]
    nginx: Nginx

    @property
    def conninfo(self) -> str:
        return self.cluster.conninfo(DATABASE)

    def slugs(self) -> list[str]:
        return slugs_of(self.conninfo)


async def run(kills: int, seed: int) -> None:
    """AssertionError where a guarantee fails."""
    async with AsyncExitStack() as stack:
        cluster = stack.enter_context(running_patroni())
        with psycopg.connect(cluster.conninfo("postgres"), autocommit=True) as connection:
            connection.execute(f"create database {DATABASE}")
        await furnish(cluster.conninfo(DATABASE), RESTAURANTS)
        relays = [
            await stack.enter_async_context(running(RelayProcess(cluster.conninfo(DATABASE)))) for _ in range(RELAYS)
        ]
        nginx = Nginx([(relay.host, relay.port) for relay in relays])
        stack.callback(nginx.stop)
        hall = Hall(cluster, relays, nginx)
        began = time.monotonic()
        followed = []
        async with at_work(hall, seed) as staff:
            for number in range(kills):
                followed.append(await _kill(hall, staff, patroni=number % 2 == 1))
                print(f"{number + 1:3} of {kills}: {followed[-1]:.1f} s", end="", flush=True)
                print(" from the new leader's first commit to an ACK at every till", flush=True)
        print(
            f"seed {seed}: the leader killed {kills} times in {time.monotonic() - began:.0f} s, "
            f"{staff.acknowledged} changes acknowledged, {staff.deliveries} applied by terminals; every acknowledged "
            f"change is there once, and every terminal applied what its restaurant's log holds\n"
            f"all tills went on {statistics.median(followed):.1f} s after the new leader's first commit (median), "
            f"{max(followed):.1f} s at most"
        )
        assert max(followed) <= FOLLOWED_SECONDS, f"a promotion was followed only after {max(followed):.1f} s"


async def _kill(hall: Hall, staff: Staff, *, patroni: bool) -> float:
    """Kill who leads; seconds from the first commit of the next one to an ACK at every till."""
    old = await asyncio.to_thread(lambda: hall.cluster.leader)
    assert old is not None
    await asyncio.to_thread(partial(old.kill, patroni=patroni))
    others = [node for node in hall.cluster.nodes if node is not old] if patroni else hall.cluster.nodes
    committed = asyncio.create_task(_first_commit(others))
    await until(committed.done, within=LEADER_SECONDS, what="the next leader")
    promoted = committed.result()
    await staff.go_on()
    back = time.monotonic() - promoted
    await staff.quiet.change()
    await staff.quiet.is_shown()
    if not old.runs:
        old.start()
    await until(lambda: asyncio.to_thread(lambda: hall.cluster.is_safe), within=SAFE_SECONDS, what="a standby in sync")
    return back


async def _first_commit(nodes: Sequence[Node]) -> float:
    """When one of them first took a change."""

    def committed() -> bool:
        for node in nodes:
            try:
                with psycopg.connect(make_conninfo(node.conninfo, dbname=DATABASE), autocommit=True) as connection:
                    connection.execute("set statement_timeout = '1s'")
                    connection.execute("create table if not exists public.probe (n int)")
                    connection.execute("insert into public.probe values (1)")
                    return True
            except psycopg.Error:
                continue
        return False

    await until(lambda: asyncio.to_thread(committed), within=LEADER_SECONDS, what="a leader that takes changes")
    return time.monotonic()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=10)
    parser.add_argument("--seed", type=int, default=1)
    arguments = parser.parse_args()
    if not is_installed():
        raise SystemExit(MISSING)
    asyncio.run(run(arguments.kills, arguments.seed))


if __name__ == "__main__":
    main()
