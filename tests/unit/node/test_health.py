from __future__ import annotations

import json
from dataclasses import dataclass

import pytest

from tidegate.node.control import Status
from tidegate.node.health import respond
from tidegate.wire.handshake import Request


@dataclass
class Node:
    version: str = "1.2.3"
    uptime: float = 12.34567
    ready: tuple[bool, str] = (True, "")
    down: tuple[str, ...] = ()

    def status(self) -> Status:
        return Status(self.version, self.uptime, *self.ready, (), self.down)


def ask(
    path: str, method: str = "GET", node: Node | None = None
) -> tuple[int, dict[str, str], bytes]:
    response = respond(Request(method, path, "", {"host": "x"}, b""), node or Node())
    assert response is not None
    head, _, body = response.partition(b"\r\n\r\n")
    status, *lines = head.decode().split("\r\n")
    headers = dict(line.split(": ", 1) for line in lines)
    return int(status.split()[1]), headers, body


def test_health_says_that_it_is_alive_and_nothing_else() -> None:
    status, headers, body = ask("/health")
    assert status == 200
    assert headers["Content-Type"] == "application/json"
    assert headers["Cache-Control"] == "no-store"
    assert headers["Content-Length"] == str(len(body))
    assert json.loads(body) == {"status": "ok"}


def test_health_of_a_node_that_is_not_ready_is_fine() -> None:
    assert ask("/health", node=Node(ready=(False, "draining")))[0] == 200


def test_ready_of_a_ready_node_is_200() -> None:
    status, _, body = ask("/ready")
    assert status == 200
    assert json.loads(body) == {"ready": True}


def test_a_node_without_its_backplane_is_ready_and_says_so() -> None:
    status, _, body = ask("/ready", node=Node(down=("backplane",)))
    assert status == 200
    assert json.loads(body) == {"ready": True, "down": ["backplane"]}


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
