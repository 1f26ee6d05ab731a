"""What comes when: a seed's plan of steps, in which faults that have nothing to do with each other come together."""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence

from tests.chaos import faults
from tests.chaos.columns import WEIGHTS
from tests.chaos.faults import Fault

Step = tuple[Fault, ...]  # of faults that begin together

# Beside a relay that is killed or stopped: nothing of theirs needs that very relay.
BESIDE_A_RELAY = (
    faults.terminate_listeners,
    faults.terminate_pools,
    faults.reset_connections,
    faults.kill_an_nginx_worker,
    faults.kill_postgresql,
)
AROUND_SECONDS = 30.0  # for a world to be made, and for everything to be checked
RELAYS = (faults.kill_a_relay, faults.stop_a_relay)


def plan(seed: int, number: int) -> list[Step]:
    """A plan of any length: each kind at least once where there is room, the rest by its weight, one by one."""
    dice = random.Random(seed)
    kinds, weights = list(WEIGHTS), list(WEIGHTS.values())
    chosen = [*kinds, *dice.choices(kinds, weights, k=max(0, number - len(kinds)))]
    dice.shuffle(chosen)
    return [(kind,) for kind in chosen[:number]]


def column(seed: int, numbers: Mapping[Fault, int], *, together: bool = False) -> list[Step]:
    """Each kind as often as a column says; `together`: as few steps as that can be done in."""
    dice = random.Random(seed)
    chosen = [kind for kind, number in numbers.items() for _ in range(number)]
    dice.shuffle(chosen)
    if not together:
        return [(kind,) for kind in chosen]
    relays = [kind for kind in chosen if kind in RELAYS]
    beside = [kind for kind in chosen if kind in BESIDE_A_RELAY]
    alone = [kind for kind in chosen if kind not in RELAYS and kind not in BESIDE_A_RELAY]
    joined = [(relay, other) for relay, other in zip(relays, beside, strict=False)]
    rest = [(kind,) for kind in (*relays[len(joined) :], *beside[len(joined) :], *alone)]
    steps: list[Step] = [*joined, *rest]
    dice.shuffle(steps)
    return steps


class Clock:
    """How long what is left will take: as the same steps took in this run, or as long as any."""

    def __init__(self, steps: Sequence[Step], more_runs: int = 0) -> None:
        self._steps = list(steps)
        self._left = list(steps)
        self._more_runs = more_runs  # that follow, each of such steps
        self._took: dict[Step, list[float]] = {}

    def took(self, step: Step, seconds: float) -> None:
        self._left.remove(step)
        self._took.setdefault(step, []).append(seconds)

    @property
    def seconds(self) -> float:
        """That are left, once a step has been taken."""
        return self._estimate(self._left) + self._more_runs * (self._estimate(self._steps) + AROUND_SECONDS)

    def _estimate(self, steps: Sequence[Step]) -> float:
        every = [seconds for found in self._took.values() for seconds in found]
        usual = sum(every) / len(every)
        return sum(sum(found) / len(found) if (found := self._took.get(step)) else usual for step in steps)
