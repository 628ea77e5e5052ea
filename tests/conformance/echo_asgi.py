"""Sends every message back as it came, on any path: for `tidegate run`."""

from __future__ import annotations

from starlette.applications import Starlette
from starlette.routing import WebSocketRoute
from starlette.websockets import WebSocket, WebSocketDisconnect

__all__ = ["app"]


async def echo(websocket: WebSocket) -> None:
    await websocket.accept()
    while True:
        event = await websocket.receive()
        if event["type"] == "websocket.disconnect":
            return
        try:
            if event.get("text") is not None:
                await websocket.send_text(event["text"])
            else:
                await websocket.send_bytes(event["bytes"])
        except WebSocketDisconnect:
            return


app = Starlette(routes=[WebSocketRoute("/{path:path}", echo)])
