"""C21: a relay that is sent all the hostile traffic there is, at its most talkative, tells no secret and no content."""

from __future__ import annotations

import asyncio
import itertools
import json
import secrets
import socket
from contextlib import suppress
from random import Random
from typing import Any

import pytest
import websockets
from psycopg.conninfo import make_conninfo

from relay import auth, schema, terminals
from tests.cluster import TestCluster
from tests.e2e.apps import USER, sql
from tests.e2e.strangers import bearer
from tests.e2e.test_hostile_input import CORPUS, wrong_types
from tests.e2e.test_roles import APPS
from tests.fuzz.conversations import conversation
from tests.fuzz.named_upgrades import NAMED as UPGRADES
from tests.fuzz.named_upgrades import generated_upgrade
from tests.fuzz.raw_frames import headers_of, request
from tests.relays import RelayProcess, relay_process
from tests.waiting import until

pytestmark = pytest.mark.timeout(180)

CONVERSATIONS = 100
AS_IT_IS = {"id", "type", "action", "clientId", "status", "createdAt"}  # or it would be another message, or none
FAULTS = (
    "alter table pos.tables rename column seats to chairs",
    "alter table pos.menu_items add constraint none_new check (price < 0) not valid",
    "alter table pos.order_history add constraint none_new check (version < 0) not valid",
    "alter table pos.staff add constraint none_new check (version < 0) not valid",
    "create function cast_it() returns trigger language plpgsql as 'begin perform new.name::integer; return new; end';"
    " create trigger z before insert or update on pos.menu_items for each row execute function cast_it()",
    "alter table pos.sync_log add constraint none_new check (revision < 0) not valid",
)
MENDED = (
    "alter table pos.tables rename column chairs to seats",
    "alter table pos.menu_items drop constraint none_new",
    "alter table pos.order_history drop constraint none_new",
    "alter table pos.staff drop constraint none_new",
    "drop function cast_it() cascade",
    "alter table pos.sync_log drop constraint none_new",
)


def planted(value: Any, content: str, key: str = "") -> Any:
    """A message with a mark in every text of its content, and one more field in every object."""
    if isinstance(value, dict):
        return {name: planted(each, content, name) for name, each in value.items()} | {"remark": content}
    if isinstance(value, list):
        return [planted(each, content, key) for each in value]
    return f"{value}{content}" if isinstance(value, str) and key not in AS_IT_IS else value


def hostile_texts(content: str) -> list[str]:
    """Everything that a terminal must not say, and what it may, with this in every text."""
    texts = [text for text, _, _ in CORPUS] + [text for text, _ in wrong_types()]
    found = [text if len(text) > 20_000 else text.replace('"x"', f'"{content}"') for text in texts]
    for number, (type_, data) in enumerate(APPS):
        message = {"type": type_, "id": f"{content[-9:]}-{number}", "data": planted(data, content)}
        whole = json.dumps(message)
        broken = [
            whole[:-1],
            whole.replace(content, content + "\\u0000", 1),
            whole.replace(content, content + "\\ud800"),
        ]
        found += [whole, whole, *broken, whole + "}", whole.replace(f'"{content}"', "NaN", 1)]
    return found


async def said(relay: RelayProcess, texts: list[str], client_id: str, query: str = "", **options: Any) -> None:
    """Send them all, on a new socket where one was closed, and read what comes."""
    left = list(texts)
    while left:
        async with websockets.connect(relay.url + query, max_size=None, **options) as peer:
            with suppress(websockets.ConnectionClosed):
                await peer.send(json.dumps({"type": "CLIENT_CONNECTED", "data": {"clientId": client_id}}))
                while left:
                    await peer.send(left.pop(0))
                await peer.send('{"type": "SYNC_REQUEST"}')
                await peer.send('{"type": "NEXT_ORDER_ID", "id": "last"}')
                async for heard in peer:
                    if json.loads(heard).get("ref") == "last":
                        return


def raw(relay: RelayProcess, data: bytes) -> None:
    """Send bytes to the relay's port and read to the end."""
    with socket.create_connection((relay.host, relay.port), timeout=10) as peer, suppress(OSError):
        peer.sendall(data)
        peer.shutdown(socket.SHUT_WR)
        while peer.recv(65536):
            pass


def bytes_of_all_kinds(token: str) -> list[bytes]:
    """Upgrades and frames, by the rules and against them, each with a good token."""
    shown = ("Authorization", f"Bearer {token}")
    found = [each.data.replace(b"\r\n", f"\r\n{': '.join(shown)}\r\n".encode(), 1) for each in UPGRADES]
    for number in range(CONVERSATIONS):
        rng = Random(f"secrets/{number}")
        talk = conversation(rng)
        found.append(request(headers_of(), more=[shown]) + b"".join(bytes(frame) for frame in talk.frames))
        found.append(generated_upgrade(rng).data.replace(b"\r\n", f"\r\n{': '.join(shown)}\r\n".encode(), 1))
    return found


async def test_a_whole_run_of_hostile_traffic_leaves_no_secret_behind(private_cluster: TestCluster) -> None:
    mark = secrets.token_hex(8)
    password, secret, content = f"db-{mark}", f"seal-{mark}-0123456789", f"content-{mark}"
    private_cluster.create_database("shop")
    plain = private_cluster.tcp("shop")
    await schema.apply(plain)
    await schema.seed(plain)
    token = await terminals.add(plain, "default", "Bar 1", "manager")
    sql(plain, "insert into pos.staff (restaurant_id, id, password) values (1, '99', %s)", content)
    environment: dict[str, Any] = {"RELAY_AUTH": "token", "RELAY_SECRET": secret, "LOG_LEVEL": "debug"}
    turns = itertools.count(10)

    def texts() -> list[str]:
        """Each time with other ids, and other content: repeated they would be no changes."""
        return hostile_texts(f"{content}-{next(turns)}")

    async with relay_process(make_conninfo(plain, password=password), **environment) as relay:
        app = "client_1700000000001_a"
        await said(relay, texts(), app, **bearer(token))
        await said(relay, texts(), "till", **bearer(token))
        for data in bytes_of_all_kinds(token):
            await asyncio.to_thread(raw, relay, data)
        for fault, mend in zip(FAULTS, MENDED, strict=True):
            # Nobody is there to seal it before the fault.
            sql(plain, "update pos.staff set password = %s where id = '99'", content)
            sql(plain, fault)
            await said(relay, [text for text in texts() if content in text], app, **bearer(token))
            sql(plain, mend)
        assert "CheckViolation" in relay.log, "the row of a user was quoted"
        for backend in ("relay", "relay listener"):
            sql(plain, "select pg_terminate_backend(pid) from pg_stat_activity where application_name = %s", backend)
        shown = bearer(token)["additional_headers"]
        paths = (
            "/health",
            "/health/live",
            "/health/ready",
            "/metrics",
            f"/{content}",
            "/api/nothing",
            "/api/orders?limit=x",
        )
        answers = [str(await relay.ask("GET", path, shown)) for path in paths]
        private_cluster.stop()
        await until(lambda: "the database is away" in relay.log, within=30.0)
        answers += [str(await relay.ask("GET", path, shown)) for path in (*paths, "/api/sync")]
        log = relay.log
    assert log.count("refused") > 400
    assert "a mutation failed with SQLSTATE" in log
    assert "Failing row" not in log
    for name, hidden in {
        "token": token,
        "digest": auth.digest(token).hex(),
        "password": password,
        "secret": secret,
        "content": content,
        "user": USER["password"],
    }.items():
        assert [line for line in log.splitlines() if hidden in line] == [], name
        assert [answer for answer in answers if hidden in answer and name != "user"] == [], name
