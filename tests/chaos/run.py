"""One run of chaos: terminals at work in many restaurants, while one thing after the other is broken.

    python -m tests.chaos.run [--deep] [--faults 60] [--seed 7] [--part faults]

What is done is the seed's, so a run can be repeated. At the end nothing that was acknowledged is lost or done twice,
every terminal applied what the log holds, in its order, and shows what the database holds. Then the goals that are
figures (tests/chaos/goals.py).
"""

from __future__ import annotations

import argparse
import asyncio
import math
import os
import random
import re
import signal
import statistics
import time
from collections import defaultdict
from collections.abc import Awaitable, Callable, Coroutine, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeVar

from tests.chaos.columns import CHECK, DEEP, DEEP_GOALS, DEEP_RUNS, GOALS
from tests.chaos.goals import Figure, measure, percentile
from tests.chaos.lateness import Lateness, watched
from tests.chaos.plans import Clock, Step, column, plan
from tests.chaos.staff import Staff, at_work
from tests.chaos.world import World, world
from tests.waiting import until

T = TypeVar("T")

RESTAURANTS = 20
WHOLE_SECONDS = 60.0  # from a fault to all relays being ready again
FROZEN_SECONDS = 30.0  # at most
DEEP_SECONDS = 90 * 60.0  # for all runs
STARTED = time.monotonic()
# G9: seconds within which a change is shown that is made when PostgreSQL accepts connections, or hearing has ended.
SHOWN_SECONDS = {
    "kill postgresql": 2.0,
    "kill a backend": 2.0,
    "terminate listeners": 1.0,
    "reset connections": 1.0,
}
FAULTY = re.compile("the log has a hole|Traceback|a connection failed|a mutation failed|a resync failed|a batch failed")


@dataclass
class Report:
    """What happened."""

    seed: int
    times: dict[str, int] = field(default_factory=lambda: defaultdict(int))
    back: dict[str, list[float]] = field(default_factory=lambda: defaultdict(list))
    shown: dict[str, list[float]] = field(default_factory=lambda: defaultdict(list))
    hit: dict[str, int] = field(default_factory=lambda: defaultdict(int))
    acknowledged: int = 0
    transactions: int = 0
    shouted: int = 0
    lost: int = 0
    deliveries: int = 0
    terminals: int = 0
    seconds: float = 0.0

    def __str__(self) -> str:
        lines = [
            f"seed {self.seed}: {sum(self.times.values())} faults in {self.seconds:.0f} s, "
            f"{self.acknowledged} changes acknowledged ({self.acknowledged / self.seconds:.0f} a second), "
            f"{self.shouted} without an id, {self.transactions} transactions committed in psql, "
            f"{self.deliveries} changes applied by {self.terminals} terminals",
            "every acknowledged change is there once, and every terminal applied what its restaurant's log holds",
        ]
        if self.lost:
            lines.append(f"but for {self.lost} that a standby had missed when it was promoted: no terminal shows them")
        lines.append(f"  {'':<38} times  hit; all tills go on after; a change made then is everywhere after")
        for name in sorted(self.times):
            often = f"{name:<38} {self.times[name]:5} {self.hit[name]:4}"
            lines.append(f"  {often}; {_spread(self.back[name])}; {_spread(self.shown[name])}")
        lines += [str(figure) for figure in self.recovery()]
        return "\n".join(lines)

    def recovery(self) -> list[Figure]:
        """G9: how soon a change that is made when it is over is shown at each relay."""
        return [
            Figure(
                "G9",
                f"{name}: a change is shown at all relays, p99 of {len(found)}",
                percentile(found, 0.99),
                most,
                "s",
            )
            for name, most in SHOWN_SECONDS.items()
            if (found := self.shown[name])
        ]


def _spread(seconds: Sequence[float]) -> str:
    """The median and the longest."""
    return f"{statistics.median(seconds):5.1f} s, {max(seconds):5.1f} s at most" if seconds else f"{'':>24}"


async def run(
    seed: int,
    steps: Sequence[Step],
    longest: float = FROZEN_SECONDS,
    minutes: float = math.inf,
    more_runs: int = 0,
) -> Report:
    """Break so many things, step after step, within so many minutes. AssertionError where a guarantee fails.

    `more_runs` like this one follow, and count where it is said how long all will take.
    """
    report, dice = Report(seed), random.Random(seed)
    started = time.monotonic()
    async with world(RESTAURANTS, longest) as broken:
        try:
            async with at_work(broken, seed) as staff, watched() as lateness:
                clock = Clock(steps, more_runs)
                await _break(broken, staff, steps, clock, lateness, dice, report, started + minutes * 60)
            said = [line for relay in broken.relays for line in relay.log.splitlines() if FAULTY.search(line)]
            assert not said, f"a relay says what must never be: {said[0]}"
        except BaseException:
            for relay in broken.relays:
                print(f"--- the log of the relay on port {relay.port}\n{relay.log[-8000:]}")
            raise
    report.seconds = time.monotonic() - started
    report.acknowledged, report.transactions = staff.acknowledged, staff.transactions
    report.shouted = staff.shouted
    report.deliveries, report.lost = staff.deliveries, len(staff.lost)
    report.terminals = sum(len(staff.terminals(slug)) + 1 for slug in staff.loads)  # a waiter each
    return report


async def _break(
    broken: World,
    staff: Staff,
    steps: Sequence[Step],
    clock: Clock,
    lateness: Lateness,
    dice: random.Random,
    report: Report,
    until_then: float,
) -> None:
    for number, step in enumerate(steps, 1):
        if time.monotonic() > until_then:
            print(f"SKIPPED: {len(steps) - number + 1} of {len(steps)} steps, for the time is over", flush=True)
            break
        names = [fault.__name__.replace("_", " ") for fault in step]
        print(f"{number:4} of {len(steps)}: {' and '.join(names)}", end="", flush=True)
        began, staff.back = time.monotonic(), None
        hit = await asyncio.gather(*(fault(broken, staff, dice) for fault in step))
        since = time.monotonic()
        lateness.forget()
        await staff.quiet.change()
        showing = asyncio.create_task(_seconds_of(staff.quiet.is_shown(WHOLE_SECONDS)))
        await staff.go_on()
        back = time.monotonic() - since if staff.back is None else staff.back
        shown = await showing
        for name, found in zip(names, hit, strict=True):
            report.times[name] += 1
            report.hit[name] += 1 if found is None else found
        if len(names) == 1:  # of two that came together nobody knows which it was
            report.back[names[0]].append(back)
            report.shown[names[0]].append(shown)
        await until(broken.is_whole, within=WHOLE_SECONDS, what="every relay to be ready")
        await staff.quiet.change()
        await staff.quiet.is_shown()
        clock.took(step, time.monotonic() - began)
        print(
            f", {since - began:.1f} s; all go on after {back:.1f} s, the test itself late by {lateness.most:.1f} s;"
            f" {clock.seconds / 60:.0f} min left",
            flush=True,
        )


async def _seconds_of(waiting: Awaitable[None]) -> float:
    began = time.monotonic()
    await waiting
    return time.monotonic() - began


async def _until_terminated(work: Coroutine[Any, Any, T]) -> T:
    """Nothing that was started is left behind after SIGTERM either."""
    task = asyncio.current_task()
    assert task is not None
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, task.cancel)
    return await work


def _faults(arguments: argparse.Namespace) -> None:
    runs = arguments.runs or (DEEP_RUNS if arguments.deep else 1)
    longest = 0.0
    for number in range(runs):
        began = time.monotonic()
        if began - STARTED + longest > DEEP_SECONDS:
            print(
                f"SKIPPED: {runs - number} of {runs} runs, for {DEEP_SECONDS / 60:.0f} minutes would not do", flush=True
            )
            break
        seed = arguments.seed + number
        if arguments.faults is not None:
            steps = plan(seed, arguments.faults)
        else:
            steps = column(seed, DEEP if arguments.deep else CHECK, together=arguments.deep)
        print(f"seed {seed}: run {number + 1} of {runs}", flush=True)
        print(
            asyncio.run(_until_terminated(run(seed, steps, minutes=arguments.minutes, more_runs=runs - number - 1))),
            flush=True,
        )
        longest = max(longest, time.monotonic() - began)


def _goals(arguments: argparse.Namespace) -> None:
    print(f"seed {arguments.seed}: the goals that are figures", flush=True)
    asyncio.run(_until_terminated(measure(arguments.seed, DEEP_GOALS if arguments.deep else GOALS)))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    seed = int(os.environ.get("CHAOS_SEED") or time.time_ns() // 1000 % 10**6)
    parser.add_argument(
        "--seed", type=int, default=seed, help="of the plan (default: CHAOS_SEED, or another each time)"
    )
    parser.add_argument("--part", choices=PARTS, help="only the faults, or only the goals that are figures")
    parser.add_argument("--faults", type=int, help="how many (default: as many of each kind as a column says)")
    parser.add_argument("--deep", action="store_true", help=f"the deep column, in {DEEP_RUNS} runs")
    parser.add_argument("--minutes", type=float, default=math.inf, help="break nothing more after them, in each run")
    parser.add_argument("--runs", type=int, help="how many runs, each with the next seed")
    arguments = parser.parse_args()
    for name, part in PARTS.items():
        if arguments.part in (None, name):
            part(arguments)


PARTS: Mapping[str, Callable[[argparse.Namespace], None]] = {"goals": _goals, "faults": _faults}


if __name__ == "__main__":
    main()
