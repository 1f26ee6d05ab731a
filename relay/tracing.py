"""Spans of OpenTelemetry: a mutation followed from a terminal's frame to the sockets of every relay that passes it on.

Imported only where RELAY_TRACING is on. A change carries its trace from relay to relay in sync_log.traceparent, written
with the change itself. It is read again only after the change has gone out, so that nobody waits for a span.
"""

from __future__ import annotations

import asyncio
import logging
import threading
import time
from collections import deque
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from opentelemetry.context import Context
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import SERVICE_NAME, Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor
from opentelemetry.trace import Link, Span, SpanKind, Status, StatusCode, set_span_in_context
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

from . import __version__
from .answers import Answer
from .database import Database
from .errors import DatabaseUnavailable, Refusal
from .logs import fields
from .protocol import Mutation
from .ways import Reading

log = logging.getLogger("relay.tracing")

NAME = "minipos-relay"
CHARACTERS = 55  # of a traceparent (W3C Trace Context, section 3.2)
WAITING = 1000  # reads whose spans wait to be made; more are left out
CLOSE_SECONDS = 2.0  # for the collector to take what is left

_PROPAGATOR = TraceContextTextMapPropagator()


@dataclass(frozen=True, slots=True)
class Delivery:
    """Changes that were read together and passed on. Times are seconds since 1970."""

    restaurant_id: int
    first: int  # revisions
    last: int
    asked_at: float
    reading: Reading


class Tracing:
    """One relay's spans. The standard OTEL_ variables say where they go, and which are kept."""

    def __init__(self, database: Database, instance_id: str) -> None:
        about = Resource.create({"service.version": __version__, "service.instance.id": instance_id})
        if str(about.attributes.get(SERVICE_NAME, "unknown_service")).startswith("unknown_service"):
            about = about.merge(Resource({SERVICE_NAME: NAME}))
        self._provider = TracerProvider(resource=about, shutdown_on_exit=False)
        self._provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter()))
        self._tracer = self._provider.get_tracer(NAME, __version__)
        self._database = database
        self._deliveries: deque[Delivery] = deque()
        self._left_out = 0
        self._rung = asyncio.Event()

    # Where the change is made

    def received(self, mutation: Mutation) -> Span:
        """Begin the span of a mutation that was heard, in the trace that its message names, if that is a valid one."""
        told = mutation.traceparent
        parent = Context()
        if isinstance(told, str) and len(told) == CHARACTERS:
            parent = _PROPAGATOR.extract({"traceparent": told}, parent)
        attributes: dict[str, str | int] = {"relay.type": mutation.type, "relay.restaurant": mutation.restaurant_id}
        if mutation.action is not None:
            attributes["relay.action"] = mutation.action
        return self._tracer.start_span("receive", parent, SpanKind.SERVER, attributes)

    def answered(self, span: Span, answer: asyncio.Future[Answer]) -> None:
        """End that span: the mutation's sender is told."""
        error = None if answer.cancelled() else answer.exception()
        if answer.cancelled() or error is not None:
            outcome: str = error.code if isinstance(error, Refusal) else "INTERNAL"
            span.set_status(Status(StatusCode.ERROR, outcome))
        else:
            outcome = answer.result().code
            if (revision := answer.result().revision) is not None:
                span.set_attribute("relay.revision", revision)
        span.set_attribute("relay.outcome", outcome)
        span.end()

    @contextmanager
    def batch(self, received: Sequence[Span]) -> Iterator[list[str | None]]:
        """The spans of one transaction: `batch`, linked to every mutation in it, and in each one's trace a `commit`.

        What is yielded goes into sync_log with the changes, in the order of `received`: None, where it is not kept.
        """
        links = [Link(span.get_span_context()) for span in received]
        batch = self._tracer.start_span(
            "batch", Context(), SpanKind.INTERNAL, {"relay.mutations": len(received)}, links=links
        )
        link = [Link(batch.get_span_context())]
        commits = [
            self._tracer.start_span("commit", set_span_in_context(span, Context()), SpanKind.CLIENT, links=link)
            for span in received
        ]
        try:
            yield [_traceparent(commit) for commit in commits]
        except BaseException as error:
            for span in (*commits, batch):
                span.set_status(Status(StatusCode.ERROR, type(error).__name__))
            raise
        finally:
            ended = time.time_ns()
            for span in (*commits, batch):
                span.end(ended)

    # Where it is passed on

    def delivered(self, restaurant_id: int, first: int, last: int, asked_at: float, reading: Reading) -> None:
        """Changes of a restaurant, from the first to the last revision, have gone out to its terminals.

        `asked_at`, in seconds since 1970, is when they were asked for. Their spans are made later, by `run`.
        """
        if len(self._deliveries) < WAITING:
            self._deliveries.append(Delivery(restaurant_id, first, last, asked_at, reading))
        else:
            self._left_out += 1
        self._rung.set()

    async def run(self) -> None:
        """Make the spans of what was passed on, until cancelled."""
        while True:
            await self._rung.wait()
            self._rung.clear()
            deliveries = list(self._deliveries)
            self._deliveries.clear()
            if self._left_out:
                log.warning("spans are left out: changes come too fast", extra=fields(reads=self._left_out))
                self._left_out = 0
            try:
                await self._trace(deliveries)
            except DatabaseUnavailable:
                pass  # these are not made, and nobody needs them
            except Exception:
                log.exception("spans could not be made")

    async def _trace(self, deliveries: Sequence[Delivery]) -> None:
        rows = await self._database.read(
            """select a.place, l.revision, l.traceparent
               from unnest(%s::bigint[], %s::bigint[], %s::bigint[]) with ordinality
                 as a (restaurant_id, first, last, place)
               join pos.sync_log as l on l.restaurant_id = a.restaurant_id and l.revision between a.first and a.last
               where l.traceparent is not null""",
            ([d.restaurant_id for d in deliveries], [d.first for d in deliveries], [d.last for d in deliveries]),
        )
        for place, revision, traceparent in rows:
            self._spread(deliveries[place - 1], revision, traceparent)

    def _spread(self, delivery: Delivery, revision: int, traceparent: str) -> None:
        about: dict[str, Any] = {"relay.restaurant": delivery.restaurant_id, "relay.revision": revision}
        parent = _PROPAGATOR.extract({"traceparent": traceparent}, Context())
        read = self._tracer.start_span("read", parent, SpanKind.CONSUMER, about, start_time=_ns(delivery.asked_at))
        within = set_span_in_context(read, Context())
        about["relay.terminals"] = delivery.reading.terminals
        fan_out = self._tracer.start_span(
            "fan-out", within, SpanKind.PRODUCER, about, start_time=_ns(delivery.reading.read)
        )
        fan_out.end(_ns(delivery.reading.written))
        read.end(_ns(delivery.reading.read))

    async def close(self) -> None:
        """Send what is left to the collector, but wait no longer than CLOSE_SECONDS for it."""
        # Not in the loop's pool, which would be waited for at the end however long a collector keeps it.
        closing = threading.Thread(target=self._provider.shutdown, name="tracing", daemon=True)
        closing.start()
        await asyncio.to_thread(closing.join, CLOSE_SECONDS)


def _ns(seconds: float) -> int:
    return round(seconds * 1e9)


def _traceparent(span: Span) -> str | None:
    """What another relay needs to go on with a trace; None where nobody keeps it."""
    if not span.get_span_context().trace_flags.sampled:
        return None
    carrier: dict[str, str] = {}
    _PROPAGATOR.inject(carrier, set_span_in_context(span, Context()))
    return carrier.get("traceparent")
