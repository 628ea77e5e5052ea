"""A Socket.IO server behind the gate, with a chat; `/stats` tells its counts.

uvicorn tests.support.socketio_app:app
"""

from __future__ import annotations

from typing import Any

import socketio
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import Route

from tidegate.socketio import Refused, guard

__all__ = ["app"]

sio = socketio.AsyncServer(async_mode="asgi")


def who(_environ: dict[str, Any], auth: Any) -> str | None:
    if isinstance(auth, dict) and auth.get("user") == "nobody":
        raise Refused("unauthorized", "log in first")
    return auth.get("user") if isinstance(auth, dict) else None


gate = guard(sio, {"server": {"shutdown_timeout": 1.0}}, identify=who, per_ip=6, per_user=2)


@sio.event
async def connect(sid: str, _environ: dict[str, Any], auth: Any) -> None:
    if isinstance(auth, dict) and auth.get("refuse"):
        raise socketio.exceptions.ConnectionRefusedError("not today", {"why": "the application"})
    if isinstance(auth, dict) and auth.get("fail"):
        raise LookupError("of the application")
    await sio.enter_room(sid, "lobby")


@sio.event
async def say(_sid: str, text: str) -> str:
    await sio.emit("said", text, room="lobby")
    return "taken"


async def stats(_request: Request) -> JSONResponse:
    local = gate.local
    return JSONResponse(
        {"open": local.tracker.open, "users": local.tracker.unique_users, **local.stats.rejected}
    )


async def drain(_request: Request) -> JSONResponse:
    await gate.drain(0.0)
    return JSONResponse({})


http = Starlette(
    routes=[Route("/stats", stats), Route("/drain", drain)],
    lifespan=gate.lifespan,
)
app = socketio.ASGIApp(sio, other_asgi_app=http)
