"""Metrics for Prometheus, read off the node's plain counters when they are scraped."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from itertools import accumulate
from math import inf
from typing import TYPE_CHECKING, Literal, NamedTuple, TypeAlias

from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    Metric,
)
from prometheus_client.registry import Collector
from prometheus_client.utils import floatToGoString

from tidegate.core.stats import Histogram
from tidegate.server.limits import descriptors_used_ratio

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
        lambda node: node.stats.messages_sent,
    ),
    Description(
        "websocket_message_size_bytes",
        "histogram",
        "direction",
        "Size of messages, received or sent.",
        lambda node: {"received": node.stats.size_received, "sent": node.stats.size_sent},
    ),
    Description(
        "websocket_bytes_total",
        "counter",
        "direction",
        "Bytes on the wire, received or sent.",
        lambda node: {"received": node.stats.bytes_received, "sent": node.stats.bytes_sent},
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
