"""A FastAPI application whose WebSockets end in every way, and that counts how many it has.

A client says how its WebSocket ends. `GET /crowd` has the count of now, and the highest so far.
"""

from __future__ import annotations

import asyncio

from fastapi import FastAPI, WebSocket, WebSocketDisconnect

__all__ = ["app"]

app = FastAPI()
_now = _most = 0


@app.get("/crowd")
async def counts() -> dict[str, int]:
    """How many WebSockets the application has."""
    return {"now": _now, "most": _most}


@app.websocket("/crowd/{name}")
async def member(websocket: WebSocket, name: str) -> None:
    """One of the crowd; it is told its name when it is in."""
    global _now, _most
    _now += 1
    _most = max(_most, _now)
    try:
        await websocket.accept()
        await websocket.send_text(name)
        match await websocket.receive_text():
            case "return":
                return
            case "raise":
                raise LookupError("of the application")
            case "close":
                await websocket.close(4000, "enough")
            case "go on":
                while True:
                    await websocket.send_text("on")
                    await asyncio.sleep(0.02)
            case "never return":
                await asyncio.sleep(3600)
    except WebSocketDisconnect:
        pass
    finally:
        _now -= 1


@app.websocket("/crowd/{name}/denied")
async def denied(websocket: WebSocket, name: str) -> None:
    """One that the application refuses."""
    await websocket.close()
