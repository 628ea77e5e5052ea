"""The metrics of messages, sessions and histories."""

from __future__ import annotations

from typing import Final

from tidegate.node.control.metric import Description

__all__ = ["MESSAGING"]

MESSAGING: Final = (
    Description(
        "websocket_messages_received_total",
        "counter",
        "type",
        "Messages that were received.",
        lambda node: node.stats.messages_received,
    ),
    Description(
        "websocket_published_total",
        "counter",
        "source",
        "Messages that were taken for rooms, users and everybody: from a client, the server API, "
        "a function of a tidegate.App (hook), the library, or a record (ingest).",
        lambda node: node.stats.published,
    ),
    Description(
        "websocket_messages_sent_total",
        "counter",
        "",
        "Messages that were sent; one for each receiver.",
        lambda node: node.stats.outgoing.messages,
    ),
    Description(
        "websocket_messages_limited_total",
        "counter",
        "action",
        "Messages and joins that came too fast: refused, or reading delayed for a while.",
        lambda node: node.stats.messages_limited,
    ),
    Description(
        "websocket_messages_dropped_total",
        "counter",
        "policy",
        "Messages of rooms that slow connections missed; the other members got them.",
        lambda node: node.stats.messages_dropped,
    ),
    Description(
        "websocket_deltas_sent_total",
        "counter",
        "",
        "Messages of rooms that were sent as the difference to the one before, one a receiver.",
        lambda node: node.stats.deltas_sent,
    ),
    Description(
        "websocket_delta_saved_bytes_total",
        "counter",
        "",
        "Bytes by which these were smaller than the whole messages.",
        lambda node: node.stats.delta_bytes_saved,
    ),
    Description(
        "websocket_hooks_total",
        "counter",
        "outcome",
        "Questions to functions of a tidegate.App: allowed, refused, or failed.",
        lambda node: node.stats.hooks,
    ),
    Description(
        "websocket_event_streams",
        "gauge",
        "",
        "Connections now that have taken the fallback: server-sent events in place of WebSockets.",
        lambda node: len(node.event_streams),
    ),
    Description(
        "websocket_posts_total",
        "counter",
        "result",
        "Requests in which clients of the fallback posted messages: taken or refused.",
        lambda node: node.stats.posts,
    ),
    Description(
        "websocket_sessions_waiting",
        "gauge",
        "",
        "Sessions that wait for their client; each holds its lease.",
        lambda node: 0 if node.sessions is None else len(node.sessions),
    ),
    Description(
        "websocket_sessions_total",
        "counter",
        "outcome",
        "Sessions that began to wait (parked), were resumed, or ended without their client.",
        lambda node: node.stats.sessions,
    ),
    Description(
        "websocket_fleet_orders_total",
        "counter",
        "outcome",
        "Orders of other nodes: done, failed, or unknown to this version.",
        lambda node: node.stats.orders,
    ),
    Description(
        "websocket_history_bytes",
        "gauge",
        "",
        "Bytes that the histories of rooms take.",
        lambda node: node.history.size,
    ),
    Description(
        "websocket_history_rooms",
        "gauge",
        "",
        "Rooms that have a history.",
        lambda node: len(node.history),
    ),
    Description(
        "websocket_history_lost_total",
        "counter",
        "",
        "Rooms that lost their history because all together needed too much memory.",
        lambda node: node.history.lost,
    ),
)
