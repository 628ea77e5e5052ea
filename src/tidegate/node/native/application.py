"""The application of `tidegate serve`: the native protocol over the connections of one node."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from typing import TYPE_CHECKING, Any

from msgspec import UNSET

from tidegate.core.codes import DRAINED, NOT_ADMITTED, NOT_AUTHENTICATED, REBALANCED, TOO_BIG
from tidegate.engine.application import Application
from tidegate.engine.connection import Connection
from tidegate.engine.states import Admission
from tidegate.node import health
from tidegate.node.native.answers import frame_of, refuse, refuse_early, send
from tidegate.node.native.asking import Asking
from tidegate.node.native.auth import AuthMessages
from tidegate.node.native.deltas import delta_frame
from tidegate.node.native.direct import DirectMessages, tell_direct
from tidegate.node.native.operators import OperatorMessages
from tidegate.node.native.page import PublicPage
from tidegate.node.native.presence import PresenceMessages, presence_frames
from tidegate.node.native.rooms import RoomMessages
from tidegate.node.native.sessions import SessionMessages
from tidegate.node.placing import Placing
from tidegate.wire.codecs import MessageError
from tidegate.wire.formats import FORMATS, format_of
from tidegate.wire.messages import (
    Authenticate,
    Broadcast,
    Connected,
    ConnectionSettings,
    Error,
    Gap,
    GetHistory,
    GetPresence,
    HealthPing,
    HealthPong,
    Join,
    Joined,
    Leave,
    Left,
    PackedToRoom,
    PackedToUser,
    QueueStatus,
    RoomMessage,
    SendToAll,
    SendToRoom,
    SendToUser,
    ServerShutdown,
    System,
    TokenExpiring,
)

if TYPE_CHECKING:
    from tidegate.core.admission.positions import Status
    from tidegate.core.admission.shedding import Profile, Zone
    from tidegate.core.codes import Fault
    from tidegate.core.messaging.history import Position
    from tidegate.core.messaging.presence import Change
    from tidegate.core.messaging.publication import Direct, Publication
    from tidegate.engine.chain import DeltaFrame
    from tidegate.node.deltas import Step
    from tidegate.node.hooks import Hooks
    from tidegate.node.presence import State
    from tidegate.node.services import Services
    from tidegate.wire.handshake import Request

__all__ = ["NativeApplication"]


class NativeApplication(Application[Connection]):
    """Speaks the native protocol, and answers `/health`, `/ready` and `/`.

    A new message is a class in `wire.messages`, one line here, and a method in the file of its
    group. Within a method, whatever sends comes last: a send may find the peer gone, and then the
    connection is closed, and out of every room and count, when the send returns.
    """

    subprotocols = tuple(FORMATS)
    in_band: frozenset[str] = frozenset(FORMATS)
    holds_waiting: bool = True
    refuses_early: bool = True
    has_events: bool = True

    def __init__(self, services: Services, hooks: Hooks | None = None) -> None:
        settings = services.settings
        self._hooks = hooks
        asking = Asking() if hooks is not None and (hooks.asks_join or hooks.asks_publish) else None
        self._asking = asking
        self._health = services.health
        self._page = PublicPage(settings.server)
        self._tracker = services.tracker
        self._max_size = settings.messages.max_size
        # A message over the limit is answered with an error, so it has to be read first; one of
        # twice the limit closes the connection.
        self.max_message = 2 * self._max_size
        self._route = settings.server.route or UNSET
        self._zone_label = ""
        self._degraded = False
        self._settings = ConnectionSettings(
            settings.heartbeat.interval, self._max_size, settings.messages.per_second, True
        )
        self._presence = presence = PresenceMessages(services)
        self._sessions: SessionMessages | None = None
        if services.sessions is not None:
            self._sessions = SessionMessages(services.sessions, presence)
        self._rooms = rooms = RoomMessages(services, presence, hooks, asking)
        direct = DirectMessages(services)
        self._auth = auth = AuthMessages(services, self._welcome, self._place)
        self._members = services.rooms.count
        self._placing = Placing(services.rules, services.delivery, self)
        # By the class of a message: its label in the statistics, and what it does.
        self._methods: Mapping[type, tuple[str, Callable[[Connection, Any], None]]] = {
            Join: ("join", rooms.join),
            Leave: ("leave", rooms.leave),
            SendToRoom: ("room_message", rooms.send),
            GetPresence: ("presence", presence.get),
            GetHistory: ("history", rooms.history),
            PackedToRoom: ("room_message", rooms.send),
            SendToUser: ("direct_message", direct.send),
            SendToAll: ("broadcast", OperatorMessages(services).broadcast),
            PackedToUser: ("direct_message", direct.send),
            Authenticate: ("auth", auth.authenticate),
            HealthPing: ("health_ping", _pong),
        }
        self._received = services.stats.native_messages
        for label in ("unknown", "invalid", *(label for label, _ in self._methods.values())):
            self._received.setdefault(label, 0)

    # A connection.

    def opened(self, connection: Connection, request: Request) -> None:  # noqa: ARG002
        """Welcome a connection, unless it has to say first who is there."""
        self.admitted(connection)

    def waiting(self, connection: Connection, status: Status[Any]) -> None:
        """Send `queue_status`."""
        left = None if status.eta is None else round(status.eta, 1)
        waited = round(status.waited, 1)
        send(connection, QueueStatus(status.position, status.total, waited, left))

    def admitted(self, connection: Connection) -> None:
        """Welcome a connection that waited, unless it has to say first who is there."""
        if connection.admission is Admission.ADMITTED and self._welcome(connection):
            self._place(connection)

    def expiring(self, connection: Connection, seconds: float) -> None:
        """Send `token_expiring`."""
        send(connection, TokenExpiring(round(seconds, 3)))

    def leaving(self, connection: Connection, delay: float) -> None:
        """Send `server_shutdown`."""
        send(connection, ServerShutdown(DRAINED.name, round(delay, 3)))

    def moving(self, connection: Connection, delay: float, route: str) -> None:
        """Send `server_shutdown`, with the route to come back with where nodes have routes."""
        given = route if route or self._route is not UNSET else UNSET
        send(connection, ServerShutdown(REBALANCED.name, round(delay, 3), given))

    def _welcome(self, connection: Connection) -> bool:
        """Greet a connection; False when it has resumed a session."""
        utilization = round(self._tracker.utilization, 4)
        connected = Connected(
            connection.id,
            connection.user,
            self._settings,
            self._degraded,
            utilization,
            route=self._route,
        )
        if self._hooks is not None:
            self._hooks.connected(connection)
        if self._sessions is None:
            send(connection, connected)
            return True
        return self._sessions.welcome(connection, connected)

    def _place(self, connection: Connection) -> None:
        """Put a connection into the rooms that its token names."""
        claims = connection.lease.claims
        for room in () if claims is None else claims.join:
            if room not in connection.rooms:
                self._placing.join(connection, room)

    def closed(self, connection: Connection, code: int, text: str) -> None:
        """Forget what waited for a connection that has ended."""
        self._auth.gone(connection)
        if self._asking is not None:
            self._asking.gone(connection)
        if self._hooks is not None and connection.admission is Admission.ADMITTED:
            self._hooks.disconnected(connection, code, text)

    @property
    def moved(self) -> Callable[[Connection, str, bool], None] | None:
        """What is told of connections that join and leave rooms."""
        hooks = self._hooks
        if hooks is None or not hooks.tells_rooms:
            return None
        joined, left = hooks.joined, hooks.left
        return lambda connection, room, comes: (joined if comes else left)(connection, room)

    # Its messages.

    def message(self, connection: Connection, data: str | bytes) -> None:
        """Carry out one message of a client, or answer with an error. HOT.

        On a connection of the JSON protocol a binary message is read as the same JSON in UTF-8.
        """
        # A character has at most four bytes, so only a message near the limit is measured.
        if len(data) > self._max_size // 4 and _bytes_in(data) > self._max_size:
            self._received["invalid"] += 1
            refuse(connection, TOO_BIG)
            return
        try:
            message = format_of(connection.subprotocol).decode(data)
        except MessageError as error:
            self._received["unknown" if error.code == "unknown_type" else "invalid"] += 1
            send(connection, Error(error.code, error.message, error.id))
            return
        label, method = self._methods[type(message)]
        self._received[label] += 1
        if connection.admission is not Admission.ADMITTED:
            if connection.admission is Admission.WAITING:
                refuse(connection, NOT_ADMITTED, message.id)
                return
            if label != "auth":
                refuse(connection, NOT_AUTHENTICATED, message.id)
                return
        if self._asking is None or not self._asking.holds(connection, method, message):
            method(connection, message)

    def too_early(self, connection: Connection, data: str | bytes, delay: float) -> None:
        """Refuse a message that came too early, and close after too many of them.

        It is read for its id only, which is bounded work, since few of them close the connection.
        """
        try:
            message_id = format_of(connection.subprotocol).decode(data).id
        except MessageError as error:
            message_id = error.id
        refuse_early(connection, delay, message_id)

    # What connections get.

    def frame(self, publication: Publication, subprotocol: str | None) -> bytes:
        """Encode `room_message`, or `broadcast` for what goes to no room. HOT."""
        if not publication.room:
            return frame_of(Broadcast(publication.data, publication.sender), subprotocol)
        return frame_of(
            RoomMessage(
                publication.room,
                publication.data,
                publication.sender,
                publication.connection,
                publication.offset or UNSET,
                UNSET if publication.timestamp is None else publication.timestamp,
            ),
            subprotocol,
            publication.packed,
        )

    def delta(self, step: Step, subprotocol: str | None) -> DeltaFrame:
        """Encode `room_delta`. HOT."""
        return delta_frame(step, subprotocol)

    def gaps(self, connection: Connection, rooms: Collection[str]) -> None:
        """Send `gap`: the connection asks with `since` for what it missed."""
        for room in rooms:
            if not self._presence.missed(connection, room) and room in connection.rooms:
                send(connection, Gap(room))

    def presence(
        self,
        room: str,
        told: Change | State,
        subprotocol: str | None,
    ) -> bytes:
        """Encode who is in a room, or what has changed there."""
        return presence_frames(room, told, subprotocol)

    def placed(self, connection: Connection, room: str, position: Position | None) -> None:
        """Send `joined`."""
        epoch, offset = (UNSET, UNSET) if position is None else position
        send(connection, Joined(room, self._members(room), epoch, offset))

    def removed(self, connection: Connection, room: str, reason: Fault) -> None:
        """Send `left`."""
        send(connection, Left(room, reason.name))

    def direct(self, connection: Connection, message: Direct) -> None:
        """Send `direct_message`."""
        if self._sessions is None:
            tell_direct(connection, message)
        else:
            self._sessions.direct(connection, message)

    def profile_changed(self, zone: Zone, profile: Profile, degraded: bool) -> None:
        """Allow what a profile allows, from now on; `connected` says so to new connections."""
        self._zone_label = zone.label
        self._max_size = profile.max_message_size
        self._rooms.broadcast = profile.broadcast
        self._degraded = degraded
        self._settings = ConnectionSettings(
            profile.ping_interval,
            profile.max_message_size,
            profile.messages_per_second,
            profile.broadcast,
        )

    def tell_profile(self, connection: Connection) -> None:
        """Send `system` to a connection that has been welcomed."""
        if connection.admission is Admission.ADMITTED:
            send(connection, System(self._zone_label, self._degraded, self._settings))

    # Other requests.

    def respond(self, request: Request, address: str) -> bytes | None:  # noqa: ARG002 - the same for all
        """Answer `/health` and `/ready`, and `/` by a page."""
        return health.respond(request, self._health) or self._page.respond(request)


def _pong(connection: Connection, message: HealthPing) -> None:
    send(connection, HealthPong(message.id))


def _bytes_in(data: str | bytes) -> int:
    return len(data.encode(errors="surrogatepass")) if isinstance(data, str) else len(data)
