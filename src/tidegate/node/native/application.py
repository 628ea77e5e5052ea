"""The application of `tidegate serve`: the native protocol over the connections of one node."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from tidegate.core.codes import DRAINED, NOT_ADMITTED, NOT_AUTHENTICATED, TOO_BIG
from tidegate.engine.application import Application
from tidegate.engine.connection import Connection
from tidegate.engine.states import Admission
from tidegate.node import health
from tidegate.node.native.answers import refuse, refuse_early, send
from tidegate.node.native.auth import AuthMessages
from tidegate.node.native.direct import DirectMessages
from tidegate.node.native.page import PublicPage
from tidegate.node.native.rooms import RoomMessages
from tidegate.wire.codecs import JSON_V1, MessageError, decode_client, encode_server
from tidegate.wire.frames import TEXT, encode
from tidegate.wire.messages import (
    Authenticate,
    Connected,
    ConnectionSettings,
    DirectMessage,
    Error,
    Join,
    Leave,
    QueueStatus,
    RoomMessage,
    SendToRoom,
    SendToUser,
    ServerShutdown,
    System,
)

if TYPE_CHECKING:
    from tidegate.core.admission.positions import Status
    from tidegate.core.admission.shedding import Profile, Zone
    from tidegate.core.messaging.publication import Direct, Publication
    from tidegate.node.services import Services
    from tidegate.wire.handshake import Request

__all__ = ["NativeApplication"]


class NativeApplication(Application[Connection]):
    """Speaks the native protocol, and answers `/health`, `/ready` and `/`.

    A new message is a class in `wire.messages`, one line here, and a method in the file of its
    group. Within a method, whatever sends comes last: a send may find the peer gone, and then the
    connection is closed, and out of every room and count, when the send returns.
    """

    subprotocols = (JSON_V1,)
    in_band: frozenset[str] = frozenset((JSON_V1,))
    holds_waiting: bool = True
    refuses_early: bool = True

    def __init__(self, services: Services) -> None:
        settings = services.settings
        self._health = services.health
        self._page = PublicPage(settings.server)
        self._tracker = services.tracker
        self._max_size = settings.messages.max_size
        # A message over the limit is answered with an error, so it has to be read first; one of
        # twice the limit closes the connection.
        self.max_message = 2 * self._max_size
        self._zone_label = ""
        self._degraded = False
        self._settings = ConnectionSettings(
            settings.heartbeat.interval, self._max_size, settings.messages.per_second, True
        )
        self._rooms = rooms = RoomMessages(services)
        direct = DirectMessages(services)
        auth = AuthMessages(services, self._welcome)
        # By the class of a message: its label in the statistics, and what it does.
        self._methods: Mapping[type, tuple[str, Callable[[Connection, Any], None]]] = {
            Join: ("join", rooms.join),
            Leave: ("leave", rooms.leave),
            SendToRoom: ("room_message", rooms.send),
            SendToUser: ("direct_message", direct.send),
            Authenticate: ("auth", auth.authenticate),
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
        if connection.admission is Admission.ADMITTED:
            self._welcome(connection)

    def leaving(self, connection: Connection, delay: float) -> None:
        """Send `server_shutdown`."""
        send(connection, ServerShutdown(DRAINED.name, round(delay, 3)))

    def _welcome(self, connection: Connection) -> None:
        utilization = round(self._tracker.utilization, 4)
        send(
            connection,
            Connected(connection.id, connection.user, self._settings, self._degraded, utilization),
        )

    # Its messages.

    def message(self, connection: Connection, data: str | bytes) -> None:
        """Carry out one message of a client, or answer with an error. HOT.

        A binary message is read as the same JSON in UTF-8.
        """
        # A character has at most four bytes, so only a message near the limit is measured.
        if len(data) > self._max_size // 4 and _bytes_in(data) > self._max_size:
            self._received["invalid"] += 1
            refuse(connection, TOO_BIG)
            return
        try:
            message = decode_client(data)
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
        method(connection, message)

    def too_early(self, connection: Connection, data: str | bytes, delay: float) -> None:
        """Refuse a message that came too early, and close after too many of them.

        It is read for its id only, which is bounded work, since few of them close the connection.
        """
        try:
            message_id = decode_client(data).id
        except MessageError as error:
            message_id = error.id
        refuse_early(connection, delay, message_id)

    # What connections get.

    def frame(self, publication: Publication, subprotocol: str | None) -> bytes:  # noqa: ARG002
        """Encode `room_message`. HOT."""
        return encode(
            TEXT,
            encode_server(
                RoomMessage(
                    publication.room,
                    publication.data,
                    publication.sender,
                    publication.connection,
                )
            ),
        )

    def direct(self, connection: Connection, message: Direct) -> None:
        """Send `direct_message`."""
        send(connection, DirectMessage(message.data, message.sender, message.connection))

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


def _bytes_in(data: str | bytes) -> int:
    return len(data.encode(errors="surrogatepass")) if isinstance(data, str) else len(data)
