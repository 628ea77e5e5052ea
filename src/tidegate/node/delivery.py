"""The one path of publications and direct messages, in and out.

Every protocol, the API and the backplane use it:

    publish -> Broker.publish -> deliver, on every node with members -> fan-out
    send -> Broker.send -> deliver_to_user, on every node where the user is -> the connections

Who is in which room is in `node.joining`.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable
from functools import partial
from typing import TYPE_CHECKING, Final

from tidegate.core.codes import OVERLOADED
from tidegate.engine.states import Admission
from tidegate.node.joining import Joining
from tidegate.node.recovery import Recovery

if TYPE_CHECKING:
    from tidegate.backplane.base import Broker, Done, HistoryQuery
    from tidegate.core.codes import Fault
    from tidegate.core.messaging.history import Page
    from tidegate.core.messaging.publication import Direct, Publication
    from tidegate.core.messaging.rooms import Rooms
    from tidegate.engine.connection import Connection
    from tidegate.engine.fanout import Fanout
    from tidegate.node.deltas import EncodeDelta
    from tidegate.node.fleet_leases import FleetLeases
    from tidegate.node.identities import Each
    from tidegate.node.presence import RoomPresence
    from tidegate.node.recovery import Recovered, Wanted
    from tidegate.node.users import Users

__all__ = ["Delivery"]

# What a publication takes in memory while it waits, beside its data: itself, its strings, how it
# is encoded. Without it, a backlog of tiny messages would be many times larger than its bound.
_OVERHEAD = 512
_ALL: Final = "\0all"  # no room of this name can be joined


class Delivery(Joining):
    """Carries messages between connections and the backplane; a `Receiver` for its broker.

    Everything belongs to the loop's thread.
    """

    _encode: Callable[[Publication, str | None], bytes]
    _tell: Callable[[Connection, Direct], None]
    _absent: Callable[[Connection, Direct], bool] | None
    _encode_delta: EncodeDelta

    def __init__(
        self,
        rooms: Rooms[Connection],
        users: Users[Connection],
        fanout: Fanout,
        broker: Broker,
        presence: RoomPresence,
        leases: FleetLeases | None = None,
    ) -> None:
        super().__init__(
            rooms, users, fanout, broker, presence, leases, Recovery(broker, self.frames)
        )
        self.arriving: dict[str, Callable[[Direct], None]] = {}
        """Who hears all direct messages, for sessions that come from another node, by their id."""

    async def start(
        self,
        encode: Callable[[Publication, str | None], bytes],
        encode_delta: EncodeDelta,
        tell: Callable[[Connection, Direct], None],
        absent: Callable[[Connection, Direct], bool] | None = None,
        everyone: Callable[[], Iterable[Connection]] = tuple,
        gap: Callable[[Connection, str], None] | None = None,
        each: Each | None = None,
        lost: Callable[[], None] | None = None,
    ) -> None:
        """Start the broker.

        Args:
            encode: gives the frame of a publication for connections of a subprotocol.
            encode_delta: gives it for those that have asked for deltas.
            tell: writes a direct message to a connection. It must not raise.
            absent: keeps one for a connection that has ended; False when it may not come back.
            everyone: returns the connections of this node.
            gap: tells a connection that messages to a room did not reach it.
            each: does something with each of many connections, spread where that takes long.
            lost: called when direct messages may not have come to this node.

        Raises:
            BackplaneError: the broker cannot serve this node.
        """
        self._encode = encode
        self._encode_delta = encode_delta
        self._tell = tell
        self._absent = absent
        self._everyone = everyone
        self._gap = gap
        self._each = each
        self._lost = lost
        await self._broker.start(self)

    async def stop(self) -> None:
        """Stop the broker. Nothing is delivered any more."""
        await self._broker.stop()

    # In.

    def recover(self, connection: Connection, room: str, wanted: Wanted, done: Recovered) -> None:
        """Put a connection into a room, and send it messages of the room's history first.

        They come behind what `done` sends, and before all that is published from then on: without
        a gap, twice nothing and in order. A connection that is in the room already gets nothing of
        what is on its way to it; that is among the messages of the history.

        Args:
            done: told the history, or why the connection is not in or there is no history: in the
                latter case it is in the room nevertheless. One that is gone is told nothing.
        """
        if not connection.open:
            return
        if not self._recovery.hold(connection, room):
            done(OVERLOADED)
            return
        if room in connection.rooms:
            self._fanout.before_join(room)
            self._fanout.on_leave(room, connection)

        def joined(fault: Fault | None) -> None:
            if fault is not None:
                self._recovery.gone(connection, room)
                done(fault)
            else:
                self._recovery.ask(connection, room, wanted, done)

        self.join(connection, room, joined)

    def history(self, room: str, query: HistoryQuery, done: Callable[[Page | Fault], None]) -> None:
        """Read a room's history; `done` is told it, or why it cannot be read."""
        self._broker.history(room, query, done)

    def frames(self, connection: Connection, publications: Iterable[Publication]) -> list[bytes]:
        """Encode publications for one connection."""
        return [self._encode(one, connection.subprotocol) for one in publications]

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
        if origin is None or not self._members.asked:
            self._broker.publish(publication, done)
            return

        def known(fault: Fault | None) -> None:
            if fault is None:
                self._broker.publish(publication, done)
            else:
                done(fault)

        self._members.then(origin, publication.room, known, _OVERHEAD + len(publication.data))

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
            () if exclude is None else (exclude,),
        )
        return None if published else OVERLOADED

    def when_sent(self, room: str, action: Callable[[], None]) -> None:
        """Call `action` when all that was published to a room so far is with its members here."""
        self._fanout.when_sent((room,), action)

    def send(self, message: Direct, done: Callable[[int], None]) -> None:
        """Send a message to all connections of a user; `done` is told to how many. HOT."""
        self._broker.send(message, done)

    def to_all(self, message: Publication, done: Callable[[int], None]) -> None:
        """Send a message without a room to all connections, on all nodes; `done`: to how many."""
        self._broker.to_all(message, done)

    # Out.

    def deliver(self, publication: Publication) -> Fault | None:
        """Send a publication to the room's members on this node. Called by the broker. HOT."""
        room = publication.room
        members = self._rooms.members(room)
        if not members:
            return None
        exclude: Collection[Connection] = ()
        if not publication.echo and (origin := self._origins.get(publication.connection)):
            exclude = (origin,)
        if self._recovery.rooms:
            exclude = (*exclude, *self._recovery.held(publication))
        if self._members.asked:
            exclude = (*exclude, *self._members.asked.get(room, ()))
        chain = self.deltas.rooms.get(room)
        size = _OVERHEAD + len(publication.data)
        if chain is None:
            encode = partial(self._encode, publication)
            published = self._fanout.publish(room, members, encode, size, exclude)
        else:
            link = self.deltas.link(chain, publication, self._encode, self._encode_delta)
            published = self._fanout.publish(room, members, link, size, exclude)
            if published:
                self.deltas.sent(chain, publication)
        return None if published else OVERLOADED

    def deliver_to_user(self, message: Direct) -> int:
        """Send a message to the user's connections on this node. Called by the broker. HOT."""
        delivered = 0
        if self.arriving:
            for hear in tuple(self.arriving.values()):
                hear(message)
        for connection in self._users.of_user(message.user):
            if connection.open:  # telling one may have ended another
                self._tell(connection, message)
                delivered += 1
            elif self._absent is not None and self._absent(connection, message):
                delivered += 1
        return delivered

    def deliver_to_all(self, message: Publication) -> int:
        """Send a message to all connections of this node. Called by the broker."""
        members = [
            connection
            for connection in self._everyone()
            if connection.open and connection.admission is Admission.ADMITTED
        ]
        if not members:
            return 0
        size = _OVERHEAD + len(message.data)
        published = self._fanout.publish(_ALL, members, partial(self._encode, message), size)
        return len(members) if published else 0

    def missed_directs(self) -> None:
        """Note that direct messages may be missing. Called by the broker."""
        if self._lost is not None:
            self._lost()

    def missed(self, room: str) -> None:
        """Tell a room's members on this node that messages may be missing. Called by the broker."""
        if self._gap is not None:
            self.when_sent(room, partial(self._tell_missed, room))

    def _tell_missed(self, room: str) -> None:
        gap, each = self._gap, self._each
        assert gap is not None
        assert each is not None

        def tell(connection: Connection) -> None:
            if room in connection.rooms:
                gap(connection, room)

        # These get the history first, or are not told yet that they are members.
        apart = (*self._recovery.rooms.get(room, ()), *self._members.asked.get(room, ()))
        each([one for one in self._rooms.members(room) if one not in apart], tell)
