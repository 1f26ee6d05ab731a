"""What a setting may hold: each kind of value, read from its text."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Generic, TypeVar

import psycopg
from psycopg.conninfo import conninfo_to_dict

T = TypeVar("T")

ORIGIN = re.compile(r"[a-z][a-z0-9+.-]*://(?:[a-z0-9_.-]+|\[[0-9a-f:.]+\])(?::([0-9]{1,5}))?")
HOST_NAME = re.compile(r"[A-Za-z0-9_.-]{1,253}")
SWITCH = {"1": True, "on": True, "true": True, "yes": True, "0": False, "off": False, "false": False, "no": False}


@dataclass(frozen=True)
class Kind(Generic[T]):
    """One kind of value: `parse` raises ValueError on what is not `allowed`; a `secret` one is never repeated."""

    allowed: str
    parse: Callable[[str], T]
    secret: bool = False


def whole(low: int, high: int) -> Kind[int]:
    """A whole number, both ends included."""

    def parse(value: str) -> int:
        number = int(value)
        if not low <= number <= high:
            raise ValueError
        return number

    return Kind(f"{low} to {high}", parse)


def limit(high: int) -> Kind[int]:
    """A whole number, of which 0 is no limit."""
    return Kind(f"1 to {high}, or 0 for no limit", whole(0, high).parse)


def decimal(low: float, high: float) -> Kind[float]:
    """A number with or without a fraction, both ends included."""

    def parse(value: str) -> float:
        number = float(value)
        if not low <= number <= high:  # false for nan too
            raise ValueError
        return number

    return Kind(f"{low:g} to {high:g}", parse)


def choice(*words: str) -> Kind[str]:
    """One of these words, in any case."""

    def parse(value: str) -> str:
        if value.lower() not in words:
            raise ValueError
        return value.lower()

    return Kind(", ".join(words[:-1]) + f" or {words[-1]}", parse)


def _switch(value: str) -> bool:
    try:
        return SWITCH[value.lower()]
    except KeyError:
        raise ValueError from None


def _auth(value: str) -> str:
    if SWITCH.get(value.lower()) is False:
        return "off"
    if value.lower() not in ("token", "jwt"):
        raise ValueError
    return value.lower()


def _secret(value: str) -> str:
    if value and not 16 <= len(value) <= 1024:
        raise ValueError
    return value


def _proxies(value: str) -> tuple[str, ...]:
    found = tuple(part.strip() for part in value.split(",") if part.strip())
    if found != ("*",):
        for one in found:
            ipaddress.ip_network(one)
    return found


def _host(value: str) -> str:
    if not HOST_NAME.fullmatch(value):
        ipaddress.ip_address(value)
    return value


def _origins(value: str) -> tuple[str, ...]:
    return tuple(_origin(part.strip().lower()) for part in value.split(",") if part.strip())


def _origin(value: str) -> str:
    match = ORIGIN.fullmatch(value)
    if match is None or int(match[1] or 0) > 65535:
        raise ValueError
    # A browser leaves the default port out of its Origin, so written with it the origin would never match.
    default_port = {"http": ":80", "https": ":443"}.get(value.partition(":")[0], "")
    return value.removesuffix(default_port)


def _connection(value: str) -> str:
    try:
        parts = conninfo_to_dict(value)
    except psycopg.ProgrammingError:
        raise ValueError from None
    # libpq takes "p/1@host" for host "p", and "p@ss@host" for host "ss@host": found here, not at the first connect,
    # whose error would show part of the password.
    ports = str(parts.get("port", "")).split(",")
    if not all(port == "" or port.isdecimal() for port in ports) or "@" in str(parts.get("host", ""))[1:]:
        raise ValueError
    return value


SWITCHED = Kind("on or off", _switch)
TEXT = Kind("", str)
HOST = Kind("an IP address or a host name", _host)
PROXIES = Kind("a comma-separated list of addresses and networks, or *", _proxies)
ORIGINS = Kind("a comma-separated list of scheme://host[:port], without a path or *", _origins)
AUTH = Kind("off, token or jwt", _auth)
SECRET = Kind("16 to 1024 characters", _secret, secret=True)
PATH = Kind("", lambda value: Path(value).expanduser())
CONNECTION = Kind(
    "postgresql://user:password@host:port/name, a password's / : @ % as %2F %3A %40 %25; or libpq's key=value",
    _connection,
    secret=True,
)
