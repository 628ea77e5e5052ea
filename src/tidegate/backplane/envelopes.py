"""How messages travel between nodes: in envelopes of MessagePack, whatever carries them."""

from __future__ import annotations

from typing import Any, Final

import msgspec
from msgspec import Raw

from tidegate.core.messaging.publication import Direct, Publication

__all__ = ["Direction", "open_direct", "open_publication", "pack_direct", "pack_publication"]

_SILENT: Final = 1  # without `echo`
_BINARY: Final = 2
_RAW: Final = 4  # JSON of a message of the native protocol

_encode = msgspec.msgpack.Encoder().encode


class _Envelope(msgspec.Struct, array_like=True, frozen=True):
    """A message; fields that come new are put at the end, so that older nodes read it."""

    data: bytes
    sender: str | None = None
    connection: str | None = None
    flags: int = 0
    timestamp: float | None = None
    packed: bytes | None = None


class Direction(msgspec.Struct, array_like=True, frozen=True):
    """What goes to every node: a message to a user, or to all where `user` is None."""

    node: str
    number: int
    user: str | None
    envelope: msgspec.Raw


_read = msgspec.msgpack.Decoder(_Envelope).decode
_read_direction = msgspec.msgpack.Decoder(Direction).decode


def pack_publication(publication: Publication) -> bytes:
    """Encode a publication but for its room and its position. HOT."""
    return _pack(publication, publication.echo, publication.timestamp)


def open_publication(room: str, epoch: str, offset: int, data: bytes) -> Publication:
    """Decode a publication. HOT.

    Raises:
        msgspec.DecodeError: it is none.
    """
    read = _read(data)
    flags = read.flags
    return Publication(
        room,
        Raw(read.data) if flags & _RAW else read.data,
        read.sender,
        read.connection,
        not flags & _SILENT,
        bool(flags & _BINARY),
        epoch,
        offset,
        read.timestamp,
        None if read.packed is None else Raw(read.packed),
    )


def pack_direct(node: str, number: int, message: Direct | Publication) -> bytes:
    """Encode what goes to every node; `number` is the sending node's own."""
    user = message.user if isinstance(message, Direct) else None
    return _encode((node, number, user, Raw(_pack(message, True, None))))


def open_direct(data: bytes) -> tuple[Direction, Direct | Publication]:
    """Decode what goes to every node.

    Raises:
        msgspec.DecodeError: it is none.
    """
    direction = _read_direction(data)
    read = open_publication("", "", 0, bytes(direction.envelope))
    if direction.user is None:
        return direction, read
    origin = direction.node, direction.number
    direct = Direct(
        direction.user, read.data, read.sender, read.connection, read.binary, read.packed, origin
    )
    return direction, direct


def _pack(message: Any, echo: bool, timestamp: float | None) -> bytes:
    data, packed = message.data, message.packed
    flags = (not echo) * _SILENT | message.binary * _BINARY | (type(data) is Raw) * _RAW
    return _encode(
        (
            bytes(data),
            message.sender,
            message.connection,
            flags,
            timestamp,
            None if packed is None else bytes(packed),
        )
    )
