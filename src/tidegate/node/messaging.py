"""The parts of a node that carry messages: rooms and users, their rules, and who remembers what."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from time import monotonic
from typing import TYPE_CHECKING

from tidegate.backplane.memory import MemoryBroker
from tidegate.core.access import Access
from tidegate.core.messaging.history import History
from tidegate.core.messaging.room_rates import RoomRates
from tidegate.core.messaging.rooms import Rooms
from tidegate.core.messaging.rules import Rules
from tidegate.node.delivery import Delivery
from tidegate.node.fleet_sessions import FleetSessions
from tidegate.node.presence import RoomPresence
from tidegate.node.session_moves import SessionMoves
from tidegate.node.sessions import Sessions
from tidegate.node.telemetry.traced import TracedDelivery
from tidegate.node.users import Users

if TYPE_CHECKING:
    from tidegate.backplane.base import Backplane, Broker
    from tidegate.core.admission.tracker import ConnectionTracker
    from tidegate.core.codes import Fault
    from tidegate.core.settings import Settings
    from tidegate.core.stats import Stats
    from tidegate.engine.application import Application
    from tidegate.engine.connection import Connection
    from tidegate.engine.engine import Engine
    from tidegate.node.fleet_leases import FleetLeases
    from tidegate.node.telemetry.traces import Traces

__all__ = ["Messaging"]


class Messaging:
    """Makes these parts, and passes on to them what concerns all.

    Args:
        settings: the settings.
        stats: counts sessions.
        tracker: counts the capacity of sessions.
        engine: has the fan-out.
        broker: carries publications between nodes; None for one that serves this node only.
        traces: records publications; None for no traces.
        release: gives the capacity of a connection back whose client has not come back in time.
        leases: counts over all nodes; None where this node counts for itself.
    """

    _application: Application[Connection]

    def __init__(
        self,
        settings: Settings,
        stats: Stats,
        tracker: ConnectionTracker,
        engine: Engine,
        broker: Broker | None,
        traces: Traces | None,
        release: Callable[[Connection], None],
        leases: FleetLeases | None = None,
    ) -> None:
        limits, fanout = settings.limits, engine.shared.fanout
        self._everyone, self._each = engine.connections, engine.each
        self.rules = Rules(settings.rooms.rules)
        self.access = Access(settings, self.rules)
        self.rooms: Rooms[Connection] = Rooms(
            limits.per_room, limits.rooms_per_connection, self.rules, limits.rooms_per_user
        )
        self.room_rates = RoomRates(self.rules)
        self.users: Users[Connection] = Users()
        self.history = History(settings.rooms, engine.shared.name)
        """The histories that this node keeps, where it has no other broker."""
        self.backplane: Backplane | None = None
        """What connects this node with others, where it has more than a broker."""
        if broker is None:
            broker = self._broker(settings, engine.shared.name)
        others = None if self.backplane is None else self.backplane.presence
        self.presence = RoomPresence(self.rules, fanout, monotonic, others)
        self.delivery = (Delivery if traces is None else partial(TracedDelivery, traces))(
            self.rooms,
            self.users,
            fanout,
            broker,
            self.presence,
            leases if leases is not None and leases.rooms else None,
        )
        self.sessions: Sessions | None = None
        """The clients that may come back; None where `sessions.enabled` is off."""
        if settings.sessions.enabled:
            parts = settings, stats, tracker, self.rules, self.delivery, monotonic, release
            moves = self._moves(engine.shared.name)
            if moves is None:
                self.sessions = Sessions(*parts)
            else:
                self.sessions = FleetSessions(moves, self._remove, *parts)

    async def start(self, application: Application[Connection]) -> None:
        """Begin to deliver to the connections of an application.

        Raises:
            BackplaneError: the broker cannot be reached.
        """
        self._application = application
        moved, sessions = application.moved, self.sessions
        absent = touch = None
        if sessions is not None:
            absent = sessions.absent
            if isinstance(sessions, FleetSessions):
                touch, moved = sessions.touch, _both(moved, sessions.touch)
        self.presence.start(application.presence, moved, touch)

        def gap(connection: Connection, room: str) -> None:
            if connection.open:
                application.gaps(connection, (room,))
            elif self.sessions is not None:
                self.sessions.gap(connection, room)

        await self.delivery.start(
            application.frame,
            application.delta,
            application.direct,
            absent,
            self._everyone,
            gap,
            self._each,
            None if sessions is None else sessions.missed,
        )

    def _remove(self, connection: Connection, room: str, fault: Fault) -> None:
        self._application.removed(connection, room, fault)

    def _moves(self, name: str) -> SessionMoves | None:
        """Make what gets sessions from other nodes, where there are any."""
        backplane = self.backplane
        if backplane is None or backplane.orders is None or backplane.sessions is None:
            return None
        return SessionMoves(name, backplane.orders, backplane.sessions, self.delivery, monotonic)

    def _broker(self, settings: Settings, name: str) -> Broker:
        """Make the broker of the settings. `name` is this node's alone."""
        url = settings.backplane.url
        if url is None:
            return MemoryBroker(self.rules, self.history)
        self.backplane = _kind(url)(url, settings, self.rules, name)
        return self.backplane.broker

    def apply(self, settings: Settings) -> None:
        """Take over the settings that can change."""
        limits = settings.limits
        self.rooms.apply(limits.per_room, limits.rooms_per_connection, limits.rooms_per_user)
        self.rules.apply(settings.rooms.rules)
        self.delivery.deltas.apply(self.rules)
        self.history.apply(settings.rooms)
        self.access.apply(settings)
        if self.sessions is not None:
            self.sessions.apply(settings)

    def tick(self, now: float) -> None:
        """Do what is due: sessions that end, changes of presence."""
        if self.sessions is not None:
            self.sessions.tick(now)
        self.presence.tick(now)


def _kind(url: str) -> Callable[[str, Settings, Rules, str], Backplane]:
    """Return what makes the backplane of a URL. The others are not imported: nodes start sooner."""
    if url.startswith(("nats:", "tls:")):
        from tidegate.backplane.nats.backplane import NatsBackplane

        return NatsBackplane
    if url.startswith("kafka"):
        from tidegate.backplane.kafka.broker import KafkaBackplane

        return KafkaBackplane
    from tidegate.backplane.redis.backplane import RedisBackplane

    return RedisBackplane


def _both(
    moved: Callable[[Connection, str, bool], None] | None, touch: Callable[[Connection], None]
) -> Callable[[Connection, str, bool], None]:
    """Return what tells the application of a join or a leave, and the sessions."""

    def told(connection: Connection, room: str, here: bool) -> None:
        if moved is not None:
            moved(connection, room, here)
        touch(connection)

    return told
