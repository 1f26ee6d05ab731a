"""`make audit`: asks whether a package of the lock file has a known vulnerability. A finding fails it.

Where the advisories cannot be reached it says so and is skipped, in CI too: a network that is away is no fault of the
code. Whether they are really there is found out first, with a release that has known ones.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parent.parent
LOCK = ROOT / "requirements.lock"
PROGRAM = Path(sys.executable).with_name("pip-audit")
KNOWN = "jinja2==2.4.1"  # CVE-2014-1402 and others
ASK_SECONDS = 60.0
OPTIONS = ("--disable-pip", "--progress-spinner", "off", "--timeout", "10", "--format", "json", "--desc", "off")

# Findings that were looked at and do not concern the relay: the advisory's id, and why.
ACCEPTED: dict[str, str] = {}

Report = list[dict[str, Any]]  # a package each
Ask = Callable[[Sequence[str]], Report]


class OutOfReachError(Exception):
    """There is nobody to ask; the sentence says who."""


def ask(arguments: Sequence[str]) -> Report:
    """What pip-audit reports of these requirements. Raises OutOfReachError."""
    try:
        done = subprocess.run(
            [PROGRAM, *OPTIONS, *arguments],
            capture_output=True,
            text=True,
            timeout=ASK_SECONDS,
            check=False,
        )
        report: Report = json.loads(done.stdout)["dependencies"]
    except (OSError, subprocess.TimeoutExpired, ValueError, KeyError) as error:
        raise OutOfReachError("the advisories cannot be reached") from error
    return report


def findings(report: Report) -> list[str]:
    """A line for each vulnerability that is not accepted."""
    return [
        f"{package['name']} {package['version']}: {each['id']}, mended in {each['fix_versions']}"
        for package in report
        for each in package.get("vulns", ())
        if not {each["id"], *each.get("aliases", ())} & ACCEPTED.keys()
    ]


def audit(ask: Ask) -> tuple[int, list[str]]:
    """The exit status, and what to print."""
    try:
        with tempfile.NamedTemporaryFile("w", suffix=".txt") as known:
            known.write(KNOWN + "\n")
            known.flush()
            if not findings(ask(["--no-deps", "--requirement", known.name])):
                raise OutOfReachError(f"this index has no advisories: it knows of none for {KNOWN}")
        report = ask(["--require-hashes", "--requirement", str(LOCK)])
    except OutOfReachError as error:
        return 0, [f"SKIPPED: the audit of the dependencies, for {error}"]
    unknown = [
        f"not audited: {package['name']}: {package['skip_reason']}" for package in report if "vulns" not in package
    ]
    if found := findings(report):
        return 1, [
            *unknown,
            *found,
            "Renew the lock file (make lock), or accept a finding in tests/audit.py with its reason.",
        ]
    return 0, [*unknown, f"no known vulnerability in {len(report) - len(unknown)} packages"]


def main() -> int:
    """Audit the lock file."""
    status, lines = audit(ask)
    print(*lines, sep="\n")
    return status


if __name__ == "__main__":
    sys.exit(main())
