"""A FastAPI application on the gate and on the connection manager, for tests over sockets."""

from dataclasses import asdict, dataclass
from typing import Annotated, Any

import psutil
from fastapi import Depends, FastAPI, HTTPException, WebSocket
from starlette.requests import HTTPConnection

from tidegate.asgi import ConnectionManager
from tidegate.fastapi import Gate, Hub, Member

PER_IP, PER_ROOM = 50, 40

SETTINGS: dict[str, dict[str, Any]] = {
    "limits": {"per_ip": PER_IP, "per_user": 2, "per_room": PER_ROOM},
    "outbox": {"max_bytes": 262_144, "max_age": 6.0},
    "server": {"close_timeout": 0.5},
    "pacing": {"enabled": False},
}

gate = Gate(SETTINGS)
app = FastAPI(lifespan=gate.lifespan)
app.add_middleware(gate.middleware)
manager = ConnectionManager(SETTINGS)


@dataclass
class Said:
    text: str


async def current_user(connection: HTTPConnection) -> str | None:
    user = connection.query_params.get("user")
    if user == "stranger":
        raise HTTPException(401, "who are you?")
    return user


Guest = Annotated[Member[Said, Any], Depends(gate.member(user=current_user))]
Rooms = Annotated[Hub, Depends(gate.hub)]


@app.websocket("/ws/{lobby}")
async def chat(lobby: str, member: Guest) -> None:
    async with member.join(lobby) as room:
        async for message in member:
            if message.text == "raise":
                raise LookupError("of the application")
            if message.text == "return":
                return
            if message.text == "close":
                await member.close(4321, "enough")
            await room.send({"by": member.user, "text": message.text}, exclude=member)


@app.websocket("/manager/{lobby}")
async def managed(websocket: WebSocket, lobby: str, user: str | None = None) -> None:
    await manager.connect(websocket, lobby, user)
    async for text in websocket.iter_text():
        if text == "raise":
            raise LookupError("of the application")
        if text == "return":
            return
        await manager.broadcast_to_lobby(lobby, {"by": user, "text": text}, exclude=websocket)


@app.post("/lobbies/{lobby}")
async def announce(lobby: str, text: str, hub: Rooms) -> dict[str, int]:
    return {"reached": await hub.room(lobby).send({"by": "system", "text": text})}


@app.get("/ping/{user}")
async def ping(user: str, hub: Rooms, timeout: float = 5.0) -> float | None:
    return await hub.user(user).ping(timeout)


@app.get("/stats")
async def stats(hub: Rooms) -> dict[str, Any]:
    return {
        "gate": asdict(hub.stats()),
        "manager": asdict(manager.stats()),
        "memory": psutil.Process().memory_info().rss,
    }
