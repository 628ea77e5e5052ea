"""Who is in rooms on all nodes, whatever carries it.

Each node tells the others that have members in a room which users it has there, and what changes.
So each of them knows all users of its own rooms. What a node has depends on nothing but that node:
one that is gone takes its users with it, and there is nothing to count down.

Changes of a node are chained by numbers. Where one is missing, and after a link was down, the whole
room is read again; what comes in between is kept for then. A node that was cut off, or stood still,
tells everything that it has again.
"""

from __future__ import annotations

import asyncio
from abc import ABC, abstractmethod
from collections.abc import Callable, Collection, Sequence
from functools import partial
from typing import TYPE_CHECKING, Final, NamedTuple, TypeAlias

import msgspec

from tidegate.core.codes import BACKPLANE_DOWN
from tidegate.core.messaging.presence import Present

if TYPE_CHECKING:
    from tidegate.backplane.base import Done, PresenceReceiver
    from tidegate.backplane.living import LivingNodes
    from tidegate.core.codes import Fault
    from tidegate.core.messaging.rules import Rules

__all__ = ["PRESENCE", "FollowedRooms", "Found", "Read", "RoomChange"]

PRESENCE: Final = b"p\n"
"""How a change begins, among what is published to a room's channel."""

_TOGETHER: Final = 200  # rooms, before others get their turn
_PAUSE_SECONDS: Final = 0.01
_MOST_SENT: Final = 1000  # users in one message; where there are more, the others read them
_MOST_KEPT: Final = 1000  # changes while a room is read
_AGAIN_SECONDS: Final = 1.0

Found: TypeAlias = "dict[str, tuple[int, list[Present]]]"
"""Who is in a room: by node, the number of its last change and its users."""

Read: TypeAlias = "Callable[[Found | None, Collection[str]], None]"
"""Told who is in a room, None where that cannot be known, and which nodes have not said it."""


class RoomChange(NamedTuple):
    """What has changed in a room on this node."""

    told: bytes
    """All of it, as the others are told."""
    number: int
    users: Sequence[Present]
    left: Sequence[str]
    whole: bool
    """Whether the room has no other users on this node."""


class _Told(msgspec.Struct, array_like=True, frozen=True):
    """A change, as it is published; fields that come new are put at the end."""

    node: str
    before: int
    """The number of the change before this one; 0 for none."""
    number: int
    whole: bool
    users: list[tuple[str, int, bytes | None]] | None
    """None where they are to be read."""
    left: list[str]


_encode = msgspec.msgpack.Encoder().encode
_read_told = msgspec.msgpack.Decoder(_Told).decode


class _Followed:
    """A room with members on this node."""

    __slots__ = ("kept", "numbers", "reading", "waiting")

    def __init__(self) -> None:
        self.numbers: dict[str, int] = {}
        """The last change of each other node."""
        self.reading = False
        self.kept: list[_Told] = []
        """What came while it was read."""
        self.waiting: list[Done] = []


class FollowedRooms(ABC):
    """Tells the others who is here, and this node who is there.

    Args:
        node: the name of this node.
        rules: which rooms show who is there.
        living: knows which nodes live.
        renew_seconds: within which time each room of this node is renewed.
    """

    _receiver: PresenceReceiver

    def __init__(self, node: str, rules: Rules, living: LivingNodes, renew_seconds: float) -> None:
        self._node = node
        self._rules = rules
        self._living = living
        self._renew_seconds = renew_seconds
        self._rooms: dict[str, _Followed] = {}
        self._number = 0
        self._told: dict[str, int] = {}  # the last change of this node in each of its rooms
        self._work: asyncio.Task[None] | None = None
        self._again = False
        self._to_renew: list[str] = []
        self._renewing: asyncio.TimerHandle | None = None

    @abstractmethod
    def _ask(self, room: str, done: Read) -> None:
        """Ask who is in a room."""

    @abstractmethod
    def _send(self, room: str, change: RoomChange) -> None:
        """Tell the others a change."""

    @abstractmethod
    def _renew_room(self, room: str) -> None:
        """Renew what the others know of a room of this node."""

    def start(self, receiver: PresenceReceiver, /) -> None:
        """Tell this receiver who is on other nodes."""
        self._receiver = receiver

    def tell(self, room: str, users: Sequence[Present], left: Sequence[str], /) -> None:
        """Tell the others what has changed in a room on this node."""
        self._write(room, users, left, whole=False)

    def follows(self, room: str, /) -> bool:
        """Whether this node knows who is in a room on the others."""
        return room in self._rooms

    def read(self, room: str, done: Callable[[dict[str, list[Present]] | Fault], None], /) -> None:
        """Read who is in a room, by node; this one included as far as it has told."""

        def answered(found: Found | None, _: Collection[str]) -> None:
            if found is None:
                done(BACKPLANE_DOWN)
            else:
                done({node: users for node, (_, users) in found.items()})

        self._ask(room, answered)

    # The broker.

    def entering(self, room: str, done: Done) -> Done:
        """Return what is told that a room is subscribed: then it is read, and `done` is told."""
        if not (self._rules.some and self._rules.of(room).presence != "off"):
            return done

        def subscribed(fault: Fault | None) -> None:
            if fault is not None:
                done(fault)
                return
            followed = self._rooms[room] = _Followed()
            followed.waiting.append(done)
            self._refresh(room, followed)

        return subscribed

    def left(self, room: str) -> None:
        """The node has no member in a room any more."""
        if self._rooms.pop(room, None) is not None:
            self._receiver.forget(room)

    def told(self, room: str, data: bytes) -> None:
        """Another node has told a change."""
        followed = self._rooms.get(room)
        if followed is None:
            return
        told = _read_told(data)
        if told.node == self._node:
            return
        self._living.expect(told.node)
        if not followed.reading:
            self._take(room, followed, told)
        elif len(followed.kept) < _MOST_KEPT:
            followed.kept.append(told)

    # Reading.

    def _take(self, room: str, followed: _Followed, told: _Told) -> None:
        node, known = told.node, followed.numbers.get(told.node, 0)
        if told.number <= known:
            return
        if told.users is None or not (told.whole or told.before == known):
            self._refresh(room, followed)
            return
        users = [Present(*one) for one in told.users]
        self._put(room, followed, node, told.number, users, told.left, whole=told.whole)

    def _put(
        self,
        room: str,
        followed: _Followed,
        node: str,
        number: int,
        users: Sequence[Present],
        left: Sequence[str],
        *,
        whole: bool,
    ) -> None:
        if self._receiver.others(room, node, users, left, whole):
            followed.numbers[node] = number
        else:  # it has nobody there any more, and begins anew
            followed.numbers.pop(node, None)

    def _refresh(self, room: str, followed: _Followed) -> None:
        if not followed.reading:
            followed.reading = True
            self._ask(room, partial(self._refreshed, room, followed))

    def _refreshed(
        self, room: str, followed: _Followed, found: Found | None, silent: Collection[str]
    ) -> None:
        followed.reading = False
        kept, followed.kept = followed.kept, []
        waiting, followed.waiting = followed.waiting, []
        if self._rooms.get(room) is followed and found is not None:
            found.pop(self._node, None)
            for node in (*followed.numbers, *self._receiver.nodes(room)):
                if node not in found and node not in silent:
                    self._put(room, followed, node, 0, (), (), whole=True)
            for node, (number, users) in found.items():
                self._living.expect(node)
                self._put(room, followed, node, number, users, (), whole=True)
            for told in kept:
                if not followed.reading:
                    self._take(room, followed, told)
            if len(kept) == _MOST_KEPT:
                self._refresh(room, followed)
            if silent:
                loop = asyncio.get_running_loop()
                loop.call_later(_AGAIN_SECONDS, self._look_again, room, followed)
        for done in waiting:
            done(None)

    def _look_again(self, room: str, followed: _Followed) -> None:
        if self._rooms.get(room) is followed:
            self._refresh(room, followed)

    # Writing.

    def _write(
        self, room: str, users: Sequence[Present], left: Sequence[str], *, whole: bool
    ) -> None:
        self._number = number = self._number + 1
        before = self._told.get(room, 0)
        sent = None if len(users) > _MOST_SENT else [tuple(one) for one in users]
        told = _encode((self._node, before, number, whole, sent, list(left)))
        self._send(room, RoomChange(told, number, users, left, whole))
        if self._receiver.has(room):
            self._told[room] = number
        else:
            self._told.pop(room, None)

    # All rooms.

    def _all_again(self) -> None:
        """Write what this node has, and read its rooms: something may have been missed."""
        self._again = True
        if self._work is None or self._work.done():
            self._work = asyncio.get_running_loop().create_task(self._write_and_read())
        if self._renewing is None:
            self._renew()

    async def _write_and_read(self) -> None:
        while self._again:
            self._again = False
            own = set(self._receiver.own_rooms())
            for number, room in enumerate([*own, *(self._rooms.keys() - own)], 1):
                if room in own:
                    self._write(room, list(self._receiver.own(room)), (), whole=True)
                followed = self._rooms.get(room)
                if followed is not None:
                    self._refresh(room, followed)
                if number % _TOGETHER == 0:
                    await asyncio.sleep(_PAUSE_SECONDS)

    def _renew(self) -> None:
        """Keep what this node has written, a part of it each second."""
        loop = asyncio.get_running_loop()
        self._renewing = loop.call_later(1.0, self._renew)
        if not self._to_renew:
            self._to_renew = list(self._told)
        some = 1 + int(len(self._told) / self._renew_seconds)
        self._to_renew, rooms = self._to_renew[:-some], self._to_renew[-some:]
        for room in rooms:
            self._renew_room(room)

    def _stop(self) -> None:
        if self._renewing is not None:
            self._renewing.cancel()
            self._renewing = None
        self._rooms.clear()
        if self._work is not None:
            self._work.cancel()

    def _forget_node(self, room: str, node: str) -> None:
        """A node that is gone has nobody in a room any more."""
        followed = self._rooms.get(room)
        if followed is not None:
            self._put(room, followed, node, 0, (), (), whole=True)
