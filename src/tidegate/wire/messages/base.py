"""What messages are made of: names, ids, positions, and how they are checked."""

from __future__ import annotations

import re
from typing import Annotated, TypeAlias, cast

from msgspec import Meta, Struct
from msgspec.structs import force_setattr

__all__ = [
    "MAX_DELTA",
    "MAX_HISTORY",
    "MAX_ID",
    "MAX_ROOM",
    "MAX_TOKEN",
    "MAX_USER",
    "Message",
    "MessageId",
    "Position",
    "RoomName",
    "UserName",
    "Whole",
    "check_printable",
    "check_whole",
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
MAX_DELTA = 32
"""The longest name of a delta format, in characters."""
MAX_HISTORY = 1000
"""The most messages of a room's history that are sent in one answer."""

# The largest integer that JavaScript holds exactly; a larger one would come back changed.
_MAX_SAFE_INTEGER = 2**53 - 1

Whole: TypeAlias = (
    Annotated[int, Meta(ge=0, le=_MAX_SAFE_INTEGER)]
    | Annotated[float, Meta(ge=0, le=_MAX_SAFE_INTEGER)]
)
"""A whole number of a client.

A float is one that a client wrote for a whole number, such as 1.0 or 1e0 (RFC 8259 6: they are the
same number; Lua and Godot write all numbers so). In a message that was read it is an int.
"""

MessageId: TypeAlias = Annotated[str, Meta(min_length=1, max_length=MAX_ID)] | Whole
"""What a client numbers its messages with, and gets back in the answer."""

RoomName: TypeAlias = Annotated[str, Meta(min_length=1, max_length=MAX_ROOM)]
UserName: TypeAlias = Annotated[str, Meta(min_length=1, max_length=MAX_USER)]

# C0, DEL and C1 would forge lines in logs and terminals. Half a surrogate pair is no character
# at all and could not be encoded again.
_FORBIDDEN = re.compile("[\x00-\x1f\x7f-\x9f\ud800-\udfff]").search


def is_name(text: str, longest: int) -> bool:
    """Whether `text` may name a room, user or tier: 1 to `longest` characters, none of control."""
    return 0 < len(text) <= longest and (text.isprintable() or not _FORBIDDEN(text))


def check_printable(key: str, text: str) -> None:
    """Refuse control characters in a name."""
    # isprintable() is by far the fastest test, but it also refuses harmless characters such as
    # a joiner between two emoji, so only its refusals are looked at again. (The `pattern` of
    # msgspec.Meta would do the same at three times the cost of decoding the whole message.)
    if not text.isprintable() and _FORBIDDEN(text):
        raise ValueError(f"Control characters are not allowed - at `$.{key}`")


def check_whole(struct: Struct, key: str, path: str = "") -> None:
    """Make a float of a client the int that it stands for."""
    value = cast(object, getattr(struct, key))
    if type(value) is float:
        if not value.is_integer():
            raise ValueError(f"Expected a whole number - at `$.{path}{key}`")
        force_setattr(struct, key, int(value))


class Message(Struct, frozen=True, rename="camel", tag_field="type"):
    """What all messages share."""


class Position(Struct, frozen=True):
    """A position in the history of a room: the offset of a message, in the epoch of its count."""

    epoch: Annotated[str, Meta(min_length=1, max_length=64)]
    offset: Whole

    def __post_init__(self) -> None:
        check_whole(self, "offset", "since.")
