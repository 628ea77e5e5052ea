"""What control works with, of a node."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from tidegate.core.admission.admission import Admission
    from tidegate.core.admission.shedding import LoadShedder
    from tidegate.core.admission.tracker import ConnectionTracker
    from tidegate.core.messaging.rooms import Rooms
    from tidegate.core.settings import Settings
    from tidegate.core.stats import Stats
    from tidegate.engine.connection import Connection
    from tidegate.engine.engine import Engine
    from tidegate.gate.refusals import Refusals
    from tidegate.gate.waiting import WaitingClients
    from tidegate.node.pressure.zones import Zones
    from tidegate.node.shutdown import Shutdown

__all__ = ["Parts"]


class Parts(Protocol):
    """A node, as far as control knows it. Its parts are looked up at each call."""

    settings: Settings
    stats: Stats
    tracker: ConnectionTracker
    rooms: Rooms[Connection]
    shedder: LoadShedder
    admission: Admission
    engine: Engine
    waiting: WaitingClients[Connection]
    refusals: Refusals
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
