"""Who connections belong to after they are open: late tokens, and when a token ends."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from time import monotonic, time
from typing import TYPE_CHECKING

from tidegate.core.admission.attempt import Reject
from tidegate.core.codes import (
    ALREADY_AUTHENTICATED,
    AUTH_TIMEOUT,
    INVALID_TOKEN,
    TOKEN_EXPIRED,
    UNAUTHORIZED,
    Fault,
)
from tidegate.core.timing.deadlines import Deadlines
from tidegate.engine.states import Admission
from tidegate.gate.tokens import Unauthorized

if TYPE_CHECKING:
    from tidegate.core.admission.tracker import ConnectionTracker
    from tidegate.core.settings import Settings
    from tidegate.engine.connection import Connection
    from tidegate.gate.tokens import Authenticator
    from tidegate.node.users import Users

__all__ = ["Each", "Identities"]

Each = Callable[[Iterable["Connection"], Callable[["Connection"], None]], None]


class Identities:
    """Arms the deadlines of identities, and moves connections to the user of a late token."""

    def __init__(
        self,
        settings: Settings,
        tracker: ConnectionTracker,
        users: Users[Connection],
        authenticator: Authenticator,
    ) -> None:
        self._timeout = settings.auth.timeout
        self._tracker = tracker
        self._users = users
        self._authenticator = authenticator
        self._expiries: Deadlines[Connection] = Deadlines()
        self._unidentified: Deadlines[Connection] = Deadlines()

    def admitted(self, connection: Connection, expires_in: float | None) -> None:
        """A connection holds its lease; its token ends in so many seconds, None for never."""
        self._users.add(connection)
        if expires_in is not None:
            self._expiries.set(connection, monotonic() + expires_in)
        if connection.admission is Admission.UNIDENTIFIED:
            self._unidentified.set(connection, monotonic() + self._timeout)

    def identify(self, connection: Connection, token: str) -> Reject | None:
        """Take the token of an open connection; None when it belongs to its user now."""
        try:
            identity = self._authenticator.identify(token)
        except Unauthorized:
            return Reject(UNAUTHORIZED, None)
        rejection = self._tracker.identify(connection.lease, identity)
        if rejection is not None:
            return rejection
        connection.admission = Admission.ADMITTED
        self.gone(connection)  # no deadline of the identity before is left
        expires_at = identity.expires_at
        self.admitted(connection, None if expires_at is None else expires_at - time())
        return None

    def extend(self, connection: Connection, token: str) -> Fault | None:
        """Take a newer token of the user whose connection this is; why not, if it is none.

        Tier and priority stay those of the first token: its capacity was given for them.
        """
        try:
            identity = self._authenticator.identify(token)
        except Unauthorized:
            return INVALID_TOKEN
        if identity.user != connection.user:
            return ALREADY_AUTHENTICATED
        self._expiries.discard(connection)
        if identity.expires_at is not None:
            self._expiries.set(connection, monotonic() + identity.expires_at - time())
        return None

    def gone(self, connection: Connection) -> None:
        """A connection has ended."""
        self._expiries.discard(connection)
        self._unidentified.discard(connection)

    def tick(self, now: float, each: Each) -> None:
        """End connections whose token has expired, or did not come in time.

        Args:
            each: does something with each of many, spread where that takes long.
        """
        each(self._expiries.take(now), lambda connection: connection.end(TOKEN_EXPIRED))
        each(self._unidentified.take(now), lambda connection: connection.end(AUTH_TIMEOUT))

    def apply(self, settings: Settings) -> None:
        """Take over the settings that can change."""
        self._timeout = settings.auth.timeout
