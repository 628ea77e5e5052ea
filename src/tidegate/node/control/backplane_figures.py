"""The metrics of what connects a node with others. A node that is alone has no values."""

from __future__ import annotations

from typing import Final

from tidegate.node.control.metric import Description

__all__ = ["BACKPLANE"]

BACKPLANE: Final = (
    Description(
        "websocket_backplane_up",
        "gauge",
        "",
        "Whether the backplane can be reached, and the node hears the others: 1 or 0.",
        lambda node: None if node.backplane is None else int(node.backplane.up),
    ),
    Description(
        "websocket_backplane_latency_seconds",
        "histogram",
        "",
        "Time in which the backplane takes what a node says of itself every two seconds.",
        lambda node: None if node.backplane is None else node.membership.latencies,
    ),
    Description(
        "websocket_backplane_errors_total",
        "counter",
        "error",
        "Commands that were not sent because the backplane was down, lost with a connection, or "
        "refused by the server.",
        lambda node: None if node.backplane is None else node.backplane.traffic.errors,
    ),
    Description(
        "websocket_backplane_reconnects_total",
        "counter",
        "",
        "Connections to the backplane that were made again.",
        lambda node: None if node.backplane is None else node.backplane.traffic.reconnects,
    ),
    Description(
        "websocket_backplane_messages_total",
        "counter",
        "direction",
        "Messages that the node published, and that it received from all nodes, itself included.",
        lambda node: (
            None
            if node.backplane is None
            else {
                "published": node.backplane.traffic.published,
                "received": node.backplane.traffic.received,
            }
        ),
    ),
    Description(
        "websocket_backplane_bytes_total",
        "counter",
        "direction",
        "Bytes of all commands that were sent, and of the messages that were received.",
        lambda node: (
            None
            if node.backplane is None
            else {
                "sent": node.backplane.traffic.bytes_sent,
                "received": node.backplane.traffic.bytes_received,
            }
        ),
    ),
    Description(
        "websocket_backplane_subscriptions",
        "gauge",
        "",
        "Rooms that the node hears: those that have members here.",
        lambda node: None if node.backplane is None else node.backplane.subscriptions,
    ),
)
