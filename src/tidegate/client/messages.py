"""What a client is told, by the server and of its own state.

A server may send keys that are not known here, which are ignored, and values that are not of the
type that they should have: those are as if they were not there.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from typing import Any, TypeVar

import msgspec

from tidegate.client.retry import Loss
from tidegate.client.states import State

__all__ = [
    "Ack",
    "Broadcast",
    "Connected",
    "Direct",
    "Gap",
    "HistoryPage",
    "Joined",
    "KeptMessage",
    "Left",
    "Member",
    "Position",
    "Presence",
    "PresenceState",
    "Publication",
    "QueueStatus",
    "RoomAdded",
    "Settings",
    "Shutdown",
    "StateChange",
    "System",
    "read",
]


class _Value(msgspec.Struct, frozen=True, rename="camel"):
    pass


class StateChange(_Value, frozen=True):
    """The client is in another state.

    `loss` says why a connection ended, with `backoff` and `closed`; None after `close`. `delay` is
    the time until the next attempt in seconds, with `backoff`.
    """

    state: State
    previous: State
    loss: Loss | None = None
    delay: float | None = None


class Settings(_Value, frozen=True):
    """What the client may do. Bytes; messages a second, 0 for no limit; seconds."""

    ping_interval: float | None = None
    max_message_size: int | None = None
    messages_per_second: float = 0.0
    broadcast: bool = True


class Connected(_Value, frozen=True):
    """The connection is ready, for the first time or again.

    `resumed` says that it is the connection from before, in `rooms`, and `recovered` that all
    direct messages follow that were missed. `route` is sent back with the next attempt.
    """

    connection_id: str = ""
    user_id: str | None = None
    settings: Settings = Settings()
    degraded: bool = False
    utilization: float = 0.0
    session: str | None = None
    session_ttl: float | None = None
    resumed: bool = False
    recovered: bool = False
    rooms: tuple[str, ...] = ()
    route: str | None = None


class QueueStatus(_Value, frozen=True):
    """The server is full, and this is the client's position in its waiting room, from 1.

    `wait_time` is in seconds since it began to wait. `estimated_wait_remaining` is in seconds; None
    while it is not known.
    """

    position: int = 0
    total_in_queue: int = 0
    wait_time: float = 0.0
    estimated_wait_remaining: float | None = None


class System(_Value, frozen=True):
    """The server is in another zone, and what the client may do has changed."""

    zone: str = "normal"
    degraded: bool = False
    settings: Settings = Settings()


class Shutdown(_Value, frozen=True):
    """The server is going away. The client comes back in its slot, after `reconnect_delay` s.

    `route` is where to, in place of what `Connected` said; an empty one is for anywhere.
    """

    reason: str = ""
    reconnect_delay: float = 0.0
    route: str | None = None


class Publication(_Value, frozen=True):
    """A message to a room.

    `sender` is the user, None for an anonymous one or the server. `offset` counts from 1 without
    holes in rooms that keep a history. `timestamp` is in Unix seconds, where the room's rule asks
    for it.
    """

    room: str = ""
    data: Any = None
    sender: str | None = msgspec.field(default=None, name="from")
    connection_id: str | None = None
    offset: int | None = None
    timestamp: float | None = None


class Direct(_Value, frozen=True):
    """A message to this client's user."""

    data: Any = None
    sender: str | None = msgspec.field(default=None, name="from")
    connection_id: str | None = None
    seq: int | None = None


class Broadcast(_Value, frozen=True):
    """A message to everybody, from an operator."""

    data: Any = None
    sender: str | None = msgspec.field(default=None, name="from")


class Position(_Value, frozen=True):
    """A position in a room's history."""

    epoch: str
    offset: int


class Joined(_Value, frozen=True):
    """The client is a member of the room now.

    `again` is false for the first time, and true when it is back after a loss. `recovered` says
    that no message was missed: those that came in the meantime follow. If it is false the
    application should load its state anew. `members` is the number of connections in the room.
    """

    room: str
    again: bool
    recovered: bool
    members: int


class RoomAdded(_Value, frozen=True):
    """The server has put this client into a room; `client.room` returns it."""

    room: str


class Left(_Value, frozen=True):
    """The server has taken the client out of the room; `reason` says why."""

    room: str
    reason: str


class Gap(_Value, frozen=True):
    """Messages were missed, and the room keeps no history to get them from."""

    room: str


class Member(_Value, frozen=True):
    """A user in a room, and how many connections it has there.

    0 while one that was lost may come back.
    """

    user: str
    devices: int = 1
    info: Any = None


class Presence(_Value, frozen=True):
    """Who is in the room has changed: `users` by name. `count` may be more, in large rooms."""

    room: str
    count: int
    users: Mapping[str, Member]


class PresenceState(_Value, frozen=True):
    """Who is in a room. `users` is None where there are too many to name them."""

    room: str = ""
    count: int = 0
    users: tuple[Member, ...] | None = None


class KeptMessage(_Value, frozen=True):
    """A message of a room's history."""

    data: Any = None
    sender: str | None = msgspec.field(default=None, name="from")
    connection_id: str | None = None
    offset: int = 0
    timestamp: float | None = None


class HistoryPage(_Value, frozen=True):
    """Messages of a room's history, the oldest first, and the room's position.

    `recovered` is the answer to `since`: whether the first message is the one after it.
    """

    room: str = ""
    messages: tuple[KeptMessage, ...] = ()
    epoch: str = ""
    offset: int = 0
    recovered: bool | None = None


class Ack(_Value, frozen=True):
    """A request was carried out.

    `delivered` is the number of connections that a direct message or a broadcast went to. `epoch`
    and `offset` are the position of a message in a room with history.
    """

    members: int | None = None
    delivered: int | None = None
    epoch: str | None = None
    offset: int | None = None
    recovered: bool | None = None


T = TypeVar("T", bound=_Value)


def read(kind: type[T], message: Mapping[str, Any]) -> T:
    """Read a message of the server as a type. Values of other types than declared are left out."""
    try:
        return msgspec.convert(message, kind)
    except (msgspec.ValidationError, RecursionError):
        return kind(**dict(_fitting(kind, message)))


def _fitting(kind: type[_Value], message: Mapping[str, Any]) -> list[tuple[str, Any]]:
    found: list[tuple[str, Any]] = []
    for name, key, type_ in _fields(kind):
        if key not in message:
            continue
        value = message[key]
        if isinstance(type_, type) and issubclass(type_, _Value) and isinstance(value, Mapping):
            found.append((name, read(type_, value)))
            continue
        try:
            found.append((name, msgspec.convert(value, type_)))
        except (msgspec.ValidationError, RecursionError):
            continue
    return found


@cache
def _fields(kind: type[_Value]) -> tuple[tuple[str, str, Any], ...]:
    return tuple(
        (field.name, field.encode_name, field.type) for field in msgspec.structs.fields(kind)
    )
