"""What an application gets of the node that it runs on."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeAlias

if TYPE_CHECKING:
    from tidegate.core.admission.attempt import Reject
    from tidegate.core.admission.tracker import ConnectionTracker
    from tidegate.core.codes import Fault
    from tidegate.core.messaging.permissions import Permissions
    from tidegate.core.messaging.rooms import Rooms
    from tidegate.core.settings import Settings
    from tidegate.core.stats import Stats
    from tidegate.engine.application import Application
    from tidegate.engine.connection import Connection
    from tidegate.node.delivery import Delivery
    from tidegate.node.health import Healthy
    from tidegate.node.users import Users

__all__ = ["ApplicationFactory", "Services"]


@dataclass(frozen=True, slots=True)
class Services:
    """The parts of a node that an application works with.

    ``identify`` takes a token that came in a message: the connection belongs to its user then, or
    the reason is returned why it cannot. ``extend`` takes a newer token of the same user.
    """

    settings: Settings
    stats: Stats
    tracker: ConnectionTracker
    rooms: Rooms[Connection]
    permissions: Permissions
    users: Users[Connection]
    delivery: Delivery
    identify: Callable[[Connection, str], Reject | None]
    extend: Callable[[Connection, str], Fault | None]
    health: Healthy


ApplicationFactory: TypeAlias = "Callable[[Services], Application[Connection]]"
"""Makes the application of a node; a class will do."""
