"""Messages that clients might send: valid ones, changed in ways that hurt, in each format."""

from __future__ import annotations

import json
import struct
from collections.abc import Callable, Mapping, Sequence
from random import Random
from typing import Any, Final

import msgspec

from tidegate.wire.schema import kinds

__all__ = ["FORMS", "MARKER", "Map", "encode", "message", "sent"]

FORMS: Final = ("json", "msgpack", "proto")
MARKER: Final = "zq-marker"
"""A text of a client that must not come back in an error's message."""


class Map(list[tuple[Any, Any]]):
    """An object as pairs, so that a key may come twice, and need not be text."""


class Deep(int):
    """Nested so many levels deep."""


# Values.

_EDGES: Final = [
    sign * 2**power + more for sign in (1, -1) for power in (31, 53, 63, 64) for more in (0, -1)
]
_FLOATS: Final = (1.0, 1.5, -0.0, 1e308, 5e-324, float("nan"), float("inf"))
_NUMBERS: Final = (0, 1, -1, 5, 1000, 1001, 10**30, 10**400, -(10**400), *_EDGES, *_FLOATS)
_NAMES: Final = ("", "a", "lobby", "kept", "shown", "ann", "東京", MARKER, "null", "1", "__proto__")
_ODD: Final = ("\0", "a\nb", "\x7f", "\ud800", "a\udfff\ud800", "%s%n{0}", "\u2028", "\ufeff")
_TEXTS: Final = (*_NAMES, *_ODD, *("x" * size for size in (64, 65, 128, 129, 8193)))
_OTHERS: Final = (None, True, False, b"", b"\xff\0", b"x" * 300, *map(Deep, (2, 100, 1000, 3000)))
_WRONG_SIZES: Final = (500, 5000, 25_000, 45_000)


def _leaf(random: Random) -> Any:
    return random.choice(random.choice((_TEXTS, _NUMBERS, _OTHERS)))


def _anything(random: Random) -> Any:
    how = random.randrange(8)
    if how == 0:
        return [_leaf(random) for _ in range(random.randrange(4))]
    if how == 1:
        keys = _TEXTS + _NUMBERS
        return Map((random.choice(keys), _leaf(random)) for _ in range(random.randrange(4)))
    return _leaf(random)


def _one_of(*values: Any) -> Callable[[Random], Any]:
    return lambda random: random.choice(values)


def _since(random: Random) -> Map:
    return Map((("epoch", random.choice(("e", "n-0"))), ("offset", random.choice((0, 1, 7)))))


_room = _one_of("lobby", "kept", "shown", "東京", MARKER)
_user = _one_of("ann", "bob", MARKER)
_count = _one_of(0, 1, 10, 1000)
_flag = _one_of(False, True)
_id = _one_of(0, 1, 2**53 - 1, 1.0, "a", "x" * 64)
_token = _one_of(*_TEXTS)

# Every message of a client, with its fields and what a client that means well puts there.
_FIELDS_OF: Final[Mapping[str, Mapping[str, Callable[[Random], Any]]]] = {
    "join": {"room": _room, "presence": _flag, "history": _count, "since": _since},
    "leave": {"room": _room},
    "room_message": {"room": _room, "data": _anything, "echo": _flag},
    "presence": {"room": _room},
    "history": {"room": _room, "limit": _count, "since": _since},
    "direct_message": {"user": _user, "data": _anything},
    "broadcast": {"data": _anything},
    "auth": {"token": _token},
    "health_ping": {},
}
_KINDS: Final = (*_FIELDS_OF, "join", "join", "room_message", "room_message")
_REQUIRED: Final = ("room", "user", "data", "token")
_KEYS: Final = (*_REQUIRED, "since", "type", "id", *_TEXTS)


def message(random: Random) -> Map:
    """A message, as it is or with something wrong."""
    kind = random.choice(_KINDS)
    made = Map((("type", kind),))
    for name, value in _FIELDS_OF[kind].items():
        if name in _REQUIRED or random.randrange(2):
            made.append((name, value(random)))
    if random.randrange(2):
        made.append(("id", _id(random)))
    for _ in range(random.choice((0, 0, 1, 1, 2))):
        _spoil(random, made)
    return made


def _spoil(random: Random, made: Map) -> None:
    how = random.choice(("value", "value", "value", "drop", "add", "twice", "key", "order"))
    at = random.randrange(len(made)) if made else 0
    if how == "add" or not made:
        made.append((random.choice(_KEYS), _anything(random)))
    elif how == "value":
        made[at] = (made[at][0], _anything(random))
    elif how == "drop":
        del made[at]
    elif how == "twice":
        made.append((made[at][0], _anything(random)))
    elif how == "key":
        made[at] = (_anything(random), made[at][1])
    else:
        made.reverse()


def sent(random: Random, form: str) -> bytes:
    """The bytes of a message in a format, some of them torn."""
    data = encode(form, message(random))
    if random.randrange(3):
        return data
    at = random.randrange(len(data) or 1)
    how = random.randrange(5)
    if how == 0:
        return data[:at]
    if how == 1:
        changed = bytes(byte ^ 1 << random.randrange(8) for byte in data[at : at + 1])
        return data[:at] + changed + data[at + 1 :]
    if how == 2:
        return data[:at] + data
    if how == 3:
        return data[:at] + bytes(random.randrange(256) for _ in range(4)) + data[at:]
    return data + random.choice((b" ", b"\0", b"\xff")) * random.choice(_WRONG_SIZES)


# Formats: they write what a decent library would refuse to.


def encode(form: str, value: Map) -> bytes:
    """A message in a format."""
    if form == "json":
        return _json(value).encode("utf-8", "surrogatepass")
    return _msgpack(value) if form == "msgpack" else _envelope(value)


def _json(value: Any) -> str:
    if isinstance(value, Deep):
        return "[" * value + "]" * value
    if isinstance(value, Map):
        return "{" + ",".join(f"{_key(key)}:{_json(inner)}" for key, inner in value) + "}"
    if isinstance(value, list):
        return "[" + ",".join(map(_json, value)) + "]"
    if isinstance(value, bytes):
        return json.dumps(value.decode("latin-1"), ensure_ascii=False)  # with control characters
    return json.dumps(value)


def _key(key: Any) -> str:
    return json.dumps(key) if isinstance(key, str) else json.dumps(str(key)[:20])


def _msgpack(value: Any) -> bytes:
    if isinstance(value, Deep):
        return b"\x91" * value + b"\xc0"
    if isinstance(value, Map):
        head = struct.pack("!BH", 0xDE, len(value))
        return head + b"".join(_msgpack(key) + _msgpack(inner) for key, inner in value)
    if isinstance(value, list):
        return struct.pack("!BH", 0xDC, len(value)) + b"".join(map(_msgpack, value))
    if isinstance(value, str):
        data = value.encode("utf-8", "surrogatepass")
        return struct.pack("!BH", 0xDA, len(data)) + data
    if isinstance(value, int) and not -(2**63) <= value < 2**64:
        return b"\xc7\x04" + bytes((value % 128,)) + b"wide"  # an extension
    packed: bytes = msgspec.msgpack.encode(value)
    return packed


_FIELDS: Final = {
    name: {field.name: field for field in kind.fields} for name, kind in kinds().items()
}


def _envelope(value: Map) -> bytes:
    fields = _FIELDS["ClientMessage"]
    kinds = [inner for key, inner in value if key == "type" and isinstance(inner, str)]
    out = b""
    for key, inner in value:
        if key == "id":
            out += _field(
                fields["text_id" if isinstance(inner, str | bytes) else "id"].number, inner
            )
    body = Map((key, inner) for key, inner in value if key not in ("id", "type"))
    for kind in kinds:
        field = fields.get(kind)
        if field is None:
            out += _field(1007, kind)
        else:
            out += _field(field.number, _body(body, field.type))
    return out


def _body(value: Map, kind: str) -> bytes:
    out = b""
    for key, inner in value:
        field = _FIELDS[kind].get(key if isinstance(key, str) else "")
        if field is None:
            out += _field(1007, inner)
        elif key == "data" and isinstance(inner, bytes):
            out += _field(_FIELDS[kind]["binary"].number, inner)
        elif key == "data":
            out += _field(field.number, _json(inner).encode("utf-8", "surrogatepass"))
        elif isinstance(inner, Map) and field.type in _FIELDS:
            out += _field(field.number, _body(inner, field.type))
        else:
            out += _field(field.number, inner)
    return out


def _field(number: int, value: Any) -> bytes:
    """A field with the type on the wire that is natural for the value, whatever the schema's is."""
    if isinstance(value, Deep):
        return _varint(number << 3 | 3) * min(value, 3000)  # groups that begin, and never end
    if isinstance(value, bool | int):
        return _varint(number << 3) + _varint(value % 2**64)
    if isinstance(value, float):
        return _varint(number << 3 | 1) + struct.pack("<d", value)
    if isinstance(value, Map):
        value = b"".join(_field(1 + index, inner) for index, (_, inner) in enumerate(value))
    elif isinstance(value, Sequence) and not isinstance(value, str | bytes):
        return b"".join(_field(number, inner) for inner in value)
    elif isinstance(value, str):
        value = value.encode("utf-8", "surrogatepass")
    elif value is None:
        return b""
    return _varint(number << 3 | 2) + _varint(len(value)) + bytes(value)


def _varint(value: int) -> bytes:
    out = bytearray()
    while value > 127:
        out.append(value & 127 | 128)
        value >>= 7
    return bytes((*out, value))
