"""How often each fault comes. The numbers are RELIABILITY.md's, section 6: G1 and G2, in two columns.

`GOALS` is how much there is of what is measured, not broken: G6, G8, G10, G11 (tests/chaos/goals.py); G9 is in the
report of the faults. The others are shown elsewhere: G4 by `make mutants`, G5 by tests/fuzz, G7 by `make soak`, G12 by
tests/e2e/test_isolation.py. G3 runs in every chaos: people at psql who commit and roll back.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from tests.chaos import faults
from tests.chaos.faults import Fault

# Each kind with its share of a plan of any length.
WEIGHTS: Mapping[Fault, int] = {
    faults.kill_postgresql: 15,
    faults.kill_a_backend: 6,
    faults.freeze_postgresql: 2,
    faults.kill_a_relay: 20,
    faults.stop_a_relay: 5,
    faults.freeze_a_relay: 6,
    faults.kill_an_nginx_worker: 8,
    faults.terminate_listeners: 12,
    faults.terminate_pools: 5,
    faults.reset_connections: 8,
    faults.slow_a_link: 4,
    faults.swallow_a_link: 3,
    faults.cut_a_relay_off_from_postgresql: 3,
    faults.cut_a_relay_off_from_nginx: 2,
    faults.flood_who_does_not_read: 2,
    faults.promote_a_standby: 1,
    faults.promote_a_standby_that_misses_commits: 1,
}

# 25 kills of PostgreSQL, 25 of relays, 10 of nginx; 50 listeners ended (three at a time), 10 processes frozen, 5 cables
# pulled, 50 connections reset (some eight at a time), 5 slow links, a promotion.
CHECK: Mapping[Fault, int] = {
    faults.kill_postgresql: 20,
    faults.kill_a_backend: 5,
    faults.freeze_postgresql: 2,
    faults.kill_a_relay: 25,
    faults.stop_a_relay: 5,
    faults.freeze_a_relay: 8,
    faults.kill_an_nginx_worker: 10,
    faults.terminate_listeners: 17,
    faults.terminate_pools: 5,
    faults.reset_connections: 10,
    faults.slow_a_link: 5,
    faults.swallow_a_link: 2,
    faults.cut_a_relay_off_from_postgresql: 3,
    faults.cut_a_relay_off_from_nginx: 2,
    faults.flood_who_does_not_read: 2,
    faults.promote_a_standby: 1,
    faults.promote_a_standby_that_misses_commits: 1,
}

# 200, 500 and 100 kills; 1,000 listeners, 100 frozen processes, 30 cables, 500 resets, 50 slow links, 10 promotions: in
# so many runs one after the other, each in a world of its own.
DEEP_RUNS = 10
DEEP: Mapping[Fault, int] = {
    faults.kill_postgresql: 18,
    faults.kill_a_backend: 2,
    faults.freeze_postgresql: 2,
    faults.kill_a_relay: 50,
    faults.stop_a_relay: 5,
    faults.freeze_a_relay: 8,
    faults.kill_an_nginx_worker: 10,
    faults.terminate_listeners: 34,
    faults.terminate_pools: 5,
    faults.reset_connections: 10,
    faults.slow_a_link: 5,
    faults.swallow_a_link: 2,
    faults.cut_a_relay_off_from_postgresql: 2,
    faults.cut_a_relay_off_from_nginx: 1,
    faults.flood_who_does_not_read: 2,
    faults.promote_a_standby: 1,
    faults.promote_a_standby_that_misses_commits: 1,
}


@dataclass(frozen=True)
class Pace:
    """How fast changes come, and what is aimed at then."""

    pause: float  # seconds between two counts of each of a hundred tills
    people: float  # at most, between two transactions of each of eight people; 30 changes a second are by others
    p50: float  # milliseconds from commit to terminal
    p99: float


@dataclass(frozen=True)
class Scale:
    """How many there are, and what is aimed at."""

    paces: Sequence[Pace]  # whose latency is measured; the first goes on in all that follows
    watchers: int  # light terminals whose latency is measured
    seconds: float  # in which it is, at each pace
    terminals: int  # light ones, while readers stop and relays are deployed
    stopped: int  # readers
    rolls: int
    cut_off: int  # light terminals, all at once
    storm_seconds: float


GOALS = Scale(
    paces=[Pace(3.0, people=2.5, p50=10, p99=50)],
    watchers=400,
    seconds=15.0,
    terminals=1000,
    stopped=100,
    rolls=5,
    cut_off=1000,
    storm_seconds=15,
)
DEEP_GOALS = Scale(
    paces=[Pace(3.0, people=2.5, p50=10, p99=50), Pace(20.0, people=2.5, p50=5, p99=25)],
    watchers=400,
    seconds=60.0,
    terminals=1000,
    stopped=500,
    rolls=20,
    cut_off=5000,
    storm_seconds=45,
)
