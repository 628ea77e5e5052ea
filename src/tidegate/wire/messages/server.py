"""What the server sends."""

from __future__ import annotations

from typing import TypeAlias

from msgspec import UNSET, Raw, Struct, UnsetType, field

from tidegate.wire.messages.base import Message, MessageId

__all__ = [
    "Ack",
    "Broadcast",
    "Connected",
    "ConnectionSettings",
    "DirectMessage",
    "Error",
    "Gap",
    "HealthPong",
    "HistoryPage",
    "Joined",
    "KeptMessage",
    "Left",
    "PresenceCount",
    "PresenceState",
    "PresentUser",
    "QueueStatus",
    "RoomDelta",
    "RoomMessage",
    "ServerMessage",
    "ServerShutdown",
    "System",
    "TokenExpiring",
    "UserJoined",
    "UserLeft",
]


class ConnectionSettings(Struct, frozen=True, rename="camel"):
    """What a client may do, and what it can expect.

    `ping_interval` is in seconds, `max_message_size` in bytes. `messages_per_second` is for this
    connection, 0 for no limit; `broadcast` says whether it may send to rooms.
    """

    ping_interval: float
    max_message_size: int
    messages_per_second: float
    broadcast: bool


class Connected(Message, frozen=True, tag="connected"):
    """The first message on every connection, once it is clear who is there.

    `utilization` is the share of the connection limit in use, 0 to 1. `degraded` says whether
    the server currently does less than it is set to.

    Where the server has sessions, `session` is the secret to resume this one with, within
    `session_ttl` seconds after the connection was lost. `resumed` says that this has happened:
    the client is in `rooms` then, and `recovered` says whether all direct messages follow that it
    has not seen.

    Where nodes have routes, the client comes back with `route` as a query parameter, so that
    balancers bring it to this node.
    """

    connection_id: str
    user_id: str | None
    settings: ConnectionSettings
    degraded: bool
    utilization: float
    session: str | UnsetType = UNSET
    session_ttl: float | UnsetType = UNSET
    resumed: bool | UnsetType = UNSET
    recovered: bool | UnsetType = UNSET
    rooms: tuple[str, ...] | UnsetType = UNSET
    route: str | UnsetType = UNSET


class System(Message, frozen=True, tag="system"):
    """The zone of the server has changed, and so has what a client may do: `settings` is all of it.

    `zone` is `normal`, `warning`, `critical` or `emergency`; `degraded` is as in `Connected`.
    """

    zone: str
    degraded: bool
    settings: ConnectionSettings


class QueueStatus(Message, frozen=True, tag="queue_status"):
    """The server is full and this connection waits in line, until it gets `connected`.

    `position` is from 1 at the head, of `total_in_queue`. `wait_time` is in seconds, and so is
    `estimated_wait_remaining`, by how fast the line moves; None while that is unknown.
    """

    position: int
    total_in_queue: int
    wait_time: float
    estimated_wait_remaining: float | None


class Ack(Message, frozen=True, tag="ack"):
    """The client's message with this id was carried out.

    `members` answers a join: how many are in the room now. `delivered` answers a direct
    message: to how many connections it went.

    `epoch` and `offset` answer a join of a room with history: its position, up to which missed
    messages follow. `recovered` answers `since`: whether these are all that was missed. They also
    answer a message to a room with history: the position of that message.

    `delta` answers a join that asked for deltas: the format in which the room's messages come from
    now on, as `RoomDelta`.
    """

    id: MessageId
    members: int | UnsetType = UNSET
    delivered: int | UnsetType = UNSET
    epoch: str | UnsetType = UNSET
    offset: int | UnsetType = UNSET
    recovered: bool | UnsetType = UNSET
    delta: str | UnsetType = UNSET


class Error(Message, frozen=True, tag="error"):
    """The client's message was not carried out; the connection stays open.

    `code` names a row of `tidegate.core.codes`, `retry_after` is in seconds, and `id` is that
    of the client's message if it had one that could be read.
    """

    code: str
    message: str
    id: MessageId | UnsetType = UNSET
    retry_after: int | UnsetType = UNSET


class RoomMessage(Message, frozen=True, tag="room_message"):
    """What a member said to the room. `sender` is its user, None for an anonymous one.

    `offset` is there where the room keeps a history, `timestamp` (in Unix seconds) where its rule
    asks for one.
    """

    room: str
    data: Raw
    sender: str | None = field(name="from")
    connection_id: str | None
    offset: int | UnsetType = UNSET
    timestamp: float | UnsetType = UNSET


class RoomDelta(Message, frozen=True, tag="room_delta"):
    """What a member said to the room, for connections that joined it with `delta`.

    `delta` makes the application data, as the text of its JSON, from that of the message with the
    `version` `base`; without `base`, from nothing. In MessagePack it is bytes, and makes the bytes
    of the data. The other fields are as in `RoomMessage`.
    """

    room: str
    delta: str
    version: int
    sender: str | None = field(name="from")
    connection_id: str | None
    base: int | UnsetType = UNSET
    offset: int | UnsetType = UNSET
    timestamp: float | UnsetType = UNSET


class DirectMessage(Message, frozen=True, tag="direct_message"):
    """What someone said to this user. `sender` is its user, None for an anonymous one.

    `seq` counts the direct messages of a session from 1, where the server has sessions.
    """

    data: Raw
    sender: str | None = field(name="from")
    connection_id: str | None
    seq: int | UnsetType = UNSET


class Broadcast(Message, frozen=True, tag="broadcast"):
    """What an operator said to everybody. `sender` is its user, None for the server's API."""

    data: Raw
    sender: str | None = field(name="from")


class PresentUser(Struct, frozen=True, rename="camel"):
    """A user in a room: with how many connections, and what its token says about it."""

    user: str
    devices: int
    info: Raw | UnsetType = UNSET


class PresenceState(Message, frozen=True, tag="presence_state"):
    """Who is in a room: after a join that asked for it, and in answer to `presence`.

    `count` is how many users; `users` is left out where these are more than the room's rule shows.
    `id` is that of the client's message.
    """

    room: str
    count: int
    users: list[PresentUser] | UnsetType = UNSET
    id: MessageId | UnsetType = UNSET


class UserJoined(Message, frozen=True, tag="user_joined"):
    """Users have come to a room, each with its first connection there. `count` is all its users."""

    room: str
    users: list[PresentUser]
    count: int


class UserLeft(Message, frozen=True, tag="user_left"):
    """Users have left a room with their last connection. `count` is how many are left."""

    room: str
    users: list[str]
    count: int


class PresenceCount(Message, frozen=True, tag="presence_count"):
    """How many users are in a room: where these are too many to be told by name."""

    room: str
    count: int


class KeptMessage(Struct, frozen=True, rename="camel"):
    """One message of a room's history; the fields are as in `RoomMessage`."""

    offset: int
    data: Raw
    sender: str | None = field(name="from")
    connection_id: str | None
    timestamp: float | UnsetType = UNSET


class HistoryPage(Message, frozen=True, tag="history_page"):
    """Messages of a room's history, the oldest first, in answer to `history`.

    `epoch` and `offset` are the room's position now. `recovered` answers `since`: whether nothing
    is missing between that position and the first message.
    """

    room: str
    messages: list[KeptMessage]
    epoch: str
    offset: int
    recovered: bool | UnsetType = UNSET
    id: MessageId | UnsetType = UNSET


class Gap(Message, frozen=True, tag="gap"):
    """Messages to a room did not reach this connection: it reads too slowly, or they were lost.

    Where the room keeps a history, join it again with `since` to get what is missing.
    """

    room: str


class Joined(Message, frozen=True, tag="joined"):
    """The server has put this connection into a room; the position is as in `Ack`."""

    room: str
    members: int
    epoch: str | UnsetType = UNSET
    offset: int | UnsetType = UNSET


class Left(Message, frozen=True, tag="left"):
    """The server has taken this connection out of a room. `reason` is a row of the table."""

    room: str
    reason: str


class HealthPong(Message, frozen=True, tag="health_pong"):
    """The answer to `health_ping`."""

    id: MessageId | UnsetType = UNSET


class ServerShutdown(Message, frozen=True, tag="server_shutdown"):
    """The server closes this connection after about `reconnect_delay` seconds.

    A client that leaves before waits as long before it connects again. `reason` names a row of
    `tidegate.core.codes`: `drained` or `rebalanced`. With `route` the client comes back with that
    one in place of the one in `Connected`; an empty one is for any server.
    """

    reason: str
    reconnect_delay: float
    route: str | UnsetType = UNSET


class TokenExpiring(Message, frozen=True, tag="token_expiring"):
    """The token of this connection ends in `expires_in` seconds, and the connection with it.

    A client that sends `auth` with a newer token of its user stays.
    """

    expires_in: float


ServerMessage: TypeAlias = (
    Connected
    | System
    | QueueStatus
    | Ack
    | Error
    | RoomMessage
    | RoomDelta
    | DirectMessage
    | Broadcast
    | PresenceState
    | UserJoined
    | UserLeft
    | PresenceCount
    | HistoryPage
    | Gap
    | Joined
    | Left
    | HealthPong
    | ServerShutdown
    | TokenExpiring
)
