"""Connections in the waiting room: told their position, admitted, or turned away."""

from __future__ import annotations

from collections.abc import Callable
from time import time
from typing import TYPE_CHECKING, Any

from tidegate.engine.states import Admission

if TYPE_CHECKING:
    from tidegate.core.admission.attempt import Lease, Reject
    from tidegate.core.admission.positions import Status
    from tidegate.engine.application import Application
    from tidegate.engine.connection import Connection
    from tidegate.engine.engine import Engine
    from tidegate.gate.decision import Held
    from tidegate.node.identities import Identities

__all__ = ["WaitingConnections"]


class WaitingConnections:
    """What `gate.waiting` tells the connections of one node (`gate.waiting_host.Host`)."""

    def __init__(
        self, engine: Engine, application: Application[Connection], identities: Identities
    ) -> None:
        self._engine = engine
        self._application = application
        self._identities = identities

    def tell(self, client: Connection, status: Status[Any]) -> None:
        """Tell a connection its position."""
        self._application.waiting(client, status)

    def admit(self, client: Connection, lease: Lease, held: Held) -> bool:
        """Give a connection its lease; False when it is ending."""
        if not client.open:
            return False
        client.lease = lease
        client.admission = Admission.UNIDENTIFIED if held.unidentified else Admission.ADMITTED
        client.opened_at = self._engine.shared.poller.now
        expires_at = held.attempt.identity.expires_at
        self._identities.admitted(client, None if expires_at is None else expires_at - time())
        client.call(self._application.admitted)
        return True

    def turn_away(self, client: Connection, reject: Reject) -> None:
        """End a connection that is not admitted."""
        client.end(reject.reason, reject.retry_after)

    def schedule(self, seconds: float, work: Callable[[], None]) -> None:
        """Call ``work`` in so many seconds; with 0.0 in the next turn, not at once."""
        self._engine.after(seconds, work)
