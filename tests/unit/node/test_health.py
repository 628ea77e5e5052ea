from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import Any

import pytest

from tidegate.node.health import respond
from tidegate.wire.handshake import Request


@dataclass
class Node:
    version: str = "1.2.3"
    uptime: float = 12.34567
    ready: tuple[bool, str] = (True, "")
    stats: dict[str, Any] = field(default_factory=lambda: {"connections": {"current": 3}})

    def snapshot(self) -> dict[str, Any]:
        return self.stats


def ask(
    path: str, method: str = "GET", node: Node | None = None
) -> tuple[int, dict[str, str], bytes]:
    response = respond(Request(method, path, "", {"host": "x"}, b""), node or Node())
    assert response is not None
    head, _, body = response.partition(b"\r\n\r\n")
    status, *lines = head.decode().split("\r\n")
    headers = dict(line.split(": ", 1) for line in lines)
    return int(status.split()[1]), headers, body


def test_health_says_that_it_is_alive_with_stats() -> None:
    status, headers, body = ask("/health")
    assert status == 200
    assert headers["Content-Type"] == "application/json"
    assert headers["Cache-Control"] == "no-store"
    assert headers["Content-Length"] == str(len(body))
    assert json.loads(body) == {
        "status": "ok",
        "version": "1.2.3",
        "uptime": 12.346,
        "stats": {"connections": {"current": 3}},
    }


def test_health_is_fine_while_the_node_is_not_ready() -> None:
    assert ask("/health", node=Node(ready=(False, "draining")))[0] == 200


def test_ready() -> None:
    status, _, body = ask("/ready")
    assert status == 200
    assert json.loads(body) == {"ready": True}


@pytest.mark.parametrize("reason", ["draining", "server_limit"])
def test_not_ready(reason: str) -> None:
    status, headers, body = ask("/ready", node=Node(ready=(False, reason)))
    assert status == 503
    assert headers["Cache-Control"] == "no-store"
    assert json.loads(body) == {"ready": False, "reason": reason}


@pytest.mark.parametrize("path", ["/health", "/ready"])
def test_head_is_get_without_the_body(path: str) -> None:
    status, headers, body = ask(path)
    assert ask(path, "HEAD") == (status, headers, b"")
    assert headers["Content-Length"] == str(len(body))


@pytest.mark.parametrize("path", ["/health", "/ready"])
@pytest.mark.parametrize("method", ["POST", "DELETE", "OPTIONS"])
def test_other_methods(path: str, method: str) -> None:
    status, headers, body = ask(path, method)
    assert status == 405
    assert headers["Allow"] == "GET, HEAD"
    assert json.loads(body)["error"] == "method_not_allowed"


@pytest.mark.parametrize("path", ["/", "/ws", "/nothing", "/health/", "/Health", "/ready/"])
def test_the_rest_is_not_its_business(path: str) -> None:
    assert respond(Request("GET", path, "", {"host": "x"}, b""), Node()) is None
