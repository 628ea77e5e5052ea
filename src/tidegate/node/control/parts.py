"""What control works with, of a node."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from tidegate.backplane.base import Backplane
    from tidegate.core.access import Access
    from tidegate.core.admission.admission import Admission
    from tidegate.core.admission.revocations import Revocations
    from tidegate.core.admission.shedding import LoadShedder
    from tidegate.core.admission.tracker import ConnectionTracker
    from tidegate.core.messaging.history import History
    from tidegate.core.messaging.room_rates import RoomRates
    from tidegate.core.messaging.rooms import Rooms
    from tidegate.core.messaging.rules import Rules
    from tidegate.core.settings import Settings
    from tidegate.core.stats import Stats
    from tidegate.engine.application import Application
    from tidegate.engine.connection import Connection
    from tidegate.engine.engine import Engine
    from tidegate.gate.refusals import Refusals
    from tidegate.gate.waiting import WaitingClients
    from tidegate.node.delivery import Delivery
    from tidegate.node.event_streams import EventStreams
    from tidegate.node.fleet_leases import FleetLeases
    from tidegate.node.membership import Membership
    from tidegate.node.pings import Pings
    from tidegate.node.presence import RoomPresence
    from tidegate.node.pressure.zones import Zones
    from tidegate.node.sessions import Sessions
    from tidegate.node.shutdown import Shutdown
    from tidegate.node.users import Users
    from tidegate.node.warner import Warner

__all__ = ["Parts"]


class Parts(Protocol):
    """A node, as far as control knows it. Its parts are looked up at each call."""

    settings: Settings
    stats: Stats
    tracker: ConnectionTracker
    leases: FleetLeases | None
    rooms: Rooms[Connection]
    room_rates: RoomRates
    rules: Rules
    access: Access
    history: History
    users: Users[Connection]
    pings: Pings
    presence: RoomPresence
    delivery: Delivery
    application: Application[Connection]
    sessions: Sessions | None
    event_streams: EventStreams
    shedder: LoadShedder
    admission: Admission
    engine: Engine
    waiting: WaitingClients[Connection]
    refusals: Refusals
    revocations: Revocations
    backplane: Backplane | None
    membership: Membership
    warn: Warner
    zones: Zones
    shutdown: Shutdown

    @property
    def addresses(self) -> list[tuple[str, int]]:
        """Host and port of every listener."""

    @property
    def ready(self) -> tuple[bool, str]:
        """Whether it should get new connections, and the reason if not."""

    @property
    def uptime(self) -> float:
        """Seconds since the start, 0 before it."""

    @property
    def version(self) -> str:
        """The version of Tidegate that runs."""

    def apply(self, changes: Mapping[str, Mapping[str, object]]) -> tuple[list[str], list[str]]:
        """Change the settings that can change; their names, and those that need a restart."""
