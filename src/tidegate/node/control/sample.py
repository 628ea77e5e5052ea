"""What charts show of a node at one moment: totals and levels, as plain numbers."""

from __future__ import annotations

from typing import TYPE_CHECKING

from msgspec import Struct

from tidegate.core.stats import Histogram

if TYPE_CHECKING:
    from tidegate.node.control.parts import Parts

__all__ = ["Sample", "Sampler"]


class Sample(Struct, frozen=True, rename="camel", omit_defaults=False):
    """A node at one moment. What is counted is counted from its start on."""

    connections: int
    limit: int
    waiting: int
    accepted: int
    rejected: dict[str, int]
    """By reason; those that there were."""
    received: int
    sent: int
    bytes_received: int
    bytes_sent: int
    outbox: int
    """Bytes that wait for slow connections."""
    rooms: int
    users: int
    zone: str
    pressures: dict[str, float]
    """By signal, 0 to 1."""
    lag: float
    """Seconds that the event loop was late since the last sample, at most; the bound of a range."""


class Sampler:
    """Takes samples of one node."""

    def __init__(self, node: Parts) -> None:
        self._node = node
        self._lags = list(node.stats.loop_lag.counts)

    def take(self) -> Sample:
        """Return a sample of now."""
        node = self._node
        stats, tracker = node.stats, node.tracker
        return Sample(
            connections=tracker.open,
            limit=tracker.limit,
            waiting=len(node.waiting),
            accepted=stats.accepted,
            rejected={reason: count for reason, count in stats.rejected.items() if count},
            received=sum(stats.messages_received.values()),
            sent=stats.outgoing.messages,
            bytes_received=stats.incoming.bytes,
            bytes_sent=stats.outgoing.bytes,
            outbox=node.engine.buffered,
            rooms=len(node.rooms),
            users=tracker.unique_users,
            zone=node.shedder.zone.label,
            pressures={name: round(value, 3) for name, value in node.shedder.pressures.items()},
            lag=self._worst_lag(stats.loop_lag),
        )

    def _worst_lag(self, lags: Histogram) -> float:
        before, self._lags = self._lags, list(lags.counts)
        new = [index for index, count in enumerate(self._lags) if count > before[index]]
        if not new:
            return 0.0
        return lags.bounds[min(new[-1], len(lags.bounds) - 1)]
