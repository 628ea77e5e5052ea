"""What has happened so far, as plain numbers; metrics and the admin API read them on request."""

from __future__ import annotations

from bisect import bisect_left
from collections import Counter
from typing import Any, Final

from tidegate.core.codes import REASONS, Close, Refusal
from tidegate.core.settings import POLICIES

__all__ = ["SMALL", "Histogram", "Ingested", "Stats", "Traffic"]

SMALL: Final = 126
"""Messages of fewer bytes have their length in the first two bytes of a frame (RFC 6455, 5.2)."""

_SIZES: Final = (16.0, 64.0, 256.0, 1024.0, 4096.0, 16384.0, 65536.0, 262144.0, 1048576.0)
_DURATIONS: Final = (1.0, 5.0, 15.0, 60.0, 300.0, 900.0, 3600.0, 14400.0, 43200.0, 86400.0)
_ROUND_TRIPS: Final = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)
_HANDSHAKES: Final = (0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.05, 0.25, 1.0, 5.0)
_LAGS: Final = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.02, 0.05, 0.1, 0.25, 0.5, 1.0, 5.0)

# Codes that are shown one by one; 1005 is a close frame without a code (RFC 6455 7.4.1).
_CLOSE_CODES: Final = {1005, *(row.code for row in REASONS.values() if isinstance(row, Close))}
_OTHER_CODES: Final = ("1xxx", "3xxx", "4xxx")  # all others that a peer may send, by thousands

_ZONES: Final = ("normal", "warning", "critical", "emergency")
# A position that was entered ends once, by one of the others.
_WAITS: Final = ("entered", "promoted", "left", "expired", "refused", "drained")


class Histogram:
    """How many values fell into each range.

    `bounds` are the upper ends, in rising order and included in their range, as in Prometheus.
    `counts` has one more number than there are bounds, for what is above the last; `sum` is the
    sum of all values.
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


class Traffic:
    """The messages of one direction by size, and all bytes on the wire.

    Nearly every message is small and in a frame of its own. It costs one addition,
    `small[size] += 1`; what it adds to the totals is worked out when they are read. All others
    are counted in `others` by size, and in `other_bytes` with their frames; handshakes and control
    frames are in `other_bytes` too. `header` is how many bytes stand before a small message.
    """

    __slots__ = ("_header", "other_bytes", "others", "small")

    def __init__(self, header: int) -> None:
        self.small = [0] * SMALL
        self.others = Histogram(_SIZES)
        self.other_bytes = 0
        self._header = header

    @property
    def messages(self) -> int:
        """How many messages there were."""
        return sum(self.small) + self.others.count

    @property
    def bytes(self) -> int:
        """How many bytes there were on the wire."""
        header = self._header
        small = sum(times * (header + size) for size, times in enumerate(self.small))
        return small + self.other_bytes

    @property
    def sizes(self) -> Histogram:
        """The sizes of all messages; a copy."""
        sizes = Histogram(_SIZES)
        sizes.counts = self.others.counts.copy()
        sizes.sum = self.others.sum
        for size, times in enumerate(self.small):
            sizes.observe_many(size, times)
        return sizes


class Ingested:
    """What became of the records of one source."""

    __slots__ = ("bytes", "failures", "in_flight", "lag", "records", "retries", "skipped")

    def __init__(self) -> None:
        self.records = 0
        """That were published."""
        self.bytes = 0
        """Of all that were read."""
        self.skipped = 0
        """That can never be published."""
        self.retries = 0
        """Tries to publish that failed for the moment."""
        self.failures = 0
        """Ends of the connection to the source, and tries to connect that failed."""
        self.in_flight = 0
        """That were read and are not done."""
        self.lag = 0
        """That wait, when it was asked last."""


class Stats:
    """The counters of one node. Durations are in seconds, sizes in bytes.

    The labels come from this program's own lists, such as the table of reasons, and never from
    what a peer sent, so that their number is bounded.
    """

    __slots__ = (
        "accepted",
        "binary_received",
        "close_codes",
        "delta_bytes_saved",
        "deltas_sent",
        "disconnected",
        "dry_run",
        "duration",
        "fleet",
        "handshake_duration",
        "heartbeat_latency",
        "hooks",
        "incoming",
        "ingest",
        "loop_lag",
        "messages_dropped",
        "messages_limited",
        "native_messages",
        "orders",
        "outgoing",
        "posts",
        "published",
        "rejected",
        "sessions",
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
            if isinstance(reason, Refusal):
                self.rejected[reason.name] = 0
            elif isinstance(reason, Close):
                self.disconnected[reason.name] = 0
        # By the code of the close frame that came or was sent first.
        self.close_codes: Counter[int] = Counter()
        self.dry_run: Counter[str] = Counter(dict.fromkeys(POLICIES, 0))
        self.waited: Counter[str] = Counter(dict.fromkeys(_WAITS, 0))
        self.orders: Counter[str] = Counter(dict.fromkeys(("done", "failed", "unknown"), 0))
        self.sessions: Counter[str] = Counter(dict.fromkeys(("parked", "resumed", "expired"), 0))
        # What became of leases that the fleet was asked about.
        self.fleet: Counter[str] = Counter(confirmed=0, refused=0, unchecked=0, lost=0)
        # What became of questions to the functions of an application.
        self.hooks: Counter[str] = Counter(allowed=0, refused=0, failed=0)
        # Requests in which clients of the fallback posted messages.
        self.posts: Counter[str] = Counter(taken=0, refused=0)
        # Messages that were carried to rooms, users and everybody, by who published them.
        self.published: Counter[str] = Counter(client=0, api=0, hook=0, library=0, ingest=0)
        # What was read from other systems, by the names of the sources in the settings.
        self.ingest: dict[str, Ingested] = {}
        # Messages of the native protocol by type; empty where it is not spoken.
        self.native_messages: dict[str, int] = {}
        # What came too fast: how often a message was refused, or reading stopped for a while.
        self.messages_limited: Counter[str] = Counter(refused=0, delayed=0)
        # Messages of rooms that a slow connection did not get, by outbox.policy.
        self.messages_dropped: Counter[str] = Counter(drop_oldest=0, drop_newest=0)
        # Messages of rooms that went as the difference to the one before, and what that saved.
        self.deltas_sent = 0
        self.delta_bytes_saved = 0
        self.incoming = Traffic(header=6)  # with the mask
        self.binary_received = 0  # how many of them were binary messages
        self.outgoing = Traffic(header=2)
        self.duration = Histogram(_DURATIONS)
        self.heartbeat_latency = Histogram(_ROUND_TRIPS)
        self.handshake_duration = Histogram(_HANDSHAKES)
        self.tls_handshake_duration = Histogram(_ROUND_TRIPS)
        self.loop_lag = Histogram(_LAGS)
        self.zone_changes: Counter[str] = Counter(dict.fromkeys(_ZONES, 0))

    @property
    def messages_received(self) -> dict[str, int]:
        """Messages by type: those of the native protocol where it is spoken, else text, binary."""
        if self.native_messages:
            return self.native_messages
        binary = self.binary_received
        return {"text": self.incoming.messages - binary, "binary": binary}

    @property
    def closes(self) -> dict[str, int]:
        """Connections that have ended, by close code.

        Codes that are not in the table are `1xxx`, `3xxx` and `4xxx`: peers choose them.
        """
        closes = dict.fromkeys([*map(str, sorted(_CLOSE_CODES)), *_OTHER_CODES], 0)
        for code, count in self.close_codes.items():
            closes[str(code) if code in _CLOSE_CODES else f"{code // 1000}xxx"] += count
        return closes

    def snapshot(self) -> dict[str, Any]:
        """The counters as a dict that can be written as JSON."""
        return {
            "rejections": dict(self.rejected),
            "disconnections": dict(self.disconnected),
            "dryRun": dict(self.dry_run),
            "waited": dict(self.waited),
            "messages": {
                "received": sum(self.messages_received.values()),
                "sent": self.outgoing.messages,
                "bytesReceived": self.incoming.bytes,
                "bytesSent": self.outgoing.bytes,
                "limited": dict(self.messages_limited),
                "dropped": dict(self.messages_dropped),
            },
        }
