"""What a load balancer and an operator ask a node: is it alive, should it get connections."""

from __future__ import annotations

import json
from http import HTTPStatus
from typing import TYPE_CHECKING, Final, Protocol

from tidegate.core import codes
from tidegate.wire.handshake import Request, http_response

if TYPE_CHECKING:
    from tidegate.node.control import Status

__all__ = ["HEALTHY", "Healthy", "ready_body", "respond"]


class Healthy(Protocol):
    """What is asked of a node here; its `Control` answers."""

    def status(self) -> Status:
        """Return whether the node is ready, and why not."""


HEALTHY: Final = b'{"status": "ok"}'
"""What `/health` says of a node that is alive. Anybody may ask, so there is nothing else in it."""


def ready_body(node: Healthy) -> tuple[int, dict[str, object]]:
    """The HTTP status and the body of `/ready`: 503 when the node should get no connections.

    What is down beside the node is said too, and leaves it ready: all nodes may be without it.
    """
    status = node.status()
    down = {"down": list(status.down)} if status.down else {}
    if status.ready:
        return 200, {"ready": True, **down}
    return HTTPStatus.SERVICE_UNAVAILABLE, {"ready": False, "reason": status.reason, **down}


def respond(request: Request, node: Healthy) -> bytes | None:
    """The whole answer to a request for `/health` or `/ready`, None for any other.

    A HEAD request gets the same head as a GET, without the body (RFC 9110 section 9.3.2). What
    HAProxy asks with a plain `option httpchk`, `OPTIONS /` or `OPTIONS *`, is answered as `/ready`.
    """
    if request.method == "OPTIONS" and request.path in ("/", "*"):
        status, body = ready_body(node)
        if status == HTTPStatus.OK:
            return http_response(status, b"", [("Allow", "GET, HEAD, OPTIONS")])
        return http_response(status, json.dumps(body).encode(), [("Cache-Control", "no-store")])
    if request.path not in ("/health", "/ready"):
        return None
    response = _respond(request, node)
    if request.method == "HEAD":
        return response[: response.index(b"\r\n\r\n") + 4]
    return response


def _respond(request: Request, node: Healthy) -> bytes:
    if request.method not in ("GET", "HEAD"):
        return _refusal(codes.METHOD_NOT_ALLOWED, ("Allow", "GET, HEAD"))
    if request.path == "/health":
        return http_response(200, HEALTHY, [("Cache-Control", "no-store")])
    status, body = ready_body(node)
    return http_response(status, json.dumps(body).encode(), [("Cache-Control", "no-store")])


def _refusal(reason: codes.Refusal, *headers: tuple[str, str]) -> bytes:
    headers = (("X-Rejection-Reason", reason.name), *headers)
    return http_response(reason.status, codes.http_body(reason, reason.retry_after), headers)
