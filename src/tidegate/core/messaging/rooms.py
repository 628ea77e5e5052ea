"""Rooms and their members, within the limits of rooms, of connections and of users."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Hashable, Iterator
from threading import Lock
from typing import Final, Generic, NamedTuple, Protocol, TypeVar

from tidegate.core.codes import (
    ROOM_LIMIT,
    ROOM_USER_LIMIT,
    TOO_MANY_ROOMS,
    TOO_MANY_USER_ROOMS,
    Fault,
)
from tidegate.core.messaging.rules import Rules

__all__ = ["Count", "Member", "Rooms"]


class Member(Hashable, Protocol):
    """What can join a room: anything with a `rooms` attribute that only Rooms writes."""

    rooms: tuple[str, ...]


M = TypeVar("M", bound=Member)

_FAULTS: Final = (ROOM_LIMIT, TOO_MANY_ROOMS, TOO_MANY_USER_ROOMS, ROOM_USER_LIMIT)


class Count(NamedTuple):
    """What counts in a limit, and the limit; None for no limit."""

    now: int
    most: int | None


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

    Args:
        per_room: the most members of a room whose rule has no `members`.
        rooms_per_connection: the most rooms of a member.
        rules: those of the rooms.
        rooms_per_user: the most rooms of all members of a user together; None for no limit.
    """

    __slots__ = (
        "_lock",
        "_per_connection",
        "_per_room",
        "_per_user",
        "_rooms",
        "_rules",
        "refused",
    )

    def __init__(
        self,
        per_room: int,
        rooms_per_connection: int,
        rules: Rules | None = None,
        rooms_per_user: int | None = None,
    ) -> None:
        self._rules = Rules() if rules is None else rules
        self._lock = Lock()
        self._per_room = per_room
        self._per_connection = rooms_per_connection
        self._per_user = rooms_per_user
        self.refused: Counter[str] = Counter({fault.name: 0 for fault in _FAULTS})
        """How many joins were refused, by the name of the reason."""
        self._rooms: dict[str, _Room[M]] = {}

    @property
    def per_connection(self) -> int:
        """The most rooms that a member may be in."""
        return self._per_connection

    def apply(
        self, per_room: int, rooms_per_connection: int, rooms_per_user: int | None = None
    ) -> None:
        """Take over other limits, for the joins from now on. No member has to leave a room."""
        with self._lock:
            self._per_room = per_room
            self._per_connection = rooms_per_connection
            self._per_user = rooms_per_user

    def join(self, member: M, room: str, devices: Collection[M] = ()) -> Fault | None:
        """Put a member into a room and return None, or return why it cannot join.

        Joining twice is fine and counts once.

        Args:
            devices: all members of the same user, this one included; none without a user, who has
                no limits then. What a user has is counted over them when it is asked for, so that
                there is no second count that could differ.
        """
        with self._lock:
            present = self._rooms.get(room)
            if present is not None and member in present:
                return None
            joined = member.rooms
            fault: Fault | None
            if len(joined) >= self._per_connection:
                fault = TOO_MANY_ROOMS
            elif (0 if present is None else len(present)) >= self.most(room):
                fault = ROOM_LIMIT
            else:
                fault = self._of_user(room, devices)
            if fault is not None:
                self.refused[fault.name] += 1
                return fault
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

    def replace(self, member: M, other: M) -> None:
        """Give the memberships of one member to another, which is in no room yet."""
        with self._lock:
            for room in member.rooms:
                present = self._rooms[room]
                del present[member]
                present[other] = None
            other.rooms = member.rooms
            member.rooms = ()

    def members(self, room: str) -> Collection[M]:
        """Return the members of a room in the order in which they joined; empty without any.

        It is the room itself, not a copy: copy it before a loop that may join or leave.
        """
        return self._rooms.get(room, ())

    def count(self, room: str) -> int:
        """How many members a room has."""
        return len(self._rooms.get(room, ()))

    def most(self, room: str) -> int:
        """The most members that a room may have."""
        if self._rules.some:
            most = self._rules.of(room).members
            if most is not None:
                return most
        return self._per_room

    def counts(self, room: str, devices: Collection[M] = ()) -> tuple[Count, Count, Count]:
        """Return what counts in the limits that a join to a room has to keep.

        They are the members of the room, those that are of the user, and the user's other rooms: a
        room that the user is in already is no further one.

        Args:
            devices: all members of the user that asks.
        """
        with self._lock:
            rooms, inside = self._taken(room, devices)
            return (
                Count(self.count(room), self.most(room)),
                Count(inside, self._most_of_user(room)),
                Count(len(rooms - {room}), self._per_user),
            )

    def __iter__(self) -> Iterator[str]:
        """Yield the names of the rooms: of a copy, so the loop over it may join and leave."""
        return iter(tuple(self._rooms))

    def __len__(self) -> int:
        """How many rooms there are."""
        return len(self._rooms)

    def _most_of_user(self, room: str) -> int | None:
        return self._rules.of(room).members_per_user if self._rules.some else None

    def _of_user(self, room: str, devices: Collection[M]) -> Fault | None:
        """Why a user may not be in a room, or not with another connection."""
        most = self._most_of_user(room)
        if not devices or (most is None and self._per_user is None):
            return None
        rooms, inside = self._taken(room, devices)
        if most is not None and inside >= most:
            return ROOM_USER_LIMIT
        if self._per_user is not None and room not in rooms and len(rooms) >= self._per_user:
            return TOO_MANY_USER_ROOMS
        return None

    def _taken(self, room: str, devices: Collection[M]) -> tuple[set[str], int]:
        """The rooms that these members are in, and how many of them are in one room."""
        present = self._rooms.get(room, ())
        rooms = {name for member in devices for name in member.rooms}
        return rooms, sum(member in present for member in devices)

    def _remove(self, member: M, room: str, present: _Room[M]) -> None:
        del present[member]
        if not present:
            del self._rooms[room]
