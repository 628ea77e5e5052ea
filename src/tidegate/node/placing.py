"""Joins and leaves that the server decides about: those of a token, and those of an operator.

No rule is asked, but limits hold. The application tells the client (`placed`, `removed`).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from tidegate.core.codes import NO_HISTORY, REMOVED
from tidegate.core.messaging.history import Page
from tidegate.node.recovery import Wanted

if TYPE_CHECKING:
    from tidegate.core.codes import Fault
    from tidegate.core.messaging.rules import Rules
    from tidegate.engine.application import Application
    from tidegate.engine.connection import Connection
    from tidegate.node.delivery import Delivery

__all__ = ["Placing"]

_POSITION = Wanted(None, 0)  # of the room, and no messages


class Placing:
    """Puts connections into rooms, and takes them out.

    Args:
        rules: say which rooms have a position to tell.
        application: tells the clients.
    """

    def __init__(
        self, rules: Rules, delivery: Delivery, application: Application[Connection]
    ) -> None:
        self._rules = rules
        self._delivery = delivery
        self._application = application

    def join(self, connection: Connection, room: str) -> None:
        """Put a connection into a room. If it cannot be there, the client is told why."""

        def joined(fault: Fault | None) -> None:
            recovered(NO_HISTORY if fault is None else fault)

        def recovered(answer: Page | Fault) -> None:
            if isinstance(answer, Page):
                self._application.placed(connection, room, answer.position)
            elif answer is NO_HISTORY:
                self._application.placed(connection, room, None)
            else:
                self._application.removed(connection, room, answer)

        if self._rules.some and self._rules.of(room).history_size:
            self._delivery.recover(connection, room, _POSITION, recovered)
        else:
            self._delivery.join(connection, room, joined)

    def leave(self, connection: Connection, room: str) -> bool:
        """Take a connection out of a room, also one that waits for its client; False if not in."""
        if self._delivery.leave(connection, room) is not None:
            return False
        if connection.open:
            self._application.removed(connection, room, REMOVED)
        return True
