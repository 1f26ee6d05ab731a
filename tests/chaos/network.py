"""A relay on a machine of its own, as far as the network goes: two cables that can be pulled without a word to anybody.

The relay has a network namespace of its own, and a router stands in each of its two ways out: one to PostgreSQL, one to
nginx. A router that forwards no more is a pulled cable: no RST, no ICMP, nothing comes back.
"""

from __future__ import annotations

import ipaddress
import os
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from tests.cluster import PORTS
from tests.relays import RelayProcess

NET_ADMIN, SYS_ADMIN = 12, 21  # capabilities(7)
NETWORK = ipaddress.ip_network("198.18.0.0/15")  # for measurements, and nobody's own (RFC 2544)
TO_DATABASE, TO_NGINX = 0, 1


@dataclass(frozen=True)
class Cables:
    """What leads to the relay's namespace: `tag` is a port that is free, so no other run has these names."""

    tag: int

    @property
    def far(self) -> str:
        return f"chaos-{self.tag}"

    def router(self, cable: int) -> str:
        return f"chaos-{self.tag}-{cable}"

    def addresses(self, cable: int) -> list[str]:
        """Of this side, of the router's two sides, and of the relay's side."""
        first = (self.tag - PORTS.start) * 8 + cable * 4
        return [str(NETWORK[first + number]) for number in range(4)]

    @property
    def database(self) -> str:
        """Where PostgreSQL is, seen from the relay."""
        return self.addresses(TO_DATABASE)[0]

    @property
    def relay_at_the_database(self) -> str:
        """Where the relay is, seen from PostgreSQL."""
        return self.addresses(TO_DATABASE)[3]

    @property
    def relay(self) -> str:
        """Where the relay is, seen from nginx."""
        return self.addresses(TO_NGINX)[3]

    @property
    def nginx(self) -> str:
        """Where nginx is, seen from the relay."""
        return self.addresses(TO_NGINX)[0]

    def pull(self, cable: int) -> None:
        self._forward(cable, on=False)

    def plug(self, cable: int) -> None:
        self._forward(cable, on=True)

    def _forward(self, cable: int, *, on: bool) -> None:
        said = f"echo {int(on)} > /proc/sys/net/ipv4/ip_forward"  # each namespace has its own
        _run("ip", "netns", "exec", self.router(cable), "sh", "-c", said)

    def lay(self) -> None:
        far = self.far
        _run("ip", "netns", "add", far)
        _run("ip", "-n", far, "link", "set", "lo", "up")
        for cable in (TO_DATABASE, TO_NGINX):
            router = self.router(cable)
            here, near, beyond, there = self.addresses(cable)
            ends = [f"c{self.tag}{cable}{letter}" for letter in "abcd"]
            _run("ip", "netns", "add", router)
            _run("ip", "link", "add", ends[0], "type", "veth", "peer", "name", ends[1], "netns", router)
            _run("ip", "-n", router, "link", "add", ends[2], "type", "veth", "peer", "name", ends[3], "netns", far)
            # Two addresses on each link: the second half of four is reached through the router, and back.
            _run("ip", "address", "add", f"{here}/31", "dev", ends[0])
            _run("ip", "-n", router, "address", "add", f"{near}/31", "dev", ends[1])
            _run("ip", "-n", router, "address", "add", f"{beyond}/31", "dev", ends[2])
            _run("ip", "-n", far, "address", "add", f"{there}/31", "dev", ends[3])
            for place, end in (
                ([], ends[0]),
                (["-n", router], ends[1]),
                (["-n", router], ends[2]),
                (["-n", far], ends[3]),
            ):
                _run("ip", *place, "link", "set", end, "up")
            _run("ip", "route", "add", f"{beyond}/31", "via", near)
            _run("ip", "-n", far, "route", "add", f"{here}/31", "via", beyond)
            self.plug(cable)

    def remove(self) -> None:
        """The links go with their namespaces."""
        for name in (self.far, self.router(TO_DATABASE), self.router(TO_NGINX)):
            subprocess.run(["ip", "netns", "delete", name], check=False, capture_output=True)


class FarRelay(RelayProcess):
    """A relay at the far end of the cables."""

    def __init__(self, conninfo: str, cables: Cables, **environment: str) -> None:
        proxy = {"FORWARDED_ALLOW_IPS": cables.nginx}
        super().__init__(conninfo, HOST=cables.relay, RELAY_ALLOW_OPEN="1", **proxy, **environment)
        self.host = cables.relay
        self.before = ("ip", "netns", "exec", cables.far)


def why_no_cables() -> str:
    """What is missing for cables of our own; nothing where they can be laid."""
    effective = next(line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("CapEff"))
    held = int(effective.split()[1], 16)
    if os.geteuid() != 0 or not all(held >> capability & 1 for capability in (NET_ADMIN, SYS_ADMIN)):
        return "it needs root with CAP_NET_ADMIN and CAP_SYS_ADMIN"
    if shutil.which("ip") is None:
        return "the program ip is not installed (apt-get install iproute2)"
    return ""


@contextmanager
def cables(tag: int) -> Iterator[Cables | None]:
    """The cables, laid; nothing, and a word about it, where this machine does not let us. CI must, where it is root."""
    missing = why_no_cables()
    if missing and not (os.environ.get("CI") == "true" and "root" not in missing):
        print(f"SKIPPED: the silent partitions of chaos; {missing}", flush=True)
        yield None
        return
    assert not missing, missing
    laid = Cables(tag)
    try:
        laid.lay()
        yield laid
    finally:
        laid.remove()


def _run(*command: str) -> None:
    done = subprocess.run(command, check=False, capture_output=True, text=True)
    assert done.returncode == 0, f"{' '.join(command)}: {done.stderr.strip()}"
