"""No token and no password of a database in what a relay writes or answers: C2 and C21 of the checklist."""

from __future__ import annotations

import json
import os
import re
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import jwt
import pytest
import websockets
from psycopg.conninfo import make_conninfo

from relay import auth, schema, terminals
from tests.cluster import TestCluster
from tests.e2e.apps import sql
from tests.e2e.strangers import bearer, hello
from tests.relays import RelayProcess, relay_process
from tests.terminals import Terminal
from tests.waiting import until

PASSWORD = "hunter2-of-the-database"
SECRET = "the-secret-that-signs-every-token-0123456789"


async def conversation(url: str, said: Sequence[object], **options: Any) -> list[str]:
    """All that a relay answers to these messages, its close included."""
    heard: list[str] = []
    async with websockets.connect(url, max_size=None, **options) as socket:
        try:
            for message in (*said, {"type": "CLIENT_DISCONNECTED"}):
                await socket.send(message if isinstance(message, str | bytes) else json.dumps(message))
            async for text in socket:
                heard.append(str(text))
        except websockets.ConnectionClosed:
            pass
        await socket.wait_closed()
        return [*heard, f"{socket.close_code} {socket.close_reason}"]


async def show_everywhere(relay: RelayProcess, token: str, wrong: str) -> list[str]:
    """Show a good token and a bad one in every place there is, right or wrong; all that was answered."""
    answers: list[str] = []
    for each in (token, wrong):
        for first, options, query in (
            (hello(each), {}, ""),
            (hello(each, protocol="one"), {}, ""),
            (hello([each]), {}, ""),
            ({"type": each}, {}, ""),
            ({"type": "UPDATE_TABLE", "id": each[:64], "data": {"token": each}}, {}, ""),
            (json.dumps(hello(each))[:-1], {}, ""),
            (json.dumps(hello(each)).encode(), {}, ""),
            (None, bearer(f"{each} {each}"), ""),
            (None, bearer(each), f"?token={each}"),
            (hello(each), {}, f"?restaurant={each}"),
            (hello(each), {}, "?restaurant=nowhere"),
        ):
            answers += await conversation(relay.url + query, [first] if first else [], **options)
        said = [hello(each), {"type": each}, {"type": "SYNC_REQUEST", "data": {"epoch": each}}, each]
        answers += await conversation(relay.url, said, subprotocols=[f"minipos.token.{each}"])
        for path in ("/api/sync", "/api/changes", f"/api/sync?token={each}", f"/{each}", "/health", "/health/ready"):
            for header in (f"Bearer {each}", f"Token {each}", each):
                answers.append(str(await relay.ask("GET", path, {"Authorization": header})))
    return answers


def without_echoes(answers: list[str], token: str) -> list[str]:
    """Those that repeat it, but for the messages that give an unknown type back to who sent it."""
    return [answer for answer in answers if token in answer and "is not known" not in answer]


@pytest.mark.parametrize("form", ["text", "json"])
async def test_no_token_and_no_password_is_written_or_answered(private_cluster: TestCluster, form: str) -> None:
    private_cluster.create_database("shop")
    plain = private_cluster.tcp("shop")
    await schema.apply(plain)
    token = await terminals.add(plain, "default", "Bar 1", "manager")
    wrong = auth.new_token()
    conninfo = make_conninfo(plain, password=PASSWORD)
    async with relay_process(conninfo, RELAY_AUTH="token", LOG_LEVEL="debug", LOG_FORMAT=form) as relay:
        answers = await show_everywhere(relay, token, wrong)
        one = await Terminal(relay.url, token=token).connect()
        # A fault of ours, with a traceback.
        [(sound,)] = sql(plain, "select pg_get_functiondef('pos.find_terminals'::regproc)")
        sql(plain, sound.split(" LANGUAGE sql", 1)[0] + " language plpgsql as $$ begin perform 1 / 0; end $$")
        answers += await conversation(relay.url, [hello(token)])
        await until(lambda: "traceback" in relay.log, what="a traceback")
        sql(plain, sound)
        await one.close()
        # A database that is away.
        private_cluster.stop()
        answers.append(str(await relay.ask("GET", "/api/sync", {"Authorization": f"Bearer {token}"})))
        await until(lambda: "the database is away" in relay.log, within=20.0)
        answers.append(str(await relay.ask("GET", "/health")))
        log = relay.log
    assert "let in" in log
    assert re.search(r'is not let in: .*"?address"?[=:] ?"?127\.0\.0\.1', log)
    for secret in (token, wrong, auth.digest(token).hex(), PASSWORD):
        assert secret not in log
        assert without_echoes(answers, secret) == []


async def test_no_signed_token_and_no_key_is_written_or_answered(database: str, tmp_path: Path) -> None:
    key = tmp_path / "key"
    key.write_text(SECRET)
    claims = {
        "restaurant": "default",
        "role": "terminal",
        "aud": "minipos-relay",
        "exp": time.time() + 600,
    }
    token, wrong = jwt.encode(claims, SECRET), jwt.encode(claims | {"aud": "another"}, SECRET)
    environment: dict[str, Any] = {"RELAY_AUTH": "jwt", "RELAY_JWT_KEY": os.fspath(key), "LOG_LEVEL": "debug"}
    async with relay_process(database, **environment) as relay:
        answers = await show_everywhere(relay, token, wrong)
        log = relay.log
    assert "let in" in log
    for secret in (token, wrong, *token.split(".")[1:], SECRET):
        assert secret not in log
        assert without_echoes(answers, secret) == []
