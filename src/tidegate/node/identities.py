"""Who connections belong to after they are open: late tokens, and when a token ends."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from functools import partial
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
    from tidegate.core.admission.attempt import Identity
    from tidegate.core.admission.tracker import ConnectionTracker
    from tidegate.core.settings import Settings
    from tidegate.engine.connection import Connection
    from tidegate.gate.fleet import Confirmed
    from tidegate.gate.tokens import Authenticator
    from tidegate.node.fleet_leases import FleetLeases
    from tidegate.node.users import Users

__all__ = ["Each", "Identities"]

Each = Callable[[Iterable["Connection"], Callable[["Connection"], None]], None]


class Identities:
    """Arms the deadlines of identities, and moves connections to the user of a late token.

    A token costs one entry of a heap, and no timer: first the time at which its client is told that
    it ends soon, then its end. Only one that ends sooner than that has both from the start.

    Args:
        settings: the settings.
        tracker: counts the connections of this node.
        users: knows the connections of each user.
        authenticator: reads tokens.
        leases: counts the connections of all nodes; None where this node is alone.
    """

    def __init__(
        self,
        settings: Settings,
        tracker: ConnectionTracker,
        users: Users[Connection],
        authenticator: Authenticator,
        leases: FleetLeases | None = None,
    ) -> None:
        self._leases = leases
        self._timeout = settings.auth.timeout
        self._tracker = tracker
        self._users = users
        self._authenticator = authenticator
        self._notice = settings.auth.expiry_notice
        self._notices: Deadlines[Connection] = Deadlines()
        self._expiries: Deadlines[Connection] = Deadlines()
        self._unidentified: Deadlines[Connection] = Deadlines()

    def admitted(self, connection: Connection, expires_in: float | None) -> None:
        """A connection holds its lease; its token ends in so many seconds, None for never."""
        self._users.add(connection)
        if expires_in is not None:
            self._expires(connection, expires_in)
        if connection.admission is Admission.UNIDENTIFIED:
            self._unidentified.set(connection, monotonic() + self._timeout)

    def identify(self, connection: Connection, token: str, done: Confirmed) -> None:
        """Take the token of an open connection, which belongs to its user then.

        `done` is told None when it does, else why it cannot, at once or later. It is never told
        when the connection has ended before.
        """
        try:
            identity = self._authenticator.identify(token)
        except Unauthorized:
            done(Reject(UNAUTHORIZED, None))
            return
        lease = connection.lease
        rejection = self._tracker.identify(lease, identity)
        if rejection is not None:
            done(rejection)
        elif self._leases is None:
            self._belongs(connection, identity)
            done(None)
        else:

            def counted(reject: Reject | None) -> None:
                if reject is None:
                    self._belongs(connection, identity)
                done(reject)

            self._leases.identified(lease, counted)

    def _belongs(self, connection: Connection, identity: Identity) -> None:
        connection.admission = Admission.ADMITTED
        self.gone(connection)  # no deadline of the identity before is left
        expires_at = identity.expires_at
        self.admitted(connection, None if expires_at is None else expires_at - time())

    def extend(self, connection: Connection, token: str) -> Fault | None:
        """Take a newer token of the user whose connection this is; why not, if it is none.

        Tier and priority stay those of the first token: its capacity was given for them. Its
        claims are those of the newer one from now on; the connection stays in its rooms.
        """
        try:
            identity = self._authenticator.identify(token)
        except Unauthorized:
            return INVALID_TOKEN
        if identity.user != connection.user:
            return ALREADY_AUTHENTICATED
        connection.lease.claims = identity.claims
        self._notices.discard(connection)
        self._expiries.discard(connection)
        if identity.expires_at is not None:
            self._expires(connection, identity.expires_at - time())
        return None

    def gone(self, connection: Connection) -> None:
        """A connection has ended."""
        self._notices.discard(connection)
        self._expiries.discard(connection)
        self._unidentified.discard(connection)

    def tick(self, now: float, each: Each, tell: Callable[[Connection, float], None]) -> None:
        """End connections whose token has expired, or did not come in time.

        Args:
            each: does something with each of many, spread where that takes long.
            tell: tells a connection that its token ends, in so many seconds.
        """
        each(self._noticed(now), partial(self._tell, tell))
        each(self._expiries.take(now), lambda connection: connection.end(TOKEN_EXPIRED))
        each(self._unidentified.take(now), lambda connection: connection.end(AUTH_TIMEOUT))

    def _expires(self, connection: Connection, seconds: float) -> None:
        now, notice = monotonic(), self._notice
        if not notice or seconds <= 0:
            self._expiries.set(connection, now + seconds)
        elif seconds >= 2 * notice:
            self._notices.set(connection, now + seconds - notice)
        else:
            self._notices.set(connection, now + seconds / 2)
            self._expiries.set(connection, now + seconds)

    def _noticed(self, now: float) -> Iterator[Connection]:
        """Yield connections to be told that their token ends soon; the end is armed now."""
        for connection, when in self._notices.take_times(now):
            if connection not in self._expiries:
                self._expiries.set(connection, when + self._notice)
            yield connection

    def _tell(self, tell: Callable[[Connection, float], None], connection: Connection) -> None:
        end = self._expiries.when(connection)
        if end is not None:  # it may have ended, or have a newer token, since it was due
            tell(connection, max(0.0, end - monotonic()))

    def apply(self, settings: Settings) -> None:
        """Take over the settings that can change."""
        self._timeout = settings.auth.timeout
