"""The metrics of a node: one table of what each is, and their values as plain data."""

from __future__ import annotations

from collections.abc import Mapping
from time import monotonic
from typing import TYPE_CHECKING, Final

from tidegate.core.admission.breaker import State
from tidegate.core.codes import ROOM_RATE
from tidegate.core.stats import Histogram
from tidegate.node.control.backplane_figures import BACKPLANE
from tidegate.node.control.fleet_figures import FLEET
from tidegate.node.control.ingest_figures import INGEST
from tidegate.node.control.messaging_figures import MESSAGING
from tidegate.node.control.metric import Description, Distribution, Metric
from tidegate.node.pressure.descriptors import descriptors_used_ratio

if TYPE_CHECKING:
    from tidegate.node.control.metric import Number
    from tidegate.node.control.parts import Parts

__all__ = ["METRICS", "Description", "Distribution", "Metric", "labelled", "read_metrics"]

_LIMITS: Final = (
    *("connections", "per_ip", "per_user"),
    *("per_room", "rooms_per_connection", "rooms_per_user"),
)

METRICS = (
    Description(
        "tidegate_build_info",
        "gauge",
        "version",
        "The version that runs, as a label; the value is 1.",
        lambda node: {node.version: 1},
    ),
    Description(
        "websocket_connections_current",
        "gauge",
        "state",
        "Connections now: open (they hold a lease) or opening (attempts without an answer yet).",
        lambda node: {"open": node.tracker.open, "opening": node.engine.opening},
    ),
    Description(
        "websocket_connections_peak",
        "gauge",
        "",
        "The most connections that were open at one time.",
        lambda node: node.tracker.peak,
    ),
    Description(
        "websocket_connections_total",
        "counter",
        "result",
        "Attempts to connect: accepted or rejected.",
        lambda node: {"accepted": node.stats.accepted, "rejected": node.stats.rejected.total()},
    ),
    Description(
        "websocket_rejections_total",
        "counter",
        "reason",
        "Attempts that were refused.",
        lambda node: node.stats.rejected,
    ),
    Description(
        "websocket_dry_run_rejections_total",
        "counter",
        "policy",
        "Attempts that a policy on trial (limits.dry_run) would have refused.",
        lambda node: node.stats.dry_run,
    ),
    Description(
        "websocket_waiting",
        "gauge",
        "state",
        "Clients in the waiting room, and leases kept for holders of tickets who are not back yet.",
        lambda node: {"waiting": len(node.waiting), "kept": node.waiting.kept},
    ),
    Description(
        "websocket_waiting_total",
        "counter",
        "event",
        "Positions in the waiting room that were entered, and how each has ended.",
        lambda node: node.stats.waited,
    ),
    Description(
        "websocket_ready",
        "gauge",
        "",
        "Whether the node should get new connections, as /ready says: 1 or 0.",
        lambda node: node.ready[0],
    ),
    Description(
        "websocket_breaker_open",
        "gauge",
        "",
        "Whether the circuit breaker keeps the node out of rotation: 1 or 0.",
        lambda node: node.admission.breaker.state(monotonic()) is State.OPEN,
    ),
    Description(
        "websocket_disconnections_total",
        "counter",
        "reason",
        "Connections that have ended.",
        lambda node: node.stats.disconnected,
    ),
    Description(
        "websocket_closes_total",
        "counter",
        "code",
        "Connections that have ended, those that waited included, by close code.",
        lambda node: node.stats.closes,
    ),
    Description(
        "websocket_connection_duration_seconds",
        "histogram",
        "",
        "How long connections lasted that have ended.",
        lambda node: node.stats.duration,
    ),
    Description(
        "websocket_utilization_ratio",
        "gauge",
        "",
        "Open connections as a share of limits.connections, 0 to 1.",
        lambda node: node.tracker.utilization,
    ),
    Description(
        "websocket_limit",
        "gauge",
        "setting",
        "The limits in force, by the name of their setting in [limits].",
        lambda node: {
            name: limit
            for name in _LIMITS
            if (limit := getattr(node.settings.limits, name)) is not None
        },
    ),
    Description(
        "websocket_addresses",
        "gauge",
        "",
        "Addresses that open connections come from; an IPv6 network (limits.ipv6_prefix) is one.",
        lambda node: node.tracker.unique_ips,
    ),
    Description(
        "websocket_users",
        "gauge",
        "",
        "Users that open connections belong to.",
        lambda node: node.tracker.unique_users,
    ),
    Description(
        "websocket_rooms",
        "gauge",
        "",
        "Rooms that have members.",
        lambda node: len(node.rooms),
    ),
    Description(
        "websocket_room_refusals_total",
        "counter",
        "reason",
        "Joins and messages to rooms that a limit refused; the connections stay open.",
        lambda node: {**node.rooms.refused, ROOM_RATE.name: node.room_rates.refused},
    ),
    Description(
        "websocket_slow_connections",
        "gauge",
        "",
        "Connections that have not taken yet what was sent to them.",
        lambda node: node.engine.slow,
    ),
    Description(
        "websocket_outbox_bytes",
        "gauge",
        "",
        "Bytes that wait for slow connections to take them; see outbox.max_bytes.",
        lambda node: node.engine.buffered,
    ),
    Description(
        "websocket_buffers_bytes",
        "gauge",
        "",
        "Bytes of unfinished messages and outboxes, shared ones once; see buffers.max_bytes.",
        lambda node: node.engine.kept,
    ),
    *FLEET,
    *MESSAGING,
    *INGEST,
    *BACKPLANE,
    Description(
        "websocket_message_size_bytes",
        "histogram",
        "direction",
        "Size of messages, received or sent.",
        lambda node: {"received": node.stats.incoming.sizes, "sent": node.stats.outgoing.sizes},
    ),
    Description(
        "websocket_bytes_total",
        "counter",
        "direction",
        "Bytes on the wire, received or sent.",
        lambda node: {"received": node.stats.incoming.bytes, "sent": node.stats.outgoing.bytes},
    ),
    Description(
        "websocket_heartbeat_latency_seconds",
        "histogram",
        "",
        "Time from a ping to its pong.",
        lambda node: node.stats.heartbeat_latency,
    ),
    Description(
        "websocket_handshake_duration_seconds",
        "histogram",
        "",
        "Time from accepting a connection to answering its request.",
        lambda node: node.stats.handshake_duration,
    ),
    Description(
        "websocket_tls_handshake_duration_seconds",
        "histogram",
        "",
        "Time that TLS handshakes took.",
        lambda node: node.stats.tls_handshake_duration,
    ),
    Description(
        "websocket_event_loop_lag_seconds",
        "histogram",
        "",
        "How late the event loop came to its timer.",
        lambda node: node.stats.loop_lag,
    ),
    Description(
        "websocket_file_descriptors_used_ratio",
        "gauge",
        "",
        "Open file descriptors as a share of those that connections may have, 0 to 1.",
        lambda node: descriptors_used_ratio(),  # noqa: ARG005
    ),
    Description(
        "websocket_zone",
        "gauge",
        "",
        "The zone: 0 normal, 1 warning, 2 critical, 3 emergency.",
        lambda node: node.shedder.zone,
    ),
    Description(
        "websocket_pressure",
        "gauge",
        "signal",
        "How close to its limit each signal is, 0 to 1; the highest is the node's pressure.",
        lambda node: node.shedder.pressures,
    ),
    Description(
        "websocket_zone_changes_total",
        "counter",
        "zone",
        "Changes of the zone, by the one that was entered.",
        lambda node: node.stats.zone_changes,
    ),
)
"""Every metric, in the order in which they are exposed."""


def read_metrics(node: Parts) -> list[Metric]:
    """Return the values of all metrics, as they are now."""
    return [Metric(described.name, labelled(described.read(node))) for described in METRICS]


def labelled(
    read: Number | Mapping[str, Number] | Mapping[str, int] | None,
) -> dict[str, float | Distribution]:
    """Return what was read by the value of the label; empty where it is not known."""
    if read is None:
        return {}
    by_label = read if isinstance(read, Mapping) else {"": read}
    return {label: _value(number) for label, number in by_label.items()}


def _value(number: Number) -> float | Distribution:
    if isinstance(number, Histogram):
        return Distribution(number.bounds, tuple(number.counts), number.sum)
    return float(number)
