"""Measures the relay beside what it is measured against, and prints one table.

    make bench [PEERS=1] [ARGS='paced burst --quick --json result.json']

Every figure of a line is of the same run on the same machine, so its ratio says more than the figure.
"""

from __future__ import annotations

import json
import os
import platform
import signal
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path

import click

from tests.bench import arriving, carried, fanout, growth, peers, resting, sqlcost, storm, writes
from tests.bench.figures import Line, table
from tests.bench.ground import FULL, QUICK, Ground, ground, progress
from tests.bench.page import said
from tests.bench.programs import NotBuilt, build

ROWS: Mapping[str, Callable[[Ground], Iterator[Line]]] = {
    "memory": arriving.memory,  # first, for its processes must be new
    "handshakes": arriving.handshakes,
    "paced": fanout.paced,
    "burst": fanout.burst,
    "writes": writes.writes,
    "rest": resting.rest,
    "library": carried.library,
    "storm": storm.storm,
    "growth": growth.growth,
    "sql": sqlcost.sql,
}


@click.command(help=__doc__)
@click.argument("rows", nargs=-1, type=click.Choice(list(ROWS)))
@click.option("--quick", is_flag=True, help="One short round of each: a look, no measurement.")
@click.option("--rounds", type=click.IntRange(1, 20), help="Rounds whose median counts (3).")
@click.option("--idle-terminals", type=click.IntRange(10, 60_000), help="Terminals of the row memory (10,000).")
@click.option("--peers", "with_peers", is_flag=True, help="Beside what npm offers, too.")
@click.option("--json", "target", type=click.Path(path_type=Path), help="Also write every run to this file.")
def main(
    rows: tuple[str, ...],
    *,
    quick: bool,
    rounds: int | None,
    idle_terminals: int | None,
    with_peers: bool,
    target: Path | None,
) -> None:
    try:
        build("wsload")
    except NotBuilt as why:
        print(f"SKIPPED: the bench, for {why}")
        sys.exit(os.environ.get("CI") == "true")
    sizes = QUICK if quick else FULL
    sizes = replace(sizes, rounds=rounds or sizes.rounds, idle_terminals=idle_terminals or sizes.idle_terminals)
    began = time.monotonic()
    lines: list[Line] = []
    seconds: dict[str, float] = {}
    chosen = [name for name in ROWS if not rows or name in rows]
    place = ""  # of the row that is under way

    def told(text: str) -> None:
        tell(text if text.startswith("SKIPPED") else place + text)

    with ExitStack() as stack:
        folder = None
        if with_peers:
            tell("npm install")
            folder = stack.enter_context(peers.installed())
        made = stack.enter_context(ground(sizes, told, peers=folder))
        for number, name in enumerate(chosen):
            place = f"{'█' * number}{'░' * (len(chosen) - number)} {number + 1} of {len(chosen)}, "
            row_began = time.monotonic()
            lines += ROWS[name](made)
            seconds[name] = round(time.monotonic() - row_began, 1)
    progress("")
    run = {
        "machine": _machine(),
        "when": time.strftime("%Y-%m-%d", time.gmtime()),
        "seconds": round(time.monotonic() - began),
        "seconds_of_rows": seconds,
        "quick": quick,
        "skipped": made.skipped,
        "remarks": made.remarks,
        "lines": [line.as_json() for line in lines],
    }
    print(f"{table(lines)}\n\n{said(run)}")
    if target:
        target.write_text(json.dumps(run, indent=1, ensure_ascii=False) + "\n")


def tell(text: str) -> None:
    """What is left out stays to be read; what is under way passes."""
    if text.startswith("SKIPPED"):
        progress("")
        print(text, flush=True)
    else:
        progress(text)


def _machine() -> str:
    model = next(
        (
            line.partition(":")[2].strip()
            for line in Path("/proc/cpuinfo").read_text().splitlines()
            if "model name" in line
        ),
        platform.machine(),
    )
    kernel = platform.release().partition("-")[0]
    return f"{os.cpu_count()} cores of {model}, Linux {kernel}, Python {platform.python_version()}"


if __name__ == "__main__":
    # So that nothing that was started is left behind after SIGTERM either.
    signal.signal(signal.SIGTERM, lambda _number, _frame: sys.exit(128 + signal.SIGTERM))
    main()
