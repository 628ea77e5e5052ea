"""What a client of the native protocol is answered."""

from __future__ import annotations

from math import ceil
from typing import TYPE_CHECKING

from msgspec import UNSET, Raw, UnsetType

from tidegate.core.codes import MESSAGE_ABUSE, MESSAGE_RATE, Fault
from tidegate.wire.codecs import encode_server
from tidegate.wire.events import EVENTS_V1, encode_event
from tidegate.wire.formats import format_of
from tidegate.wire.frames import BINARY, TEXT, encode
from tidegate.wire.messages import Ack, Error

if TYPE_CHECKING:
    from tidegate.core.messaging.history import Position
    from tidegate.engine.connection import Connection
    from tidegate.wire.messages import MessageId, ServerMessage

__all__ = ["acknowledge", "answer", "frame_of", "refuse", "refuse_early", "send"]


def send(connection: Connection, message: ServerMessage, packed: Raw | None = None) -> None:
    """Send a message. It may find the peer gone, so it is the last thing that a method does.

    Args:
        message: with application data in JSON.
        packed: its application data in MessagePack, where that is known.
    """
    form = format_of(connection.subprotocol)
    data = form.encode(message, packed)
    connection.send(data if form.binary else data.decode())


def frame_of(message: ServerMessage, subprotocol: str | None, packed: Raw | None = None) -> bytes:
    """Encode a message as a frame for connections of a subprotocol; `packed` is as in `send`."""
    if subprotocol == EVENTS_V1:
        return encode_event(encode_server(message))
    form = format_of(subprotocol)
    return encode(BINARY if form.binary else TEXT, form.encode(message, packed))


def acknowledge(
    connection: Connection,
    id: MessageId | UnsetType,  # noqa: A002
    *,
    members: int | UnsetType = UNSET,
    delivered: int | UnsetType = UNSET,
    position: Position | None = None,
    recovered: bool | UnsetType = UNSET,
    delta: str | UnsetType = UNSET,
) -> None:
    """Say that a message was carried out, where the client gave it an id."""
    if id is not UNSET:
        epoch, offset = (UNSET, UNSET) if position is None else position
        send(connection, Ack(id, members, delivered, epoch, offset, recovered, delta))


def refuse(
    connection: Connection,
    fault: Fault,
    id: MessageId | UnsetType = UNSET,  # noqa: A002
    delay: int | None = None,
) -> None:
    """Say why a message was not carried out; ``delay`` in seconds is in place of the usual one."""
    seconds = delay or fault.retry_after
    retry_after = UNSET if seconds is None else seconds
    send(connection, Error(fault.name, fault.message, id, retry_after))


def answer(
    connection: Connection,
    id: MessageId | UnsetType,  # noqa: A002
    fault: Fault | None,
) -> None:
    """Acknowledge a message, or say why it was not carried out."""
    if fault is not None:
        refuse(connection, fault, id)
    elif id is not UNSET:
        send(connection, Ack(id))


def refuse_early(
    connection: Connection,
    delay: float,
    id: MessageId | UnsetType,  # noqa: A002
) -> None:
    """Refuse a message that came too early, and close after too many of them."""
    if connection.refused_too_often():
        connection.end(MESSAGE_ABUSE)
    else:
        refuse(connection, MESSAGE_RATE, id, ceil(delay))
