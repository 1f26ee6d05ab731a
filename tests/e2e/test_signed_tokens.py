"""Who may come in with RELAY_AUTH=jwt, and when they have to go."""

from __future__ import annotations

import asyncio
import time
from pathlib import Path
from typing import Any

import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from relay.jwts import LEEWAY
from tests.e2e.apps import sql
from tests.e2e.strangers import bearer, hello, turned_away
from tests.relays import clean_relay, local_relay
from tests.terminals import Terminal, agree
from tests.waiting import until

KEY, OTHER_KEY = Ed25519PrivateKey.generate(), Ed25519PrivateKey.generate()
TABLE = {"id": "t1", "number": 1, "seats": 4, "status": "available"}


def written(key: Ed25519PrivateKey) -> bytes:
    return key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)


@pytest.fixture
def keys(tmp_path: Path) -> Path:
    path = tmp_path / "key.pem"
    path.write_bytes(written(KEY))
    return path


def token(key: Ed25519PrivateKey = KEY, **claims: Any) -> str:
    base = {"restaurant": "default", "role": "terminal", "aud": "minipos-relay", "exp": time.time() + 600}
    return jwt.encode(base | claims, key, "EdDSA")


async def test_a_signed_token_lets_in_and_its_role_counts(
    database: str, keys: Path, caplog: pytest.LogCaptureFixture
) -> None:
    sql(database, "insert into pos.restaurants (slug, name) values ('bistro', 'x')")
    async with clean_relay(database, caplog, auth="jwt", jwt_key=keys) as relay:
        shown = bearer(token(restaurant="bistro", role="display"))
        async with (
            Terminal(relay.url, token=token(restaurant="bistro")) as one,
            await Terminal(relay.url).connect(hello=False, **shown) as wall,
        ):
            await one.table("add", TABLE)
            await agree(database, one, wall, slug="bistro")
            assert (await wall.refused("UPDATE_TABLE", {"action": "add", "data": TABLE}))["code"] == "FORBIDDEN"
            assert (await one.refused("UPDATE_SETTINGS", {"taxRate": 5}))["code"] == "FORBIDDEN"
        status, _, body = await relay.get("/api/tables", shown["additional_headers"])
        assert (status, [table["id"] for table in body["tables"]]) == (200, ["t1"])


async def test_who_is_not_signed_is_turned_away(database: str, keys: Path) -> None:
    async with local_relay(database, auth="jwt", jwt_key=keys) as relay:
        for wrong, reason in {
            token(OTHER_KEY): "no key of this relay has signed the token with its algorithm",
            token(exp=time.time() - 60): "the token has expired",
            token(aud="another"): "the token needs the claims exp, and aud with RELAY_JWT_AUDIENCE",
            token(restaurant="nowhere"): "there is no restaurant 'nowhere'",
            f"minipos_{'a' * 43}": "this is no signed token (JWT)",
        }.items():
            assert await turned_away(relay.url, hello(wrong)) == (1008, reason)
            status = 404 if "restaurant" in reason else 401
            assert (await relay.get("/api/sync", {"Authorization": f"Bearer {wrong}"}))[0] == status


async def test_a_socket_is_closed_when_its_token_expires(database: str, keys: Path) -> None:
    async with local_relay(database, auth="jwt", jwt_key=keys) as relay:
        soon = time.time() - LEEWAY + 2
        one = await Terminal(relay.url, token=token(exp=soon)).connect()
        async with Terminal(relay.url, token=token()) as longer:
            await until(lambda: one.close_code, within=8.0)
            assert time.time() >= soon + LEEWAY
            assert (one.close_code, one.close_reason) == (1008, "the token has expired; connect again with a new one")
            assert longer.close_code is None
        await one.close()


async def test_a_key_that_is_taken_out_of_the_file_shuts_out_whom_it_let_in(
    database: str, keys: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("relay.gate.RECHECK_SECONDS", 0.5)
    async with local_relay(database, auth="jwt", jwt_key=keys) as relay:
        one = await Terminal(relay.url, token=token()).connect()
        await asyncio.to_thread(keys.write_bytes, written(OTHER_KEY))
        async with Terminal(relay.url, token=token(OTHER_KEY)) as other:
            await until(lambda: one.close_code == 1008)
            assert one.close_reason == "the key that has signed this token is trusted no longer"
            assert other.close_code is None
        await one.close()


async def test_a_slug_that_goes_to_another_restaurant_takes_no_terminal_along(
    database: str, keys: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("relay.gate.RECHECK_SECONDS", 0.5)
    async with local_relay(database, auth="jwt", jwt_key=keys) as relay:
        one = await Terminal(relay.url, token=token()).connect()
        sql(database, "update pos.restaurants set slug = 'old' where slug = 'default'")
        await until(lambda: one.close_code == 1008)
        assert one.close_reason == "the restaurant of this token has another name now"
        await one.close()
