"""The same application with the gate: members in place of a manager, a room in place of a list."""

import gc
from typing import Annotated

from fastapi import Depends, FastAPI

from tidegate.fastapi import Gate, Member

MOST = 1_000_000

gate = Gate(
    {"messages": {"per_second": 0}, "pacing": {"enabled": False}},
    connections=MOST,
    per_ip=MOST,
    per_room=MOST,
)
app = FastAPI(lifespan=gate.lifespan)
Text = Annotated[Member[str, str], Depends(gate.member())]


@app.get("/hello")
async def hello(name: str = "you") -> dict[str, str]:
    return {"hello": name}


@app.post("/collect")
async def collect() -> None:
    """Collect garbage, so that it does not count as memory."""
    gc.collect()


@app.websocket("/echo")
async def echo(member: Text) -> None:
    async for text in member:
        await member.send(text)


@app.websocket("/fan")
async def fan(member: Text) -> None:
    async with member.join("all") as room:
        async for text in member:
            await room.send(text)
