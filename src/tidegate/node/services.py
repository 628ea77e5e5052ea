"""What an application gets of the node that it runs on."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeAlias

if TYPE_CHECKING:
    from tidegate.core.access import Access
    from tidegate.core.admission.tracker import ConnectionTracker
    from tidegate.core.codes import Fault
    from tidegate.core.messaging.room_rates import RoomRates
    from tidegate.core.messaging.rooms import Rooms
    from tidegate.core.messaging.rules import Rules
    from tidegate.core.settings import Settings
    from tidegate.core.stats import Stats
    from tidegate.engine.application import Application
    from tidegate.engine.connection import Connection
    from tidegate.gate.fleet import Confirmed
    from tidegate.node.delivery import Delivery
    from tidegate.node.health import Healthy
    from tidegate.node.presence import RoomPresence
    from tidegate.node.sessions import Sessions
    from tidegate.node.users import Users

__all__ = ["ApplicationFactory", "Services"]


@dataclass(frozen=True, slots=True)
class Services:
    """The parts of a node that an application works with.

    ``identify`` takes a token that came in a message, and tells, at once or later, that the
    connection belongs to its user now, or the reason why it cannot. ``extend`` takes a newer token
    of the same user. Where the token cannot be checked yet, both raise ``KeysWanted`` or
    ``KeysUnavailable``, and change nothing.
    """

    settings: Settings
    stats: Stats
    tracker: ConnectionTracker
    rooms: Rooms[Connection]
    room_rates: RoomRates
    rules: Rules
    access: Access
    users: Users[Connection]
    delivery: Delivery
    presence: RoomPresence
    sessions: Sessions | None
    identify: Callable[[Connection, str, Confirmed], None]
    extend: Callable[[Connection, str], Fault | None]
    health: Healthy


ApplicationFactory: TypeAlias = "Callable[[Services], Application[Connection]]"
"""Makes the application of a node; a class will do."""
