"""The scope of a WebSocket: what an application is told of the request (ASGI WebSocket 2.5)."""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import unquote

from tidegate.addresses import UNIX_PEER, unix_path

if TYPE_CHECKING:
    from tidegate.core.admission.attempt import Lease
    from tidegate.wire.handshake import Request

__all__ = ["websocket_scope"]

_ASGI: Final = {"version": "3.0", "spec_version": "2.5"}
_NAMES: Final = 256  # of header fields that are kept as one object each


def websocket_scope(
    request: Request,
    lease: Lease,
    *,
    server: tuple[str, int | None],
    secure: bool,
    root_path: str,
    state: dict[str, Any],
    zone: str,
) -> dict[str, Any]:
    """Return the scope of an attempt that was admitted.

    The client's port is 0 behind a proxy, where only its address is known. On a Unix socket there
    is no client, and the server is its path, as uvicorn has it.
    """
    peer, port = request.peer
    client = (lease.address, port if lease.address == peer else 0)
    path = unix_path(server[0])
    offered = request.headers.get("sec-websocket-protocol", "")
    return {
        "type": "websocket",
        "asgi": _ASGI,
        "http_version": "1.1",
        "scheme": "wss" if secure else "ws",
        "server": server if path is None else (path, None),
        "client": None if lease.address == UNIX_PEER else client,
        "root_path": root_path,
        "path": root_path + unquote(request.path),
        "raw_path": (root_path + request.path).encode("latin-1"),
        "query_string": request.query.encode("latin-1"),
        "headers": [(_lower(name), value.rstrip(b" \t")) for name, value in request.fields],
        "subprotocols": [name for part in offered.split(",") if (name := part.strip())],
        "state": state,
        "extensions": {
            "websocket.http.response": {},
            "tidegate": {
                # Known from `accept` on. The connection is for hubs: what they send to many goes
                # to it without a detour, and without waiting.
                "id": None,
                "connection": None,
                "user": lease.user,
                "tier": lease.tier,
                "priority": lease.priority,
                "zone": zone,
            },
        },
    }


@lru_cache(maxsize=_NAMES)
def _lower(name: bytes) -> bytes:
    """The name in lower case: clients send the same few, and each scope is kept."""
    return name.lower()
