"""Metrics for Prometheus, read off the node's plain counters when they are scraped."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from itertools import accumulate
from math import inf
from time import monotonic
from typing import TYPE_CHECKING, Literal, NamedTuple, TypeAlias

from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    Metric,
)
from prometheus_client.registry import Collector
from prometheus_client.utils import floatToGoString

from tidegate.core.admission.breaker import State
from tidegate.core.stats import Histogram
from tidegate.node.pressure.descriptors import descriptors_used_ratio

if TYPE_CHECKING:
    from tidegate.node.server import Server

__all__ = ["METRICS", "Description", "NodeCollector"]

_Value: TypeAlias = "float | Histogram"


class Description(NamedTuple):
    """What one metric is, and how it is read.

    `label` is empty, or the name of the one label whose values are the keys that `read` returns;
    they come from this program's own lists, never from what a peer sent. None is "not known
    here": no sample.
    """

    name: str
    kind: Literal["counter", "gauge", "histogram"]
    label: str
    text: str
    read: Callable[[Server], _Value | Mapping[str, _Value] | Mapping[str, int] | None]


METRICS = (
    Description(
        "websocket_connections_current",
        "gauge",
        "state",
        "Connections now: open (they hold a place) or opening (no valid request yet).",
        lambda node: {"open": node.tracker.open, "opening": len(node.engine.openings)},
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
        "Clients in the waiting room, and slots kept for those who are to come back for them.",
        lambda node: {"waiting": len(node.line), "kept": node.line.kept},
    ),
    Description(
        "websocket_waiting_total",
        "counter",
        "event",
        "Places in the waiting room that were entered, and how they ended.",
        lambda node: node.stats.waited,
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
        "websocket_connection_duration_seconds",
        "histogram",
        "",
        "How long connections lasted that have ended.",
        lambda node: node.stats.duration,
    ),
    Description(
        "websocket_utilization_percent",
        "gauge",
        "",
        "Open connections as a share of limits.connections, 0 to 100.",
        lambda node: node.tracker.utilization * 100,
    ),
    Description(
        "websocket_messages_received_total",
        "counter",
        "type",
        "Messages that were received.",
        lambda node: node.stats.messages_received,
    ),
    Description(
        "websocket_messages_sent_total",
        "counter",
        "",
        "Messages that were sent; one for each receiver.",
        lambda node: node.stats.outgoing.messages,
    ),
    Description(
        "websocket_messages_limited_total",
        "counter",
        "action",
        "Messages and joins that came too fast: refused, or reading delayed for a while.",
        lambda node: node.stats.messages_limited,
    ),
    Description(
        "websocket_messages_dropped_total",
        "counter",
        "policy",
        "Messages of rooms that slow connections did not get; sent all the same to the others.",
        lambda node: node.stats.messages_dropped,
    ),
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
        "Open file descriptors as a share of the limit of this process, 0 to 1.",
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


class NodeCollector(Collector):
    """Reads the counters of one node. Costs nothing between scrapes."""

    def __init__(self, node: Server) -> None:
        self._node = node

    def collect(self) -> Iterator[Metric]:
        """All metrics as they are now."""
        for description in METRICS:
            yield _family(description, self._node)


def _family(description: Description, node: Server) -> Metric:
    name, kind, label, text, read = description
    labels = [label] if label else []
    value = read(node)
    samples = value if isinstance(value, Mapping) else {"": value}
    if kind == "histogram":
        histograms = HistogramMetricFamily(name, text, labels=labels)
        for key, sample in samples.items():
            assert isinstance(sample, Histogram)
            histograms.add_metric([key] if label else [], _buckets(sample), sample.sum)
        return histograms
    family = (CounterMetricFamily if kind == "counter" else GaugeMetricFamily)(
        name, text, labels=labels
    )
    for key, sample in samples.items():
        if sample is not None:
            assert not isinstance(sample, Histogram)
            family.add_metric([key] if label else [], sample)
    return family


def _buckets(histogram: Histogram) -> list[tuple[str, float]]:
    """Cumulative counts by upper bound, as Prometheus has them."""
    bounds = map(floatToGoString, (*histogram.bounds, inf))
    return list(zip(bounds, map(float, accumulate(histogram.counts)), strict=True))
