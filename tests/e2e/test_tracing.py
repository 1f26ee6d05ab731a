"""Tracing: one mutation is followed over two relays by one trace id, and without it nothing of it is there."""

from __future__ import annotations

import asyncio
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import psycopg
import pytest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import SpanContext

from relay import tracing
from tests.e2e.apps import sql
from tests.relays import local_relay, relay_process
from tests.terminals import Terminal, agree
from tests.waiting import until

TABLE = {"seats": 4, "status": "available"}
TRACE = "0af7651916cd43dd8448eb211c80319c"
CALLER = "b7ad6b7169203331"


class Spans:
    """What relays in this process have exported."""

    def __init__(self) -> None:
        self._exporters: list[InMemorySpanExporter] = []

    def __call__(self) -> InMemorySpanExporter:
        self._exporters.append(InMemorySpanExporter())
        return self._exporters[-1]

    @property
    def all(self) -> list[ReadableSpan]:
        return [span for exporter in self._exporters for span in exporter.get_finished_spans()]

    def named(self, name: str, **attributes: object) -> list[ReadableSpan]:
        return [
            span
            for span in self.all
            if span.name == name
            and all((span.attributes or {}).get(f"relay.{key}") == value for key, value in attributes.items())
        ]

    async def these(self, count: int, name: str, **attributes: object) -> list[ReadableSpan]:
        """So many spans of a name, when they are there."""
        await until(lambda: len(self.named(name, **attributes)) >= count, what=f"{count} spans {name} {attributes}")
        found = self.named(name, **attributes)
        assert len(found) == count, found
        return found


@pytest.fixture
def spans(monkeypatch: pytest.MonkeyPatch) -> Spans:
    found = Spans()
    monkeypatch.setattr(tracing, "OTLPSpanExporter", found)
    monkeypatch.setenv("OTEL_BSP_SCHEDULE_DELAY", "20")
    return found


def context(span: ReadableSpan) -> SpanContext:
    found = span.get_span_context()
    assert found is not None
    return found


def trace_of(span: ReadableSpan) -> int:
    return context(span).trace_id


def is_child(span: ReadableSpan, of: ReadableSpan) -> bool:
    parent = span.parent
    return parent is not None and (parent.trace_id, parent.span_id) == (trace_of(of), context(of).span_id)


def instance_of(span: ReadableSpan) -> object:
    return span.resource.attributes["service.instance.id"]


async def test_one_trace_leads_from_the_frame_to_the_fan_out_on_another_relay(database: str, spans: Spans) -> None:
    async with (
        local_relay(database, tracing=True) as here,
        local_relay(database, tracing=True) as there,
        Terminal(here.url, "one") as one,
        Terminal(there.url, "other") as other,
    ):
        await one.table("add", {"id": "t", "number": 1, **TABLE})
        await agree(database, one, other)
        [receive] = await spans.these(1, "receive")
        [commit] = await spans.these(1, "commit")
        [batch] = await spans.these(1, "batch")
        reads, fan_outs = await spans.these(2, "read"), await spans.these(2, "fan-out")
        followed = [receive, commit, *reads, *fan_outs]
        assert len({trace_of(span) for span in followed}) == 1
        assert receive.parent is None
        assert is_child(commit, receive)
        assert all(is_child(read, commit) for read in reads)
        for read in reads:
            [fan_out] = [span for span in fan_outs if is_child(span, read)]
            assert instance_of(fan_out) == instance_of(read)
            assert fan_out.start_time == read.end_time
            assert (fan_out.attributes or {})["relay.terminals"] == 1
        assert {instance_of(span) for span in (receive, commit, batch)} == {here.relay.instance_id}
        assert {instance_of(span) for span in reads} == {here.relay.instance_id, there.relay.instance_id}
        assert {span.resource.attributes["service.name"] for span in followed} == {"minipos-relay"}
        assert dict(receive.attributes or {}) == {
            "relay.type": "UPDATE_TABLE",
            "relay.action": "add",
            "relay.restaurant": 1,
            "relay.outcome": "OK",
            "relay.revision": 1,
        }


async def test_a_batch_is_linked_to_every_mutation_in_it_and_each_to_the_batch(database: str, spans: Spans) -> None:
    async with local_relay(database, tracing=True) as relay, Terminal(relay.url, "one") as one:
        with psycopg.connect(database) as connection:
            # What is sent while the first one waits for this lock goes into one batch.
            connection.execute("select from pos.heads for update")
            first = asyncio.create_task(one.table("add", {"id": "t0", "number": 100, **TABLE}))
            await until(lambda: relay.relay.writer._taken)
            rest = [
                asyncio.create_task(one.table("add", {"id": f"t{n}", "number": 100 + n, **TABLE})) for n in range(1, 6)
            ]
            await until(lambda: relay.relay.writer.pending == 6)
        await asyncio.gather(first, *rest)
        receives = {context(span).span_id: span for span in await spans.these(6, "receive")}
        batches = {context(span).span_id: span for span in spans.named("batch")}
        assert any(len(batch.links) > 1 for batch in batches.values())
        for batch in batches.values():
            assert batch.parent is None
            assert (batch.attributes or {})["relay.mutations"] == len(batch.links)
            assert {link.context.span_id for link in batch.links} <= receives.keys()
        for commit in spans.named("commit"):
            [link] = commit.links
            assert commit.parent is not None
            assert commit.parent.span_id in {to.context.span_id for to in batches[link.context.span_id].links}
        # Each change is read in the trace of the mutation that it came from, also from the middle of a batch.
        for read in await spans.these(6, "read"):
            [receive] = [span for span in receives.values() if trace_of(span) == trace_of(read)]
            assert (receive.attributes or {})["relay.revision"] == (read.attributes or {})["relay.revision"]


async def test_a_trace_that_a_terminal_names_goes_on_if_it_is_valid(database: str, spans: Spans) -> None:
    async with local_relay(database, tracing=True) as relay, Terminal(relay.url, "one") as one:
        told: list[tuple[Any, bool]] = [
            (f"00-{TRACE}-{CALLER}-01", True),
            (f"00-{'0' * 32}-{CALLER}-01", False),
            (f"00-{TRACE}-{CALLER}", False),
            (f"00-{TRACE.upper()}-{CALLER}-01", False),
            (f"00-{TRACE}-{CALLER}-01" + "x" * 10_000, False),
            (f"01-{TRACE}-{CALLER}-01-more", False),
            (7, False),
            ({"a": []}, False),
            (None, False),
        ]
        for number, (traceparent, _) in enumerate(told):
            await one.table("add", {"id": f"t{number}", "number": number, **TABLE}, traceparent=traceparent)
        receives = sorted(await spans.these(len(told), "receive"), key=lambda span: span.start_time or 0)
        for span, (traceparent, valid) in zip(receives, told, strict=True):
            assert (f"{trace_of(span):032x}" == TRACE) is valid, traceparent
            assert (span.parent is not None) is valid
        assert [f"{trace_of(read):032x}" for read in await spans.these(1, "read", revision=1)] == [TRACE]


async def test_a_trace_that_nobody_keeps_is_not_written_down(database: str, spans: Spans) -> None:
    async with local_relay(database, tracing=True) as relay, Terminal(relay.url, "one") as one:
        await one.table("add", {"id": "t", "number": 1, **TABLE}, traceparent=f"00-{TRACE}-{CALLER}-00")
        await one.table("add", {"id": "u", "number": 2, **TABLE})
        await spans.these(1, "receive")
        rows = sql(database, "select revision, traceparent is not null from pos.sync_log order by revision")
        assert rows == [(1, False), (2, True)]


@pytest.mark.usefixtures("spans")
async def test_all_changes_of_a_mutation_are_in_its_trace_and_no_other_is(database: str) -> None:
    async with (
        local_relay(database, tracing=True) as relay,
        Terminal(relay.url, "one") as one,
        Terminal(relay.url, "two") as two,
    ):
        items = [{"id": "1", "name": "Tea", "price": 5, "quantity": 1}]
        sold = {"orderId": "POS-01022026-001", "orderItems": items, "status": "occupied", "seats": 4}
        await one.table("add", {"id": "a", "number": 1, **sold})
        await one.table("add", {"id": "b", "number": 2, **TABLE})
        # It moves the order here, and frees the other table.
        moved = await two.table("update", {"id": "b", "number": 2, **sold})
        assert moved["revision"] == 4
        # What changes nothing is answered with a revision that is not its own.
        same = await two.table("update", {"id": "b", "number": 2, **sold})
        assert same["revision"] == 4
        sql_row = "select count(distinct split_part(traceparent, '-', 2)), count(traceparent) from pos.sync_log"
        assert sql(database, sql_row) == [(3, 4)]
        [(third, fourth)] = sql(
            database,
            """select min(split_part(traceparent, '-', 2)), max(split_part(traceparent, '-', 2))
               from pos.sync_log where revision in (3, 4)""",
        )
        assert third == fourth
        await agree(database, one, two)


async def test_a_refusal_is_seen_in_the_span_and_not_in_the_log(database: str, spans: Spans) -> None:
    async with local_relay(database, tracing=True) as relay, Terminal(relay.url, "one") as one:
        await one.refused("UPDATE_TABLE", {"action": "update", "data": {"id": "t", "number": -1}})
        await one.refused("UPDATE_ORDER", {"action": "void", "data": {"id": "nothing"}})
        [receive] = await spans.these(1, "receive")
        assert (receive.attributes or {})["relay.outcome"] in ("VALIDATION", "GONE", "CONFLICT")
        assert not receive.status.is_ok
        assert spans.named("read") == []


async def test_without_it_no_trace_is_kept_and_nothing_of_it_is_imported(database: str, spans: Spans) -> None:
    async with local_relay(database) as relay, Terminal(relay.url, "one") as one:
        await one.table("add", {"id": "t", "number": 1, **TABLE}, traceparent=f"00-{TRACE}-{CALLER}-01")
        assert sql(database, "select traceparent from pos.sync_log") == [(None,)]
        assert relay.relay.tracing is None
    assert spans.all == []
    program = "import sys, relay.__main__; print([m for m in sys.modules if 'opentelemetry' in m or 'tracing' in m])"
    done = await asyncio.to_thread(
        subprocess.run, [sys.executable, "-c", program], capture_output=True, text=True, check=True, timeout=60
    )
    assert done.stdout == "[]\n"


async def test_a_held_up_mutation_is_traced_once_it_is_committed(database: str, spans: Spans) -> None:
    async with local_relay(database, tracing=True) as relay, Terminal(relay.url, "one") as one:
        await one.table("add", {"id": "t", "number": 1, **TABLE})
        with psycopg.connect(database) as connection:
            connection.execute("select from pos.tables where id = 't' for update")
            late = asyncio.create_task(one.table("update", {"id": "t", "number": 1, "seats": 6, "status": "occupied"}))
            await until(lambda: relay.relay.writer._lane)
        await late
        [read] = await spans.these(1, "read", revision=2)
        [receive] = await spans.these(1, "receive", revision=2)
        assert trace_of(read) == trace_of(receive)
        commits = [span for span in spans.named("commit") if is_child(span, receive)]
        assert len(commits) > 1, "one for each attempt"
        assert sum(is_child(read, commit) for commit in commits) == 1


class Collector:
    """What an OpenTelemetry collector has been sent, as (service, span name, trace id)."""

    def __init__(self) -> None:
        self.spans: list[tuple[str, str, str]] = []
        collector = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["content-length"]))
                collector.take(ExportTraceServiceRequest.FromString(body))
                self.send_response(200)
                self.send_header("content-type", "application/x-protobuf")
                self.send_header("content-length", "0")
                self.end_headers()

            def log_message(self, *_: object) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}"

    def take(self, request: ExportTraceServiceRequest) -> None:
        for resource in request.resource_spans:
            [service] = [a.value.string_value for a in resource.resource.attributes if a.key == "service.name"]
            for scope in resource.scope_spans:
                self.spans += [(service, span.name, span.trace_id.hex()) for span in scope.spans]


@pytest.fixture
def collector() -> Iterator[Collector]:
    found = Collector()
    thread = threading.Thread(target=found.server.serve_forever)
    thread.start()
    yield found
    found.server.shutdown()
    thread.join()
    found.server.server_close()


async def test_the_standard_variables_lead_to_a_collector_that_gets_all_before_the_end(
    database: str, collector: Collector
) -> None:
    environment: dict[str, Any] = {
        "RELAY_TRACING": "on",
        "OTEL_EXPORTER_OTLP_ENDPOINT": collector.url,
        "OTEL_BSP_SCHEDULE_DELAY": "3600000",  # nothing goes before the end
    }
    async with (
        relay_process(database, OTEL_SERVICE_NAME="till", **environment) as here,
        relay_process(database, **environment) as there,
    ):
        async with Terminal(here.url, "one") as one, Terminal(there.url, "other") as other:
            await one.table("add", {"id": "t", "number": 1, **TABLE}, traceparent=f"00-{TRACE}-{CALLER}-01")
            await agree(database, one, other)
        assert collector.spans == []
        await here.stop()
        await there.stop()
        assert {here.process.returncode, there.process.returncode} == {0}  # type: ignore[union-attr]
    followed = {(service, name) for service, name, trace in collector.spans if trace == TRACE}
    assert {("till", "receive"), ("till", "commit")} <= followed


@pytest.mark.parametrize("listens", [False, True])
async def test_a_collector_that_does_not_answer_holds_up_neither_a_sale_nor_the_end(
    database: str, *, listens: bool
) -> None:
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        if listens:
            silent.listen()  # and takes nothing
        environment: dict[str, Any] = {
            "RELAY_TRACING": "on",
            "OTEL_EXPORTER_OTLP_ENDPOINT": f"http://127.0.0.1:{silent.getsockname()[1]}",
            "OTEL_EXPORTER_OTLP_TIMEOUT": "300",
            "OTEL_BSP_SCHEDULE_DELAY": "10",
        }
        async with relay_process(database, **environment) as relay:
            async with Terminal(relay.url, "one") as one:
                for number in range(20):
                    await one.table("add", {"id": f"t{number}", "number": number, **TABLE})
                await agree(database, one)
            await relay.stop()
            assert relay.process is not None
            assert relay.process.returncode == 0


async def test_a_relay_that_lacks_the_packages_says_what_to_install(database: str) -> None:
    program = (
        "import sys; sys.modules['opentelemetry'] = None; sys.argv = ['relay', 'serve'];"
        "from relay.__main__ import main; main()"
    )
    done = await asyncio.to_thread(
        subprocess.run,
        [sys.executable, "-c", program],
        env={"PATH": "", "DATABASE_URL": database, "PORT": "0", "RELAY_TRACING": "on"},
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert done.returncode == 78
    assert "is missing; pip install 'minipos-relay[tracing]', or set it off" in done.stderr
