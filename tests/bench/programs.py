"""The C programs of the bench, built where a compiler and what they need are there."""

from __future__ import annotations

import hashlib
import shutil
import subprocess
import tempfile
from pathlib import Path

SOURCES = Path(__file__).parent / "programs"
BUILT = Path(__file__).parent.parent.parent / "build" / "bench"
OPTIONS = ("-O2", "-Wall", "-Wextra")


class NotBuilt(Exception):
    """A program cannot be built here; the text says what is missing."""


def build(name: str) -> Path:
    """The program (or, for slowflush, the library) made from `name`.c, built unless it was. Raises NotBuilt."""
    source = SOURCES / f"{name}.c"
    options = _options(name)
    key = hashlib.sha256(source.read_bytes() + repr(options).encode()).hexdigest()[:12]
    target = BUILT / f"{name}-{key}"
    if not target.exists():
        if not shutil.which("cc"):
            raise NotBuilt("there is no C compiler (apt-get install gcc libc6-dev)")
        BUILT.mkdir(parents=True, exist_ok=True)
        # Made beside its place and then moved: several tests may build it at once.
        with tempfile.TemporaryDirectory(dir=BUILT) as folder:
            unfinished = Path(folder, name)
            command: list[str | Path] = ["cc", *OPTIONS, *options[:1], "-o", unfinished, source, *options[1:]]
            done = subprocess.run(command, check=False, capture_output=True, text=True)
            if done.returncode:
                raise NotBuilt(f"cc cannot build {source.name}: {done.stderr.strip()[:600]}")
            unfinished.rename(target)
    return target


def _options(name: str) -> tuple[str, ...]:
    """What stands before and after the source."""
    if name == "fanout":
        return f"-I{_libpq_headers()}", "-lpq"
    return ("-fPIC", "-shared", "-ldl") if name == "slowflush" else ("-std=gnu11",)


def _libpq_headers() -> Path:
    found = [Path("/usr/include/postgresql"), Path("/usr/include")]
    if shutil.which("pg_config"):
        said = subprocess.run(["pg_config", "--includedir"], check=True, capture_output=True, text=True)
        found.insert(0, Path(said.stdout.strip()))
    for folder in found:
        if (folder / "libpq-fe.h").exists():
            return folder
    raise NotBuilt("libpq's headers are missing (apt-get install libpq-dev)")
