"""A FastAPI application whose limits and rooms span its processes."""

import os
from typing import Annotated

from fastapi import Depends, FastAPI

from tests.support.tokens import SECRET
from tidegate.fastapi import Gate, Hub, Member

gate = Gate(
    {
        "auth": {"secret": SECRET},
        "limits": {"per_ip": 1000, "per_room": int(os.environ.get("PER_ROOM", "10000"))},
        "pacing": {"enabled": False},
        "proxies": {"trusted": ["127.0.0.1"]},
        "backplane": {"timeout": 1.0},
        "fleet": {"ttl": 2.0},
    },
    per_user=5,
    backplane=os.environ["BACKPLANE"],
)
app = FastAPI(lifespan=gate.lifespan)
app.add_middleware(gate.middleware)


@app.websocket("/ws")
async def serve(
    member: Annotated[Member[str, str], Depends(gate.member())],
    hub: Annotated[Hub, Depends(gate.hub)],
) -> None:
    async with member.join("lobby") as room:
        await member.send(f"process {os.getpid()}")
        async for text in member:
            if text.startswith("to "):
                await hub.user(text[3:]).send(f"{member.user} to you")
            elif text == "all":
                await hub.broadcast(f"{member.user} to all")
            else:
                await room.send(f"{member.user}: {text}", exclude=member)
