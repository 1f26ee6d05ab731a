"""The web app behind a proxy that shows a token for it, as the README says: real nginx, real browser."""

from __future__ import annotations

import base64
import hashlib
import re
import signal
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import websockets

from relay import terminals
from tests.cluster import free_port
from tests.e2e.chromium import driven, running_chromium, served_folder
from tests.nginx import AROUND, needs_nginx
from tests.relays import relay_process
from tests.test_docs import README, blocks
from tests.waiting import wait_until

pytestmark = [needs_nginx, pytest.mark.timeout(120)]

CONNECT = """new Promise(done => {
  const socket = new WebSocket('ws://localhost:%d/ws')
  socket.onopen = () => socket.send(JSON.stringify({type: 'SYNC_REQUEST', clientId: 'client_1700000000001_a'}))
  socket.onmessage = message => done(JSON.parse(message.data).type)
  socket.onclose = event => done(`closed ${event.code}`)
})"""


@contextmanager
def nginx(folder: Path, site: Path, port: int, relay_port: int, token: str) -> Iterator[None]:
    """The README's nginx, with the user may, whose password is m4y."""
    users = folder / "users"
    users.write_text(f"may:{{SHA}}{base64.b64encode(hashlib.sha1(b'm4y').digest()).decode()}\n")
    [text] = blocks(README, "nginx")
    for shown, real in {
        "listen 8080": f"listen 127.0.0.1:{port}",
        "/srv/minipos": str(site),
        "/etc/nginx/minipos.users": str(users),
        "127.0.0.1:8081": f"127.0.0.1:{relay_port}",
        "THE_TOKEN": token,
    }.items():
        assert text.count(shown) == 1, shown
        text = text.replace(shown, real)
    (folder / "minipos-relay.conf").write_text(text)
    (folder / "nginx.conf").write_text("user root;\n" * (folder.owner() == "root") + AROUND.format(folder=folder))
    process = subprocess.Popen(["nginx", "-p", folder, "-c", folder / "nginx.conf"], process_group=0)
    try:
        wait_until(lambda: re.fullmatch(r"\d+\n", read(folder / "nginx.pid")), what="nginx")
        yield
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(timeout=10)


def read(path: Path) -> str:
    return path.read_text() if path.exists() else ""


async def test_the_app_comes_in_through_the_proxy_of_the_readme(database: str, tmp_path: Path) -> None:
    token = await terminals.add(database, "default", "app behind nginx", "manager")
    port = free_port()
    site, elsewhere = tmp_path / "site", tmp_path / "elsewhere"
    for folder in (site, elsewhere):
        folder.mkdir()
        (folder / "index.html").write_text(f"<p>{folder.name}</p>")
    origin = f"http://localhost:{port}"
    environment: dict[str, Any] = {"RELAY_AUTH": "token", "RELAY_ORIGINS": origin}
    async with relay_process(database, **environment) as relay:
        with (
            nginx(tmp_path, site, port, relay.port, token),
            served_folder(elsewhere) as hostile,
            running_chromium() as address,
        ):
            url = f"ws://127.0.0.1:{port}/ws"
            with pytest.raises(websockets.InvalidStatus, match="401"):
                await websockets.connect(url, origin=origin)  # type: ignore[arg-type]
            password = {"Authorization": f"Basic {base64.b64encode(b'may:m4y').decode()}"}
            with pytest.raises(websockets.InvalidStatus, match="403"):  # a page of somebody else's, with the password
                await websockets.connect(url, origin=hostile, additional_headers=password)  # type: ignore[arg-type]
            async with driven(address) as chromium:
                tab = await chromium.open(f"http://may:m4y@localhost:{port}/index.html")
                assert await tab.run("document.body.innerText") == "site"
                assert await tab.run(CONNECT % port) == "SYNC_RESPONSE"
                await tab.do("Page.navigate", url=f"{hostile}/index.html")
                await tab.loaded("document.body?.innerText === 'elsewhere'")
                assert await tab.run(CONNECT % port) == "closed 1006"
