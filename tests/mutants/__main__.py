"""The tests' own test: twelve faults put in on purpose, each of which named tests must see.

    python -m tests.mutants [NUMBER ...]

Each is a patch beside this file: what it breaks, the tests that are to fail, the change. It is applied to a copy of the
tree, and the tests run there. They must pass without it, and one of them must fail with it: not for a copy that cannot
even be imported, or a database that cannot be made. Exit status 1 if a fault is not seen or a patch no longer applies.
"""

from __future__ import annotations

import os
import re
import secrets
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[2]
PARTS = ("relay", "sql", "tests")
SECONDS = 180  # for the tests of one mutant
LEAVE_SECONDS = 30.0  # for tests that are interrupted, to stop their PostgreSQL and remove its data
MARK = "MUTANT_RUN"  # in the environment of all that a run starts
AT_ONCE = 2
TESTS_FAILED = 1  # pytest's exit status; others mean that nothing was tested
RENEW = "does not apply: make the change anew and put `git diff -U2` into the patch"


@dataclass(frozen=True)
class Mutant:
    """One fault: `about` says what it breaks, `tests` are the node ids of which one must fail."""

    patch: Path
    about: str
    tests: tuple[str, ...]

    @classmethod
    def read(cls, patch: Path) -> Mutant:
        head = patch.read_text().partition("diff --git")[0]
        return cls(patch, head.partition("\n")[0], tuple(re.findall(r"^test: (\S+)$", head, flags=re.MULTILINE)))


@dataclass(frozen=True)
class Outcome:
    """What became of a mutant: `seen_by` is the first test that failed; without one `fault` says why."""

    mutant: Mutant
    seen_by: str
    fault: str
    seconds: float


@contextmanager
def copy_of_the_tree() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="relay-mutant-") as folder:
        for part in PARTS:
            shutil.copytree(ROOT / part, Path(folder, part), ignore=shutil.ignore_patterns("__pycache__"))
        shutil.copy(ROOT / "pyproject.toml", folder)
        yield Path(folder)


def run_tests(folder: Path, tests: Iterable[str], seconds: float = SECONDS) -> tuple[int | None, str]:
    """Pytest's exit status and output; no status where it took longer, and then nothing of it is left running."""
    command = [sys.executable, "-m", "pytest", "-q", "-x", "-rfE", "-p", "no:cacheprovider", "--tb=short", *tests]
    mark = secrets.token_hex(8)
    with subprocess.Popen(
        command,
        cwd=folder,
        env={**os.environ, MARK: mark},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    ) as running:
        try:
            output, _ = running.communicate(timeout=seconds)
        except subprocess.TimeoutExpired:
            running.send_signal(signal.SIGINT)
            with suppress(subprocess.TimeoutExpired):
                running.communicate(timeout=LEAVE_SECONDS)
            return None, ""
        finally:
            running.kill()
            end_all(mark)
    return running.returncode, output


def end_all(mark: str) -> None:
    """Kill what a run has left: its PostgreSQL is in a session of its own, and its relays in their groups."""
    for process in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):
            if f"{MARK}={mark}".encode() in (process / "environ").read_bytes().split(b"\0"):
                os.kill(int(process.name), signal.SIGKILL)


def try_out(mutant: Mutant) -> Outcome:
    started = time.monotonic()

    def outcome(seen_by: str = "", fault: str = "") -> Outcome:
        return Outcome(mutant, seen_by, fault, time.monotonic() - started)

    with copy_of_the_tree() as folder:
        applied = subprocess.run(
            ["git", "apply", mutant.patch], cwd=folder, capture_output=True, text=True, check=False
        )
        if applied.returncode:
            return outcome(fault=f"{RENEW}: {applied.stderr.strip()}")
        status, output = run_tests(folder, mutant.tests)
    if status is None:
        return outcome(fault=f"its tests took longer than {SECONDS} s")
    failed = re.search(r"^FAILED (\S+)", output, flags=re.MULTILINE)
    if status == TESTS_FAILED and failed:
        return outcome(seen_by=failed[1].rpartition("::")[2])
    return outcome(fault="not seen" if status == 0 else f"nothing was tested: {output[-2000:]}")


def main(numbers: list[str]) -> int:
    by_number = {patch.name.partition("-")[0]: patch for patch in sorted(Path(__file__).parent.glob("*.patch"))}
    wanted = [number.zfill(2) for number in numbers] or list(by_number)
    if unknown := [number for number in wanted if number not in by_number]:
        print(f"there is no mutant {' '.join(unknown)}; there are {' '.join(by_number)}")
        return 2
    mutants = [Mutant.read(by_number[number]) for number in wanted]
    tests = sorted({test for mutant in mutants for test in mutant.tests})
    with copy_of_the_tree() as folder:
        status, output = run_tests(folder, tests, SECONDS * 2)
    if status is None:
        print(f"without any mutant these tests took longer than {SECONDS * 2} s: {' '.join(tests)}")
        return 1
    if status:
        print(f"without any mutant these tests must pass, and do not:\n{output[-4000:]}")
        return 1
    print(f"without a mutant: {len(tests)} named tests pass", flush=True)
    unseen = 0
    with ThreadPoolExecutor(AT_ONCE) as pool:
        for outcome in pool.map(try_out, mutants):
            unseen += not outcome.seen_by
            name = outcome.mutant.patch.stem
            print(f"{name:<30} {outcome.seconds:5.0f} s  {outcome.seen_by or outcome.fault}", flush=True)
    print(f"{len(mutants) - unseen} of {len(mutants)} mutants seen")
    return 1 if unseen else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
