"""Which web pages may talk to the relay, over HTTP and over a WebSocket."""

from __future__ import annotations

import pytest
import websockets

from tests.relays import LocalRelay, clean_relay

OWN = "127.0.0.1:{port}"
# Without RELAY_ORIGINS: the Origin, the Host that the page's browser asks, whether it may come in.
UNSET: list[tuple[str | None, str, bool]] = [
    (None, OWN, True),
    ("http://localhost", OWN, True),
    ("http://localhost:3000", OWN, True),
    ("https://localhost:8443", OWN, True),
    ("http://127.0.0.1", OWN, True),
    ("http://127.0.0.1:5173", OWN, True),
    ("http://127.0.0.1:{port}", OWN, True),
    ("http://192.168.1.5:8080", "192.168.1.5:8080", True),  # a page of the relay's own
    ("http://[fd00::5]:8080", "[fd00::5]:8080", True),
    ("http://192.168.1.5:8080", OWN, False),
    ("http://192.168.1.5:3000", "192.168.1.5:8080", False),
    ("http://rebound.example:8080", "rebound.example:8080", False),  # a name may point here and be anybody's
    ("null", OWN, False),
    ("", OWN, False),
    ("http://evil.example", OWN, False),
    ("https://localhost.evil.example", OWN, False),
    ("http://127.0.0.1.evil.example", OWN, False),
    ("http://evil-localhost", OWN, False),
    ("http://localhost@evil.example", OWN, False),
    ("http://evil.example@localhost", OWN, False),
    ("http://127.0.0.2", OWN, False),
    ("http://127.1", OWN, False),
    ("http://localhost:99999", OWN, False),
    ("http://localhost/", OWN, False),
    ("http://localhost:3000/page", OWN, False),
    ("HTTP://LOCALHOST", OWN, False),
    ("http://localhost http://evil.example", OWN, False),
    ("localhost", OWN, False),
    ("//localhost", OWN, False),
    ("file://localhost", OWN, False),
    ("chrome-extension://localhost", OWN, False),
    ("http://[", OWN, False),
]
ALLOWED = ("https://pos.example", "http://till.example:3000", "capacitor://localhost", "https://xn--caf-dma.example")
SET: list[tuple[str | None, str, bool]] = [
    (None, OWN, True),
    *((origin, OWN, True) for origin in ALLOWED),
    ("http://pos.example", OWN, False),
    ("https://pos.example:8443", OWN, False),
    ("https://pos.example/", OWN, False),
    ("https://www.pos.example", OWN, False),
    ("https://pos.example.evil.example", OWN, False),
    ("http://till.example", OWN, False),
    ("http://till.example:30000", OWN, False),
    ("http://localhost", OWN, False),
    ("http://localhost:3000", OWN, False),
    ("http://127.0.0.1:{port}", OWN, False),
    ("http://192.168.1.5:8080", "192.168.1.5:8080", False),
    ("https://pos.example, http://till.example:3000", OWN, False),
    ("HTTPS://POS.EXAMPLE", OWN, False),
    ("https://Pos.example", OWN, False),
    ("https://pos.example.", OWN, False),
    ("https://pos.example:443", OWN, False),
    ("wss://pos.example", OWN, False),
    ("https://evilpos.example", OWN, False),
    ("https://pos.example@evil.example", OWN, False),
    ("https://evil.example#https://pos.example", OWN, False),
    ("https://caf\u00e9.example", OWN, False),  # a browser writes it in letters of DNS (RFC 5891)
    ("https://xn--caf-dma.example.evil.example", OWN, False),
    ("https://xn--cafe-dma.example", OWN, False),
    ("null", OWN, False),
    ("", OWN, False),
    ("*", OWN, False),
]


async def over_http(relay: LocalRelay, origin: str | None, host: str, path: str) -> int:
    sent = {"Host": host} if origin is None else {"Host": host, "Origin": origin}
    status, headers, body = await relay.ask("GET", path, sent)
    if status != 200:
        assert "access-control-allow-origin" not in headers
        assert "RELAY_ORIGINS" in body
    elif origin is not None and origin != f"http://{host}":  # a page may read what is of its own origin anyway
        assert headers["access-control-allow-origin"] == origin
        assert "Origin" in headers["vary"]
    return status


async def over_websocket(relay: LocalRelay, origin: str | None, host: str, path: str) -> int:
    headers = {} if origin is None else {"Origin": origin}
    try:
        async with websockets.connect(
            f"ws://{host}{path}", host="127.0.0.1", port=relay.port, additional_headers=headers
        ) as socket:
            await socket.send('{"type": "HEARTBEAT"}')
            await socket.recv()
            return 200
    except websockets.InvalidStatus as refused:
        return refused.response.status_code


@pytest.mark.parametrize(("origins", "table"), [((), UNSET), (ALLOWED, SET)], ids=["unset", "set"])
async def test_origins_are_let_in_as_the_table_says(
    database: str,
    caplog: pytest.LogCaptureFixture,
    origins: tuple[str, ...],
    table: list[tuple[str | None, str, bool]],
) -> None:
    async with clean_relay(database, caplog, origins=origins) as relay:
        for origin, host, expected in table:
            asked = host.format(port=relay.port)
            named = origin.format(port=relay.port) if origin else origin
            for path in ("/api/sync", "/health"):
                assert await over_http(relay, named, asked, path) == (200 if expected else 403), (named, asked, path)
            for path in ("/ws", "/"):
                assert await over_websocket(relay, named, asked, path) == (200 if expected else 403), (
                    named,
                    asked,
                    path,
                )


async def test_a_browser_may_ask_first_and_read_the_tag(database: str, caplog: pytest.LogCaptureFixture) -> None:
    ask_first = {"Access-Control-Request-Method": "GET", "Access-Control-Request-Headers": "if-none-match"}
    async with clean_relay(database, caplog, origins=ALLOWED) as relay:
        status, headers, _ = await relay.ask("OPTIONS", "/api/sync", ask_first | {"Origin": ALLOWED[0]})
        assert (status, headers["access-control-allow-origin"]) == (200, ALLOWED[0])
        assert "GET" in headers["access-control-allow-methods"]
        assert "if-none-match" in headers["access-control-allow-headers"].lower()
        status, headers, _ = await relay.ask("GET", "/api/sync", {"Origin": ALLOWED[1]})
        assert (headers["access-control-allow-origin"], headers["access-control-expose-headers"]) == (
            ALLOWED[1],
            "ETag",
        )
        assert "access-control-allow-credentials" not in headers
        status, headers, _ = await relay.ask("OPTIONS", "/api/sync", ask_first | {"Origin": "http://evil.example"})
        assert (status, headers.get("access-control-allow-origin")) == (403, None)
        status, _, _ = await relay.ask(
            "OPTIONS", "/api/sync", {"Origin": ALLOWED[0], "Access-Control-Request-Method": "DELETE"}
        )
        assert status == 400
