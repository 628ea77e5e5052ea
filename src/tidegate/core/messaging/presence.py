"""Which users are in which rooms, and what has changed: once for a user, not for each connection.

A user is in a room from its first connection there until its last one has gone, and for a grace
time after that, so that a reconnect is no leave. Changes are gathered until somebody takes them:
a user that has left and come back in between has not changed.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import NamedTuple

from tidegate.core.timing.deadlines import Deadlines

__all__ = ["Change", "Presence", "Present"]


class Present(NamedTuple):
    """A user in a room."""

    user: str
    devices: int
    """How many connections it has there; 0 in its grace time."""
    info: bytes | None
    """What its token says about it, as JSON."""


class Change(NamedTuple):
    """What has changed in a room since the last look."""

    joined: list[Present]
    left: list[str]
    total: int
    """How many users are there now."""


@dataclass(slots=True, eq=False)
class _User:
    devices: int = 0
    info: bytes | None = None


@dataclass(slots=True, eq=False)
class _Room:
    users: dict[str, _User] = field(default_factory=dict)
    changed: dict[str, bool] = field(default_factory=dict)  # whether a user joined, or else left


class Presence:
    """The users of all rooms that show who is there."""

    __slots__ = ("_ends", "_rooms", "changed")

    def __init__(self) -> None:
        self._rooms: dict[str, _Room] = {}
        self._ends: Deadlines[tuple[str, str]] = Deadlines()
        self.changed: dict[str, None] = {}
        """The rooms with changes that nobody has taken, in the order in which they changed."""

    def join(self, room: str, user: str, info: bytes | None = None) -> None:
        """A connection of a user has come to a room. Its `info` is the user's from now on."""
        place = self._rooms.get(room)
        if place is None:
            place = self._rooms[room] = _Room()
        present = place.users.get(user)
        if present is None:
            present = place.users[user] = _User()
            self._note(room, place, user, joined=True)
        elif not present.devices:
            self._ends.discard((room, user))
        present.devices += 1
        present.info = info

    def leave(self, room: str, user: str, now: float, grace: float) -> None:
        """A connection of a user has gone from a room; if it was the last, it leaves after `grace`.

        Args:
            room: where it was.
            user: whose it was.
            now: the time in seconds.
            grace: seconds; 0 for at once.
        """
        place = self._rooms[room]
        present = place.users[user]
        present.devices -= 1
        if present.devices:
            return
        if grace:
            self._ends.set((room, user), now + grace)
        else:
            self._end(room, place, user)

    def tick(self, now: float) -> None:
        """Let those leave whose grace time is over."""
        for room, user in self._ends.take(now):
            self._end(room, self._rooms[room], user)

    def take(self, room: str) -> Change | None:
        """Return what has changed in a room, once; None for nothing."""
        self.changed.pop(room, None)
        place = self._rooms.get(room)
        if place is None or not place.changed:
            return None
        changed, place.changed = place.changed, {}
        joined = [self._present(place, user) for user, here in changed.items() if here]
        left = [user for user, here in changed.items() if not here]
        count = len(place.users)
        if not count:
            del self._rooms[room]
        return Change(joined, left, count)

    def users(self, room: str) -> Iterator[Present]:
        """Yield the users of a room, in the order in which they came."""
        place = self._rooms.get(room)
        if place is not None:
            yield from (self._present(place, user) for user in place.users)

    def get(self, room: str, user: str) -> Present | None:
        """Return a user of a room; None when it is not there."""
        place = self._rooms.get(room)
        return None if place is None or user not in place.users else self._present(place, user)

    def count(self, room: str) -> int:
        """How many users a room has."""
        place = self._rooms.get(room)
        return 0 if place is None else len(place.users)

    def __len__(self) -> int:
        """How many rooms have users, or changes that nobody has taken."""
        return len(self._rooms)

    def _end(self, room: str, place: _Room, user: str) -> None:
        del place.users[user]
        self._note(room, place, user, joined=False)

    def _note(self, room: str, place: _Room, user: str, joined: bool) -> None:
        if place.changed.get(user) is not None:  # the other way: nothing has changed
            del place.changed[user]
            if not place.changed:
                del self.changed[room]
                if not place.users:
                    del self._rooms[room]
        else:
            place.changed[user] = joined
            self.changed[room] = None

    @staticmethod
    def _present(place: _Room, user: str) -> Present:
        present = place.users[user]
        return Present(user, present.devices, present.info)
