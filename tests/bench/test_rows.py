"""Every row of the bench runs, at a size at which its figures mean nothing."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import ExitStack

import pytest

from tests.bench.__main__ import ROWS
from tests.bench.ground import TINY, Ground, cluster
from tests.bench.programs import NotBuilt, build

WHAT_IT_NEEDS = ("wsload", "fanout", "slowflush")


@pytest.fixture(scope="module")
def ground() -> Iterator[Ground]:
    try:
        for name in WHAT_IT_NEEDS:
            build(name)
    except NotBuilt as why:
        if os.environ.get("CI") == "true":
            raise
        pytest.skip(str(why))
    with cluster(fsync="off") as running, ExitStack() as stack:
        yield Ground(running, TINY, stack=stack)


@pytest.mark.parametrize("name", ROWS)
def test_a_row_of_the_bench_measures_the_relay(ground: Ground, name: str) -> None:
    lines = list(ROWS[name](ground))
    assert {line.row for line in lines} == {name}
    assert not ground.skipped
    for line in lines:
        assert line.relay, line
        assert not line.against or len(line.reference) == len(line.relay), line
