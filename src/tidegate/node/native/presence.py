"""Messages about who is in a room: `presence`, and what those who asked for it are told."""

from __future__ import annotations

from typing import TYPE_CHECKING

from msgspec import UNSET, Raw, UnsetType

from tidegate.core.codes import NO_PRESENCE, NOT_JOINED
from tidegate.core.messaging.presence import Change, Present
from tidegate.node.native.answers import frame_of, refuse, send
from tidegate.wire.messages import PresenceCount, PresenceState, PresentUser, UserJoined, UserLeft

if TYPE_CHECKING:
    from collections.abc import Iterable

    from tidegate.engine.connection import Connection
    from tidegate.node.presence import State
    from tidegate.node.services import Services
    from tidegate.wire.messages import GetPresence, MessageId, ServerMessage

__all__ = ["PresenceMessages", "presence_frames"]


class PresenceMessages:
    """Says who is in rooms."""

    def __init__(self, services: Services) -> None:
        self._presence = services.presence

    def get(self, connection: Connection, message: GetPresence) -> None:
        """Tell a member who is in its room now."""
        if message.room not in connection.rooms:
            refuse(connection, NOT_JOINED, message.id)
        elif (state := self._presence.look(connection, message.room)) is None:
            refuse(connection, NO_PRESENCE, message.id)
        else:
            send(connection, _state(message.room, state, message.id))

    def watch(self, connection: Connection, room: str) -> None:
        """Tell a member who is there, and what changes from now on, where the rule shows it."""
        state = self._presence.watch(connection, room)
        if state is not None:
            send(connection, _state(room, state))

    def missed(self, connection: Connection, key: str) -> bool:
        """Make good what a slow connection missed of a room's changes; False if it is a room."""
        room = self._presence.missed(key)
        if room is None:
            return False
        if room in connection.rooms and (state := self._presence.look(connection, room)):
            send(connection, _state(room, state))
        return True


def presence_frames(room: str, told: Change | State, subprotocol: str | None) -> bytes:
    """Encode what those who watch a room are told."""
    messages: list[ServerMessage] = []
    if isinstance(told, Change):
        if told.left:
            messages.append(UserLeft(room, told.left, told.total))
        if told.joined:
            messages.append(UserJoined(room, _users(told.joined), told.total))
    elif told.users is None:
        messages.append(PresenceCount(room, told.total))
    else:
        messages.append(_state(room, told))
    return b"".join(frame_of(message, subprotocol) for message in messages)


def _state(room: str, state: State, id: MessageId | UnsetType = UNSET) -> PresenceState:  # noqa: A002
    users = UNSET if state.users is None else _users(state.users)
    return PresenceState(room, state.total, users, id)


def _users(users: Iterable[Present]) -> list[PresentUser]:
    return [
        PresentUser(one.user, one.devices, UNSET if one.info is None else Raw(one.info))
        for one in users
    ]
