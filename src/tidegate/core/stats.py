"""What happened so far, as plain numbers; the metrics page reads them when it is asked for."""

from __future__ import annotations

from bisect import bisect_left
from collections import Counter
from typing import Any, Final

from tidegate.core.codes import REASONS
from tidegate.core.settings import POLICIES
from tidegate.core.shedding import Zone
from tidegate.core.tracker import ConnectionTracker

__all__ = ["Histogram", "Stats"]

_SIZES: Final = (16.0, 64.0, 256.0, 1024.0, 4096.0, 16384.0, 65536.0, 262144.0, 1048576.0)
_DURATIONS: Final = (1.0, 5.0, 15.0, 60.0, 300.0, 900.0, 3600.0, 14400.0, 43200.0, 86400.0)
_ROUND_TRIPS: Final = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)
_HANDSHAKES: Final = (0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.05, 0.25, 1.0, 5.0)
_LAGS: Final = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.02, 0.05, 0.1, 0.25, 0.5, 1.0, 5.0)

_WAITS: Final = ("entered", "promoted", "left", "expired")


class Histogram:
    """How many values fell into each range.

    ``bounds`` are the upper ends, in rising order and included in their range, as in Prometheus.
    ``counts`` has one more number than there are bounds, for what lies above the last;
    ``sum`` is the sum of all values.
    """

    __slots__ = ("bounds", "counts", "sum")

    def __init__(self, bounds: tuple[float, ...]) -> None:
        self.bounds = bounds
        self.counts = [0] * (len(bounds) + 1)
        self.sum = 0.0

    def observe(self, value: float) -> None:
        """Count one value."""
        self.counts[bisect_left(self.bounds, value)] += 1
        self.sum += value

    def observe_many(self, value: float, times: int) -> None:
        """Count the same value several times, as for one frame sent to a room."""
        self.counts[bisect_left(self.bounds, value)] += times
        self.sum += value * times

    @property
    def count(self) -> int:
        """How many values there were."""
        return sum(self.counts)


class Stats:
    """The counters of one node. Durations are in seconds, sizes in bytes.

    The labels are names of rows of the table of reasons and names of types of messages: all from
    this program's own lists, never from what a peer sent, so that their number is bounded.
    """

    __slots__ = (
        "accepted",
        "bytes_received",
        "bytes_sent",
        "disconnected",
        "dry_run",
        "duration",
        "handshake_duration",
        "heartbeat_latency",
        "loop_lag",
        "messages_dropped",
        "messages_limited",
        "messages_received",
        "messages_sent",
        "rejected",
        "size_received",
        "size_sent",
        "tls_handshake_duration",
        "waited",
        "zone_changes",
    )

    def __init__(self) -> None:
        self.accepted = 0
        self.rejected: Counter[str] = Counter()
        self.disconnected: Counter[str] = Counter()
        # A reason that has not occurred yet is shown as 0, so that its first one is a change.
        for reason in REASONS.values():
            if reason.http is not None:
                self.rejected[reason.name] = 0
            elif reason.close is not None:
                self.disconnected[reason.name] = 0
        self.dry_run: Counter[str] = Counter(dict.fromkeys(POLICIES, 0))
        self.waited: Counter[str] = Counter(dict.fromkeys(_WAITS, 0))
        self.messages_received: dict[str, int] = {}
        self.messages_sent = 0
        # What came too fast: how often a message was refused, or reading stopped for a while.
        self.messages_limited: Counter[str] = Counter(refused=0, delayed=0)
        # Messages of rooms that a slow connection did not get, by outbox.policy.
        self.messages_dropped: Counter[str] = Counter(drop_oldest=0, drop_newest=0)
        self.bytes_received = 0
        self.bytes_sent = 0
        self.size_received = Histogram(_SIZES)
        self.size_sent = Histogram(_SIZES)
        self.duration = Histogram(_DURATIONS)
        self.heartbeat_latency = Histogram(_ROUND_TRIPS)
        self.handshake_duration = Histogram(_HANDSHAKES)
        self.tls_handshake_duration = Histogram(_ROUND_TRIPS)
        self.loop_lag = Histogram(_LAGS)
        self.zone_changes: Counter[str] = Counter({zone.label: 0 for zone in Zone})

    def snapshot(self, tracker: ConnectionTracker) -> dict[str, Any]:
        """The counters as a dict that can be written as JSON."""
        return {
            "connections": {
                "current": tracker.open,
                "peak": tracker.peak,
                "limit": tracker.limit,
                "utilization": round(tracker.utilization, 4),
                "uniqueIps": tracker.unique_ips,
                "uniqueUsers": tracker.unique_users,
                "accepted": self.accepted,
                "rejected": sum(self.rejected.values()),
            },
            "rejections": dict(self.rejected),
            "disconnections": dict(self.disconnected),
            "dryRun": dict(self.dry_run),
            "waited": dict(self.waited),
            "messages": {
                "received": sum(self.messages_received.values()),
                "sent": self.messages_sent,
                "bytesReceived": self.bytes_received,
                "bytesSent": self.bytes_sent,
                "limited": dict(self.messages_limited),
                "dropped": dict(self.messages_dropped),
            },
        }
