"""The nodes of the fleet, as operators see them."""

from __future__ import annotations

from time import time
from typing import TYPE_CHECKING

from msgspec import Struct

from tidegate.backplane.nodes import Seen, times_of

if TYPE_CHECKING:
    from tidegate.backplane.base import Backplane
    from tidegate.backplane.nodes import NodeRecord
    from tidegate.node.control.parts import Parts

__all__ = ["BackplaneRow", "NodeRow", "NodesPage", "nodes_page"]


class NodeRow(Struct, frozen=True):
    """One node. Times are in seconds."""

    id: str
    host: str
    pid: int
    worker: int | None
    """Its number among the workers of its supervisor; None without one."""
    version: str
    addresses: tuple[str, ...]
    """Host and port of every listener for clients."""
    state: str
    """`serving`, `unready`, `draining`, or `gone`: it was not heard for `fleet.ttl`."""
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


class BackplaneRow(Struct, frozen=True, rename="camel"):
    """What connects this node with the others, and what it has counted of it."""

    up: bool
    """Whether it can be reached, and this node hears the others."""
    latency: float | None
    """Seconds that it took to answer last; None while it does not."""
    subscriptions: int
    """Rooms that this node hears."""
    published: int
    received: int
    """Messages of all nodes, this one included."""
    reconnects: int
    errors: dict[str, int]
    """Commands that were not sent (`down`), not answered (`lost`) or refused."""


class NodesPage(Struct, frozen=True):
    """The nodes, by host and worker, and their sums over those that are not gone."""

    nodes: list[NodeRow]
    connections: int
    capacity: int
    complete: bool
    """Whether these are all: not while the backplane cannot be reached, or where it knows none."""
    backplane: BackplaneRow | None = None
    """Of the node that answers; None where it is alone."""


async def nodes_page(node: Parts) -> NodesPage:
    """Return all nodes; this one alone while the backplane cannot be reached."""
    membership, between = node.membership, node.backplane
    seen = await membership.read()
    own = membership.record()
    # What this node knows of itself is newer.
    others = [one for one in seen or () if one.record.id != own.id]
    gone = times_of(node.settings.fleet.ttl).gone
    rows = [_row(one, gone, own=False) for one in others]
    rows.append(_row(Seen(own, 0.0), gone, own=True))
    rows.sort(key=lambda row: (row.host, row.addresses, row.worker or 0, row.id))
    here = [row for row in rows if row.state != "gone"]
    return NodesPage(
        rows,
        sum(row.connections for row in here),
        sum(row.capacity for row in here),
        complete=seen is not None and (between is None or between.nodes is not None),
        backplane=None if between is None else _between(between, membership.latency),
    )


def _between(backplane: Backplane, latency: float | None) -> BackplaneRow:
    traffic = backplane.traffic
    return BackplaneRow(
        up=backplane.up,
        latency=latency,
        subscriptions=backplane.subscriptions,
        published=traffic.published,
        received=traffic.received,
        reconnects=traffic.reconnects,
        errors=dict(traffic.errors),
    )


def _row(seen: Seen, gone: float, *, own: bool) -> NodeRow:
    record, age = seen
    return NodeRow(
        id=record.id,
        host=record.host,
        pid=record.pid,
        worker=record.worker,
        version=record.version,
        addresses=record.addresses,
        state=_state(record, age, gone),
        reason=record.reason,
        zone=record.zone,
        pressure=record.pressure,
        connections=record.connections,
        capacity=record.capacity,
        rate=record.rate,
        since=round(time() - age - record.uptime, 3),
        heard=round(age, 3),
        own=own,
    )


def _state(record: NodeRecord, age: float, gone: float) -> str:
    if age > gone:
        return "gone"
    if record.draining:
        return "draining"
    return "serving" if record.ready else "unready"
