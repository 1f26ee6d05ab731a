"""What the tests of the SQL ask for: a restaurant, in a database of its own or beside others."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from itertools import count

import psycopg
import pytest

from relay import schema
from tests.cluster import TestCluster
from tests.sql.shop import Shop, add_restaurant

NUMBERS = count(1)


@pytest.fixture
def alone(database: str) -> Iterator[Shop]:
    """The default restaurant of a new database."""
    with Shop(database) as made:
        yield made


@pytest.fixture
def shop(neighbourhood: str) -> Iterator[Shop]:
    """A new restaurant beside those of other tests, which takes no time to make."""
    with psycopg.connect(neighbourhood, autocommit=True) as connection:
        restaurant_id = add_restaurant(connection, f"shop-{next(NUMBERS)}")
    with Shop(neighbourhood, restaurant_id) as made:
        yield made


@pytest.fixture(scope="session")
def neighbourhood(cluster: TestCluster) -> str:
    """The connection string of a database that tests share."""
    cluster.create_database("neighbourhood")
    asyncio.run(schema.apply(cluster.conninfo("neighbourhood")))
    return cluster.conninfo("neighbourhood")
