"""The applications of the tests on any server: behind the middleware, or `inner` by itself.

The settings are those of TIDEGATE_CONFIG. Behind the middleware, `GET /gate` says how many
connections the gate counts, `GET /drain` begins the drain.
"""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

from tests.support.asgi_app import app as plain
from tests.support.asgi_crowd import app as crowd
from tidegate.asgi import GateMiddleware
from tidegate.server.config import load

__all__ = ["app", "inner"]


async def inner(scope: Any, receive: Any, send: Any) -> None:
    """The two applications."""
    is_crowd = scope["type"] != "lifespan" and scope["path"].startswith("/crowd")
    await (crowd if is_crowd else plain)(scope, receive, send)


_guarded = GateMiddleware(
    inner,
    load(Path(os.environ["TIDEGATE_CONFIG"])).settings,
    health_path="/health",
    ready_path="/ready",
)


async def app(scope: Any, receive: Any, send: Any) -> None:
    """The middleware, and what shows a test its gate."""
    if scope["type"] != "http" or scope["path"] not in ("/gate", "/drain"):
        await _guarded(scope, receive, send)
        return
    if scope["path"] == "/drain":
        await _guarded.drain(0.0)
    gate = _guarded.gate
    counts = {
        "open": gate.tracker.open,
        "rejected": dict(gate.stats.rejected),
        "disconnected": dict(gate.stats.disconnected),
        "delayed": gate.stats.messages_limited["delayed"],
    }
    headers = [(b"content-type", b"application/json")]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": json.dumps(counts).encode()})
