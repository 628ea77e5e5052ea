"""The messages of the native protocol, version 1.

A message is an object with a `type`; types are snake_case, keys are camelCase. What a client
may send is `ClientMessage`, what the server sends is `ServerMessage`. Application data is
`msgspec.Raw`: checked to be well formed when it is read, then passed on byte for byte.
Unknown keys are ignored, so that a later version may add some.

A new type is one class here, one line in its union and one method in `tidegate.node.native`.
"""

from __future__ import annotations

from tidegate.wire.messages.base import (
    MAX_HISTORY,
    MAX_ID,
    MAX_ROOM,
    MAX_TOKEN,
    MAX_USER,
    MessageId,
    Position,
    is_name,
)
from tidegate.wire.messages.client import (
    Authenticate,
    ClientMessage,
    GetHistory,
    GetPresence,
    HealthPing,
    Join,
    Leave,
    PackedToRoom,
    PackedToUser,
    SendToAll,
    SendToRoom,
    SendToUser,
)
from tidegate.wire.messages.server import (
    Ack,
    Broadcast,
    Connected,
    ConnectionSettings,
    DirectMessage,
    Error,
    Gap,
    HealthPong,
    HistoryPage,
    Joined,
    KeptMessage,
    Left,
    PresenceCount,
    PresenceState,
    PresentUser,
    QueueStatus,
    RoomDelta,
    RoomMessage,
    ServerMessage,
    ServerShutdown,
    System,
    TokenExpiring,
    UserJoined,
    UserLeft,
)

__all__ = [
    "MAX_HISTORY",
    "MAX_ID",
    "MAX_ROOM",
    "MAX_TOKEN",
    "MAX_USER",
    "Ack",
    "Authenticate",
    "Broadcast",
    "ClientMessage",
    "Connected",
    "ConnectionSettings",
    "DirectMessage",
    "Error",
    "Gap",
    "GetHistory",
    "GetPresence",
    "HealthPing",
    "HealthPong",
    "HistoryPage",
    "Join",
    "Joined",
    "KeptMessage",
    "Leave",
    "Left",
    "MessageId",
    "PackedToRoom",
    "PackedToUser",
    "Position",
    "PresenceCount",
    "PresenceState",
    "PresentUser",
    "QueueStatus",
    "RoomDelta",
    "RoomMessage",
    "SendToAll",
    "SendToRoom",
    "SendToUser",
    "ServerMessage",
    "ServerShutdown",
    "System",
    "TokenExpiring",
    "UserJoined",
    "UserLeft",
    "is_name",
]
