"""The metrics of the limits that hold over all nodes."""

from __future__ import annotations

from typing import Final

from tidegate.node.control.metric import Description

__all__ = ["FLEET"]

FLEET: Final = (
    Description(
        "websocket_fleet_connections",
        "gauge",
        "",
        "Connections of all nodes, as this node heard last; no value where it is alone.",
        lambda node: None if node.leases is None else node.leases.total,
    ),
    Description(
        "websocket_fleet_limits_hold",
        "gauge",
        "",
        "Whether limits hold over all nodes at present: 1 or 0; no value where a node is alone.",
        lambda node: None if node.leases is None else int(node.leases.up),
    ),
    Description(
        "websocket_fleet_leases_total",
        "counter",
        "result",
        "Leases that the fleet was asked about: confirmed, refused, given unchecked because the "
        "backplane was away, and times that the leases of this node were lost.",
        lambda node: node.stats.fleet,
    ),
)
