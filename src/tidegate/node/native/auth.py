"""Messages about who is there: `auth`."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tidegate.core.codes import UNAUTHORIZED
from tidegate.engine.states import Admission
from tidegate.node.native.answers import acknowledge, refuse

if TYPE_CHECKING:
    from collections.abc import Callable

    from tidegate.engine.connection import Connection
    from tidegate.node.services import Services
    from tidegate.wire.messages import Authenticate

__all__ = ["AuthMessages"]


class AuthMessages:
    """Takes the tokens of connections that are open already.

    Args:
        welcome: greets a connection that has shown who it is with its first message.
    """

    def __init__(self, services: Services, welcome: Callable[[Connection], None]) -> None:
        self._identify = services.identify
        self._extend = services.extend
        self._first_message = services.settings.auth.first_message
        self._welcome = welcome

    def authenticate(self, connection: Connection, message: Authenticate) -> None:
        """Find out who a connection belongs to, or end it."""
        if connection.user is not None:
            fault = self._extend(connection, message.token)
            if fault is None:
                acknowledge(connection, message.id)
            else:
                refuse(connection, fault, message.id)
            return
        if not self._first_message:
            connection.end(UNAUTHORIZED)
            return
        unidentified = connection.admission is Admission.UNIDENTIFIED
        rejection = self._identify(connection, message.token)
        if rejection is not None:
            connection.end(rejection.reason, rejection.retry_after)
            return
        if unidentified:
            self._welcome(connection)
        acknowledge(connection, message.id)
