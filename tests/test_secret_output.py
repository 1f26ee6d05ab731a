"""The suite looks through its own output (C21): a test in whose output a secret stands has failed."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

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


@pytest.mark.parametrize("how", ["print('{}')", "logging.getLogger('relay').warning('{}')"])
@pytest.mark.parametrize("said", [*SECRETS, *HARMLESS], ids=range(len(SECRETS) + len(HARMLESS)))
def test_a_test_that_writes_a_secret_fails(tmp_path: Path, how: str, said: str) -> None:
    file = tmp_path / "test_it.py"
    file.write_text(f"import logging\n\ndef test_it():\n    {how.format(said)}\n")
    command = [sys.executable, "-m", "pytest", "--quiet", "-p", "tests.conftest", "-p", "no:cacheprovider", str(file)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode == int(said in SECRETS), done.stdout
    assert ("a secret was written" in done.stdout) is (said in SECRETS)
