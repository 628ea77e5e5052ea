"""Write tests/vectors: messages in each encoding, which every client replays; --check compares.

Usage: python tools/vectors.py [--check]
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import msgspec

from tidegate.wire.deltas import create
from tidegate.wire.protobuf import ClientEnvelope, ServerEnvelope

__all__ = ["main"]

_FOLDER = Path(__file__).resolve().parent.parent / "tests" / "vectors"

_UNKNOWN = b"\xfa\x3e\x00"  # a field with the number 1007, empty
_FROM_JSON = {"from": "sender"}  # Protobuf's names are otherwise those of JSON in snake case

_DATA = {"text": "grüß dich \U0001f44b", "numbers": [0, -1, 1.5, 2**53 - 1], "none": None}
_SINCE = {"epoch": "e1", "offset": 41}
_SETTINGS = {
    "pingInterval": 20.5,
    "maxMessageSize": 65536,
    "messagesPerSecond": 10.5,
    "broadcast": True,
}
_USERS = [{"user": "anna", "devices": 2, "info": {"name": "Anna"}}, {"user": "ben", "devices": 1}]

_CLIENT: list[dict[str, object]] = [
    {"type": "join", "room": "lobby"},
    {"type": "join", "room": "東京", "id": 1, "presence": True, "history": 5, "since": _SINCE},
    {"type": "join", "room": "lobby", "id": 2, "delta": "fossil"},
    {"type": "leave", "room": "lobby", "id": "a"},
    {"type": "room_message", "room": "lobby", "data": _DATA},
    {"type": "room_message", "room": "lobby", "data": None, "echo": False, "id": 2**53 - 1},
    {"type": "direct_message", "user": "anna", "data": "hello", "id": 3},
    {"type": "broadcast", "data": [], "id": 4},
    {"type": "presence", "room": "lobby", "id": 5},
    {"type": "history", "room": "lobby", "id": 6, "limit": 10, "since": _SINCE},
    {"type": "auth", "token": "a.b.c", "id": 7},
    {"type": "health_ping", "id": 0},
    {"type": "health_ping", "later": {"versions": ["may", "add", "keys"]}},
]

_SERVER: list[dict[str, object]] = [
    {
        "type": "connected",
        "connectionId": "c1",
        "userId": None,
        "settings": _SETTINGS,
        "degraded": False,
        "utilization": 0.25,
    },
    {
        "type": "connected",
        "connectionId": "c1",
        "userId": None,
        "settings": _SETTINGS,
        "degraded": False,
        "utilization": 0.25,
        "route": "node-1",
    },
    {
        "type": "connected",
        "connectionId": "c1",
        "userId": "anna",
        "settings": _SETTINGS,
        "degraded": True,
        "utilization": 0.5,
        "session": "s1",
        "sessionTtl": 120.5,
        "resumed": True,
        "recovered": False,
        "rooms": ["lobby", "東京"],
    },
    {"type": "system", "zone": "warning", "degraded": True, "settings": _SETTINGS},
    {
        "type": "queue_status",
        "position": 1,
        "totalInQueue": 3,
        "waitTime": 0.5,
        "estimatedWaitRemaining": None,
    },
    {"type": "ack", "id": "a", "members": 3, "epoch": "e1", "offset": 42, "recovered": True},
    {"type": "ack", "id": 3, "delivered": 2},
    {"type": "ack", "id": 2, "members": 3, "delta": "fossil"},
    {"type": "error", "code": "invalid_field", "message": "Why", "id": 1, "retryAfter": 2},
    {
        "type": "room_message",
        "room": "lobby",
        "data": _DATA,
        "from": "anna",
        "connectionId": "c1",
        "offset": 42,
        "timestamp": 1764201600.5,
    },
    {
        "type": "room_delta",
        "room": "lobby",
        "delta": '7\n7:{"n":1}2qKzhY;',
        "version": 1,
        "from": None,
        "connectionId": None,
    },
    {
        "type": "room_delta",
        "room": "lobby",
        "delta": "l\nj@0,2:2}K3WBq;",
        "version": 2,
        "from": "anna",
        "connectionId": "c1",
        "base": 1,
        "offset": 42,
        "timestamp": 1764201600.5,
    },
    {"type": "direct_message", "data": "hi", "from": None, "connectionId": None, "seq": 1},
    {"type": "broadcast", "data": 1, "from": "root"},
    {"type": "presence_state", "room": "lobby", "count": 2, "users": _USERS, "id": 5},
    {"type": "user_joined", "room": "lobby", "users": _USERS, "count": 2},
    {"type": "user_left", "room": "lobby", "users": ["ben"], "count": 1},
    {"type": "presence_count", "room": "lobby", "count": 101},
    {
        "type": "history_page",
        "room": "lobby",
        "messages": [
            {"offset": 41, "data": 1, "from": None, "connectionId": None},
            {"offset": 42, "data": {}, "from": "anna", "connectionId": "c1", "timestamp": 1.5},
        ],
        "epoch": "e1",
        "offset": 42,
        "recovered": True,
        "id": 6,
    },
    {"type": "gap", "room": "lobby"},
    {"type": "joined", "room": "lobby", "members": 1, "epoch": "e1", "offset": 42},
    {"type": "left", "room": "lobby", "reason": "kicked"},
    {"type": "health_pong", "id": 0},
    {"type": "server_shutdown", "reason": "server_shutdown", "reconnectDelay": 1.5},
    {"type": "server_shutdown", "reason": "rebalanced", "reconnectDelay": 2.0, "route": "node-2"},
    {"type": "token_expiring", "expiresIn": 29.5},
]

# What is wrong, the code of the error, and the field that its text names.
_INVALID: list[tuple[dict[str, object], str, str | None]] = [
    ({"id": 1}, "invalid_field", "type"),
    ({"type": 1, "id": 1}, "invalid_field", "type"),
    ({"type": "dance", "id": 1}, "unknown_type", None),
    ({"type": "join", "id": 1}, "invalid_field", "room"),
    ({"type": "join", "room": "", "id": 1}, "invalid_field", "room"),
    ({"type": "join", "room": "x" * 129, "id": 1}, "invalid_field", "room"),
    ({"type": "join", "room": "a\nb", "id": 1}, "invalid_field", "room"),
    ({"type": "join", "room": 7, "id": 1}, "invalid_field", "room"),
    ({"type": "join", "room": "a", "presence": "yes", "id": 1}, "invalid_field", "presence"),
    ({"type": "join", "room": "a", "history": 1001, "id": 1}, "invalid_field", "history"),
    ({"type": "join", "room": "a", "since": 4, "id": 1}, "invalid_field", "since"),
    (
        {"type": "join", "room": "a", "since": {"epoch": "e", "offset": -1}, "id": 1},
        "invalid_field",
        "since.offset",
    ),
    ({"type": "join", "room": "a", "delta": 1, "id": 1}, "invalid_field", "delta"),
    ({"type": "join", "room": "a", "delta": "x" * 33, "id": 1}, "invalid_field", "delta"),
    ({"type": "leave", "room": None, "id": 1}, "invalid_field", "room"),
    ({"type": "room_message", "room": "a", "id": 1}, "invalid_field", "data"),
    ({"type": "room_message", "room": "a", "data": 1, "echo": 0}, "invalid_field", "echo"),
    ({"type": "direct_message", "user": "", "data": 1, "id": 1}, "invalid_field", "user"),
    ({"type": "broadcast", "id": 1}, "invalid_field", "data"),
    ({"type": "presence", "room": [], "id": 1}, "invalid_field", "room"),
    ({"type": "history", "room": "a", "limit": -1, "id": 1}, "invalid_field", "limit"),
    ({"type": "auth", "token": "", "id": 1}, "invalid_field", "token"),
    ({"type": "health_ping", "id": ""}, "invalid_field", "id"),
    ({"type": "health_ping", "id": 1.5}, "invalid_field", "id"),
    ({"type": "health_ping", "id": -1}, "invalid_field", "id"),
]


def main(arguments: list[str]) -> int:
    """Write the files, or compare them. Returns the exit code."""
    check = "--check" in arguments
    stale = []
    for name, rows in _files().items():
        path = _FOLDER / name
        new = json.dumps(list(rows), indent=2) + "\n"
        if path.exists() and path.read_text(encoding="utf-8") == new:
            continue
        stale.append(name)
        if not check:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(new, encoding="utf-8")
            print(f"wrote tests/vectors/{name}")
    if check and stale:
        print(f"out of date: {', '.join(stale)}; run python tools/vectors.py", file=sys.stderr)
    return int(check and bool(stale))


# What the data of `room_delta` is made from, and the data.
_DELTAS: list[tuple[object, object]] = [
    (None, {"n": 1}),
    ({"n": 1}, {"n": 1}),
    ({"n": 1}, _DATA),
    (_DATA, {**_DATA, "text": "grüßt dich \U0001f44c"}),
    ([{"x": number, "y": 0} for number in range(40)], [{"x": n, "y": n % 9} for n in range(41)]),
    ("äöü" * 30, "äöü" * 20 + "aöü" * 10),
]


def _files() -> dict[str, Iterable[dict[str, object]]]:
    return {
        "client.json": (_encoded(value, ClientEnvelope) for value in _CLIENT),
        "server.json": (_encoded(value, ServerEnvelope) for value in _SERVER),
        "invalid.json": (
            {**_encoded(value, ClientEnvelope), "code": code, "field": field}
            for value, code, field in _INVALID
        ),
        "deltas.json": (_delta(old, new) for old, new in _DELTAS),
    }


def _encoded(value: dict[str, object], envelope: Any) -> dict[str, object]:
    return {
        "value": value,
        "json": msgspec.json.encode(value).decode(),
        "msgpack": msgspec.msgpack.encode(_binary(value)).hex(),
        "protobuf": _protobuf(value, envelope()),
    }


def _binary(value: dict[str, object]) -> dict[str, object]:
    """Return a message as it is in MessagePack: a delta is no text there."""
    if value.get("type") != "room_delta":
        return value
    return {**value, "delta": str(value["delta"]).encode()}


def _delta(old: object, new: object) -> dict[str, object]:
    """A delta as text, as in JSON, and one of MessagePack; `None` is nothing."""
    texts = [b"" if one is None else msgspec.json.encode(one) for one in (old, new)]
    packed = [b"" if one is None else msgspec.msgpack.encode(one) for one in (old, new)]
    return {
        "base": texts[0].decode(),
        "delta": create(*texts, text=True).decode(),
        "data": texts[1].decode(),
        "msgpack": {
            "base": packed[0].hex(),
            "delta": create(*packed).hex(),
            "data": packed[1].hex(),
        },
    }


def _protobuf(value: dict[str, object], envelope: Any) -> str | None:
    """The Protobuf of a message; None for a mistake that its types do not allow."""
    rest = dict(value)
    kind, id_ = rest.pop("type", None), rest.pop("id", None)
    try:
        if isinstance(id_, str):
            envelope.text_id = id_
        elif id_ is not None:
            envelope.id = id_
        if isinstance(kind, str) and kind in envelope.DESCRIPTOR.fields_by_name:
            body = getattr(envelope, kind)
            body.SetInParent()
            _fill(body, rest)
        elif kind is not None:
            envelope.MergeFromString(_UNKNOWN)
            return None if not isinstance(kind, str) else envelope.SerializeToString().hex()
    except (TypeError, ValueError):
        return None
    return str(envelope.SerializeToString().hex())


def _fill(body: Any, value: object) -> None:
    if not isinstance(value, dict):
        raise TypeError("not a message")
    for key, inner in value.items():
        name = _FROM_JSON.get(key) or "".join(f"_{c.lower()}" if c.isupper() else c for c in key)
        field = body.DESCRIPTOR.fields_by_name.get(name)
        if field is None:
            body.MergeFromString(_UNKNOWN)
        elif name in ("data", "info"):
            setattr(body, name, msgspec.json.encode(inner))
        elif field.type == field.TYPE_BOOL and not isinstance(inner, bool):
            raise TypeError("not a boolean")  # which Python's Protobuf would take
        elif isinstance(inner, list) and field.is_repeated:
            many = getattr(body, name)
            for one in inner:
                if isinstance(one, dict):
                    _fill(many.add(), one)
                else:
                    many.append(one)
        elif field.message_type is not None:
            _fill(getattr(body, name), inner)
        elif inner is not None:
            setattr(body, name, inner)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
