"""The one path of publications and direct messages, in and out.

Every protocol, the API and the backplane use it:

    publish -> Broker.publish -> deliver, on every node with members -> fan-out
    send -> Broker.send -> deliver_to_user, on every node where the user is -> the connections

A node subscribes to a room with its first member and unsubscribes with its last. A broker may
answer late, so a room without an answer is *subscribing*:

- Members that join before the answer wait for it too, and are told when it is there.
- When the last member leaves before the answer, that waits for it too: if there is still no member
  then, the node unsubscribes.

So a broker sees `subscribe` and `unsubscribe` of a room by turns, and never two of them at once.
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from functools import partial
from typing import TYPE_CHECKING

from tidegate.core.codes import NOT_JOINED, OVERLOADED

if TYPE_CHECKING:
    from tidegate.backplane.base import Broker, Done
    from tidegate.core.codes import Fault
    from tidegate.core.messaging.publication import Direct, Publication
    from tidegate.core.messaging.rooms import Rooms
    from tidegate.engine.connection import Connection
    from tidegate.engine.fanout import Fanout
    from tidegate.node.users import Users

__all__ = ["Delivery"]

# What a publication takes in memory while it waits, beside its data: itself, its strings, how it
# is encoded. Without it, a backlog of tiny messages would be many times larger than its bound.
_OVERHEAD = 512


class Delivery:
    """Carries messages between connections and the backplane; a `Receiver` for its broker.

    Everything belongs to the loop's thread.
    """

    _encode: Callable[[Publication, str | None], bytes]
    _tell: Callable[[Connection, Direct], None]

    def __init__(
        self, rooms: Rooms[Connection], users: Users[Connection], fanout: Fanout, broker: Broker
    ) -> None:
        self._rooms = rooms
        self._users = users
        self._fanout = fanout
        self._broker = broker
        # Rooms whose subscription is under way: their members, and what each is told by.
        self._subscribing: dict[str, dict[Connection, list[Done]]] = {}
        # Connections that published without an echo, by id.
        self._origins: dict[str | None, Connection] = {}

    async def start(
        self,
        encode: Callable[[Publication, str | None], bytes],
        tell: Callable[[Connection, Direct], None],
    ) -> None:
        """Start the broker.

        Args:
            encode: gives the frame of a publication for connections of a subprotocol.
            tell: writes a direct message to a connection. It must not raise.

        Raises:
            BackplaneError: the broker cannot serve this node.
        """
        self._encode = encode
        self._tell = tell
        await self._broker.start(self)

    async def stop(self) -> None:
        """Stop the broker. Nothing is delivered any more."""
        await self._broker.stop()

    # In.

    def join(self, connection: Connection, room: str, done: Done) -> None:
        """Put a connection into a room.

        Args:
            done: told when the broker has confirmed the room, or why the connection is not in. A
                connection that leaves before that is told so; one that is gone is told nothing.
        """
        if not connection.open:
            return  # `gone` was called, or will be, and nobody would take it out again
        waiting = self._subscribing.get(room)
        if room not in connection.rooms:
            self._fanout.before_join(room)
            fault = self._rooms.join(connection, room)
            if fault is not None:
                done(fault)
                return
            if waiting is None and self._rooms.count(room) == 1:
                self._subscribing[room] = {connection: [done]}
                self._broker.subscribe(room, partial(self._subscribed, room))
                return
        if waiting is None:
            done(None)
        else:
            waiting.setdefault(connection, []).append(done)

    def leave(self, connection: Connection, room: str) -> Fault | None:
        """Take a connection out of a room; the reason when it is not in."""
        if not self._rooms.leave(connection, room):
            return NOT_JOINED
        for done in self._left(connection, room):
            done(NOT_JOINED)
        return None

    def gone(self, connection: Connection) -> None:
        """Forget a connection that has ended."""
        if connection.rooms:
            for room in self._rooms.leave_all(connection):
                self._left(connection, room)
        self._users.remove(connection)
        if self._origins:
            self._origins.pop(connection.id, None)

    def publish(
        self, publication: Publication, done: Done, origin: Connection | None = None
    ) -> None:
        """Send a publication to the members of its room, on all nodes. HOT.

        Args:
            done: told when the broker has taken it, or why not.
            origin: the connection that published it; without it, `echo` has no effect.
        """
        # One that is closing gets nothing anyway, and must not be remembered after `gone`.
        if origin is not None and not publication.echo and origin.open:
            self._origins[origin.id] = origin
        self._broker.publish(publication, done)

    def broadcast(
        self,
        publication: Publication,
        members: Collection[Connection],
        exclude: Connection | None = None,
    ) -> Fault | None:
        """Send a publication to these connections of this node; why not, if it was dropped.

        Publications with the same `room` keep their order, and are joined where the members are
        the same, but for the one to exclude; nobody needs to be in the room.
        """
        published = self._fanout.publish(
            publication.room,
            members,
            partial(self._encode, publication),
            _OVERHEAD + len(publication.data),
            exclude,
        )
        return None if published else OVERLOADED

    def when_sent(self, room: str, action: Callable[[], None]) -> None:
        """Call `action` when all that was published to a room so far is with its members here."""
        self._fanout.when_sent((room,), action)

    def send(self, message: Direct, done: Callable[[int], None]) -> None:
        """Send a message to all connections of a user; `done` is told to how many. HOT."""
        self._broker.send(message, done)

    # Out.

    def deliver(self, publication: Publication) -> Fault | None:
        """Send a publication to the room's members on this node. Called by the broker. HOT."""
        room = publication.room
        members = self._rooms.members(room)
        if not members:
            return None
        published = self._fanout.publish(
            room,
            members,
            partial(self._encode, publication),
            _OVERHEAD + len(publication.data),
            None if publication.echo else self._origins.get(publication.connection),
        )
        return None if published else OVERLOADED

    def deliver_to_user(self, message: Direct) -> int:
        """Send a message to the user's connections on this node. Called by the broker. HOT."""
        delivered = 0
        for connection in self._users.of_user(message.user):
            if connection.open:  # telling one may have ended another
                self._tell(connection, message)
                delivered += 1
        return delivered

    # Subscriptions.

    def _left(self, connection: Connection, room: str) -> list[Done]:
        """A connection was taken out of a room; whom it had waiting for the broker's answer."""
        self._fanout.on_leave(room, connection)
        waiting = self._subscribing.get(room)
        if waiting is not None:
            return waiting.pop(connection, [])
        if not self._rooms.count(room):
            self._broker.unsubscribe(room)
        return []

    def _subscribed(self, room: str, fault: Fault | None) -> None:
        """The broker has answered: tell those who wait."""
        waiting = self._subscribing.pop(room)
        if fault is not None:
            for connection in waiting:
                self._rooms.leave(connection, room)
                self._fanout.on_leave(room, connection)
        elif not waiting:
            self._broker.unsubscribe(room)
        for connection, answers in waiting.items():
            for done in answers:
                # What one is told may end another, or make it leave.
                if fault is not None or room in connection.rooms:
                    done(fault)
                elif connection.open:
                    done(NOT_JOINED)
