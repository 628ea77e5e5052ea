"""What a load balancer and an operator ask a node: is it alive, should it get connections."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Protocol

from tidegate.core import codes
from tidegate.wire.handshake import Request, http_response

__all__ = ["Node", "health_body", "ready_body", "respond"]


class Node(Protocol):
    """What is asked of a node here; `node.server.Server` has it."""

    @property
    def version(self) -> str:
        """The version of Tidegate that runs."""

    @property
    def uptime(self) -> float:
        """Seconds since the start."""

    @property
    def ready(self) -> tuple[bool, str]:
        """Whether it should get new connections, and the reason if not."""

    def snapshot(self) -> Mapping[str, object]:
        """The counters, as plain values."""


def health_body(node: Node) -> dict[str, object]:
    """What `/health` says: the node is alive, for how long, and what it has counted."""
    return {
        "status": "ok",
        "version": node.version,
        "uptime": round(node.uptime, 3),
        "stats": node.snapshot(),
    }


def ready_body(node: Node) -> tuple[int, dict[str, object]]:
    """The HTTP status and the body of `/ready`: 503 when the node should get no connections."""
    ready, reason = node.ready
    if ready:
        return 200, {"ready": True}
    return 503, {"ready": False, "reason": reason}


def respond(request: Request, node: Node) -> bytes | None:
    """The whole answer to a request for `/health` or `/ready`, None for any other.

    A HEAD request gets the same head as a GET, without the body (RFC 9110 section 9.3.2).
    """
    if request.path not in ("/health", "/ready"):
        return None
    response = _respond(request, node)
    if request.method == "HEAD":
        return response[: response.index(b"\r\n\r\n") + 4]
    return response


def _respond(request: Request, node: Node) -> bytes:
    if request.method not in ("GET", "HEAD"):
        return _refusal(codes.METHOD_NOT_ALLOWED, ("Allow", "GET, HEAD"))
    status, body = ready_body(node) if request.path == "/ready" else (200, health_body(node))
    return http_response(status, json.dumps(body).encode(), [("Cache-Control", "no-store")])


def _refusal(reason: codes.Reason, *headers: tuple[str, str]) -> bytes:
    assert reason.http is not None
    headers = (("X-Rejection-Reason", reason.name), *headers)
    return http_response(reason.http, codes.http_body(reason, reason.retry_after), headers)
