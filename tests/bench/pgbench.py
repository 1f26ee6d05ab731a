"""pgbench, which runs SQL as fast as it is answered: transactions a second."""

from __future__ import annotations

import os
import re
import subprocess
import tempfile
from pathlib import Path

from tests.cluster import TestCluster

FEW = 5  # transactions, where no second is given


def transactions_per_second(
    cluster: TestCluster, conninfo: str, script: str, seconds: float, *, clients: int = 1, options: str = ""
) -> float:
    """Of so many clients that repeat `script`; `options` are their sessions' (PGOPTIONS). RuntimeError on a fault."""
    with tempfile.NamedTemporaryFile("w", suffix=".sql") as file:
        file.write(script)
        file.flush()
        command: list[str | Path] = [
            cluster.bin_dir / "pgbench",
            "--no-vacuum",
            "--protocol=prepared",
            f"--client={clients}",
            f"--time={round(seconds)}" if seconds >= 1 else f"--transactions={FEW}",
            f"--file={file.name}",
            conninfo,
        ]
        environment = {"PATH": os.environ["PATH"], "PGOPTIONS": options}
        done = subprocess.run(command, check=False, capture_output=True, text=True, env=environment)
    found = re.search(r"^tps = ([0-9.]+)", done.stdout, flags=re.MULTILINE)
    if done.returncode or not found:
        raise RuntimeError(f"pgbench failed: {(done.stdout + done.stderr)[-1000:]}")
    return float(found[1])
