"""Generated conversations, by the rules of RFC 6455 and against them: served, closed or refused as the rules say.

Each is made from a seed and a number. FUZZ_FRAMES says how many frames, FUZZ_SEED and FUZZ_CASE repeat a failure.
"""

from __future__ import annotations

import asyncio
import multiprocessing
import os
import resource
import secrets
import statistics
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import pytest

from tests.fuzz.conftest import SETTINGS, alone, complaints
from tests.fuzz.driving import Tally, fuzz
from tests.fuzz.frame_rules import LIMIT
from tests.fuzz.neighbour import Neighbour
from tests.relays import clean_relay, relay_process

FRAMES = int(os.environ.get("FUZZ_FRAMES", "10000"))
SEED = os.environ.get("FUZZ_SEED") or secrets.token_hex(4)
CASE = os.environ.get("FUZZ_CASE")
WORKERS = 2  # processes of their own, so that only the relay can keep the neighbour waiting
WARM_UP = 1000  # frames before anything is measured
REST_SECONDS = 1.0
TWICE = 2  # its own round trip is the most that a neighbour may wait …
NOISE_SECONDS = 0.010  # … but nobody feels less than this, and a busy machine adds as much by itself
GROWTH_BYTES = 32 << 20  # of the relay's memory, from the warm-up to the end
SLOWEST = 500  # frames a second, on a machine that has other things to do
LOCAL_FRAMES = 1500


# FUZZ_CASE asks for one case of FUZZ_SEED, to repeat a failure, and for nothing else.
if CASE is None:

    @pytest.mark.timeout(60 + FRAMES / SLOWEST)
    async def test_generated_conversations_end_by_the_rules_and_keep_no_neighbour_waiting(database: str) -> None:
        loop = asyncio.get_running_loop()
        spawn = multiprocessing.get_context("spawn")
        async with relay_process(database, wait_ready=True, **SETTINGS) as relay:
            with ProcessPoolExecutor(WORKERS, mp_context=spawn) as pool:

                def held(seed: str, frames: int) -> asyncio.Future[list[Tally]]:
                    each = frames // WORKERS
                    return asyncio.gather(
                        *(
                            loop.run_in_executor(pool, fuzz, relay.port, seed, one, WORKERS, each)
                            for one in range(WORKERS)
                        )
                    )

                check(await held(f"{SEED}-warm-up", WARM_UP))
                neighbour = Neighbour(relay.url)
                async with neighbour:
                    await alone(relay, clients=1)
                    assert relay.process is not None
                    memory = resident(relay.process.pid)
                    rest = await neighbour.measure(over(REST_SECONDS))
                    work = held(SEED, FRAMES)
                    busy = await neighbour.measure(work)
                    count = check(await work)
                    rest += await neighbour.measure(over(REST_SECONDS))
                    await alone(relay, clients=1)
                    growth = resident(relay.process.pid) - memory
                assert neighbour.faults == []
            await alone(relay)
            log = relay.log
        quick, slow = statistics.median(rest), statistics.median(busy)
        print(
            f"\n{count} frames of the seed {SEED}; the neighbour's heartbeats took {slow * 1e3:.2f} ms,"
            f" at rest {quick * 1e3:.2f} ms; the relay grew by {growth >> 10} KiB"
        )
        assert count >= FRAMES
        assert complaints(log) == []
        assert slow <= max(TWICE * quick, NOISE_SECONDS)
        assert growth <= GROWTH_BYTES

    async def test_generated_conversations_leave_nothing_behind(
        database: str, caplog: pytest.LogCaptureFixture
    ) -> None:
        async with clean_relay(database, caplog, max_message_bytes=LIMIT, heartbeat_seconds=300.0) as relay:
            check([await asyncio.to_thread(fuzz, relay.port, f"{SEED}-local", 0, 1, LOCAL_FRAMES)])
            assert (await relay.health())["clients"] == 0

else:

    async def test_one_case_of_a_seed(database: str) -> None:
        async with relay_process(database, wait_ready=True, **SETTINGS) as relay:
            check([await asyncio.to_thread(fuzz, relay.port, SEED, int(CASE or 0), 1, 1)])


def check(tallies: Sequence[Tally]) -> int:
    """The frames that were sent; nothing may have failed."""
    failures = [failure for tally in tallies for failure in tally.failures]
    assert not failures, "\n\n".join(["", *failures])
    return sum(tally.frames for tally in tallies)


def over(seconds: float) -> asyncio.Future[None]:
    """Done after so many seconds, in which a terminal measures."""
    loop = asyncio.get_running_loop()
    future: asyncio.Future[None] = loop.create_future()
    loop.call_later(seconds, future.set_result, None)
    return future


def resident(process: int) -> int:
    """Bytes of memory that a process has (Linux's proc_pid_statm(5))."""
    return int(Path(f"/proc/{process}/statm").read_text().split()[1]) * resource.getpagesize()
