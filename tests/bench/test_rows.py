"""Every row of the bench runs, at a size at which its figures mean nothing; and what it stands on does what it says."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import psycopg
import pytest
from click.testing import CliRunner

from tests.bench import __main__ as bench
from tests.bench.ground import TINY, Ground, cluster
from tests.bench.programs import NotBuilt, build

WHAT_IT_NEEDS = ("wsload", "fanout", "slowflush")
FLUSH_SECONDS = 0.05


@pytest.fixture(scope="module", autouse=True)
def _programs() -> None:
    try:
        for name in WHAT_IT_NEEDS:
            build(name)
    except NotBuilt as why:
        if os.environ.get("CI") == "true":
            raise
        pytest.skip(f"the bench, for {why}")


@pytest.fixture(scope="module")
def ground() -> Iterator[Ground]:
    with cluster(fsync="off") as running, ExitStack() as stack:
        yield Ground(running, TINY, stack=stack)


@pytest.mark.parametrize("name", bench.ROWS)
def test_a_row_of_the_bench_measures_the_relay(ground: Ground, name: str) -> None:
    lines = list(bench.ROWS[name](ground))
    assert {line.row for line in lines} == {name}
    assert not ground.skipped
    # One change alone is enough; of ten in a second a machine that is not stalled lets most pass so.
    assert name != "rest" or any("receive" in line.what for line in lines), ground.remarks
    for line in lines:
        assert line.relay, line
        assert not line.against or len(line.reference) == len(line.relay), line
        # A count is no speed: of terminals that hold nothing each restaurant has some.
        assert (name, "read" in line.what) != ("storm", True) or line.figure > 0, line


def test_a_flush_on_the_slow_disk_takes_as_long_as_is_said() -> None:
    slow = {"LD_PRELOAD": str(build("slowflush")), "SLOWFLUSH_MICROSECONDS": str(round(FLUSH_SECONDS * 1e6))}
    with cluster(slow) as running, psycopg.connect(running.conninfo("postgres"), autocommit=True) as connection:
        connection.execute("create table told (number integer)")
        began = time.monotonic()
        connection.execute("insert into told values (1)")
        assert time.monotonic() - began >= FLUSH_SECONDS


def test_a_run_is_printed_and_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bench, "QUICK", TINY)
    done = CliRunner().invoke(bench.main, ["sql", "--quick", "--json", str(tmp_path / "run.json")])
    assert done.exit_code == 0, done.output
    run = json.loads((tmp_path / "run.json").read_text())
    assert {line["row"] for line in run["lines"]} == {"sql"}
    assert "| sql " in done.output
    assert "A quick look, no measurement" in done.output


def test_without_a_compiler_the_bench_says_so_and_in_ci_it_fails(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr("tests.bench.programs.BUILT", tmp_path)
    monkeypatch.setenv("PATH", str(tmp_path))
    for where, status in (("false", 0), ("true", 1)):
        monkeypatch.setenv("CI", where)
        done = CliRunner().invoke(bench.main, [])
        assert (done.exit_code, done.output) == (
            status,
            "SKIPPED: the bench, for there is no C compiler (apt-get install gcc libc6-dev)\n",
        )
