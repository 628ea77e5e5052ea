"""What a client may send."""

from __future__ import annotations

from typing import Annotated, TypeAlias

from msgspec import UNSET, Meta, Raw, UnsetType

from tidegate.wire.messages.base import (
    MAX_DELTA,
    MAX_HISTORY,
    MAX_TOKEN,
    Message,
    MessageId,
    Position,
    RoomName,
    UserName,
    check_printable,
    check_whole,
)

__all__ = [
    "Authenticate",
    "ClientMessage",
    "GetHistory",
    "GetPresence",
    "HealthPing",
    "Join",
    "Leave",
    "PackedToRoom",
    "PackedToUser",
    "SendToAll",
    "SendToRoom",
    "SendToUser",
]

Count: TypeAlias = (
    Annotated[int, Meta(ge=0, le=MAX_HISTORY)] | Annotated[float, Meta(ge=0, le=MAX_HISTORY)]
)
"""How many messages of a history; a float as in `Whole`."""


class Join(Message, frozen=True, tag="join"):
    """Become a member of a room.

    `presence` asks to be told who is there, comes and leaves. `history` asks for the last so many
    messages, `since` for all after a position; it comes before `history` where both are given.
    `delta` names a format: the room's messages are to come as the difference to the one before.
    """

    room: RoomName
    id: MessageId | UnsetType = UNSET
    presence: bool = False
    history: Count = 0
    since: Position | UnsetType = UNSET
    delta: Annotated[str, Meta(max_length=MAX_DELTA)] | UnsetType = UNSET

    def __post_init__(self) -> None:
        check_printable("room", self.room)
        if type(self.id) is float:
            check_whole(self, "id")
        if type(self.history) is float:
            check_whole(self, "history")


class Leave(Message, frozen=True, tag="leave"):
    """Stop being a member of a room."""

    room: RoomName
    id: MessageId | UnsetType = UNSET

    def __post_init__(self) -> None:
        check_printable("room", self.room)
        if type(self.id) is float:
            check_whole(self, "id")


class SendToRoom(Message, frozen=True, tag="room_message"):
    """Say something to all members of a room, the sender too unless `echo` is false."""

    room: RoomName
    data: Raw
    echo: bool = True
    id: MessageId | UnsetType = UNSET

    def __post_init__(self) -> None:
        check_printable("room", self.room)
        if type(self.id) is float:
            check_whole(self, "id")


class SendToUser(Message, frozen=True, tag="direct_message"):
    """Say something to every connection of one user."""

    user: UserName
    data: Raw
    id: MessageId | UnsetType = UNSET

    def __post_init__(self) -> None:
        check_printable("user", self.user)
        if type(self.id) is float:
            check_whole(self, "id")


class PackedToRoom(SendToRoom, frozen=True, tag="room_message"):
    """A `SendToRoom` whose data came as no JSON: `data` is JSON, `packed` is it in MessagePack."""

    packed: Raw = Raw()


class PackedToUser(SendToUser, frozen=True, tag="direct_message"):
    """A `SendToUser` whose data came as no JSON, as in `PackedToRoom`."""

    packed: Raw = Raw()


class SendToAll(Message, frozen=True, tag="broadcast"):
    """Say something to everybody who is connected, as an operator."""

    data: Raw
    id: MessageId | UnsetType = UNSET

    def __post_init__(self) -> None:
        if type(self.id) is float:
            check_whole(self, "id")


class GetPresence(Message, frozen=True, tag="presence"):
    """Ask who is in a room."""

    room: RoomName
    id: MessageId | UnsetType = UNSET

    def __post_init__(self) -> None:
        check_printable("room", self.room)
        if type(self.id) is float:
            check_whole(self, "id")


class GetHistory(Message, frozen=True, tag="history"):
    """Ask for messages of a room's history: those after `since`, or else the last ones."""

    room: RoomName
    id: MessageId | UnsetType = UNSET
    limit: Count = 100
    since: Position | UnsetType = UNSET

    def __post_init__(self) -> None:
        check_printable("room", self.room)
        if type(self.id) is float:
            check_whole(self, "id")
        if type(self.limit) is float:
            check_whole(self, "limit")


class Authenticate(Message, frozen=True, tag="auth"):
    """Say who is there, with a token, on a connection that is open already."""

    token: Annotated[str, Meta(min_length=1, max_length=MAX_TOKEN)]
    id: MessageId | UnsetType = UNSET

    def __post_init__(self) -> None:
        if type(self.id) is float:
            check_whole(self, "id")


class HealthPing(Message, frozen=True, tag="health_ping"):
    """Ask whether the server still answers, where a client cannot send WebSocket pings."""

    id: MessageId | UnsetType = UNSET

    def __post_init__(self) -> None:
        if type(self.id) is float:
            check_whole(self, "id")


ClientMessage: TypeAlias = (
    Join
    | Leave
    | SendToRoom
    | GetPresence
    | GetHistory
    | SendToUser
    | SendToAll
    | Authenticate
    | HealthPing
)
