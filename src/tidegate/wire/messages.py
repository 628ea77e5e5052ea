"""The messages of the native protocol, version 1.

A message is an object with a `type`; types are snake_case, keys are camelCase. What a client
may send is `ClientMessage`, what the server sends is `ServerMessage`. Application data is
`msgspec.Raw`: checked to be well formed when it is read, then passed on byte for byte.
Unknown keys are ignored, so that a later version may add some.

A new type is one class here, one line in its union and one method in `tidegate.node.native`.
"""

from __future__ import annotations

import re
from typing import Annotated, TypeAlias

from msgspec import UNSET, Meta, Raw, Struct, UnsetType, field
from msgspec.structs import force_setattr

__all__ = [
    "MAX_ID",
    "MAX_ROOM",
    "MAX_TOKEN",
    "MAX_USER",
    "Ack",
    "Authenticate",
    "ClientMessage",
    "Connected",
    "ConnectionSettings",
    "DirectMessage",
    "Error",
    "Join",
    "Leave",
    "MessageId",
    "QueueStatus",
    "RoomMessage",
    "SendToRoom",
    "SendToUser",
    "ServerMessage",
    "ServerShutdown",
    "System",
    "is_name",
]

MAX_ROOM = 128
"""The longest room name, in characters."""
MAX_USER = 256
"""The longest user name, in characters."""
MAX_TOKEN = 8192
"""The longest token, in characters: what also fits into a request's head."""
MAX_ID = 64
"""The longest text that identifies a message, in characters."""

# The largest integer that JavaScript holds exactly; a larger one would come back changed.
_MAX_SAFE_INTEGER = 2**53 - 1

MessageId: TypeAlias = (
    Annotated[str, Meta(min_length=1, max_length=MAX_ID)]
    | Annotated[int, Meta(ge=0, le=_MAX_SAFE_INTEGER)]
    | Annotated[float, Meta(ge=0, le=_MAX_SAFE_INTEGER)]
)
"""What a client numbers its messages with, and gets back in the answer.

A float is one that a client wrote for a whole number, such as 1.0 or 1e0 (RFC 8259 6: they are the
same number; Lua and Godot write all numbers so). In a message that was read it is an int.
"""

RoomName: TypeAlias = Annotated[str, Meta(min_length=1, max_length=MAX_ROOM)]
UserName: TypeAlias = Annotated[str, Meta(min_length=1, max_length=MAX_USER)]

# C0, DEL and C1 would forge lines in logs and terminals. Half a surrogate pair is no character
# at all and could not be encoded again.
_FORBIDDEN = re.compile("[\x00-\x1f\x7f-\x9f\ud800-\udfff]").search


def is_name(text: str, longest: int) -> bool:
    """Whether `text` may name a room, user or tier: 1 to `longest` characters, none of control."""
    return 0 < len(text) <= longest and (text.isprintable() or not _FORBIDDEN(text))


def _check_printable(key: str, text: str) -> None:
    # isprintable() is by far the fastest test, but it also refuses harmless characters such as
    # a joiner between two emoji, so only its refusals are looked at again. (The `pattern` of
    # msgspec.Meta would do the same at three times the cost of decoding the whole message.)
    if not text.isprintable() and _FORBIDDEN(text):
        raise ValueError(f"Control characters are not allowed - at `$.{key}`")


def _check_id(message: Join | Leave | SendToRoom | SendToUser | Authenticate) -> None:
    id_ = message.id
    if type(id_) is float:
        if not id_.is_integer():
            raise ValueError("Expected a whole number - at `$.id`")
        force_setattr(message, "id", int(id_))


class _Message(Struct, frozen=True, rename="camel", tag_field="type"):
    """What all messages share."""


class Join(_Message, frozen=True, tag="join"):
    """Become a member of a room."""

    room: RoomName
    id: MessageId | UnsetType = UNSET

    def __post_init__(self) -> None:
        _check_printable("room", self.room)
        if type(self.id) is float:
            _check_id(self)


class Leave(_Message, frozen=True, tag="leave"):
    """Stop being a member of a room."""

    room: RoomName
    id: MessageId | UnsetType = UNSET

    def __post_init__(self) -> None:
        _check_printable("room", self.room)
        if type(self.id) is float:
            _check_id(self)


class SendToRoom(_Message, frozen=True, tag="room_message"):
    """Say something to all members of a room, the sender too unless `echo` is false."""

    room: RoomName
    data: Raw
    echo: bool = True
    id: MessageId | UnsetType = UNSET

    def __post_init__(self) -> None:
        _check_printable("room", self.room)
        if type(self.id) is float:
            _check_id(self)


class SendToUser(_Message, frozen=True, tag="direct_message"):
    """Say something to every connection of one user."""

    user: UserName
    data: Raw
    id: MessageId | UnsetType = UNSET

    def __post_init__(self) -> None:
        _check_printable("user", self.user)
        if type(self.id) is float:
            _check_id(self)


class Authenticate(_Message, frozen=True, tag="auth"):
    """Say who is there, with a token, on a connection that is open already."""

    token: Annotated[str, Meta(min_length=1, max_length=MAX_TOKEN)]
    id: MessageId | UnsetType = UNSET

    def __post_init__(self) -> None:
        _check_id(self)


ClientMessage: TypeAlias = Join | Leave | SendToRoom | SendToUser | Authenticate


class ConnectionSettings(Struct, frozen=True, rename="camel"):
    """What a client may do, and what it can expect.

    `ping_interval` is in seconds, `max_message_size` in bytes. `messages_per_second` is for this
    connection, 0 for no limit; `broadcast` says whether it may send to rooms.
    """

    ping_interval: float
    max_message_size: int
    messages_per_second: float
    broadcast: bool


class Connected(_Message, frozen=True, tag="connected"):
    """The first message on every connection, once it is clear who is there.

    `utilization` is the share of the connection limit in use, 0 to 1. `degraded` says whether
    the server currently does less than it is set to.
    """

    connection_id: str
    user_id: str | None
    settings: ConnectionSettings
    degraded: bool
    utilization: float


class System(_Message, frozen=True, tag="system"):
    """The zone of the server has changed, and so has what a client may do: `settings` is all of it.

    `zone` is `normal`, `warning`, `critical` or `emergency`; `degraded` is as in `Connected`.
    """

    zone: str
    degraded: bool
    settings: ConnectionSettings


class QueueStatus(_Message, frozen=True, tag="queue_status"):
    """The server is full and this connection waits in line, until it gets `connected`.

    `position` is from 1 at the head, of `total_in_queue`. `wait_time` is in seconds, and so is
    `estimated_wait_remaining`, by how fast the line moves; None while that is unknown.
    """

    position: int
    total_in_queue: int
    wait_time: float
    estimated_wait_remaining: float | None


class Ack(_Message, frozen=True, tag="ack"):
    """The client's message with this id was carried out.

    `members` answers a join: how many are in the room now. `delivered` answers a direct
    message: to how many connections it went.
    """

    id: MessageId
    members: int | UnsetType = UNSET
    delivered: int | UnsetType = UNSET


class Error(_Message, frozen=True, tag="error"):
    """The client's message was not carried out; the connection stays open.

    `code` names a row of `tidegate.core.codes`, `retry_after` is in seconds, and `id` is that
    of the client's message if it had one that could be read.
    """

    code: str
    message: str
    id: MessageId | UnsetType = UNSET
    retry_after: int | UnsetType = UNSET


class RoomMessage(_Message, frozen=True, tag="room_message"):
    """What a member said to the room. `sender` is its user, None for an anonymous one."""

    room: str
    data: Raw
    sender: str | None = field(name="from")
    connection_id: str | None


class DirectMessage(_Message, frozen=True, tag="direct_message"):
    """What someone said to this user. `sender` is its user, None for an anonymous one."""

    data: Raw
    sender: str | None = field(name="from")
    connection_id: str | None


class ServerShutdown(_Message, frozen=True, tag="server_shutdown"):
    """The server is leaving, and closes this connection after about `reconnect_delay` seconds.

    A client that leaves before waits as long before it connects again. `reason` names a row of
    `tidegate.core.codes`.
    """

    reason: str
    reconnect_delay: float


ServerMessage: TypeAlias = (
    Connected | System | QueueStatus | Ack | Error | RoomMessage | DirectMessage | ServerShutdown
)
