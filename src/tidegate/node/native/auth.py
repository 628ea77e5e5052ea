"""Messages about who is there: `auth`."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from tidegate.core.codes import KEYS_UNAVAILABLE, TOKEN_UNCHECKED, UNAUTHORIZED
from tidegate.engine.states import Admission
from tidegate.gate.jwks import KeysUnavailable, KeysWanted
from tidegate.node.native.answers import acknowledge, refuse

if TYPE_CHECKING:
    from collections.abc import Callable

    from tidegate.core.admission.attempt import Reject
    from tidegate.engine.connection import Connection
    from tidegate.node.services import Services
    from tidegate.wire.messages import Authenticate

__all__ = ["AuthMessages"]


class AuthMessages:
    """Takes the tokens of connections that are open already.

    Args:
        welcome: greets a connection that has shown who it is with its first message.
        place: puts it into the rooms that its token names.
    """

    def __init__(
        self,
        services: Services,
        welcome: Callable[[Connection], bool],
        place: Callable[[Connection], None],
    ) -> None:
        self._identify = services.identify
        self._extend = services.extend
        self._presence = services.presence
        self._first_message = services.settings.auth.first_message
        self._welcome = welcome
        self._place = place
        # Those whose token has to wait until the keys of its issuer are fetched.
        self._undecided: set[Connection] = set()

    def authenticate(self, connection: Connection, message: Authenticate) -> None:
        """Find out who a connection belongs to, or end it."""
        if connection in self._undecided:
            refuse(connection, TOKEN_UNCHECKED, message.id)
            return
        if connection.user is None and not self._first_message:
            connection.end(UNAUTHORIZED)
            return
        try:
            self._take(connection, message)
        except KeysWanted as wanted:
            self._undecided.add(connection)
            wanted.keys.then(partial(self._again, connection, message))
        except KeysUnavailable as error:
            self._unchecked(connection, message, error.retry_after)

    def gone(self, connection: Connection) -> None:
        """A connection has ended."""
        self._undecided.discard(connection)

    def _again(self, connection: Connection, message: Authenticate) -> None:
        """The keys have been fetched, or could not be."""
        self._undecided.discard(connection)
        if connection.closed:
            return
        try:
            self._take(connection, message)
        except KeysWanted:  # the settings have changed since
            self._unchecked(connection, message, KEYS_UNAVAILABLE.retry_after)
        except KeysUnavailable as error:
            self._unchecked(connection, message, error.retry_after)

    def _unchecked(
        self, connection: Connection, message: Authenticate, retry_after: int | None
    ) -> None:
        if connection.admission is Admission.UNIDENTIFIED:
            connection.end(KEYS_UNAVAILABLE, retry_after)
        else:
            refuse(connection, TOKEN_UNCHECKED, message.id)

    def _take(self, connection: Connection, message: Authenticate) -> None:
        """Take a token. Raises KeysWanted or KeysUnavailable, and nothing has changed then."""
        if connection.user is not None:
            fault = self._extend(connection, message.token)
            if fault is None:
                acknowledge(connection, message.id)
            else:
                refuse(connection, fault, message.id)
            return
        unidentified = connection.admission is Admission.UNIDENTIFIED
        self._undecided.add(connection)
        taken = partial(self._taken, connection, message, unidentified)
        try:
            self._identify(connection, message.token, taken)
        except (KeysWanted, KeysUnavailable):
            self._undecided.discard(connection)
            raise

    def _taken(
        self,
        connection: Connection,
        message: Authenticate,
        unidentified: bool,
        rejection: Reject | None,
    ) -> None:
        """It is known whether a connection belongs to the user of its token."""
        self._undecided.discard(connection)
        if rejection is not None:
            connection.end(rejection.reason, rejection.retry_after)
            return
        self._presence.identified(connection)
        if unidentified:
            self._welcome(connection)
        acknowledge(connection, message.id)
        self._place(connection)
