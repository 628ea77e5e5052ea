"""Messages to users: `direct_message`."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from tidegate.core.codes import NOT_ALLOWED
from tidegate.core.messaging.publication import Direct
from tidegate.node.native.answers import acknowledge, refuse

if TYPE_CHECKING:
    from tidegate.engine.connection import Connection
    from tidegate.node.services import Services
    from tidegate.wire.messages import SendToUser

__all__ = ["DirectMessages"]


class DirectMessages:
    """Carries out what clients want to say to users."""

    def __init__(self, services: Services) -> None:
        self._delivery = services.delivery
        self._permissions = services.permissions

    def send(self, connection: Connection, message: SendToUser) -> None:
        """Send a message to every connection of a user."""
        user = connection.user
        if not self._permissions.may_send(user):
            refuse(connection, NOT_ALLOWED, message.id)
            return
        direct = Direct(message.user, message.data, user, connection.id)
        self._delivery.send(direct, partial(_sent, connection, message))


def _sent(connection: Connection, message: SendToUser, delivered: int) -> None:
    acknowledge(connection, message.id, delivered=delivered)
