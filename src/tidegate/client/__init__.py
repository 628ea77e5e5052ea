"""The Python client: a connection to Tidegate that comes back by itself, when it is welcome.

    async with connect("wss://chat.example.com/ws", token=get_token) as client:
        async for message in client.room("news"):
            print(message.data)

`tidegate.client.sync` is the same for scripts without asyncio.
"""

from __future__ import annotations

from tidegate.client.client import Client, connect
from tidegate.client.clock import Clock
from tidegate.client.errors import ClientClosed, ClientError
from tidegate.client.feed import Feed
from tidegate.client.messages import (
    Ack,
    Broadcast,
    Connected,
    Direct,
    Gap,
    HistoryPage,
    Joined,
    KeptMessage,
    Left,
    Member,
    Position,
    Presence,
    PresenceState,
    Publication,
    QueueStatus,
    RoomAdded,
    Settings,
    Shutdown,
    StateChange,
    System,
)
from tidegate.client.retry import Backoff, Loss
from tidegate.client.room import Room
from tidegate.client.states import MOVES, Move, State

__all__ = [
    "MOVES",
    "Ack",
    "Backoff",
    "Broadcast",
    "Client",
    "ClientClosed",
    "ClientError",
    "Clock",
    "Connected",
    "Direct",
    "Feed",
    "Gap",
    "HistoryPage",
    "Joined",
    "KeptMessage",
    "Left",
    "Loss",
    "Member",
    "Move",
    "Position",
    "Presence",
    "PresenceState",
    "Publication",
    "QueueStatus",
    "Room",
    "RoomAdded",
    "Settings",
    "Shutdown",
    "State",
    "StateChange",
    "System",
    "connect",
]
