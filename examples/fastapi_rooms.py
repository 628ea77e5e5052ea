"""A chat with rooms: everybody in a room reads what is written there.

tidegate run examples.fastapi_rooms:app
"""

from typing import Annotated

from fastapi import Depends, FastAPI
from pydantic import BaseModel

from tidegate.fastapi import Gate, Member

gate = Gate(per_ip=20, per_room=50)
app = FastAPI(lifespan=gate.lifespan)
app.add_middleware(gate.middleware)


class Say(BaseModel):
    text: str


@app.websocket("/chat/{room}")
async def chat(
    room: str,
    member: Annotated[Member[Say, dict[str, str]], Depends(gate.member())],
    name: str = "",
) -> None:
    async with member.join(room) as lobby:
        async for said in member:
            await lobby.send({"by": name or "somebody", "text": said.text})
