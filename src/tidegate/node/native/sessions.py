"""What a client is told that has a session: how to resume it, and what it missed."""

from __future__ import annotations

from typing import TYPE_CHECKING

from msgspec.structs import replace

from tidegate.engine.events import EventStream
from tidegate.node.native.answers import send
from tidegate.node.native.direct import tell_direct
from tidegate.wire.messages import Gap

if TYPE_CHECKING:
    from tidegate.core.messaging.publication import Direct
    from tidegate.engine.connection import Connection
    from tidegate.node.native.presence import PresenceMessages
    from tidegate.node.sessions import Sessions
    from tidegate.wire.messages import Connected

__all__ = ["SessionMessages"]


class SessionMessages:
    """Welcomes clients, those that are back too, and numbers their direct messages."""

    def __init__(self, sessions: Sessions, presence: PresenceMessages) -> None:
        self._sessions = sessions
        self._presence = presence

    def welcome(self, connection: Connection, connected: Connected) -> bool:
        """Send `connected`, and behind it what the client missed; False if it has resumed."""
        back = self._sessions.back(connection)
        secret = self._sessions.begin(connection)
        connected = replace(connected, session=secret, session_ttl=self._sessions.ttl)
        if isinstance(connection, EventStream):  # what a browser shows by itself to resume
            connection.mark(f"{secret}.{self._sessions.seen(connection, back)}")
        if back is None:
            send(connection, connected)
            return True
        connected = replace(connected, resumed=True, recovered=back.complete, rooms=back.rooms)
        send(connection, connected)
        for seq, direct in back.directs:
            self._tell(connection, direct, seq)
        for frames in back.frames:
            connection.transmit(frames)
        for room in back.gaps:
            send(connection, Gap(room))
        for room in back.watched:
            self._presence.watch(connection, room)
        return False

    def direct(self, connection: Connection, message: Direct) -> None:
        """Send a direct message with its number, and keep it."""
        self._tell(connection, message, self._sessions.direct(connection, message))

    def _tell(self, connection: Connection, message: Direct, seq: int) -> None:
        if isinstance(connection, EventStream):
            connection.mark(f"{self._sessions.secret(connection)}.{seq}")
        tell_direct(connection, message, seq)
