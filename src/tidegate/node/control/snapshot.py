"""The counters of a node at one time, with types."""

from __future__ import annotations

from time import monotonic
from typing import TYPE_CHECKING, Any, Protocol

from msgspec import Struct, convert

if TYPE_CHECKING:
    from tidegate.core.admission.shedding import LoadShedder
    from tidegate.core.admission.tracker import ConnectionTracker
    from tidegate.core.messaging.rooms import Rooms
    from tidegate.core.stats import Stats
    from tidegate.gate.waiting import WaitingClients

__all__ = ["Connections", "Counted", "Load", "Messages", "Snapshot", "Waiting", "snapshot"]


class Connections(Struct, frozen=True, rename="camel"):
    """Connections that hold a lease, and attempts so far."""

    current: int
    peak: int
    """The most that there have been at one time."""
    limit: int
    utilization: float
    """`current` as a share of `limit`, 0 to 1."""
    unique_ips: int
    """Addresses; an IPv6 network (`limits.ipv6_prefix`) is one."""
    unique_users: int
    accepted: int
    rejected: int


class Messages(Struct, frozen=True, rename="camel"):
    """Messages so far, and bytes on the wire."""

    received: int
    sent: int
    bytes_received: int
    bytes_sent: int
    limited: dict[str, int]
    """Messages that came too fast, by what was done: they were refused, or reading was delayed."""
    dropped: dict[str, int]
    """Messages that slow connections missed, by `outbox.policy`."""


class Load(Struct, frozen=True, rename="camel"):
    """The pressure, and the zone that it means."""

    zone: str
    since: float
    """Seconds since the zone was entered."""
    pressure: float
    driver: str | None
    """The signal that the pressure comes from."""
    pressures: dict[str, float]
    """The pressure of each signal, 0 to 1."""
    acts: bool
    """Whether the zone has an effect; not while shedding is off or on trial."""


class Waiting(Struct, frozen=True, rename="camel"):
    """The waiting room."""

    now: int
    """Clients that wait."""
    kept: int
    """Leases that are kept for holders of tickets who are not back yet."""


class Snapshot(Struct, frozen=True, rename="camel"):
    """The counters of a node. Mappings are by the name of a reason, a policy or an event."""

    connections: Connections
    rejections: dict[str, int]
    disconnections: dict[str, int]
    dry_run: dict[str, int]
    """Attempts that a policy on trial would have refused."""
    waited: dict[str, int]
    """Positions that were entered, and how each has ended; the others are in `waiting`."""
    messages: Messages
    rooms: int
    load: Load
    waiting: Waiting


class Counted(Protocol):
    """What has the counters: a node, or a gate without an engine."""

    stats: Stats
    tracker: ConnectionTracker
    rooms: Rooms[Any]
    shedder: LoadShedder
    waiting: WaitingClients[Any]


def snapshot(node: Counted, now: float | None = None) -> Snapshot:
    """Return the counters of a node, as they are at `now` (monotonic seconds)."""
    stats, tracker = node.stats, node.tracker
    figures = {
        **stats.snapshot(),
        "connections": Connections(
            current=tracker.open,
            peak=tracker.peak,
            limit=tracker.limit,
            utilization=round(tracker.utilization, 4),
            unique_ips=tracker.unique_ips,
            unique_users=tracker.unique_users,
            accepted=stats.accepted,
            rejected=sum(stats.rejected.values()),
        ),
        "rooms": len(node.rooms),
        "load": _load(node.shedder, monotonic() if now is None else now),
        "waiting": Waiting(now=len(node.waiting), kept=node.waiting.kept),
    }
    return convert(figures, Snapshot)


def _load(shedder: LoadShedder, now: float) -> Load:
    return Load(
        zone=shedder.zone.label,
        since=round(now - shedder.since, 3),
        pressure=round(shedder.pressure, 4),
        driver=shedder.driver,
        pressures={name: round(value, 4) for name, value in shedder.pressures.items()},
        acts=shedder.acts,
    )
