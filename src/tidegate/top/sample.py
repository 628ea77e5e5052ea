"""What is seen at one time, as values; as JSON they are the lines of `tidegate top --json`."""

from __future__ import annotations

from msgspec import Struct

__all__ = ["Count", "Kernel", "Node", "Port", "Row", "Sample", "Server"]


class Count(Struct, frozen=True, rename="camel"):
    """How often something is there."""

    name: str
    count: int


class Row(Struct, frozen=True, rename="camel"):
    """One connection of our server. Times are in seconds."""

    id: str
    user: str | None
    address: str
    age: float
    idle: float
    buffered: int
    """Bytes that it has not taken yet."""
    rooms: tuple[str, ...] = ()


class Node(Struct, frozen=True, rename="camel"):
    """One node of the fleet, as it says of itself."""

    id: str
    host: str
    worker: int | None
    """Its number among the workers of its supervisor."""
    state: str
    zone: str
    connections: int
    capacity: int
    rate: float
    """Connections that it accepts a second."""


class Server(Struct, frozen=True, rename="camel", kw_only=True):
    """Our server, by its admin API. Rates are per second, since the sample before."""

    url: str
    zone: str
    zone_since: float
    pressure: float
    driver: str | None
    pressures: dict[str, float]
    acts: bool
    """Whether the zone has an effect."""
    connections: int
    limit: int
    peak: int
    opening: int
    """Attempts that are not decided yet."""
    addresses: int
    users: int
    waiting: int
    kept: int
    """Leases that are kept for holders of tickets."""
    outbox: float
    """Bytes that wait for slow clients."""
    slow: int
    """Clients with such bytes."""
    descriptors: float | None
    """Share of those that connections may have."""
    memory: float | None
    """Resident bytes."""
    connects: float | None
    closes: float | None
    refusals: dict[str, float]
    """By reason; only those that came."""
    refused: dict[str, int]
    """The same since the start."""
    messages_in: float | None
    messages_out: float | None
    bytes_in: float | None
    bytes_out: float | None
    cpu: float | None
    """Processors' worth of time."""
    cpu_low: float | None
    """The least of this view, as while it is idle."""
    cpu_high: float | None
    """The most of this view, as in a burst."""
    lag: float | None
    """Seconds by which the event loop was late, the 99th percentile."""
    tls_median: float | None
    """Seconds of a TLS handshake."""
    tls_slowest: float | None
    """The same, the 99th percentile."""
    top_addresses: list[Count]
    top_users: list[Count]
    rows: list[Row]
    listed: int
    """Connections that addresses, users and rows were taken from."""
    listed_all: bool
    nodes: list[Node]
    """Of the fleet; one where it is alone."""


class Port(Struct, frozen=True, rename="camel"):
    """A TCP port that somebody listens on, by the kernel."""

    port: int
    owner: str
    """The program; empty where only root can see it."""
    states: dict[str, int]
    """Connections by state, as ss(8) names them."""
    queue: int
    """Connections that wait to be accepted."""
    unread: int
    """Bytes that the program has not read yet."""
    unsent: int
    """Bytes that clients have not taken yet."""
    top_addresses: list[Count]
    slowest: list[Count]
    """Clients by the bytes that they have not taken."""


class Kernel(Struct, frozen=True, rename="camel"):
    """TCP of this network namespace. Rates are per second, since the sample before."""

    ports: list[Port]
    opens: float | None
    """Connections that were accepted, on all ports."""
    drops: float | None
    """Connections that found no room in a queue."""


class Sample(Struct, frozen=True, rename="camel"):
    """All that is seen."""

    at: float
    """Seconds since 1970."""
    server: Server | None
    kernel: Kernel | None
    unseen: tuple[str, ...]
    """What cannot be seen, and why."""
