"""What is counted, for Prometheus: this process's counters, and what the parts hold at the moment they are asked.

No label grows with restaurants, terminals or tables. Counters are the process's, so several relays in one process (as
in tests) share them.
"""

from __future__ import annotations

from prometheus_client import CollectorRegistry, Counter, Histogram, ProcessCollector

COUNTERS = CollectorRegistry()
ProcessCollector(registry=COUNTERS)

_FAST = (0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0)

MUTATIONS = Counter(
    "relay_mutations", "Mutations answered, by message type and by OK or the code of the refusal.", ("type", "outcome"),
    registry=COUNTERS,
)  # fmt: skip
REFUSALS = Counter("relay_refusals", "ERRORs sent to terminals, by code.", ("code",), registry=COUNTERS)
LIMITED = Counter(
    "relay_limited",
    "Times that a limit was applied: messages refused or held back by the rate of their terminal or restaurant (rate, "
    "held), connections closed for it (flood), and connections not let in, by what there were too many of.",
    ("limit",),
    registry=COUNTERS,
)
CARDS = Counter("relay_card_warnings", "Messages in whose text a card number was seen.", registry=COUNTERS)
BATCH = Histogram(
    "relay_batch_mutations", "Mutations in one transaction.", buckets=(1, 2, 5, 10, 20, 50, 100, 200, 500),
    registry=COUNTERS,
)  # fmt: skip
COMMIT = Histogram(
    "relay_commit_seconds", "From the sending of a transaction to its answer.", buckets=_FAST, registry=COUNTERS
)
DELIVERY = Histogram(
    "relay_commit_to_socket_seconds",
    "From a change in the database (sync_log.created_at) to the sockets of this relay; clocks apart add to it.",
    buckets=_FAST,
    registry=COUNTERS,
)
DOORBELLS = Counter("relay_doorbells", "Notifications heard.", registry=COUNTERS)
CHANGES = Counter("relay_changes", "Changes read from the log and passed on.", registry=COUNTERS)
SWEPT = Counter(
    "relay_swept_changes",
    "Of relay_changes, those that a sweep found before a notification told of them.",
    registry=COUNTERS,
)
SYNCS = Counter(
    "relay_syncs", "Syncs answered: with changes, or with a snapshot and why.", ("answer",), registry=COUNTERS
)
WINDOW = Counter(
    "relay_window_lookups", "Cursors that the window reached back to (hit) or not (miss).", ("result",),
    registry=COUNTERS,
)  # fmt: skip
SNAPSHOT_READS = Counter("relay_snapshot_reads", "Snapshots read from the database.", registry=COUNTERS)
STANDBY = Counter(
    "relay_standby_reads",
    "States and pages that the standby was asked for: it gave them (standby), or the primary did, and why.",
    ("outcome",),
    registry=COUNTERS,
)
