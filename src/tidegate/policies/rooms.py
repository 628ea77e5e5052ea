"""Rooms and their members, within limits."""

from __future__ import annotations

from collections.abc import Hashable
from threading import Lock
from typing import Final, Generic, TypeVar

from tidegate.core.messaging.rooms import Rooms as Members
from tidegate.core.settings import LimitsSettings
from tidegate.errors import ConfigError
from tidegate.gate.refused import refused

__all__ = ["Rooms"]

C = TypeVar("C", bound=Hashable)

_DEFAULTS: Final = LimitsSettings()
_MOST: Final = 10_000_000


class _Member(Generic[C]):
    """What `Members` needs of a connection."""

    __slots__ = ("connection", "rooms")

    def __init__(self, connection: C) -> None:
        self.connection = connection
        self.rooms: tuple[str, ...] = ()


class Rooms(Generic[C]):
    """Which connections are in which rooms; any hashable object can be a connection.

    A room without members is forgotten. Safe from any thread.

    Args:
        per_room: the most members of one room, 0 to 10,000,000.
        rooms_per_connection: the most rooms of one connection.

    Raises:
        ConfigError: a limit is out of its range.
    """

    def __init__(
        self,
        *,
        per_room: int = _DEFAULTS.per_room,
        rooms_per_connection: int = _DEFAULTS.rooms_per_connection,
    ) -> None:
        for name, value in (("per_room", per_room), ("rooms_per_connection", rooms_per_connection)):
            if not isinstance(value, int) or not 0 <= value <= _MOST:
                raise ConfigError(f"{name} = {value!r}: must be a whole number from 0 to {_MOST:,}")
        self._lock = Lock()
        self._rooms: Members[_Member[C]] = Members(per_room, rooms_per_connection)
        self._members: dict[C, _Member[C]] = {}

    def join(self, connection: C, room: str) -> None:
        """Put a connection into a room. Joining twice is fine and counts once.

        Raises:
            Refused: `room_limit` or `too_many_rooms`.
        """
        with self._lock:
            member = self._members.get(connection) or _Member(connection)
            fault = self._rooms.join(member, room)
            if fault is None:
                self._members[connection] = member
        if fault is not None:
            raise refused(fault)

    def leave(self, connection: C, room: str) -> bool:
        """Take a connection out of a room; False when it was not in it."""
        with self._lock:
            member = self._members.get(connection)
            if member is None or not self._rooms.leave(member, room):
                return False
            if not member.rooms:
                del self._members[connection]
            return True

    def leave_all(self, connection: C) -> tuple[str, ...]:
        """Take a connection out of all its rooms, as when it ended; return their names."""
        with self._lock:
            member = self._members.pop(connection, None)
            return () if member is None else self._rooms.leave_all(member)

    def members(self, room: str) -> list[C]:
        """Return the connections in a room, in the order in which they joined; a copy."""
        with self._lock:
            return [member.connection for member in self._rooms.members(room)]

    def of(self, connection: C) -> tuple[str, ...]:
        """Return the rooms that a connection is in."""
        member = self._members.get(connection)
        return () if member is None else member.rooms

    def count(self, room: str) -> int:
        """How many members a room has."""
        return self._rooms.count(room)

    def __len__(self) -> int:
        """How many rooms there are."""
        return len(self._rooms)
