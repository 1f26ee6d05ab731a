"""One run of chaos: terminals at work in many restaurants, while one thing after the other is broken.

    python -m tests.chaos.run [--deep] [--faults 60] [--seed 7]

What is done is the seed's, so a run can be repeated. At the end nothing that was acknowledged is lost or done twice,
every terminal applied what the log holds, in its order, and shows what the database holds.
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
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from tests.chaos.columns import CHECK, DEEP, DEEP_RUNS, WEIGHTS
from tests.chaos.faults import Fault
from tests.chaos.staff import Staff, at_work
from tests.chaos.world import World, world
from tests.waiting import slow_down, until

RESTAURANTS = 20
WHOLE_SECONDS = 60.0  # from a fault to all relays being ready again
FROZEN_SECONDS = 30.0  # at most
DEEP_SECONDS = 90 * 60.0  # for all runs
LOOK_SECONDS = 0.05
FAULTY = re.compile("the log has a hole|Traceback|a connection failed|a mutation failed|a resync failed|a batch failed")


@dataclass
class Report:
    """What happened."""

    seed: int
    back: dict[str, list[float]] = field(default_factory=lambda: defaultdict(list))
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
            f"seed {self.seed}: {sum(map(len, self.back.values()))} faults in {self.seconds:.0f} s, "
            f"{self.acknowledged} changes acknowledged ({self.acknowledged / self.seconds:.0f} a second), "
            f"{self.shouted} without an id, {self.transactions} transactions committed in psql, "
            f"{self.deliveries} changes applied by {self.terminals} terminals",
            "every acknowledged change is there once, and every terminal applied what its restaurant's log holds",
        ]
        if self.lost:
            lines.append(f"but for {self.lost} that a standby had missed when it was promoted: no terminal shows them")
        for name, seconds in sorted(self.back.items()):
            median, most = statistics.median(seconds), max(seconds)
            lines.append(
                f"  {name:<38} {len(seconds):3} times, {self.hit[name]:4} hit;"
                f" all tills go on after {median:4.1f} s, {most:4.1f} at most"
            )
        return "\n".join(lines)


def plan(seed: int, faults: int) -> list[Fault]:
    """A plan of any length: each kind at least once where there is room, the rest by its weight."""
    dice = random.Random(seed)
    kinds, weights = list(WEIGHTS), list(WEIGHTS.values())
    chosen = [*kinds, *dice.choices(kinds, weights, k=max(0, faults - len(kinds)))]
    dice.shuffle(chosen)
    return chosen[:faults]


def column(seed: int, numbers: Mapping[Fault, int]) -> list[Fault]:
    """Each kind as often as a column says."""
    chosen = [kind for kind, number in numbers.items() for _ in range(number)]
    random.Random(seed).shuffle(chosen)
    return chosen


async def run(seed: int, faults: Sequence[Fault], longest: float = FROZEN_SECONDS, minutes: float = math.inf) -> Report:
    """Break so many things, one after the other, within so many minutes. AssertionError where a guarantee fails."""
    report, dice = Report(seed), random.Random(seed)
    started = time.monotonic()
    async with world(RESTAURANTS, longest) as broken:
        try:
            async with at_work(broken, seed) as staff:
                await _break(broken, staff, faults, dice, report, started + minutes * 60)
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
    report.terminals = sum(len(staff.terminals(slug)) for slug in staff.loads)
    return report


class Lateness:
    """How late this process is itself: on a busy machine its own hundred terminals wait for their turns."""

    def __init__(self) -> None:
        self.most = 0.0

    async def watch(self) -> None:
        while True:
            began = time.monotonic()
            await slow_down(LOOK_SECONDS)
            self.most = max(self.most, time.monotonic() - began - LOOK_SECONDS)


async def _break(
    broken: World, staff: Staff, faults: Sequence[Fault], dice: random.Random, report: Report, until_then: float
) -> None:
    lateness = Lateness()
    watching = asyncio.create_task(lateness.watch())
    for number, fault in enumerate(faults, 1):
        if time.monotonic() > until_then:
            print(f"SKIPPED: {len(faults) - number + 1} of {len(faults)} faults, for the time is over", flush=True)
            break
        name = fault.__name__.replace("_", " ")
        print(f"{number:4} of {len(faults)}: {name}", end="", flush=True)
        began, staff.back = time.monotonic(), None
        hit = await fault(broken, staff, dice)
        since, lateness.most = time.monotonic(), 0.0
        await staff.quiet.change()
        await staff.go_on()
        back = time.monotonic() - since if staff.back is None else staff.back
        report.back[name].append(back)
        report.hit[name] += 1 if hit is None else hit
        print(
            f", {since - began:.1f} s; all go on after {back:.1f} s, the test itself late by {lateness.most:.1f} s",
            flush=True,
        )
        await until(broken.is_whole, within=WHOLE_SECONDS, what="every relay to be ready")
        await staff.quiet.is_shown()
    watching.cancel()


async def _run_until_terminated(seed: int, faults: Sequence[Fault], minutes: float) -> Report:
    """Nothing that was started is left behind after SIGTERM either."""
    task = asyncio.current_task()
    assert task is not None
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, task.cancel)
    return await run(seed, faults, minutes=minutes)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    seed = int(os.environ.get("CHAOS_SEED") or time.time_ns() // 1000 % 10**6)
    parser.add_argument(
        "--seed", type=int, default=seed, help="of the plan (default: CHAOS_SEED, or another each time)"
    )
    parser.add_argument("--faults", type=int, help="how many (default: as many of each kind as a column says)")
    parser.add_argument("--deep", action="store_true", help=f"the deep column, in {DEEP_RUNS} runs")
    parser.add_argument("--minutes", type=float, default=math.inf, help="break nothing more after them, in each run")
    parser.add_argument("--runs", type=int, help="how many runs, each with the next seed")
    arguments = parser.parse_args()
    runs = arguments.runs or (DEEP_RUNS if arguments.deep else 1)
    started, longest = time.monotonic(), 0.0
    for number in range(runs):
        began = time.monotonic()
        if began - started + longest > DEEP_SECONDS:
            print(
                f"SKIPPED: {runs - number} of {runs} runs, for {DEEP_SECONDS / 60:.0f} minutes would not do", flush=True
            )
            break
        seed = arguments.seed + number
        numbers = DEEP if arguments.deep else CHECK
        faults = column(seed, numbers) if arguments.faults is None else plan(seed, arguments.faults)
        print(f"seed {seed}", flush=True)
        print(asyncio.run(_run_until_terminated(seed, faults, arguments.minutes)), flush=True)
        longest = max(longest, time.monotonic() - began)


if __name__ == "__main__":
    main()
