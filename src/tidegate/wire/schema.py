"""The messages of the native protocol as Protobuf messages: their fields and the numbers of these.

The types follow from the classes of `tidegate.wire.messages`; only the numbers are written down
here. From that come the `.proto` file for clients, and what this server reads and writes. Nothing
here needs the `protobuf` package.
"""

from __future__ import annotations

import inspect
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Final, NamedTuple, get_args

from msgspec import Struct
from msgspec import inspect as types

from tidegate.wire.messages import ClientMessage, ServerMessage

__all__ = ["ENVELOPES", "NUMBERS", "PACKAGE", "Field", "Kind", "kinds"]

PACKAGE: Final = "tidegate.v1"
"""The package of the Protobuf messages."""

ENVELOPES: Final[Mapping[str, object]] = {
    "ClientMessage": ClientMessage,
    "ServerMessage": ServerMessage,
}
"""What is sent: one of these, which holds one of the messages of its union."""

# A number is never changed or used again: clients that were built with it are out there. What is
# added gets the next one.
NUMBERS: Final[Mapping[str, Mapping[str, int]]] = {
    "ClientMessage": {
        "id": 1,
        "text_id": 2,
        "room_message": 3,
        "direct_message": 4,
        "join": 5,
        "leave": 6,
        "presence": 7,
        "history": 8,
        "auth": 9,
        "health_ping": 10,
        "broadcast": 11,
    },
    "Authenticate": {"token": 1},
    "GetHistory": {"room": 1, "limit": 2, "since": 3},
    "GetPresence": {"room": 1},
    "HealthPing": {},
    "Join": {"room": 1, "presence": 2, "history": 3, "since": 4, "delta": 5},
    "Leave": {"room": 1},
    "Position": {"epoch": 1, "offset": 2},
    "SendToAll": {"data": 1, "binary": 2},
    "SendToRoom": {"room": 1, "data": 2, "binary": 3, "echo": 4},
    "SendToUser": {"user": 1, "data": 2, "binary": 3},
    "ServerMessage": {
        "id": 1,
        "text_id": 2,
        "room_message": 3,
        "direct_message": 4,
        "ack": 5,
        "error": 6,
        "connected": 7,
        "system": 8,
        "queue_status": 9,
        "broadcast": 10,
        "presence_state": 11,
        "user_joined": 12,
        "user_left": 13,
        "presence_count": 14,
        "history_page": 15,
        "gap": 16,
        "joined": 17,
        "left": 18,
        "health_pong": 19,
        "server_shutdown": 20,
        "token_expiring": 21,
        "room_delta": 22,
    },
    "Ack": {"members": 1, "delivered": 2, "epoch": 3, "offset": 4, "recovered": 5, "delta": 6},
    "Broadcast": {"data": 1, "binary": 2, "sender": 3},
    "Connected": {
        "connection_id": 1,
        "user_id": 2,
        "settings": 3,
        "degraded": 4,
        "utilization": 5,
        "session": 6,
        "session_ttl": 7,
        "resumed": 8,
        "recovered": 9,
        "rooms": 10,
        "route": 11,
    },
    "ConnectionSettings": {
        "ping_interval": 1,
        "max_message_size": 2,
        "messages_per_second": 3,
        "broadcast": 4,
    },
    "DirectMessage": {"data": 1, "binary": 2, "sender": 3, "connection_id": 4, "seq": 5},
    "Error": {"code": 1, "message": 2, "retry_after": 3},
    "Gap": {"room": 1},
    "HealthPong": {},
    "HistoryPage": {"room": 1, "messages": 2, "epoch": 3, "offset": 4, "recovered": 5},
    "Joined": {"room": 1, "members": 2, "epoch": 3, "offset": 4},
    "KeptMessage": {
        "offset": 1,
        "data": 2,
        "binary": 3,
        "sender": 4,
        "connection_id": 5,
        "timestamp": 6,
    },
    "Left": {"room": 1, "reason": 2},
    "PresenceCount": {"room": 1, "count": 2},
    "PresenceState": {"room": 1, "count": 2, "users": 3},
    "PresentUser": {"user": 1, "devices": 2, "info": 3},
    "QueueStatus": {
        "position": 1,
        "total_in_queue": 2,
        "wait_time": 3,
        "estimated_wait_remaining": 4,
    },
    "RoomDelta": {
        "room": 1,
        "delta": 2,
        "version": 3,
        "base": 4,
        "sender": 5,
        "connection_id": 6,
        "offset": 7,
        "timestamp": 8,
    },
    "RoomMessage": {
        "room": 1,
        "data": 2,
        "binary": 3,
        "sender": 4,
        "connection_id": 5,
        "offset": 6,
        "timestamp": 7,
    },
    "ServerShutdown": {"reason": 1, "reconnect_delay": 2, "route": 3},
    "System": {"zone": 1, "degraded": 2, "settings": 3},
    "TokenExpiring": {"expires_in": 1},
    "UserJoined": {"room": 1, "users": 2, "count": 3},
    "UserLeft": {"room": 1, "users": 2, "count": 3},
}
"""The number of each field, by the names of message and field."""


class Field(NamedTuple):
    """A field: `type` is one of Protobuf, or the name of a message."""

    name: str
    number: int
    type: str
    repeated: bool = False
    optional: bool = False
    """Whether it can be told from one with the value zero."""
    group: str = ""
    """The `oneof` that it belongs to."""


class Kind(NamedTuple):
    """A message: `struct` is its class, or None for an envelope."""

    name: str
    doc: str
    fields: Sequence[Field]
    struct: type[Struct] | None = None


def kinds() -> dict[str, Kind]:
    """Return all messages by name, those that a message needs before it; fields by their number.

    Raises:
        KeyError: a field has no number in `NUMBERS`.
    """
    found: dict[str, Kind] = {}
    for name, union in ENVELOPES.items():
        members: tuple[type[Struct], ...] = get_args(union)
        for member in members:
            _add(member, found)
        found[name] = Kind(name, "", _sorted(_envelope(name, members)))
    return found


def _envelope(name: str, members: Sequence[type[Struct]]) -> Iterator[Field]:
    numbers = NUMBERS[name]
    yield Field("id", numbers["id"], "uint64", group="message_id")
    yield Field("text_id", numbers["text_id"], "string", group="message_id")
    for member in members:
        tag = str(member.__struct_config__.tag)
        yield Field(tag, numbers[tag], member.__name__, group="message")


def _add(struct: type[Struct], found: dict[str, Kind]) -> None:
    described = types.type_info(struct)
    assert isinstance(described, types.StructType)
    fields: list[Field] = []
    for known in described.fields:
        if known.name == "id":  # every message has it: it is in the envelope
            continue
        fields += _fields(known, NUMBERS[struct.__name__], found)
    doc = inspect.cleandoc(struct.__doc__ or "")
    found.setdefault(struct.__name__, Kind(struct.__name__, doc, _sorted(fields), struct))


def _sorted(fields: Iterable[Field]) -> tuple[Field, ...]:
    return tuple(sorted(fields, key=lambda field: field.number))


def _fields(
    known: types.Field, numbers: Mapping[str, int], found: dict[str, Kind]
) -> Iterator[Field]:
    name = known.name
    if name == "data":
        yield Field("data", numbers["data"], "bytes", group="payload")
        yield Field("binary", numbers["binary"], "bytes", group="payload")
        return
    described = known.type
    repeated = isinstance(described, types.ListType | types.VarTupleType)
    if isinstance(described, types.ListType | types.VarTupleType):
        described = described.item_type
    nullable = False
    if isinstance(described, types.UnionType):
        nullable = any(isinstance(one, types.NoneType) for one in described.types)
        described = next(one for one in described.types if not isinstance(one, types.NoneType))
    # The value that a field without presence has is zero, so other defaults need presence.
    optional = nullable or not (known.required or known.default in (0, False))
    if isinstance(described, types.StructType):
        _add(described.cls, found)
        yield Field(name, numbers[name], described.cls.__name__, repeated)
    else:
        type_ = _SCALARS[type(described)]
        yield Field(name, numbers[name], type_, repeated, optional and not repeated)


_SCALARS: Final[Mapping[type[types.Type], str]] = {
    types.StrType: "string",
    types.BoolType: "bool",
    types.IntType: "uint64",
    types.FloatType: "double",
    types.RawType: "bytes",
}
