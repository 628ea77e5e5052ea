"""The gate in a FastAPI application: limits, users, rooms and typed messages.

gate = Gate(per_ip=20, per_user=5, per_room=50)
app = FastAPI(lifespan=gate.lifespan)
app.add_middleware(gate.middleware)

@app.websocket("/ws/{lobby}")
async def chat(lobby: str, member: Annotated[Member[str, str], Depends(gate.member())]):
    async with member.join(lobby) as room:
        async for text in member:
            await room.send(text, exclude=member)
"""

from __future__ import annotations

try:
    import fastapi  # noqa: F401 - asked for here, so that the error names what to install
except ModuleNotFoundError as error:
    if error.name != "fastapi":
        raise
    raise ImportError("tidegate.fastapi needs FastAPI: pip install 'tidegate[fastapi]'") from error

from tidegate.asgi.hub import Hub, HubStats
from tidegate.asgi.rooms import Room, User
from tidegate.core.admission.attempt import Identity
from tidegate.errors import Refused
from tidegate.fastapi.gate import Gate
from tidegate.fastapi.member import Member
from tidegate.fastapi.testing import Clock

__all__ = [
    "Clock",
    "Gate",
    "Hub",
    "HubStats",
    "Identity",
    "Member",
    "Refused",
    "Room",
    "User",
]
