"""The command line: `relay serve`, `relay schema`, and what their exit codes mean."""

from __future__ import annotations

import asyncio
import dataclasses
import json
import os
import shlex
import signal
import sys
from collections import Counter
from pathlib import Path
from typing import Any, TextIO

import click
from psycopg.conninfo import conninfo_to_dict, make_conninfo

from . import __version__, backups, catalogue, doctor, restaurants, retention, schema
from .command import FAULT, USAGE
from .command import read_settings as _settings
from .command import run as _run
from .command import telling as _telling
from .embedded import Cluster
from .findings import Finding
from .progress import bar
from .server import serve as serve_relay
from .settings import Settings
from .slugs import DEFAULT_SLUG
from .tailing import Tail
from .terminal import Terminal
from .terminal_commands import kick_command, terminal_group, terminals_command
from .vault import Vault

DATABASE = "minipos_db"
TAIL_STYLES: list[dict[str, Any]] = [{"dim": True}, {"dim": True}, {"fg": "cyan"}, {"bold": True}, {}]
COLOURS = {"ok": "green", "advice": "yellow", "fault": "red"}  # where a terminal shows them


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="relay")
def main() -> None:
    """MiniPOS relay: every terminal of a restaurant shows the same floor."""


@main.command()
@click.option("--embedded", is_flag=True, help="Bring along a PostgreSQL, unless DATABASE_URL or a DB_* names one.")
@click.option("--reload", is_flag=True, help="Start again when a file of relay/ or sql/ changes (for developers).")
def serve(*, embedded: bool, reload: bool) -> None:
    """Serve terminals until SIGTERM or Ctrl-C."""
    if reload:
        _reload(embedded=embedded)
        return
    settings = _settings()
    with _telling():
        if embedded and not settings.database_named:
            _serve_embedded(settings)
        else:
            serve_relay(settings, lambda port: _say_where(settings, port, _psql(settings.conninfo)))


def _serve_embedded(settings: Settings) -> None:
    # A SIGTERM before the relay serves must not leave a PostgreSQL behind. Raising from its handler could, between the
    # fork and the moment its process id is known.
    terminated: list[int] = []
    signal.signal(signal.SIGTERM, lambda number, _frame: terminated.append(number))
    cluster = Cluster(Path(settings.data))
    cluster.start()
    try:
        cluster.create_database(DATABASE)
        conninfo = cluster.conninfo(DATABASE)
        asyncio.run(schema.apply(conninfo))
        asyncio.run(schema.seed(conninfo))  # touches nothing that is complete
        settings = dataclasses.replace(settings, conninfo=conninfo, listen_conninfo=conninfo)
        if not terminated:
            serve_relay(settings, lambda port: _say_where(settings, port, cluster.psql(DATABASE)))
    finally:
        cluster.stop()


def _psql(conninfo: str) -> str:
    """A command line for people to copy, without the password: psql asks for it, or finds it in PGPASSWORD."""
    shown: dict[str, Any] = {key: value for key, value in conninfo_to_dict(conninfo).items() if "password" not in key}
    return shlex.join(["psql", make_conninfo(**shown)])


def _say_where(settings: Settings, port: int, psql: str) -> None:
    host = f"[{settings.host}]" if ":" in settings.host else settings.host
    click.echo(
        f"\n  MiniPOS relay {__version__}\n\n"
        f"  Page       http://{host}:{port}/\n"
        f"  Board      http://{host}:{port}/board\n"
        f"  WebSocket  ws://{host}:{port}/ws\n"
        f"  Health     http://{host}:{port}/health\n"
        f"  Database   {psql}\n"
    )


def _reload(*, embedded: bool) -> None:
    try:
        from watchfiles import run_process
    except ImportError:
        click.echo("relay: --reload needs watchfiles: pip install watchfiles", err=True)
        sys.exit(USAGE)
    command = [sys.executable, "-m", "relay", "serve", *(["--embedded"] if embedded else [])]
    run_process(Path(__file__).parent, schema.folder(), target=shlex.join(command), target_type="command")


@main.group("schema")
def schema_group() -> None:
    """The database's schema."""


@schema_group.command("apply")
def schema_apply() -> None:
    """Install or upgrade the schema; a second time changes nothing."""
    settings = _settings()
    with _telling(), bar("schema", len(schema.parts())) as step:
        asyncio.run(schema.apply(settings.conninfo, step))
    click.echo(f"schema version {schema.VERSION} is installed")


@schema_group.command("check")
def schema_check() -> None:
    """Say which version is installed; exit status 1 unless it is this relay's."""
    installed = _run(schema.installed_version(_settings().conninfo))
    click.echo(f"installed: {installed or 'none'}, needed: {schema.VERSION}")
    if installed != schema.VERSION:
        newer = installed is not None and installed > schema.VERSION
        click.echo(schema.HOW_TO_FOLLOW if newer else schema.HOW_TO_APPLY, err=True)
        sys.exit(FAULT)


@schema_group.command("diff")
def schema_diff() -> None:
    """Say how the database's schema differs from a fresh install; exit status 1 where it does."""
    found = _run(catalogue.differences(_settings().conninfo))
    for line in found:
        click.echo(line)
    if found:
        sys.exit(FAULT)
    click.echo("the schema is as a fresh install makes it")


@schema_group.command("describe")
def schema_describe() -> None:
    """Print this version's tables and functions with their purpose, as docs/schema.md."""
    click.echo(_run(catalogue.described()), nl=False)


@main.command()
def seed() -> None:
    """Fill the default restaurant with the built-in tables, menu and settings, unless it is complete."""
    _run(schema.seed(_settings().conninfo))
    click.echo("the default restaurant is complete")


@main.command("import")
@click.argument("file", type=click.Path(path_type=Path))
@click.option("--restaurant", "slug", default=DEFAULT_SLUG, help="Which restaurant; by default the default one.")
@click.option("--replace", is_flag=True, help="Make the lists of a complete restaurant equal to the file.")
def import_(file: Path, slug: str, *, replace: bool) -> None:
    """Begin a restaurant with the backup FILE that the MiniPOS app exports."""
    settings = _settings()
    with _telling():
        backup = backups.read(file)
        vault = Vault(settings.secret)
        with bar("sales", backup.orders) as step:
            done = asyncio.run(backups.load(settings.conninfo, slug, backup, vault, replace=replace, step=step))
    changed = [f"{count} {name}" for name, count in done.changes.items() if count]
    click.echo(f"imported into {slug}: {', '.join(changed)}" if changed else f"{slug} has all of this already")
    if done.kept:
        click.echo(f"{done.kept} orders are finished here and were kept as they are")


@main.group("restaurant")
def restaurant_group() -> None:
    """The restaurants of the database."""


@restaurant_group.command("add")
@click.argument("slug")
@click.option("--name", help="For people; by default the slug.")
@click.option("--empty", is_flag=True, help="It has all of its lists, with nothing in them: MiniPOS apps begin empty.")
def restaurant_add(slug: str, name: str | None, *, empty: bool) -> None:
    """Make a restaurant, reached under /ws?restaurant=SLUG."""
    _run(restaurants.add(_settings().conninfo, slug, name or slug, empty=empty))
    click.echo(f"restaurant {slug} is there: /ws?restaurant={slug}")


@restaurant_group.command("list")
def restaurant_list() -> None:
    """List the restaurants."""
    for row in _run(restaurants.listed(_settings().conninfo)):
        lists = "complete" if row.complete else "not complete"
        click.echo(f"{row.slug}\t{row.name}\trevision {row.revision}\t{lists}")


@main.command()
@click.option("--keep-days", type=click.IntRange(0), help="Keep changes so many days; by default RELAY_KEEP_LOG_DAYS.")
@click.option("--keep-rows", type=click.IntRange(1), help="And of each restaurant at most so many of the newest.")
def prune(keep_days: int | None, keep_rows: int | None) -> None:
    """Let go now of what relays let go of by themselves: old changes, mutation ids, tombstones."""
    settings = _settings()
    kept = retention.Kept(
        settings.keep_log_days if keep_days is None else keep_days, keep_rows or settings.keep_log_rows
    )
    with _telling(), bar("changes", retention.LENGTH) as step:
        gone = asyncio.run(retention.prune(settings, kept, step))
    click.echo(f"gone: {', '.join(f'{count} {kind}' for kind, count in gone.items())}")


@main.command("doctor")
@click.option("--json", "as_json", is_flag=True, help="One JSON array, for programs.")
def doctor_(*, as_json: bool) -> None:
    """Look for what keeps changes from arriving; exit status 1 on a fault, 0 where there is only advice."""
    findings = _run(_examine(_settings(), quiet=as_json))
    if as_json:
        click.echo(json.dumps([dataclasses.asdict(one) for one in findings], indent=2))
    count = Counter(one.level for one in findings)
    if not as_json:
        faults = "fault" if count["fault"] == 1 else "faults"
        pieces = "piece" if count["advice"] == 1 else "pieces"
        click.echo(f"\n{count['fault']} {faults}, {count['advice']} {pieces} of advice")
    if count["fault"]:
        sys.exit(FAULT)


async def _examine(settings: Settings, *, quiet: bool) -> list[Finding]:
    found = []
    async for one in doctor.examine(settings):
        found.append(one)
        if not quiet:
            click.echo(f"{click.style(f'{one.level:8}', fg=COLOURS[one.level])}{one.name:17}{one.message}")
            if one.mend:
                click.echo(f"{'':8}{'':17}mend: {one.mend}")
    return found


for each in (terminal_group, terminals_command, kick_command):
    main.add_command(each)


@main.command("tail")
@click.option("--restaurant", "slug", help="Which restaurant; by default the default one.")
@click.option("--table", "number", type=int, help="Only what is about the table with this number.")
@click.option("--url", help="Of a relay's /ws; by default the relay on this machine's PORT.")
@click.option(
    "--token-file", "token", type=click.File(), help="Holds the token that the relay wants to see; - reads it."
)
@click.option("--json", "as_json", is_flag=True, help="Each change as it came, for programs.")
def tail_(*, slug: str | None, number: int | None, url: str | None, token: TextIO | None, as_json: bool) -> None:
    """Show each change as it is committed, until Ctrl-C; it connects again by itself."""
    shown = token.read().strip() if token else ""
    if url and not url.startswith(("ws://", "wss://")):
        raise click.BadParameter(
            f"{url!r} is not the address of a relay, such as ws://127.0.0.1:8080/ws", param_hint="--url"
        )
    url = url or f"ws://127.0.0.1:{_settings().port}/ws"
    _note(f"connecting to {url}" + ("" if shown else ", without a token (--token-file)"))
    terminal = Terminal(url, restaurant=slug, name="relay tail", token=shown)
    _run(Tail(terminal, number, as_json=as_json, write=_write, note=_note).run())


def _write(parts: list[str]) -> None:
    styles = TAIL_STYLES if len(parts) > 1 else [{}]
    said = "  ".join(click.style(part, **style) for part, style in zip(parts, styles, strict=True)).rstrip()
    click.echo(said, color=False if os.environ.get("NO_COLOR") else None)
    sys.stdout.flush()


def _note(text: str) -> None:
    click.echo(click.style(text, dim=True), err=True)


if __name__ == "__main__":
    main()
