"""The suite looks through its own output (C21): a test in whose output a token stands has failed."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from relay import auth

ROOT = Path(__file__).parent.parent


@pytest.mark.parametrize("how", ["print({!r})", "logging.getLogger('relay').warning({!r})"])
@pytest.mark.parametrize(
    "token", [auth.new_token, lambda: f"eyJ{'a' * 20}.eyJ{'b' * 20}.{'c' * 20}", lambda: "nothing"]
)
def test_a_test_that_writes_a_token_fails(tmp_path: Path, how: str, token: object) -> None:
    assert callable(token)
    said = token()
    file = tmp_path / "test_it.py"
    file.write_text(f"import logging\n\ndef test_it():\n    {how.format(said)}\n")
    command = [sys.executable, "-m", "pytest", "--quiet", "-p", "tests.conftest", "-p", "no:cacheprovider", str(file)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode == (0 if said == "nothing" else 1), done.stdout
    assert ("a token was written" in done.stdout) is (said != "nothing")
    assert said == "nothing" or said not in done.stdout.partition("Captured")[0]
