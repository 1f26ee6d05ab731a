"""The suite looks through its own output (C21): a test in whose output a secret stands has failed."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

from relay import auth

ROOT = Path(__file__).parent.parent


SECRETS = (
    auth.new_token(),
    f"eyJ{'a' * 20}.eyJ{'b' * 20}.{'c' * 20}",
    "postgresql://relay:hunter2@db/minipos_db",
    "host=db user=relay password=hunter2 dbname=minipos_db",
    "host=db user=relay password=\\'hunter 2\\' dbname=minipos_db",
)
HARMLESS = ("postgresql://relay@db/minipos_db", "postgresql://relay:***@db", "password=***", "password=None")


def test_a_test_that_writes_a_secret_fails(tmp_path: Path) -> None:
    said = [
        (how, text) for how in ("print('{}')", "logging.getLogger('r').warning('{}')") for text in (*SECRETS, *HARMLESS)
    ]
    tests = [f"def test_{number}():\n    {how.format(text)}\n" for number, (how, text) in enumerate(said)]
    file = tmp_path / "test_them.py"
    file.write_text("import logging\n\n" + "\n\n".join(tests))
    command = [
        sys.executable,
        "-m",
        "pytest",
        "-rf",
        "--tb=no",
        "-p",
        "tests.conftest",
        "-p",
        "no:cacheprovider",
        str(file),
    ]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False, timeout=60)
    failed = {int(number) for number in re.findall(r"^FAILED \S+::test_(\d+)", done.stdout, re.MULTILINE)}
    assert failed == {number for number, (_, text) in enumerate(said) if text in SECRETS}, done.stdout
