"""Samples to draw."""

from __future__ import annotations

from typing import Any

from tidegate.top.sample import Count, Kernel, Node, Port, Row, Sample, Server

__all__ = ["KERNEL", "node", "row", "sample", "server"]


def row(number: int = 1, **changes: Any) -> Row:
    usual = {"user": "ann", "address": "203.0.113.7", "age": 60.0, "idle": 1.0, "buffered": 0}
    return Row(id=f"ceabda6b-{number:x}", **{**usual, **changes})


def node(name: str, **changes: Any) -> Node:
    usual: dict[str, Any] = {
        "host": "a.internal",
        "worker": None,
        "state": "serving",
        "zone": "normal",
        "connections": 1200,
        "capacity": 10_000,
        "rate": 12.5,
    }
    return Node(id=name, **{**usual, **changes})


def server(**changes: Any) -> Server:
    usual: dict[str, Any] = {
        "url": "http://127.0.0.1:8001",
        "zone": "warning",
        "zone_since": 12.0,
        "pressure": 0.93,
        "driver": "cpu",
        "pressures": {"cpu": 0.93},
        "acts": True,
        "connections": 9871,
        "limit": 10_000,
        "peak": 9990,
        "opening": 3,
        "addresses": 812,
        "users": 9000,
        "waiting": 12,
        "kept": 3,
        "outbox": 1_258_291.0,
        "slow": 4,
        "descriptors": 0.34,
        "memory": 125_829_120.0,
        "connects": 120.4,
        "closes": 3.25,
        "refusals": {"server_limit": 30.0, "origin": 0.5},
        "refused": {"server_limit": 60, "origin": 1},
        "messages_in": 1200.0,
        "messages_out": 12_000.0,
        "bytes_in": 95_000.0,
        "bytes_out": 2_200_000.0,
        "cpu": 0.45,
        "cpu_low": 0.12,
        "cpu_high": 0.97,
        "lag": 0.0021,
        "tls_median": 0.0012,
        "tls_slowest": 0.008,
        "top_addresses": [Count("203.0.113.7", 100), Count("203.0.113.8", 99)],
        "top_users": [Count("ann", 10)],
        "rows": [row(1, buffered=2048), row(2, user=None, address="2001:db8::1")],
        "listed": 9871,
        "listed_all": True,
        "nodes": [node("ceabda6b")],
    }
    return Server(**{**usual, **changes})


KERNEL = Kernel(
    [
        Port(
            port=8000,
            owner="tidegate",
            states={"estab": 9871, "syn-recv": 3, "time-wait": 210, "fin-wait-2": 7, "last-ack": 5},
            queue=2,
            unread=0,
            unsent=1_258_291,
            top_addresses=[Count("203.0.113.7", 100)],
            slowest=[Count("203.0.113.7:40000", 2048)],
        ),
        Port(443, "", {"estab": 4}, 0, 0, 0, [Count("10.0.0.1", 4)], []),
    ],
    130.0,
    1.5,
)


def sample(**changes: Any) -> Sample:
    usual: dict[str, Any] = {"at": 1.0, "server": server(), "kernel": KERNEL, "unseen": ()}
    return Sample(**{**usual, **changes})
