"""A real nginx in front of relays, as deploy/nginx.conf has it."""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Sequence
from pathlib import Path

import pytest

from tests.cluster import children_of, free_port
from tests.relays import Reachable
from tests.waiting import wait_until

DEPLOYED = Path(__file__).parent.parent / "deploy" / "nginx.conf"
NO_NGINX = "nginx is not installed (apt-get install nginx)"
# Where it may be missing, that is said; CI has it.
needs_nginx = pytest.mark.skipif(shutil.which("nginx") is None and os.environ.get("CI") != "true", reason=NO_NGINX)
AROUND = """
daemon off;
worker_processes 2;
worker_rlimit_nofile 20000;
error_log {folder}/error.log;
pid {folder}/nginx.pid;
events {{ worker_connections 16384; }}
http {{
    access_log off;
    client_body_temp_path {folder}/body;
    proxy_temp_path {folder}/proxy;
    fastcgi_temp_path {folder}/fastcgi;
    uwsgi_temp_path {folder}/uwsgi;
    scgi_temp_path {folder}/scgi;
    include {folder}/minipos-relay.conf;
}}
"""


def deployed(port: int, servers: Sequence[tuple[str, int]], pem: tuple[Path, Path] | None = None) -> str:
    """deploy/nginx.conf, listening on a port of this machine, with these relays for its own.

    With `pem`, a certificate and its key, its lines for TLS are in force.
    """
    lines = "\n".join(f"server {host}:{each} max_fails=0;" for host, each in servers)
    text, found = re.subn(r"( *server 127\.0\.0\.1:\d+ max_fails=0;\n)+", lambda _: f"{lines}\n", DEPLOYED.read_text())
    assert found == 1
    text, found = re.subn(r"^    listen 8080;$", f"    listen 127.0.0.1:{port};", text, flags=re.MULTILINE)
    assert found == 1
    if pem:
        text, found = re.subn(r"^    # (listen 443 ssl|ssl_\w+ .*);$", r"    \1;", text, flags=re.MULTILINE)
        assert found == 4
        text = text.replace(f"listen 127.0.0.1:{port};", "").replace("listen 443 ssl;", f"listen 127.0.0.1:{port} ssl;")
        text = text.replace("/etc/ssl/minipos.pem", str(pem[0])).replace("/etc/ssl/minipos.key", str(pem[1]))
    return text


class Nginx(Reachable):
    """nginx in front of relays; `url` is where terminals connect."""

    def __init__(self, servers: Sequence[tuple[str, int]], pem: tuple[Path, Path] | None = None) -> None:
        self.port = free_port()
        self._folder = Path(tempfile.mkdtemp(prefix="relay-nginx-"))
        (self._folder / "minipos-relay.conf").write_text(deployed(self.port, servers, pem))
        configuration = self._folder / "nginx.conf"
        configuration.write_text(AROUND.format(folder=self._folder))
        self._process = subprocess.Popen(["nginx", "-p", self._folder, "-c", configuration], process_group=0)
        wait_until(lambda: len(self.workers) == 2, what="nginx's workers")

    @property
    def workers(self) -> list[int]:
        return children_of(self._process.pid)

    def stop(self) -> None:
        self._process.send_signal(signal.SIGTERM)
        self._process.wait(timeout=10)
        shutil.rmtree(self._folder)
