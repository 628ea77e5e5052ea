"""Messages of operators: `broadcast`."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from tidegate.core.codes import NOT_ALLOWED
from tidegate.core.messaging.publication import Publication
from tidegate.node.native.answers import acknowledge, refuse

if TYPE_CHECKING:
    from tidegate.engine.connection import Connection
    from tidegate.node.services import Services
    from tidegate.wire.messages import SendToAll

__all__ = ["OperatorMessages"]


class OperatorMessages:
    """Carries out what clients want whose token has the claim `operator`."""

    def __init__(self, services: Services) -> None:
        self._delivery = services.delivery

    def broadcast(self, connection: Connection, message: SendToAll) -> None:
        """Send a message to all connections."""
        claims = connection.lease.claims
        if claims is None or not claims.operator:
            refuse(connection, NOT_ALLOWED, message.id)
            return
        said = Publication("", message.data, connection.user)
        self._delivery.to_all(said, partial(_sent, connection, message))


def _sent(connection: Connection, message: SendToAll, delivered: int) -> None:
    connection.shared.stats.published["client"] += 1
    acknowledge(connection, message.id, delivered=delivered)
