"""A node in its own words, as it tells the others."""

from __future__ import annotations

import os
import socket
from typing import TYPE_CHECKING

from tidegate.addresses import authority
from tidegate.backplane.nodes import NodeRecord, times_of
from tidegate.node.membership import Membership
from tidegate.node.rebalancing import Rebalancing

if TYPE_CHECKING:
    from tidegate.node.control.parts import Parts

__all__ = ["describe", "membership_of"]


def membership_of(node: Parts, worker: int | None) -> Membership:
    """Return what keeps the record of a node, from its start to its end."""
    nodes = None if node.backplane is None else node.backplane.nodes
    return Membership(
        node.stats,
        nodes,
        lambda: describe(node, worker),
        lambda: node.shutdown.begun,
        Rebalancing(node),
        times_of(node.settings.fleet.ttl).beat,
    )


def describe(node: Parts, worker: int | None) -> NodeRecord:
    """Return how a node is now; its rate is for who looks at it again and again.

    Args:
        worker: its number among the workers of a supervisor; None without one.
    """
    ready, reason = node.ready
    return NodeRecord(
        id=node.engine.shared.name,
        host=socket.gethostname(),
        pid=os.getpid(),
        version=node.version,
        worker=worker,
        addresses=tuple(authority(host, port) for host, port in node.addresses),
        uptime=round(node.uptime, 3),
        ready=ready,
        reason=reason,
        draining=node.shutdown.begun,
        zone=node.shedder.zone.label,
        pressure=round(node.shedder.pressure, 3),
        connections=node.tracker.open,
        capacity=node.tracker.limit,
        route=node.settings.server.route,
    )
