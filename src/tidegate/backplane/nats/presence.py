"""Who is in rooms on all nodes, over NATS.

Nothing is kept by a server. A node tells each change on the subject of its room, which those hear
that have members there, and asks all nodes who has users in it when it gets its first member there,
and when it has missed a change. What was asked for in one turn goes together.

NATS may lose a message between two servers, and a change that no other one follows would not be
missed. So each node says from time to time which was its last one in each of its rooms.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from typing import TYPE_CHECKING, Final

import msgspec

from tidegate.backplane.nats.calls import Calls
from tidegate.backplane.nats.subjects import token
from tidegate.backplane.presence import PRESENCE, FollowedRooms
from tidegate.core.messaging.presence import Present

if TYPE_CHECKING:
    from tidegate.backplane.nats.bus import Bus
    from tidegate.backplane.nats.calls import Answered, Reply
    from tidegate.backplane.nats.peers import Peers
    from tidegate.backplane.nats.wire import Message
    from tidegate.backplane.presence import Found, Read, RoomChange
    from tidegate.core.messaging.rules import Rules

__all__ = ["NatsPresence"]

_RENEW_SECONDS: Final = 60.0
_AGAIN_SECONDS: Final = 2.0
_MOST_ASKED: Final = 500  # rooms in one question
_MOST_BYTES: Final = 1 << 18  # of users in one part of an answer
_WHO: Final = "who"

_encode = msgspec.msgpack.Encoder().encode
_read_rooms = msgspec.msgpack.Decoder(list[str]).decode
_Part = list[tuple[str, int, list[tuple[str, int, bytes | None]]]]
_read_part = msgspec.msgpack.Decoder(_Part).decode


class NatsPresence(FollowedRooms):
    """Tells the others who is here, and this node who is there.

    Args:
        bus: the connection to the server.
        rules: which rooms show who is there.
        peers: knows which nodes live.
    """

    def __init__(self, bus: Bus, rules: Rules, peers: Peers) -> None:
        super().__init__(bus.node, rules, peers.living, _RENEW_SECONDS)
        self._bus = bus
        self._calls = Calls(bus, peers, "who", self._asked)
        self._room = f"{bus.prefix}.room."
        self._asking: dict[str, list[Read]] = {}
        peers.living.watch(self._node_gone, self._node_back, self._all_again)
        bus.watch(heard=self._all_again, stopped=self._stop)
        bus.hear(self._again_of(bus.node), self._told_again)

    # Reading.

    def _ask(self, room: str, done: Read) -> None:
        if not self._asking:
            asyncio.get_running_loop().call_soon(self._ask_all)
        self._asking.setdefault(room, []).append(done)

    def _ask_all(self) -> None:
        """Ask for all rooms of this turn."""
        asking, self._asking = self._asking, {}
        rooms = list(asking)
        for first in range(0, len(rooms), _MOST_ASKED):
            some = rooms[first : first + _MOST_ASKED]
            self._ask_some({room: asking[room] for room in some})

    def _ask_some(self, asking: dict[str, list[Read]]) -> None:
        def answered(answer: Answered) -> None:
            parts, silent, failed = answer
            if failed and not parts:
                for waiting in asking.values():
                    for done in waiting:
                        done(None, ())
                return
            rooms: dict[str, Found] = {room: {} for room in asking}
            for node, bodies in parts.items():
                for body in bodies:
                    for room, number, users in _read_part(body):
                        found = rooms[room].setdefault(node, (number, []))
                        found[1].extend(Present(*one) for one in users)
            for room, waiting in asking.items():
                if self._receiver.has(room):
                    number = self._told.get(room, 0)
                    rooms[room][self._node] = number, list(self._receiver.own(room))
                for done in waiting:
                    done(dict(rooms[room]), silent)

        self._calls.ask(_WHO, _encode(list(asking)), self._bus.timeout, answered)

    def _asked(self, kind: str, body: bytes, reply: Reply) -> None:
        """Another node asks who is here."""
        if kind != _WHO:
            reply(None, True)
            return
        part: _Part = []
        size = 0
        for room in _read_rooms(body):
            for users, bytes_ in self._users(room):
                part.append((room, self._told.get(room, 0), users))
                size += bytes_
                if size > _MOST_BYTES:
                    reply(_encode(part), False)
                    part, size = [], 0
        reply(_encode(part), True)

    def _users(self, room: str) -> Iterator[tuple[list[tuple[str, int, bytes | None]], int]]:
        """Yield the users of a room on this node, so many as a part can have, and their bytes."""
        users: list[tuple[str, int, bytes | None]] = []
        size = 0
        for one in self._receiver.own(room):
            users.append((one.user, one.devices, one.info))
            size += len(one.user) + len(one.info or b"") + 8
            if size > _MOST_BYTES:
                yield users, size
                users, size = [], 0
        if users:
            yield users, size

    # Writing.

    def _send(self, room: str, change: RoomChange) -> None:
        told = change.told
        if len(told) + len(PRESENCE) > self._bus.link.largest:  # the others ask for it
            told = _encode((self._node, 0, change.number, False, None, []))
        self._bus.tell(self._room + token(room), PRESENCE + told)
        if not self._receiver.has(room):
            loop = asyncio.get_running_loop()
            loop.call_later(_AGAIN_SECONDS, self._still_left, room, change.number)

    def _still_left(self, room: str, number: int) -> None:
        """Say once more that nobody is here any more: nothing else follows that would show it."""
        if not self._receiver.has(room):
            told = _encode((self._node, 0, number, True, [], []))
            self._bus.tell(self._room + token(room), PRESENCE + told)

    def _renew_room(self, room: str) -> None:
        number = self._told.get(room)
        if number is not None:
            told = _encode((self._node, number, number, False, [], []))
            self._bus.tell(self._room + token(room), PRESENCE + told)

    # Nodes.

    def _node_gone(self, node: str) -> None:
        for room in self._receiver.rooms_of(node):
            self._forget_node(room, node)

    def _node_back(self, node: str) -> None:
        """A node has come, or was away for a while: it tells what it has."""
        if self._rooms:
            self._bus.tell(self._again_of(node), b"")

    def _told_again(self, _: Message) -> None:
        self._all_again()

    def _again_of(self, node: str) -> str:
        return self._bus.name("again", node)
