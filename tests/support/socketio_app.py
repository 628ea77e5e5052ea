"""A Socket.IO server behind the gate, with the options of GUARD (JSON); /stats tells its counts.

Who a client is, `auth.user` says; a user who is called "slow" takes a while.
"""

from __future__ import annotations

import asyncio
import json
import os
from typing import Any

import socketio
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import Route

from tidegate import Identity, Refused
from tidegate.socketio import guard

options: dict[str, Any] = json.loads(os.environ.get("GUARD", "{}"))
tokens: bool = options.pop("tokens", False)
sio = socketio.AsyncServer(
    async_mode="asgi", namespaces=["/", "/open"], **options.pop("server", {})
)


async def whose(environ: dict[str, Any], auth: Any) -> Identity | str | None:
    assert environ["asgi.scope"]
    user = auth.get("user") if isinstance(auth, dict) else None
    if user == "slow":
        await asyncio.sleep(1)
    if user == "banned":
        raise Refused("forbidden", "this user is banned")
    if user == "rude":
        raise socketio.exceptions.ConnectionRefusedError("be polite", {"why": "rude"})
    if user == "broken":
        raise RuntimeError("the database is down")
    return Identity(user, tier="paid") if user == "payer" else user


gate = guard(sio, identify=None if tokens else whose, **options)


@sio.event
async def connect(sid: str, environ: dict[str, Any], auth: Any) -> bool | None:
    if isinstance(auth, dict) and auth.get("handler") == "refuses":
        return False
    if isinstance(auth, dict) and auth.get("handler") == "fails":
        raise RuntimeError("the handler failed")
    await sio.emit("hello", environ["tidegate"], to=sid)
    return None


@sio.on("connect", namespace="/strict")
async def connect_strict(sid: str, environ: dict[str, Any], auth: Any) -> None:
    raise socketio.exceptions.ConnectionRefusedError("not here", {"strict": True})


@sio.event
async def echo(sid: str, data: Any) -> Any:
    return data


@sio.event
async def join(sid: str, room: str) -> str:
    await sio.enter_room(sid, room)
    return room


@sio.event
async def say(sid: str, room: str, text: str) -> None:
    await sio.emit("said", text, room=room, skip_sid=sid)


async def stats(request: Request) -> JSONResponse:
    local = gate.local
    snapshot = local.stats
    return JSONResponse(
        {
            "open": local.tracker.open,
            "users": {user: local.tracker.user_count(user) for user in ("ann", "ben", "payer")},
            "sessions": len(sio.eio.sockets),
            "environs": len(sio.environ),
            "rejected": dict(snapshot.rejected),
            "disconnected": dict(snapshot.disconnected),
            "limited": dict(snapshot.messages_limited),
        }
    )


async def drain(request: Request) -> JSONResponse:
    await gate.drain(float(request.query_params.get("window", 0)))
    return JSONResponse({"open": gate.local.tracker.open})


other = Starlette(
    routes=[Route("/stats", stats), Route("/drain", drain)],
    lifespan=gate.lifespan,
)
app = socketio.ASGIApp(sio, other)
