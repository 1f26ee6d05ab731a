"""What npm offers, as references: `ws` with `pg`, and Socket.IO with its PostgreSQL adapter."""

from __future__ import annotations

import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path

from tests.bench.servers import Server, channel, process_of
from tests.cluster import free_port

SOURCES = Path(__file__).parent / "peers"
INSTALL_SECONDS = 180.0
NAMES = {"ws.mjs": "Node ws + pg", "socketio.mjs": "Socket.IO + adapter"}


@contextmanager
def installed() -> Iterator[Path]:
    """A temporary folder with the programs, and what they need from npm. RuntimeError where that fails."""
    if not (shutil.which("node") and shutil.which("npm")):
        raise RuntimeError("node and npm are not installed")
    with tempfile.TemporaryDirectory(prefix="bench-peers-") as folder:
        for source in SOURCES.iterdir():
            shutil.copy(source, folder)
        command = ["npm", "install", "--no-audit", "--no-fund", "--no-package-lock", "--silent"]
        done = subprocess.run(command, cwd=folder, check=False, capture_output=True, text=True, timeout=INSTALL_SECONDS)
        if done.returncode:
            raise RuntimeError(f"npm install failed: {(done.stdout + done.stderr).strip()[-600:]}")
        yield Path(folder)


def servers(folder: Path, conninfo: str) -> list[AbstractContextManager[Server]]:
    """Each of them, to be entered."""
    return [_peer(folder, program, name, conninfo) for program, name in NAMES.items()]


@contextmanager
def _peer(folder: Path, program: str, name: str, conninfo: str) -> Iterator[Server]:
    port = free_port()
    parts = dict(part.split("=", 1) for part in conninfo.split())
    environment = {
        "PGHOST": parts["host"],
        "PGPORT": parts["port"],
        "PGUSER": parts["user"],
        "PGDATABASE": parts["dbname"],
        "NODE_ENV": "production",
    }
    with process_of(name, ["node", folder / program, str(port), channel(name)], port, environment) as server:
        yield server
