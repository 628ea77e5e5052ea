"""Which users are in which rooms on any node of a fleet: once for a user, wherever it is.

Each node says which users it has. A user is in a room as long as a node has it there. What this
node has is kept as by `Presence`, with its grace time, and what has changed of it is gathered, so
that the others can be told. What they have is put here.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Final

from tidegate.core.messaging.presence import Change, Presence, Present

__all__ = ["FleetPresence"]

_NOBODY: Final[dict[str, Present]] = {}


class _Room:
    """One room."""

    __slots__ = ("changed", "nodes", "own_changed", "users")

    def __init__(self) -> None:
        self.nodes: dict[str, dict[str, Present]] = {}
        """What other nodes have."""
        self.users: dict[str, int] = {}
        """On how many nodes a user is, in the order in which they came."""
        self.changed: dict[str, bool] = {}
        """Whether a user joined, or else left, since that was taken."""
        self.own_changed: dict[str, None] = {}
        """The users that are not on this node as the other nodes know it."""

    @property
    def idle(self) -> bool:
        return not (self.users or self.changed or self.own_changed or self.nodes)


class FleetPresence:
    """The users of all rooms that show who is there; the first calls are those of `Presence`."""

    __slots__ = ("_own", "_rooms", "changed", "own_changed")

    def __init__(self) -> None:
        self._own = Presence()
        self._rooms: dict[str, _Room] = {}
        self.changed: dict[str, None] = {}
        """The rooms with changes that nobody has taken, in the order in which they changed."""
        self.own_changed: dict[str, None] = {}
        """The rooms with changes on this node that the other nodes have not been told."""

    # This node.

    def join(self, room: str, user: str, info: bytes | None = None) -> None:
        """A connection of a user has come to a room. Its `info` is the user's from now on."""
        self._own.join(room, user, info)
        self._touch(room, user)
        self._follow(room)

    def leave(self, room: str, user: str, now: float, grace: float) -> None:
        """A connection of a user has gone from a room; if it was the last, it leaves after `grace`
        seconds."""
        self._own.leave(room, user, now, grace)
        self._touch(room, user)
        self._follow(room)

    def tick(self, now: float) -> None:
        """Let those leave whose grace time is over."""
        self._own.tick(now)
        for room in tuple(self._own.changed):
            self._follow(room)

    def own(self, room: str) -> Iterator[Present]:
        """Yield the users that a room has on this node."""
        return self._own.users(room)

    def has(self, room: str) -> bool:
        """Whether a room has users on this node."""
        return self._own.count(room) > 0

    def own_rooms(self) -> list[str]:
        """Return the rooms that have users on this node."""
        return [room for room in self._rooms if self._own.count(room)]

    def take_own(self, room: str) -> tuple[list[Present], list[str]]:
        """Return who has come to a room on this node or is there with other devices, and who has
        left it; once."""
        self.own_changed.pop(room, None)
        place = self._rooms[room]
        users, place.own_changed = place.own_changed, {}
        here, left = [], []
        for user in users:
            present = self._own.get(room, user)
            if present is None:
                left.append(user)
            else:
                here.append(present)
        self._tidy(room, place)
        return here, left

    # Other nodes.

    def others(
        self, room: str, node: str, users: Iterable[Present], left: Iterable[str], whole: bool
    ) -> bool:
        """Another node has these users in a room, and not any more those that have `left`.

        Args:
            whole: whether it has no other users there.

        Returns:
            Whether it has any there now.
        """
        place = self._place(room)
        before = place.nodes.get(node, _NOBODY)
        known = before if before is not _NOBODY else {}
        wanted = {one.user: one for one in users}
        gone = [user for user in before if user not in wanted] if whole else list(left)
        for user in gone:
            if known.pop(user, None) is not None:
                self._hold(room, place, user, -1)
        for user, present in wanted.items():
            if user not in known:
                self._hold(room, place, user, 1)
            known[user] = present
        if known:
            place.nodes[node] = known
        else:
            place.nodes.pop(node, None)
        self._tidy(room, place)
        return bool(known)

    def nodes(self, room: str) -> list[str]:
        """Return the other nodes that have users in a room."""
        place = self._rooms.get(room)
        return [] if place is None else list(place.nodes)

    def rooms_of(self, node: str) -> list[str]:
        """Return the rooms in which another node has users."""
        return [room for room, place in self._rooms.items() if node in place.nodes]

    def forget(self, room: str) -> None:
        """Forget what other nodes have in a room, because this one does not follow it any more."""
        for node in self.nodes(room):
            self.others(room, node, (), (), True)

    # All.

    def take(self, room: str) -> Change | None:
        """Return what has changed in a room, once; None for nothing."""
        self.changed.pop(room, None)
        place = self._rooms.get(room)
        if place is None or not place.changed:
            return None
        changed, place.changed = place.changed, {}
        joined = [self._present(room, place, user) for user, here in changed.items() if here]
        left = [user for user, here in changed.items() if not here]
        count = len(place.users)
        self._tidy(room, place)
        return Change(joined, left, count)

    def users(self, room: str) -> Iterator[Present]:
        """Yield the users of a room, in the order in which they came to this node's knowledge."""
        place = self._rooms.get(room)
        if place is not None:
            yield from (self._present(room, place, user) for user in place.users)

    def count(self, room: str) -> int:
        """How many users a room has."""
        place = self._rooms.get(room)
        return 0 if place is None else len(place.users)

    def __len__(self) -> int:
        """How many rooms have users, or changes that nobody has taken."""
        return len(self._rooms)

    # How.

    def _place(self, room: str) -> _Room:
        place = self._rooms.get(room)
        if place is None:
            place = self._rooms[room] = _Room()
        return place

    def _tidy(self, room: str, place: _Room) -> None:
        if place.idle:
            del self._rooms[room]

    def _touch(self, room: str, user: str) -> None:
        self._place(room).own_changed[user] = None
        self.own_changed[room] = None

    def _follow(self, room: str) -> None:
        """Take over what has changed on this node."""
        change = self._own.take(room)
        if change is None:
            return
        place = self._place(room)
        for one in change.joined:
            self._hold(room, place, one.user, 1)
        for user in change.left:
            self._touch(room, user)
            self._hold(room, place, user, -1)

    def _hold(self, room: str, place: _Room, user: str, more: int) -> None:
        """One node more has a user, or one less."""
        count = place.users.get(user, 0)
        if count + more:
            place.users[user] = count + more
        else:
            del place.users[user]
        if count and count + more:
            return
        if place.changed.get(user) is not None:  # the other way: nothing has changed
            del place.changed[user]
            if not place.changed:
                del self.changed[room]
        else:
            place.changed[user] = not count
            self.changed[room] = None

    def _present(self, room: str, place: _Room, user: str) -> Present:
        devices, info = 0, None
        own = self._own.get(room, user)
        parts = [users[user] for users in place.nodes.values() if user in users]
        for one in parts if own is None else (*parts, own):
            devices += one.devices
            info = info if one.info is None else one.info
        return Present(user, devices, info)
