"""Messages about rooms: `join`, `leave`, `room_message`."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from tidegate.core.codes import BROADCAST_OFF, NOT_ALLOWED, NOT_JOINED
from tidegate.core.messaging.publication import Publication
from tidegate.node.native.answers import acknowledge, answer, refuse, refuse_early

if TYPE_CHECKING:
    from tidegate.core.codes import Fault
    from tidegate.engine.connection import Connection
    from tidegate.node.services import Services
    from tidegate.wire.messages import Join, Leave, SendToRoom

__all__ = ["RoomMessages"]


class RoomMessages:
    """Carries out what clients want of rooms."""

    def __init__(self, services: Services) -> None:
        self.broadcast = True
        """Whether clients may send to rooms."""
        self._rooms = services.rooms
        self._permissions = services.permissions
        self._delivery = services.delivery

    def join(self, connection: Connection, message: Join) -> None:
        """Put a connection into a room."""
        room = message.room
        if not self._permissions.may_join(connection.user, room):
            refuse(connection, NOT_ALLOWED, message.id)
            return
        # One that is in as many rooms as it may be has a better reason coming.
        if (
            room not in connection.rooms
            and len(connection.rooms) < self._rooms.per_connection
            and (delay := connection.join_delay())
        ):
            refuse_early(connection, delay, message.id)
            return
        self._delivery.join(connection, room, partial(self._joined, connection, message))

    def leave(self, connection: Connection, message: Leave) -> None:
        """Take a connection out of a room."""
        answer(connection, message.id, self._delivery.leave(connection, message.room))

    def send(self, connection: Connection, message: SendToRoom) -> None:
        """Publish a message to a room. HOT."""
        if message.room not in connection.rooms:
            refuse(connection, NOT_JOINED, message.id)
            return
        user = connection.user
        if not self._permissions.may_publish(user, message.room):
            refuse(connection, NOT_ALLOWED, message.id)
            return
        if not self.broadcast:
            refuse(connection, BROADCAST_OFF, message.id)
            return
        self._delivery.publish(
            Publication(message.room, message.data, user, connection.id, message.echo),
            partial(answer, connection, message.id),
            connection,
        )

    def _joined(self, connection: Connection, message: Join, fault: Fault | None) -> None:
        if fault is not None:
            refuse(connection, fault, message.id)
        else:
            acknowledge(connection, message.id, members=self._rooms.count(message.room))
