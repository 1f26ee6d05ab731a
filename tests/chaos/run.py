"""One run of chaos: terminals at work in many restaurants, while one thing after the other is broken.

    python -m tests.chaos.run --faults 60 --seed 7

What is done is the seed's, so a run can be repeated. At the end nothing that was acknowledged is lost or done twice,
every terminal applied what the log holds, in its order, and shows what the database holds.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import random
import statistics
import time
from collections import defaultdict
from dataclasses import dataclass, field

from tests.chaos.faults import FAULTS, Fault
from tests.chaos.world import World, world
from tests.load import Load, load
from tests.waiting import until

RESTAURANTS, TILLS = 20, 5
PAUSE_SECONDS = 1.0  # between two counts of a till: somewhat under 200 changes a second in all
BACK_SECONDS = 60.0  # from a fault to the next acknowledged change of every till


@dataclass
class Report:
    """What happened."""

    seed: int
    back: dict[str, list[float]] = field(default_factory=lambda: defaultdict(list))
    acknowledged: int = 0
    deliveries: int = 0
    seconds: float = 0.0

    def __str__(self) -> str:
        lines = [
            f"seed {self.seed}: {sum(map(len, self.back.values()))} faults in {self.seconds:.0f} s, "
            f"{self.acknowledged} changes acknowledged ({self.acknowledged / self.seconds:.0f} a second), "
            f"{self.deliveries} applied by {RESTAURANTS * TILLS} terminals",
            "every acknowledged change is there once, and every terminal applied what its restaurant's log holds",
        ]
        for name, seconds in sorted(self.back.items()):
            median, most = statistics.median(seconds), max(seconds)
            lines.append(
                f"  {name:<22} {len(seconds):3} times; all tills go on after {median:4.1f} s, {most:4.1f} at most"
            )
        return "\n".join(lines)


def plan(seed: int, faults: int) -> list[Fault]:
    """The faults of a run: each kind at least once where there is room, the rest by its weight."""
    dice = random.Random(seed)
    kinds, weights = list(FAULTS), list(FAULTS.values())
    chosen = [*kinds, *dice.choices(kinds, weights, k=max(0, faults - len(kinds)))]
    dice.shuffle(chosen)
    return chosen[:faults]


async def run(seed: int, faults: int) -> Report:
    """Break so many things, one after the other. AssertionError where a guarantee does not hold."""
    report, dice = Report(seed), random.Random(seed)
    started = time.monotonic()
    async with world(RESTAURANTS) as broken:
        try:
            loads = await _break(broken, plan(seed, faults), dice, report)
        except BaseException:
            for relay in broken.relays:
                print(f"--- the log of the relay on port {relay.port}\n{relay.log[-8000:]}")
            raise
    report.seconds = time.monotonic() - started
    report.acknowledged = sum(till.acknowledged + till.cleared for one in loads for till in one.tills)
    report.deliveries = sum(one.deliveries for one in loads)
    return report


async def _break(broken: World, faults: list[Fault], dice: random.Random, report: Report) -> list[Load]:
    loads: list[Load] = []
    over = asyncio.Event()

    async def serve(slug: str) -> None:
        tills = load(broken.conninfo, broken.nginx.url, tills=TILLS, slug=slug, pause=PAUSE_SECONDS, clears=True)
        async with tills as working:
            loads.append(working)
            await over.wait()

    async with asyncio.TaskGroup() as restaurants:
        for slug in broken.slugs():
            restaurants.create_task(serve(slug))
        await until(lambda: len(loads) == RESTAURANTS, within=30.0, what="every restaurant at work")
        for number, fault in enumerate(faults, 1):
            name = fault.__name__.replace("_", " ")
            print(f"{number:4} of {len(faults)}: {name}", end="", flush=True)
            await fault(broken, dice)
            since = time.monotonic()
            await asyncio.gather(*(one.goes_on(1, within=BACK_SECONDS) for one in loads))
            report.back[name].append(time.monotonic() - since)
            print(f", all go on after {report.back[name][-1]:.1f} s", flush=True)
        over.set()
    return loads


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    seed = int(os.environ.get("CHAOS_SEED") or time.time_ns() // 1000 % 10**6)
    parser.add_argument(
        "--seed", type=int, default=seed, help="of the plan (default: CHAOS_SEED, or another each time)"
    )
    parser.add_argument("--faults", type=int, default=100, help="how many (default: 100)")
    arguments = parser.parse_args()
    print(f"seed {arguments.seed}", flush=True)
    print(asyncio.run(run(arguments.seed, arguments.faults)))


if __name__ == "__main__":
    main()
