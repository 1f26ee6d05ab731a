"""What every test may ask for: a cluster, a database of its own in it, a cluster it may kill."""

from __future__ import annotations

import asyncio
import gc
import os
import re
from collections.abc import Generator, Iterator
from contextlib import contextmanager
from itertools import count
from typing import Any

import psycopg
import pytest
from psycopg import sql
from xdist.scheduler import LoadScopeScheduling

from tests.cluster import TestCluster, running_cluster
from tests.nursery import Nursery
from tests.relays import RelayProcess
from tests.served import relay  # noqa: F401 - a fixture

TEMPLATE = "relay_template"
NUMBERS = count(1)
# What makes a load of its own, for the machine to bear one at a time; and what shares a browser.
TOGETHER = {
    "tests/bench/": "loads",
    "tests/chaos/": "loads",
    "tests/fuzz/": "loads",
    "tests/pages/": "browser",
    "tests/e2e/test_proxied_app.py": "browser",
    "tests/e2e/test_webapp_page.py": "browser",
    "tests/library/test_page.py": "browser",
}
# Of both kinds: enrolled, and signed.
TOKEN = re.compile(r"minipos_[A-Za-z0-9_-]{43}|eyJ[A-Za-z0-9_-]{10,}\.eyJ[A-Za-z0-9_-]{10,}\.")
# A connection string with a password in it, in either form.
DSN = re.compile(r"postgres(?:ql)?://[^\s:/@]*:[^\s/@*]+@|\bpassword=(?!None|')[^\s*]|\bpassword='[^'*]")
PLAIN_SETTINGS = {"DATABASE_URL", "HOST", "PORT", "LOG_LEVEL", "LOG_FORMAT", "NODE_ENV"}

# The developer's own settings must not reach the tests. (What PG= chose has been read by now.)
for name in [
    name for name in os.environ if name.startswith(("PG", "DB_", "RELAY_", "OTEL_")) or name in PLAIN_SETTINGS
]:
    del os.environ[name]


class Scheduling(LoadScopeScheduling):  # type: ignore[misc]
    """Keeps in one process what TOGETHER says. xdist 3.8's `loadgroup` would, but pytest 9.2 never reads `_nodeid`."""

    def _split_scope(self, nodeid: str) -> str:
        return next((group for start, group in TOGETHER.items() if nodeid.startswith(start)), nodeid)


def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Scheduling:
    """Called by xdist where there is more than one process."""
    return Scheduling(config, log)


def pytest_collection_finish() -> None:
    """Keep what is there by now out of every later collection of garbage: the tests make hundreds."""
    gc.collect()
    gc.freeze()


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport() -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Fail a test in whose output, logs among it, a token or the database's password stands: whatever it was about."""
    report = yield
    shown = [title for title, text in report.sections if TOKEN.search(text) or DSN.search(text)]
    if report.when == "call" and report.passed and shown:
        report.outcome, report.longrepr = "failed", f"a secret was written: {', '.join(shown)}"
    return report


@pytest.hookimpl(wrapper=True)
def pytest_report_to_serializable() -> Generator[None, Any, Any]:
    """Let a report travel from a worker process, whatever a test has logged: no half of a surrogate pair can."""
    return _encodable((yield))


def _encodable(value: Any) -> Any:
    if isinstance(value, str):
        return value.encode(errors="backslashreplace").decode()
    if isinstance(value, dict):
        return {_encodable(key): _encodable(each) for key, each in value.items()}
    return type(value)(map(_encodable, value)) if isinstance(value, (list, tuple)) else value


@pytest.fixture(scope="session", autouse=True)
def _nursery() -> Iterator[None]:
    """Let relay processes be forked, which takes a quarter of the CPU."""
    RelayProcess.nursery = nursery = Nursery()
    yield
    RelayProcess.nursery = None
    nursery.close()


@pytest.fixture(scope="session")
def cluster() -> Iterator[TestCluster]:
    """The PostgreSQL all tests share; leave it running."""
    with running_cluster() as running:
        yield running


@pytest.fixture
def private_cluster() -> Iterator[TestCluster]:
    """A PostgreSQL of the test's own, without databases, to `kill`, `stop` and `restart`."""
    with running_cluster() as running:
        yield running


@pytest.fixture
def database(cluster: TestCluster, _template: str) -> Iterator[str]:
    """The connection string of a database of the test's own with the schema installed."""
    with _new_database(cluster, _template) as conninfo:
        yield conninfo


@pytest.fixture
def empty_database(cluster: TestCluster) -> Iterator[str]:
    """The connection string of an empty database of the test's own."""
    with _new_database(cluster, "template0") as conninfo:
        yield conninfo


@pytest.fixture(scope="session")
def _template(cluster: TestCluster) -> str:
    from relay.schema import apply

    cluster.create_database(TEMPLATE)
    asyncio.run(apply(cluster.conninfo(TEMPLATE)))
    return TEMPLATE


@contextmanager
def _new_database(cluster: TestCluster, template: str) -> Iterator[str]:
    name = f"test_{next(NUMBERS)}"
    # A copy of files: on PostgreSQL 15 and 18 alike it takes half as long as one that goes through the log.
    _execute(cluster, "create database {} template {} strategy file_copy", name, template)
    try:
        yield cluster.conninfo(name)
    finally:
        _execute(cluster, "drop database {} with (force)", name)


def _execute(cluster: TestCluster, statement: str, *names: str) -> None:
    with psycopg.connect(cluster.conninfo("postgres"), autocommit=True) as connection:
        connection.execute(sql.SQL(statement).format(*map(sql.Identifier, names)))
