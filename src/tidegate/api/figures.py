"""The figures of a server, as its API answers them. Times are in seconds."""

from __future__ import annotations

from msgspec import Struct

__all__ = ["BackplaneCounts", "NodesPage", "OneNode", "Stats"]


class ConnectionCounts(Struct, frozen=True, rename="camel"):
    """Connections that hold a lease, and attempts so far."""

    current: int
    peak: int
    limit: int
    utilization: float
    unique_ips: int
    unique_users: int
    accepted: int
    rejected: int


class MessageCounts(Struct, frozen=True, rename="camel"):
    """Messages so far, and bytes on the wire."""

    received: int
    sent: int
    bytes_received: int
    bytes_sent: int
    limited: dict[str, int]
    dropped: dict[str, int]


class Load(Struct, frozen=True):
    """The pressure, and the zone that it means."""

    zone: str
    since: float
    pressure: float
    driver: str | None
    pressures: dict[str, float]
    acts: bool


class WaitingCounts(Struct, frozen=True):
    """The waiting room: clients that wait, and leases that are kept for holders of tickets."""

    now: int
    kept: int


class Stats(Struct, frozen=True, rename="camel"):
    """The counters of the server. Mappings are by the name of a reason, a policy or an event."""

    connections: ConnectionCounts
    rejections: dict[str, int]
    disconnections: dict[str, int]
    dry_run: dict[str, int]
    waited: dict[str, int]
    messages: MessageCounts
    rooms: int
    load: Load
    waiting: WaitingCounts
    nodes: int | None = None
    """Of how many nodes they are, where those of the whole fleet were asked for."""
    complete: bool = True
    """Whether all nodes have answered."""


class OneNode(Struct, frozen=True):
    """One node of the fleet."""

    id: str
    host: str
    pid: int
    worker: int | None
    """Its number among the workers of its supervisor; None without one."""
    version: str
    addresses: list[str]
    """Host and port of every listener for clients."""
    state: str
    """`serving`, `unready`, `draining`, or `gone`: it was not heard for some seconds."""
    reason: str
    """Why it should get no new connections; empty when it should."""
    zone: str
    pressure: float
    connections: int
    capacity: int
    rate: float
    """Connections that it accepts a second."""
    since: float
    """When it was started, in Unix seconds."""
    heard: float
    """How long ago it said this."""
    own: bool
    """Whether it is the one that answers."""


class BackplaneCounts(Struct, frozen=True):
    """What connects the node that answers with the others."""

    up: bool
    """Whether it can be reached, and the node hears the others."""
    latency: float | None
    """Seconds that it took to answer last; None while it does not."""
    subscriptions: int
    """Rooms that the node hears."""
    published: int
    received: int
    """Messages of all nodes, this one included."""
    reconnects: int
    errors: dict[str, int]
    """Commands that were not sent (`down`), not answered (`lost`) or refused."""


class NodesPage(Struct, frozen=True):
    """The nodes of the fleet, and their sums over those that are not gone."""

    nodes: list[OneNode]
    connections: int
    capacity: int
    complete: bool
    """Whether these are all: not while the backplane cannot be reached."""
    backplane: BackplaneCounts | None = None
    """None where the node is alone."""
