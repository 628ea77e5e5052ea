"""The native protocol: what each message of a client does."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from math import ceil
from typing import TYPE_CHECKING, Any

from msgspec import UNSET, UnsetType

from tidegate.core import codes
from tidegate.core.codes import Reason, close_reason
from tidegate.node.auth import Authenticator, Unauthorized
from tidegate.wire.codecs import MessageError, decode_client, encode_server
from tidegate.wire.frames import TEXT, encode
from tidegate.wire.messages import (
    Ack,
    Authenticate,
    Connected,
    ConnectionSettings,
    DirectMessage,
    Error,
    Join,
    Leave,
    MessageId,
    RoomMessage,
    SendToRoom,
    SendToUser,
    ServerMessage,
    System,
)

if TYPE_CHECKING:
    from tidegate.core.admission.attempt import Identity
    from tidegate.core.admission.shedding import Profile, Zone
    from tidegate.core.admission.tracker import ConnectionTracker
    from tidegate.core.messaging.rooms import Rooms
    from tidegate.core.settings import Settings
    from tidegate.core.stats import Stats
    from tidegate.engine.connection import Connection
    from tidegate.engine.fanout import Fanout
    from tidegate.node.users import Users

__all__ = ["NativeApplication"]


class NativeApplication:
    """The handlers of connections that speak the native protocol.

    `on_authenticated` may be set to a function that is called when a connection has shown who
    it is with an `auth` message, once its lease and the users know, and before it is told so.

    Within a handler, whatever sends comes last: a send may find the peer gone, and then the
    connection is closed, and out of every room and count, when the send returns.
    """

    def __init__(
        self,
        settings: Settings,
        tracker: ConnectionTracker,
        rooms: Rooms[Connection],
        users: Users,
        fanout: Fanout,
        stats: Stats,
        authenticator: Authenticator,
    ) -> None:
        self.on_authenticated: Callable[[Connection, Identity], None] | None = None
        self._tracker = tracker
        self._rooms = rooms
        self._most_rooms = settings.limits.rooms_per_connection
        self._users = users
        self._fanout = fanout
        self._authenticator = authenticator
        self._first_message = settings.auth.first_message
        self._max_size = settings.messages.max_size
        self._broadcast = True
        self._degraded = False
        self._settings = ConnectionSettings(
            settings.heartbeat.interval, self._max_size, settings.messages.per_second, True
        )
        # By the class of a message: its label in the statistics, and what it does.
        self._handlers: Mapping[type, tuple[str, Callable[[Connection, Any], None]]] = {
            Join: ("join", self._join),
            Leave: ("leave", self._leave),
            SendToRoom: ("room_message", self._send_to_room),
            SendToUser: ("direct_message", self._send_to_user),
            Authenticate: ("auth", self._authenticate),
        }
        self._received = stats.native_messages
        for label in ("unknown", "invalid", *(label for label, _ in self._handlers.values())):
            self._received.setdefault(label, 0)

    # What the engine calls.

    def connect(self, connection: Connection, request: object) -> None:  # noqa: ARG002
        """Welcome a connection, unless it has to say first who is there."""
        if not connection.pending_auth:
            self._users.add(connection)
            self._welcome(connection)

    def message(self, connection: Connection, data: str | bytes) -> None:
        """Carry out one message of a client, or answer with an error. HOT.

        A binary message is read as the same JSON in UTF-8.
        """
        # A character has at most four bytes, so only a message near the limit is measured.
        if len(data) > self._max_size // 4 and _bytes_in(data) > self._max_size:
            self._received["invalid"] += 1
            _refuse(connection, codes.TOO_BIG)
            return
        try:
            message = decode_client(data)
        except MessageError as error:
            self._received["unknown" if error.code == "unknown_type" else "invalid"] += 1
            _send(connection, Error(error.code, error.message, error.id))
            return
        label, handle = self._handlers[type(message)]
        self._received[label] += 1
        if connection.pending_auth:
            if not connection.lease.held:
                _refuse(connection, codes.NOT_ADMITTED, message.id)
                return
            if label != "auth":
                _refuse(connection, codes.NOT_AUTHENTICATED, message.id)
                return
        handle(connection, message)

    def excess(self, connection: Connection, data: str | bytes, delay: float) -> None:
        """Refuse a message that came too early, and close after too many of them.

        It is read for its id only, which is bounded work, since few of them close the connection.
        """
        try:
            message_id = decode_client(data).id
        except MessageError as error:
            message_id = error.id
        self._too_fast(connection, delay, message_id)

    def close(self, connection: Connection, code: int, reason: str) -> None:  # noqa: ARG002
        """Take a connection that has ended out of its rooms and from under its user."""
        for room in self._rooms.leave_all(connection):
            self._fanout.on_leave(room, connection)
        self._users.remove(connection)

    # What pressure does.

    def enforce(self, profile: Profile, degraded: bool) -> None:
        """Allow what a profile allows, from now on; who comes now is told so in `connected`."""
        self._max_size = profile.max_message_size
        self._broadcast = profile.broadcast
        self._degraded = degraded
        self._settings = ConnectionSettings(
            profile.ping_interval,
            profile.max_message_size,
            profile.messages_per_second,
            profile.broadcast,
        )

    def tell(self, connection: Connection, zone: Zone) -> None:
        """Send `system` to a connection that has been welcomed."""
        if connection.lease.held and not connection.pending_auth:
            _send(connection, System(zone.label, self._degraded, self._settings))

    # What each message does.

    def _join(self, connection: Connection, message: Join) -> None:
        room = message.room
        if room not in connection.rooms:
            # One that is in as many rooms as it may be has a better reason coming.
            if len(connection.rooms) < self._most_rooms and (delay := connection.join_delay()):
                self._too_fast(connection, delay, message.id)
                return
            # What was said before must not reach the newcomer.
            self._fanout.before_join(room)
            rejection = self._rooms.join(connection, room)
            if rejection is not None:
                _refuse(connection, rejection, message.id)
                return
        if message.id is not UNSET:
            _send(connection, Ack(message.id, members=self._rooms.count(room)))

    def _leave(self, connection: Connection, message: Leave) -> None:
        if not self._rooms.leave(connection, message.room):
            _refuse(connection, codes.NOT_JOINED, message.id)
            return
        self._fanout.on_leave(message.room, connection)
        if message.id is not UNSET:
            _send(connection, Ack(message.id))

    def _send_to_room(self, connection: Connection, message: SendToRoom) -> None:
        room = message.room
        if room not in connection.rooms:
            _refuse(connection, codes.NOT_JOINED, message.id)
            return
        if not self._broadcast:
            _refuse(connection, codes.BROADCAST_OFF, message.id)
            return
        said = RoomMessage(room, message.data, connection.user, connection.id)
        published = self._fanout.publish(
            room,
            self._rooms.members(room),
            encode(TEXT, encode_server(said)),
            None if message.echo else connection,
        )
        if not published:
            _refuse(connection, codes.OVERLOADED, message.id)
        elif message.id is not UNSET:
            _send(connection, Ack(message.id))

    def _send_to_user(self, connection: Connection, message: SendToUser) -> None:
        said = DirectMessage(message.data, connection.user, connection.id)
        text = encode_server(said).decode()
        delivered = 0
        for device in self._users.of_user(message.user):
            if device.open:
                device.send(text)
                delivered += 1
        if message.id is not UNSET:
            _send(connection, Ack(message.id, delivered=delivered))

    def _authenticate(self, connection: Connection, message: Authenticate) -> None:
        if connection.user is not None:
            _refuse(connection, codes.ALREADY_AUTHENTICATED, message.id)
            return
        if not self._first_message:
            _end(connection, codes.UNAUTHORIZED)
            return
        try:
            identity = self._authenticator.identify(message.token)
        except Unauthorized:
            _end(connection, codes.UNAUTHORIZED)
            return
        rejection = self._tracker.identify(connection.lease, identity)
        if rejection is not None:
            _end(connection, rejection.reason, rejection.retry_after)
            return
        waited, connection.pending_auth = connection.pending_auth, False
        self._users.add(connection)
        if self.on_authenticated is not None:
            self.on_authenticated(connection, identity)
        if waited:
            self._welcome(connection)
        if message.id is not UNSET:
            _send(connection, Ack(message.id))

    def _too_fast(
        self,
        connection: Connection,
        delay: float,
        id: MessageId | UnsetType,  # noqa: A002
    ) -> None:
        if connection.refused_too_often():
            _end(connection, codes.MESSAGE_ABUSE)
        else:
            _refuse(connection, codes.MESSAGE_RATE, id, ceil(delay))

    def _welcome(self, connection: Connection) -> None:
        utilization = round(self._tracker.utilization, 4)
        _send(
            connection,
            Connected(connection.id, connection.user, self._settings, self._degraded, utilization),
        )


def _refuse(
    connection: Connection,
    reason: Reason,
    id: MessageId | UnsetType = UNSET,  # noqa: A002
    delay: int | None = None,
) -> None:
    seconds = delay or reason.retry_after
    retry_after = UNSET if seconds is None else seconds
    _send(connection, Error(reason.name, reason.message, id, retry_after))


def _send(connection: Connection, message: ServerMessage) -> None:
    connection.send(encode_server(message).decode())


def _end(connection: Connection, reason: Reason, retry_after: float | None = None) -> None:
    assert reason.close is not None
    connection.close(reason.close, close_reason(reason, retry_after), reason.name)


def _bytes_in(data: str | bytes) -> int:
    return len(data.encode(errors="surrogatepass")) if isinstance(data, str) else len(data)
