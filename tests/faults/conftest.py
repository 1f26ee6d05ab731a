"""A relay to make ill, on a PostgreSQL that may be killed."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator

import psycopg
import pytest

from relay import schema
from tests.cluster import VERSION, TestCluster, running_cluster
from tests.faults.deeds import make_tables
from tests.faults.health import World
from tests.proxy import proxied
from tests.relays import local_relay
from tests.terminals import agree, terminals

DATABASE = "minipos"


@pytest.fixture(scope="module")
def module_cluster() -> Iterator[TestCluster]:
    options = {} if VERSION == "15" else {"max_notify_queue_pages": "64"}
    with running_cluster(**options) as cluster:
        yield cluster


@pytest.fixture
async def world(module_cluster: TestCluster) -> AsyncIterator[World]:
    module_cluster.create_database(DATABASE)
    conninfo = module_cluster.tcp(DATABASE)
    await schema.apply(conninfo)
    try:
        async with (
            proxied(conninfo) as reads,
            proxied(conninfo) as listens,
            local_relay(reads.conninfo, listen_conninfo=listens.conninfo, proof_seconds=0.5, busy_seconds=0.5) as relay,
            terminals(relay.url, 1) as (terminal,),
        ):
            await make_tables(terminal, "t1")
            yield World(module_cluster, conninfo, reads, listens, relay, terminal)
            await agree(conninfo, terminal)
    finally:
        with psycopg.connect(module_cluster.conninfo("postgres"), autocommit=True) as connection:
            connection.execute(f"drop database {DATABASE} with (force)")
