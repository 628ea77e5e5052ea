from __future__ import annotations

import json
from dataclasses import dataclass

import pytest

from tidegate.node.control import Connections, Load, Messages, Snapshot, Status, Waiting
from tidegate.node.health import respond
from tidegate.wire.handshake import Request

SNAPSHOT = Snapshot(
    connections=Connections(3, 4, 10, 0.3, 2, 1, 5, 6),
    rejections={"ip_limit": 6},
    disconnections={"eof": 2},
    dry_run={"per_ip": 1},
    waited={"entered": 1},
    messages=Messages(7, 8, 700, 800, {"refused": 0}, {"drop_oldest": 0}),
    rooms=2,
    load=Load("warning", 1.5, 0.75, "cpu", {"cpu": 0.75}, True),
    waiting=Waiting(1, 0),
)
STATS = {
    "connections": {
        "current": 3,
        "peak": 4,
        "limit": 10,
        "utilization": 0.3,
        "uniqueIps": 2,
        "uniqueUsers": 1,
        "accepted": 5,
        "rejected": 6,
    },
    "rejections": {"ip_limit": 6},
    "disconnections": {"eof": 2},
    "dryRun": {"per_ip": 1},
    "waited": {"entered": 1},
    "messages": {
        "received": 7,
        "sent": 8,
        "bytesReceived": 700,
        "bytesSent": 800,
        "limited": {"refused": 0},
        "dropped": {"drop_oldest": 0},
    },
    "rooms": 2,
    "load": {
        "zone": "warning",
        "since": 1.5,
        "pressure": 0.75,
        "driver": "cpu",
        "pressures": {"cpu": 0.75},
        "acts": True,
    },
    "waiting": {"now": 1, "kept": 0},
}


@dataclass
class Node:
    version: str = "1.2.3"
    uptime: float = 12.34567
    ready: tuple[bool, str] = (True, "")

    def status(self) -> Status:
        return Status(self.version, self.uptime, *self.ready, ())

    def snapshot(self) -> Snapshot:
        return SNAPSHOT


def ask(
    path: str, method: str = "GET", node: Node | None = None
) -> tuple[int, dict[str, str], bytes]:
    response = respond(Request(method, path, "", {"host": "x"}, b""), node or Node())
    assert response is not None
    head, _, body = response.partition(b"\r\n\r\n")
    status, *lines = head.decode().split("\r\n")
    headers = dict(line.split(": ", 1) for line in lines)
    return int(status.split()[1]), headers, body


def test_health_is_alive_with_stats() -> None:
    status, headers, body = ask("/health")
    assert status == 200
    assert headers["Content-Type"] == "application/json"
    assert headers["Cache-Control"] == "no-store"
    assert headers["Content-Length"] == str(len(body))
    assert json.loads(body) == {
        "status": "ok",
        "version": "1.2.3",
        "uptime": 12.346,
        "stats": STATS,
    }


def test_health_of_a_node_that_is_not_ready_is_fine() -> None:
    assert ask("/health", node=Node(ready=(False, "draining")))[0] == 200


def test_ready_of_a_ready_node_is_200() -> None:
    status, _, body = ask("/ready")
    assert status == 200
    assert json.loads(body) == {"ready": True}


@pytest.mark.parametrize("reason", ["draining", "server_limit"])
def test_ready_of_another_node_is_503_with_the_reason(reason: str) -> None:
    status, headers, body = ask("/ready", node=Node(ready=(False, reason)))
    assert status == 503
    assert headers["Cache-Control"] == "no-store"
    assert json.loads(body) == {"ready": False, "reason": reason}


@pytest.mark.parametrize("path", ["/health", "/ready"])
def test_respond_to_head_is_get_without_the_body(path: str) -> None:
    status, headers, body = ask(path)
    assert ask(path, "HEAD") == (status, headers, b"")
    assert headers["Content-Length"] == str(len(body))


@pytest.mark.parametrize("path", ["/health", "/ready"])
@pytest.mark.parametrize("method", ["POST", "DELETE", "OPTIONS"])
def test_respond_to_other_methods_is_405(path: str, method: str) -> None:
    status, headers, body = ask(path, method)
    assert status == 405
    assert headers["Allow"] == "GET, HEAD"
    assert json.loads(body)["error"] == "method_not_allowed"


@pytest.mark.parametrize("path", ["/", "*"])
def test_respond_to_the_plain_check_of_haproxy_is_as_ready(path: str) -> None:
    status, headers, body = ask(path, "OPTIONS")
    assert (status, headers["Allow"], body) == (200, "GET, HEAD, OPTIONS", b"")
    status, headers, body = ask(path, "OPTIONS", node=Node(ready=(False, "draining")))
    assert (status, json.loads(body)["reason"]) == (503, "draining")


@pytest.mark.parametrize("path", ["/", "/ws", "/nothing", "/health/", "/Health", "/ready/"])
def test_respond_to_other_paths_is_none(path: str) -> None:
    assert respond(Request("GET", path, "", {"host": "x"}, b""), Node()) is None
