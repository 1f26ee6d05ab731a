"""What is broken in a run: PostgreSQL, three relays, and a real nginx in front of them."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import AsyncExitStack, ExitStack, asynccontextmanager
from dataclasses import dataclass
from typing import Protocol

import psycopg
from psycopg import sql
from psycopg.conninfo import make_conninfo

from relay import schema
from tests.chaos.network import Cables, FarRelay, cables
from tests.cluster import TestCluster, free_port, running_cluster
from tests.nginx import Nginx
from tests.proxy import Proxy, proxied
from tests.relays import RelayProcess, running
from tests.waiting import until

RELAYS = 3
DATABASE = "chaos"
QUIET = "quiet"  # a restaurant where nobody works, and its state is not small
PHOTO_BYTES = 60_000


class Place(Protocol):
    """Where people work: relays of one database behind nginx."""

    @property
    def relays(self) -> Sequence[RelayProcess]: ...

    @property
    def nginx(self) -> Nginx: ...

    @property
    def conninfo(self) -> str: ...

    def slugs(self) -> list[str]: ...


def slugs_of(conninfo: str) -> list[str]:
    """The restaurants, but for the quiet one."""
    with psycopg.connect(conninfo) as connection:
        rows = connection.execute(
            "select slug from pos.restaurants where slug <> %s order by restaurant_id", (QUIET,)
        ).fetchall()
    return [slug for (slug,) in rows]


@dataclass
class World:
    """All of it, running."""

    cluster: TestCluster  # the one that is written to
    relays: list[RelayProcess]
    nginx: Nginx
    proxies: list[Proxy]  # all relays but the last reach PostgreSQL through one each
    cables: Cables | None  # the last relay is at their far end
    other_port: int  # where a standby is started
    closing: ExitStack
    longest: float  # seconds that anything is frozen or cut off

    @property
    def conninfo(self) -> str:
        return self.cluster.conninfo(DATABASE)

    def slugs(self) -> list[str]:
        return slugs_of(self.conninfo)

    def backends(self) -> list[int]:
        """The processes that serve connections of the relays."""
        with psycopg.connect(self.conninfo) as connection:
            rows = connection.execute(
                "select pid from pg_stat_activity where application_name like 'relay %' order by pid"
            ).fetchall()
        return [pid for (pid,) in rows]

    async def is_without_database(self) -> bool:
        """Whether every relay says that its database is away."""
        said = await asyncio.gather(*(relay.health() for relay in self.relays))
        return not any(health["database"]["reached"] for health in said)

    async def is_whole(self) -> bool:
        """Whether every relay serves, and hears the database."""
        return all(await asyncio.gather(*(relay.ready() for relay in self.relays)))


async def furnish(conninfo: str, restaurants: int) -> None:
    """Install the schema, and make so many restaurants beside the quiet one."""
    await schema.apply(conninfo)
    with psycopg.connect(conninfo) as connection:
        connection.execute(
            "insert into pos.restaurants (slug, name) select 'r' || n, 'R' from generate_series(2, %s) as n"
            " union all select %s, 'Q'",
            (restaurants, QUIET),
        )
        connection.execute(
            "insert into pos.menu_items (restaurant_id, id, name, price, category, description, image)"
            " select restaurant_id, 'photo', 'photo', 1, '', '', repeat('x', %s) from pos.find_restaurant(%s)",
            (PHOTO_BYTES, QUIET),
        )


@asynccontextmanager
async def world(
    restaurants: int,
    longest: float = 30.0,
    *,
    direct: bool = False,
    options: Mapping[str, str] | None = None,
    settings: Mapping[str, str] | None = None,
) -> AsyncIterator[World]:
    """Everything started, with so many restaurants; PostgreSQL flushes as it does in earnest.

    `direct`: with nothing between the relays and PostgreSQL, where each is a role of its own; `settings` are these
    relays'. `options` are PostgreSQL's.
    """
    async with AsyncExitStack() as stack:
        laid = None if direct else stack.enter_context(cables(free_port()))
        addresses = ["127.0.0.1", *([laid.database] if laid else [])]
        cluster = stack.enter_context(
            running_cluster(fsync="on", listen_addresses=",".join(addresses), **(options or {}))
        )
        if laid:
            _admit(cluster, laid.relay_at_the_database)
        cluster.create_database(DATABASE)
        conninfo = cluster.tcp(DATABASE)
        await furnish(conninfo, restaurants)
        closing = stack.enter_context(ExitStack())  # after all that uses a database
        proxies: list[Proxy] = []
        other_port = free_port()
        if direct:
            relays = [RelayProcess(make_conninfo(conninfo, user=role), **(settings or {})) for role in _roles(conninfo)]
        else:
            proxies = [await stack.enter_async_context(proxied(conninfo)) for _ in range(RELAYS - 1)]
            # No proxy moves with the database for the last relay: it knows both of its addresses.
            host = addresses[-1]
            both = make_conninfo(conninfo, host=f"{host},{host}", port=f"{cluster.port},{other_port}")
            last = FarRelay(both, laid) if laid else RelayProcess(both)
            relays = [*(RelayProcess(proxy.conninfo) for proxy in proxies), last]
        for relay in relays:
            await stack.enter_async_context(running(relay))
        nginx = Nginx([(relay.host, relay.port) for relay in relays])
        stack.callback(nginx.stop)
        yield World(cluster, relays, nginx, proxies, laid, other_port, closing, longest)


def _roles(conninfo: str) -> list[str]:
    """New roles, one for each relay."""
    roles = [f"relay_{number}" for number in range(RELAYS)]
    with psycopg.connect(conninfo) as connection:
        for role in roles:
            connection.execute(sql.SQL("create role {} superuser login").format(sql.Identifier(role)))
    return roles


def _admit(cluster: TestCluster, address: str) -> None:
    """Let whoever is at an address in, as whoever is at 127.0.0.1."""
    with (cluster.data / "pg_hba.conf").open("a") as file:
        file.write(f"host all all {address}/32 trust\n")
    with psycopg.connect(cluster.conninfo("postgres"), autocommit=True) as connection:
        connection.execute("select pg_reload_conf()")


def is_alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


async def gone(pids: list[int]) -> None:
    """Wait until these processes are no more."""
    await until(lambda: not any(map(is_alive, pids)), within=20.0, what="the end of what was killed")


async def accepts(cluster: TestCluster) -> None:
    """Wait until PostgreSQL accepts connections."""
    await until(lambda: asyncio.to_thread(cluster.is_running), within=30.0, what="PostgreSQL")
