"""A little of what `make chaos` does at length: every kind of fault at least once."""

from __future__ import annotations

import os
import shutil

import pytest

from tests.chaos.faults import FAULTS
from tests.chaos.run import plan, run

FAULTS_HERE = 12
SEED = int(os.environ.get("CHAOS_SEED") or 1)


@pytest.mark.timeout(240)
async def test_whatever_is_killed_nothing_is_lost_doubled_or_out_of_order() -> None:
    if shutil.which("nginx") is None:
        missing = "nginx is not installed (apt-get install nginx)"
        if os.environ.get("CI") == "true":
            pytest.fail(missing)
        pytest.skip(missing)
    report = await run(SEED, FAULTS_HERE)
    print(report)
    assert report.deliveries > report.acknowledged > 0


def test_a_seed_is_a_plan_with_every_kind_of_fault() -> None:
    assert plan(7, 100) == plan(7, 100) != plan(8, 100)
    assert set(plan(7, len(FAULTS))) == set(FAULTS)
    assert len(plan(7, 100)) == 100
