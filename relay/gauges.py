"""What the parts of a relay hold at the moment that Prometheus asks."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

from prometheus_client import CollectorRegistry
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, InfoMetricFamily, Metric
from prometheus_client.registry import Collector

from . import __version__, metrics, schema
from .connections import Connections
from .health import Health
from .listener import Listener
from .standby import Reads


class Gauges(Collector):
    """One relay's, for a registry of its own."""

    def __init__(self, connections: Connections, listener: Listener, health: Health, reads: Reads) -> None:
        self._connections = connections
        self._listener = listener
        self._health = health
        self._reads = reads

    def collect(self) -> Iterator[Metric]:
        """Every gauge, with one look at each session."""
        hub, listener = self._connections.hub, self._listener
        profiles = Counter[str]()
        lagging = waiting = 0
        for session in hub.sessions:
            profiles[session.profile.name if session.profile else "core"] += 1
            lagging += session.lagging
            waiting += session.waiting_bytes
        held = sum(room.window.size for room in hub.rooms.values() if room.window)
        terminals = GaugeMetricFamily("relay_terminals", "Terminals connected, by profile.", labels=["profile"])
        for profile in ("core", "app"):
            terminals.add_metric([profile], profiles[profile])
        yield terminals
        yield InfoMetricFamily("relay", "This relay.", {"version": __version__, "schema": str(schema.VERSION)})
        for name, about, value in (
            ("lagging_terminals", "Terminals that do not read as fast as they are sent to.", lagging),
            ("queued_bytes", "Bytes that wait for terminals to read them.", waiting),
            ("rooms", "Restaurants that are kept up to date here.", len(hub.rooms)),
            (
                "window_bytes",
                "Bytes of recent changes held.",
                held,
            ),
            ("pending_mutations", "Mutations that wait for their answer.", self._connections.writer.pending),
            ("ready", "1 while terminals should be sent here.", self._health.ready),
            ("schema_installed", "Version of the schema in the database; 0: not known.", self._health.installed or 0),
            ("standby_asked", "1 while states are read from a standby.", self._reads.is_named and self._reads.is_asked),
            ("standby_behind_seconds", "For how long the standby has lacked changes.", self._reads.behind_seconds),
            ("hearing", "1 while notifications are heard.", listener.hearing),
            ("database_reached", "1 while the database answers.", listener.database_reached),
            ("draining", "1 while this relay stops.", self._connections.draining),
            (
                "lag_changes",
                "Changes that the restaurant furthest behind lacked at the last sweep.",
                listener.lag,
            ),
            (
                "stuck_seconds",
                "For how long a restaurant has been behind its log without coming nearer.",
                listener.stuck_seconds,
            ),
            ("notify_queue_ratio", "Part of PostgreSQL's notification queue that is in use.", listener.queue_usage),
        ):
            yield GaugeMetricFamily(f"relay_{name}", about, value)
        about = "Seconds in which no notification could be heard."
        yield CounterMetricFamily("relay_deaf_seconds", about, listener.deaf_seconds)
        yield from self._pools()

    def _pools(self) -> Iterator[Metric]:
        size = GaugeMetricFamily("relay_pool_connections", "Connections to the database.", labels=["pool"])
        idle = GaugeMetricFamily("relay_pool_idle", "Of these, connections at rest.", labels=["pool"])
        waiting = GaugeMetricFamily("relay_pool_waiting", "Who waits for a connection.", labels=["pool"])
        for name, stats in (self._connections.database.pool_stats() | self._reads.pool_stats()).items():
            size.add_metric([name], stats.get("pool_size", 0))
            idle.add_metric([name], stats.get("pool_available", 0))
            waiting.add_metric([name], stats.get("requests_waiting", 0))
        yield from (size, idle, waiting)


class Registry(CollectorRegistry):
    """Everything that /metrics shows of one relay."""

    def __init__(self, connections: Connections, listener: Listener, health: Health, reads: Reads) -> None:
        super().__init__()
        self.register(Gauges(connections, listener, health, reads))
        self.register(metrics.COUNTERS)  # a registry is a collector too
