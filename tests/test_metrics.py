"""What /metrics shows: each figure moves when the thing it is about happens, and deploy/ names only what exists."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import psycopg
import yaml
from prometheus_client.parser import text_string_to_metric_families

from tests.relays import LocalRelay, Reachable, local_relay
from tests.terminals import Terminal, agree, terminals
from tests.waiting import until

DEPLOY = Path(__file__).parent.parent / "deploy"
OURS = re.compile(r"\b(?:relay|process)_[a-z0-9_]+\b")
MOST_SERIES = 400  # of one relay, however many restaurants and terminals it serves


async def figures(relay: Reachable) -> dict[str, float]:
    """Every sample by its name and labels, as in `relay_syncs_total{answer="changes"}`."""
    status, headers, text = await relay.get("/metrics")
    assert status == 200
    assert headers["content-type"].startswith("text/plain")
    return {
        name(sample.name, sample.labels): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


def name(metric: str, labels: dict[str, str]) -> str:
    """As one writes it."""
    return metric + ("{" + ",".join(f'{key}="{labels[key]}"' for key in sorted(labels)) + "}" if labels else "")


class Growth:
    """By how much figures have grown since it was made."""

    def __init__(self, relay: Reachable, before: dict[str, float]) -> None:
        self._relay = relay
        self._before = before

    async def of(self, figure: str) -> float:
        return (await figures(self._relay)).get(figure, 0.0) - self._before.get(figure, 0.0)


async def growth(relay: Reachable) -> Growth:
    return Growth(relay, await figures(relay))


async def test_a_mutation_is_counted_from_its_transaction_to_the_sockets(database: str) -> None:
    async with local_relay(database) as relay, terminals(relay.url, 2) as (one, other):
        grown = await growth(relay)
        await one.table("add", {"id": "1", "number": 1, "seats": 2, "status": "available"})
        await one.refused("UPDATE_TABLE", {"action": "add", "data": {"id": "2", "number": 2, "seats": -1}})
        await agree(database, one, other)
        assert await grown.of('relay_mutations_total{outcome="OK",type="UPDATE_TABLE"}') == 1
        assert await grown.of('relay_refusals_total{code="VALIDATION"}') == 1
        assert await grown.of("relay_commit_seconds_count") >= 1
        assert await grown.of("relay_batch_mutations_sum") == await grown.of("relay_commit_seconds_count")
        assert await grown.of("relay_changes_total") == 1
        assert await grown.of("relay_commit_to_socket_seconds_count") == 1
        assert 0 < await grown.of("relay_commit_to_socket_seconds_sum") < 5
        await until(lambda: _is(grown, "relay_doorbells_total", 1))
        assert (await figures(relay))['relay_terminals{profile="core"}'] == 2


async def _is(grown: Growth, figure: str, value: float) -> bool:
    return await grown.of(figure) >= value


async def test_what_only_the_sweep_finds_is_counted_apart(database: str) -> None:
    async with local_relay(database, sweep_seconds=0.1) as relay, terminals(relay.url, 1) as (one,):
        grown = await growth(relay)
        with psycopg.connect(database, autocommit=True) as connection:
            connection.execute(
                "create or replace function pos.ring(p_restaurant_id bigint) returns void language sql as ''"
            )
            connection.execute(
                "insert into pos.categories (restaurant_id, name) select restaurant_id, 'A' from pos.heads"
            )
        await agree(database, one)
        assert await grown.of("relay_swept_changes_total") == await grown.of("relay_changes_total") == 1
        assert await grown.of("relay_doorbells_total") == 0


async def test_syncs_are_counted_by_their_answer(database: str) -> None:
    async with local_relay(database) as relay:
        grown = await growth(relay)
        async with Terminal(relay.url) as terminal:
            assert await grown.of('relay_syncs_total{answer="first-sync"}') == 1
            assert await grown.of("relay_snapshot_reads_total") == 1
            await terminal.cut()
            await terminal.connect()
            assert await grown.of('relay_syncs_total{answer="changes"}') == 1
            assert await grown.of('relay_window_lookups_total{result="hit"}') == 1


async def test_a_relay_that_is_deaf_says_so_and_for_how_long(database: str) -> None:
    async with local_relay(database) as relay:
        await until(lambda: _hears(relay))
        grown = await growth(relay)
        with psycopg.connect(database, autocommit=True) as connection:
            connection.execute(
                "select pg_terminate_backend(pid) from pg_stat_activity where application_name = 'relay listen'"
                " and datname = current_database()"
            )
        await until(lambda: _is(grown, "relay_deaf_seconds_total", 0.01))
        await until(lambda: _hears(relay), within=10.0)
        deaf = await grown.of("relay_deaf_seconds_total")
        assert deaf >= 0.01
        assert await grown.of("relay_deaf_seconds_total") == deaf


async def _hears(relay: LocalRelay) -> bool:
    return (await figures(relay))["relay_hearing"] == 1


async def test_no_figure_grows_with_restaurants_or_terminals(database: str) -> None:
    with psycopg.connect(database, autocommit=True) as connection:
        connection.execute(
            "insert into pos.restaurants (slug, name) select 'r' || n, 'R' from generate_series(1, 30) as n"
        )
    async with local_relay(database) as relay:
        async with Terminal(relay.url):
            few = len(await figures(relay))
        for number in range(1, 31):
            async with Terminal(f"{relay.url}?restaurant=r{number}") as terminal:
                await terminal.table("add", {"id": f"t{number}", "number": 1, "seats": 2, "status": "available"})
        assert len(await figures(relay)) <= few + 2  # the first mutation, by its type and outcome
        assert few < MOST_SERIES


def expressions() -> list[tuple[str, str]]:
    """Every PromQL expression under deploy/, with where it stands."""
    rules = yaml.safe_load((DEPLOY / "alerts.yaml").read_text())["groups"][0]["rules"]
    panels: list[Any] = json.loads((DEPLOY / "grafana-dashboard.json").read_text())["panels"]
    return [(rule["alert"], rule["expr"]) for rule in rules] + [
        (panel["title"], target["expr"]) for panel in panels for target in panel["targets"]
    ]


async def test_alerts_and_dashboard_name_only_figures_that_exist(database: str) -> None:
    async with local_relay(database) as relay:
        _, _, text = await relay.get("/metrics")
    known: set[str] = set()
    for family in text_string_to_metric_families(text):
        suffixes = {"histogram": ("_bucket", "_sum", "_count"), "counter": ("_total",)}.get(family.type, ("",))
        known.update(family.name.removesuffix("_total") + suffix for suffix in suffixes)
    for where, expression in expressions():
        for found in OURS.findall(expression):
            assert found in known, f"{where}: {found}"


def test_the_dashboard_shows_what_health_says_and_no_other_programs_process() -> None:
    shown = dict(expressions())
    assert shown["Ready (1) or not"] == "relay_ready"
    for where, expression in expressions():
        for found in re.findall(r"process_\w+(\S*)", expression):
            assert found.startswith('{job="minipos-relay"}'), where  # every program that Prometheus asks has these


def test_every_alert_says_what_to_do_first() -> None:
    rules = yaml.safe_load((DEPLOY / "alerts.yaml").read_text())["groups"][0]["rules"]
    for rule in rules:
        assert {"summary", "action"} == rule["annotations"].keys(), rule["alert"]
        assert rule["labels"]["severity"] in ("page", "ticket")
    assert len({rule["alert"] for rule in rules}) == len(rules)
