"""Messages to users: `direct_message`."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from msgspec import UNSET

from tidegate.core.codes import NOT_ALLOWED
from tidegate.core.messaging.publication import Direct
from tidegate.node.native.answers import acknowledge, refuse, send
from tidegate.wire.messages import DirectMessage, PackedToUser

if TYPE_CHECKING:
    from tidegate.engine.connection import Connection
    from tidegate.node.services import Services
    from tidegate.wire.messages import SendToUser

__all__ = ["DirectMessages", "tell_direct"]


class DirectMessages:
    """Carries out what clients want to say to users."""

    def __init__(self, services: Services) -> None:
        self._delivery = services.delivery
        self._access = services.access

    def send(self, connection: Connection, message: SendToUser) -> None:
        """Send a message to every connection of a user."""
        user = connection.user
        if not self._access.may_send(user):
            refuse(connection, NOT_ALLOWED, message.id)
            return
        direct = Direct(message.user, message.data, user, connection.id)
        if type(message) is PackedToUser:
            direct.packed = message.packed
        self._delivery.send(direct, partial(_sent, connection, message))


def tell_direct(connection: Connection, message: Direct, seq: int = 0) -> None:
    """Send `direct_message`, with its number in a session where it has one."""
    told = DirectMessage(message.data, message.sender, message.connection, seq or UNSET)
    send(connection, told, message.packed)


def _sent(connection: Connection, message: SendToUser, delivered: int) -> None:
    connection.shared.stats.published["client"] += 1
    acknowledge(connection, message.id, delivered=delivered)
