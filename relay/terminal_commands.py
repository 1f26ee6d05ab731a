"""`relay terminal`: who may come in. `relay terminals` and `relay kick`: who is here, and who is to go."""

from __future__ import annotations

import dataclasses
import json
import sys
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

import click

from . import rollcall, terminals
from .auth import ROLES
from .command import FAULT, read_settings, run
from .rollcall import Instance, Roll, Wanted
from .slugs import DEFAULT_SLUG
from .tailing import printable

KEEP_IT = "This is its token; it is shown only now:"
HEADINGS = ("RESTAURANT", "NAME", "ROLE", "CLIENT ID", "ADDRESS", "RELAY", "SINCE", "REVISION", "BEHIND", "WAITING")
NAMED = click.option(
    "--restaurant", "slug", help="Which restaurant; needed where several have a terminal of this name."
)


@click.group("terminal")
def terminal_group() -> None:
    """The terminals that may come in with a token (RELAY_AUTH=token)."""


@terminal_group.command("add")
@click.option("--restaurant", "slug", default=DEFAULT_SLUG, help="Which restaurant; by default the default one.")
@click.option("--name", required=True, help="For people, such as 'Bar 1'.")
@click.option(
    "--role",
    type=click.Choice(ROLES),
    default="terminal",
    help="terminal: tables and orders; manager: also menu, settings and staff; display: reads only.",
)
def terminal_add(slug: str, name: str, role: str) -> None:
    """Enrol a terminal, and print its token: this once, and alone on standard output."""
    token = run(terminals.add(read_settings().conninfo, slug, name, role))
    click.echo(f"{name} of {slug} is enrolled as {role}. {KEEP_IT}", err=True)
    click.echo(token)


@terminal_group.command("list")
@click.option("--restaurant", "slug", help="Only this restaurant's.")
def terminal_list(slug: str | None) -> None:
    """List the enrolled terminals, never their tokens."""
    rows = run(terminals.listed(read_settings().conninfo, slug))
    if not rows:
        click.echo("relay: no terminal is enrolled; relay terminal add enrols one", err=True)
    for row in rows:
        since = f"revoked {row.revoked_at:%Y-%m-%d %H:%M}" if row.revoked_at else f"since {row.given_at:%Y-%m-%d %H:%M}"
        click.echo(f"{row.slug}\t{row.name}\t{row.role}\t{since}")


@terminal_group.command("revoke")
@click.argument("name")
@NAMED
def terminal_revoke(name: str, slug: str | None) -> None:
    """Refuse the token of the terminal NAME from now on, and close its connections."""
    found = run(terminals.revoke(read_settings().conninfo, slug, name))
    click.echo(f"{name} of {found} is revoked; its connections are closed")


@terminal_group.command("rotate")
@click.argument("name")
@NAMED
def terminal_rotate(name: str, slug: str | None) -> None:
    """Give the terminal NAME another token and print it, as add does; with the old one it is shut out."""
    found, token = run(terminals.rotate(read_settings().conninfo, slug, name))
    click.echo(f"{name} of {found} has another token; connections with the old one are closed. {KEEP_IT}", err=True)
    click.echo(token)


@click.command("terminals")
@click.option("--restaurant", "slug", help="Only this restaurant's.")
@click.option("--instance", help="Only those of one relay, by its HOST:PORT or its id.")
@click.option("--json", "as_json", is_flag=True, help="One JSON object, for programs.")
def terminals_command(slug: str | None, instance: str | None, *, as_json: bool) -> None:
    """Show which terminals are connected to which relay; exit status 1 where a relay did not answer."""
    roll = run(rollcall.call(read_settings().conninfo, Wanted(slug, instance=instance)))
    if as_json:
        click.echo(json.dumps(_as_json(roll), indent=2, ensure_ascii=False))
    else:
        for line in _aligned([HEADINGS, *map(_row, roll.terminals)]):
            click.echo(line)
        answered = sum(one.answered for one in roll.instances)
        click.echo(f"{_counted(roll, answered)} connected", err=True)
    _say_who_is_missing(roll)


@click.command("kick")
@click.argument("client_id", metavar="CLIENT", required=False)
@click.option("--terminal", "name", help="Instead of a CLIENT id: the name of the terminal.")
@click.option("--restaurant", "slug", help="Only of this restaurant; needed where several have such a terminal.")
@click.option("--instance", help="Only on one relay, by its HOST:PORT or its id.")
@click.option("--come-back", is_flag=True, help="Tell it to connect again at once; without this it stays away.")
def kick_command(
    client_id: str | None, name: str | None, slug: str | None, instance: str | None, *, come_back: bool
) -> None:
    """Close the connections of a terminal on every relay, by the client id that `relay terminals` shows.

    A relay of schema version 2, as there may be in a deploy, does not hear of it.
    """
    if client_id and name:
        raise click.UsageError("name either a CLIENT id or --terminal NAME, not both")
    if not (client_id or name):
        raise click.UsageError("name a CLIENT id, or --terminal NAME; relay terminals shows both")
    wanted = Wanted(slug, client_id or None, name or None, instance)
    roll = run(rollcall.kick(read_settings().conninfo, wanted, come_back=come_back))
    click.echo(f"{_counted(roll, len({one['instance'] for one in roll.terminals}))} closed")
    _say_who_is_missing(roll)
    if not roll.terminals:
        click.echo("relay: no such terminal is connected; relay terminals shows them", err=True)
        sys.exit(FAULT)


def _counted(roll: Roll, relays: int) -> str:
    return f"{_number(len(roll.terminals), 'terminal')} on {_number(relays, 'relay')}"


def _number(count: int, noun: str) -> str:
    return f"{count} {noun}" + ("" if count == 1 else "s")


def _say_who_is_missing(roll: Roll) -> None:
    for one in roll.instances:
        if one.silent and not one.answered:
            gone = (datetime.now(UTC) - one.seen_at).total_seconds()
            click.echo(f"relay: {one.name} was not heard of for {gone:.0f} s; it is gone, or stands still", err=True)
    if roll.strangers:
        them = "1 more relay listens" if roll.strangers == 1 else f"{roll.strangers} more relays listen"
        old = "of schema version 2, perhaps, which knows no roll call; terminals there are neither listed nor closed"
        click.echo(f"relay: {them} on this database and did not hear of this: {old}", err=True)
    missing = [one for one in roll.instances if one.missing]
    for one in missing:
        click.echo(f"relay: {one.name} did not answer; try again, and look at its log", err=True)
    if not (roll.instances or roll.strangers):
        click.echo("relay: no relay is running on this database", err=True)
    if missing:
        sys.exit(FAULT)


def _as_json(roll: Roll) -> dict[str, Any]:
    return {"instances": [_instance(one) for one in roll.instances], "terminals": roll.terminals}


def _instance(one: Instance) -> dict[str, Any]:
    shown = dataclasses.asdict(one)
    return {
        "instance": one.name,
        "id": shown["instance_id"],
        "version": one.version,
        "startedAt": _utc(one.started_at),
        "seenAt": _utc(one.seen_at),
        "silent": one.silent,
        "answered": one.answered,
    }


def _utc(when: datetime) -> str:
    return when.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def _row(one: dict[str, Any]) -> list[str]:
    since = datetime.fromisoformat(one["connectedAt"]).astimezone()
    known = one["behind"] is not None
    cells = [
        one["restaurant"],
        one["name"] or "-",
        one["role"] or "-",
        one["clientId"],
        one["address"] or "-",
        one["instance"],
        f"{since:%m-%d %H:%M:%S}",
        str(one["revision"]) if known else "-",
        str(one["behind"]) if known else one["state"],
        f"{one['waitingBytes']} B",
    ]
    return [printable(cell) for cell in cells]


def _aligned(rows: Sequence[Sequence[str]]) -> list[str]:
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]
