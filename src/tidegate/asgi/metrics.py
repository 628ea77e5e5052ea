"""Metrics of a gate without an engine: those of a node that it knows, under the same names."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, Final

from prometheus_client.core import Metric
from prometheus_client.registry import Collector

from tidegate.node.control.exposition import family
from tidegate.node.control.figures import METRICS, labelled

if TYPE_CHECKING:
    from tidegate.asgi.local import LocalGate

__all__ = ["GateMetrics"]

# All others need the sockets, or the process.
_KNOWN: Final = frozenset(
    {
        "websocket_addresses",
        "websocket_breaker_open",
        "websocket_connections_peak",
        "websocket_connections_total",
        "websocket_disconnections_total",
        "websocket_dry_run_rejections_total",
        "websocket_limit",
        "websocket_messages_limited_total",
        "websocket_pressure",
        "websocket_rejections_total",
        "websocket_rooms",
        "websocket_users",
        "websocket_utilization_ratio",
        "websocket_waiting",
        "websocket_waiting_total",
        "websocket_zone",
        "websocket_zone_changes_total",
    }
)
_CURRENT: Final = "websocket_connections_current"


class GateMetrics(Collector):
    """Reads them when they are scraped."""

    def __init__(self, gate: LocalGate) -> None:
        self._gate = gate

    def collect(self) -> Iterator[Metric]:
        """All that are known, as they are now."""
        gate: Any = self._gate
        for description in METRICS:
            if description.name == _CURRENT:
                opened = {"open": float(gate.tracker.open), "opening": float(gate.undecided)}
                yield family(description, opened)
            elif description.name in _KNOWN:
                yield family(description, labelled(description.read(gate)))
