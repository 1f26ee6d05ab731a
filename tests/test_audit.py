"""The audit of the dependencies: a finding fails it, and that nobody could be asked is said."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

import pytest

from tests import audit
from tests.audit import LOCK, OutOfReachError, Report

HOLE = {"id": "PYSEC-2026-1", "aliases": ["CVE-2026-1"], "fix_versions": ["2.0"]}


def package(name: str, *vulns: object) -> dict[str, object]:
    return {"name": name, "version": "1.0", "vulns": list(vulns)}


class Advisories:
    """What pip-audit would report: of the known release first, then of the lock file."""

    def __init__(self, *reports: Report | None) -> None:
        self.reports = list(reports)
        self.asked: list[Sequence[str]] = []

    def __call__(self, arguments: Sequence[str]) -> Report:
        self.asked.append(arguments)
        if (report := self.reports.pop(0)) is None:
            raise OutOfReachError("the advisories cannot be reached")
        return report


def test_a_finding_fails_the_audit_and_says_what_to_do() -> None:
    there = Advisories([package("jinja2", HOLE)], [package("a"), package("b", HOLE)])
    status, lines = audit.audit(there)
    assert status == 1
    assert lines[0] == "b 1.0: PYSEC-2026-1, mended in ['2.0']"
    assert "make lock" in lines[-1]
    assert there.asked[1][-1] == str(LOCK)


def test_without_a_finding_it_says_how_many_packages_were_looked_at() -> None:
    strange = {"name": "b", "skip_reason": "not found"}
    status, lines = audit.audit(Advisories([package("jinja2", HOLE)], [package("a"), strange, package("c")]))
    assert (status, lines) == (0, ["not audited: b: not found", "no known vulnerability in 2 packages"])


def test_a_finding_that_was_accepted_by_any_of_its_names_is_none(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(audit, "ACCEPTED", {"CVE-2026-1": "the relay does not call it"})
    assert audit.findings([package("b", HOLE)]) == []


@pytest.mark.parametrize(
    "reports",
    [[None], [[package("jinja2", HOLE)], None], [[package("jinja2")]], [[{"name": "jinja2", "skip_reason": ""}]]],
)
def test_nobody_to_ask_is_a_printed_skip(reports: list[Report | None]) -> None:
    status, lines = audit.audit(Advisories(*reports))
    assert status == 0
    assert [line[:8] for line in lines] == ["SKIPPED:"]


@pytest.mark.parametrize("program", ["sleep 60", "echo no JSON", "exit 1", None])
def test_a_pip_audit_that_hangs_fails_or_is_missing_is_nobody_to_ask(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, program: str | None
) -> None:
    monkeypatch.setattr(audit, "PROGRAM", tmp_path / "pip-audit")
    monkeypatch.setattr(audit, "ASK_SECONDS", 2.0)
    if program is not None:
        (tmp_path / "pip-audit").write_text(f"#!/bin/sh\nexec 2>/dev/null\n{program}\n")
        (tmp_path / "pip-audit").chmod(0o755)
    with pytest.raises(OutOfReachError):
        audit.ask([])


def test_every_package_is_pinned_with_its_hashes() -> None:
    """C22. `pip install --require-hashes` refuses a file of which this is not so."""
    text = re.sub(r"\\\n", "", re.sub(r"^\s*#.*\n", "", LOCK.read_text(), flags=re.MULTILINE))
    lines = [line for line in text.splitlines() if line.strip()]
    assert len(lines) > 20
    assert [line for line in lines if not re.match(r"[a-z0-9.\[\]-]+==\S+.*--hash=sha256:[0-9a-f]{64}", line)] == []
    assert "://" not in text
