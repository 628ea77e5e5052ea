"""What a client of the native protocol is answered."""

from __future__ import annotations

from math import ceil
from typing import TYPE_CHECKING

from msgspec import UNSET, UnsetType

from tidegate.core.codes import MESSAGE_ABUSE, MESSAGE_RATE, Fault
from tidegate.wire.codecs import encode_server
from tidegate.wire.messages import Ack, Error

if TYPE_CHECKING:
    from tidegate.engine.connection import Connection
    from tidegate.wire.messages import MessageId, ServerMessage

__all__ = ["acknowledge", "answer", "refuse", "refuse_early", "send"]


def send(connection: Connection, message: ServerMessage) -> None:
    """Send a message. It may find the peer gone, so it is the last thing that a method does."""
    connection.send(encode_server(message).decode())


def acknowledge(
    connection: Connection,
    id: MessageId | UnsetType,  # noqa: A002
    *,
    members: int | UnsetType = UNSET,
    delivered: int | UnsetType = UNSET,
) -> None:
    """Say that a message was carried out, where the client gave it an id."""
    if id is not UNSET:
        send(connection, Ack(id, members=members, delivered=delivered))


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
