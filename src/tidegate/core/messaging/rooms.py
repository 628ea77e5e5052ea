"""Rooms and their members, within the limits of rooms and of connections."""

from __future__ import annotations

from collections.abc import Collection, Hashable, Iterator
from threading import Lock
from typing import Generic, Protocol, TypeVar

from tidegate.core.codes import ROOM_LIMIT, TOO_MANY_ROOMS, Fault

__all__ = ["Member", "Rooms"]


class Member(Hashable, Protocol):
    """What can join a room: anything with a `rooms` attribute that only Rooms writes."""

    rooms: tuple[str, ...]


M = TypeVar("M", bound=Member)


class _Room(dict[M, None]):
    """The members of one room, in the order in which they joined.

    A dict takes about half the memory of a set, and sends to a room keep one order. `alone` is the
    tuple of this room's name, shared by all members that are in this room only.
    """

    __slots__ = ("alone",)

    def __init__(self, name: str) -> None:
        self.alone = (name,)


class Rooms(Generic[M]):
    """The rooms of one node. Safe from any thread; a room without members is forgotten.

    `per_room` is the most members of a room, `rooms_per_connection` the most rooms of a member.
    """

    __slots__ = ("_lock", "_per_connection", "_per_room", "_rooms")

    def __init__(self, per_room: int, rooms_per_connection: int) -> None:
        self._lock = Lock()
        self._per_room = per_room
        self._per_connection = rooms_per_connection
        self._rooms: dict[str, _Room[M]] = {}

    @property
    def per_connection(self) -> int:
        """The most rooms that a member may be in."""
        return self._per_connection

    def apply(self, per_room: int, rooms_per_connection: int) -> None:
        """Take over other limits, for the joins from now on. No member has to leave a room."""
        with self._lock:
            self._per_room = per_room
            self._per_connection = rooms_per_connection

    def join(self, member: M, room: str) -> Fault | None:
        """Put a member into a room and return None, or return why it cannot join.

        Joining twice is fine and counts once.
        """
        with self._lock:
            present = self._rooms.get(room)
            if present is not None and member in present:
                return None
            joined = member.rooms
            if len(joined) >= self._per_connection:
                return TOO_MANY_ROOMS
            if (0 if present is None else len(present)) >= self._per_room:
                return ROOM_LIMIT
            if present is None:
                present = self._rooms[room] = _Room(room)
            present[member] = None
            member.rooms = joined + present.alone if joined else present.alone
        return None

    def leave(self, member: M, room: str) -> bool:
        """Take a member out of a room; False when it was not in it."""
        with self._lock:
            present = self._rooms.get(room)
            if present is None or member not in present:
                return False
            self._remove(member, room, present)
            rest = tuple(name for name in member.rooms if name != room)
            member.rooms = self._rooms[rest[0]].alone if len(rest) == 1 else rest
        return True

    def leave_all(self, member: M) -> tuple[str, ...]:
        """Take a member out of all its rooms, and return their names."""
        with self._lock:
            joined = member.rooms
            for room in joined:
                self._remove(member, room, self._rooms[room])
            member.rooms = ()
        return joined

    def members(self, room: str) -> Collection[M]:
        """Return the members of a room in the order in which they joined; empty without any.

        It is the room itself, not a copy: copy it before a loop that may join or leave.
        """
        return self._rooms.get(room, ())

    def count(self, room: str) -> int:
        """How many members a room has."""
        return len(self._rooms.get(room, ()))

    def __iter__(self) -> Iterator[str]:
        """Yield the names of the rooms: of a copy, so the loop over it may join and leave."""
        return iter(tuple(self._rooms))

    def __len__(self) -> int:
        """How many rooms there are."""
        return len(self._rooms)

    def _remove(self, member: M, room: str, present: _Room[M]) -> None:
        del present[member]
        if not present:
            del self._rooms[room]
