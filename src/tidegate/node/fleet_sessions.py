"""Sessions of a node in a fleet: a client that was lost may come back to any node.

What is of one node alone is in `node.sessions`. Here a session is given to the node that asks for
it, and one that comes from another node becomes one of this node.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Any

from msgspec import msgpack

from tidegate.core.codes import DRAINED
from tidegate.core.messaging.sessions import DirectLog, read_session
from tidegate.engine.outbox import DISCARD
from tidegate.engine.states import Admission
from tidegate.gate.resumption import Resumed
from tidegate.node.session_moves import Arrival, Given, packed_directs
from tidegate.node.sessions import LOST, Back, Sessions

if TYPE_CHECKING:
    from tidegate.core.admission.attempt import Lease
    from tidegate.core.codes import Fault
    from tidegate.engine.connection import Connection
    from tidegate.gate.resumption import Fetching
    from tidegate.node.session_moves import Move, SessionMoves

__all__ = ["FleetSessions"]


class FleetSessions(Sessions):
    """The sessions of a node that has others beside it.

    Args:
        moves: gets sessions from other nodes.
        removed: tells a client that it is not in a room any more, and why.
    """

    _lost = LOST | {DRAINED}  # another node takes them

    def __init__(
        self,
        moves: SessionMoves,
        removed: Callable[[Connection, str, Fault], None],
        *args: Any,
    ) -> None:
        super().__init__(*args)
        self._moves = moves
        self._removed = removed
        self._node = moves.node
        self._arrived: dict[Connection, Arrival] = {}
        moves.store.start(self._key_known, self._written, lambda: self.ttl)

    def begin(self, connection: Connection) -> str:
        """Return the secret with which a connection that is open now can be resumed."""
        secret = super().begin(connection)
        self.touch(connection)
        return secret

    def back(self, connection: Connection) -> Back | None:
        """Return what a connection is to be told that has resumed, once; None for a new one."""
        arrival = self._arrived.pop(connection, None)
        return super().back(connection) if arrival is None else self._settle(connection, arrival)

    def tick(self, now: float) -> None:
        """Write what has changed, and end the sessions whose time is over."""
        super().tick(now)
        self._moves.tick(now, self._state)

    def touch(self, connection: Connection) -> None:
        """The rooms of a session have changed, or of which of them it is told who is there."""
        if connection.id in self._live:
            self._moves.touch(connection.id)

    def fetch(self, text: str) -> Fetching | None:
        """Get a session from another node; None when there is none to get."""
        shown = read_session(self._key, text)
        return None if shown is None else self._moves.fetch(shown, self._settings.ttl)

    def moved(self, text: str, lease: Lease) -> Resumed | None:
        """Take up a session that came from another node, for an attempt that has its own lease."""
        shown = read_session(self._key, text)
        arrival = None if shown is None else self._moves.arrived(shown, lease.user)
        return None if arrival is None else Resumed(lease, None, arrival)

    def give(self, move: Move) -> Given | None:
        """Give a session to another node, and end it here; None when there is none."""
        id_ = move.id
        if move.generation != self._generations.get(id_, 0):
            return None
        live = self._live.get(id_)
        if live is not None:
            if live.admission is not Admission.ADMITTED:
                return None
            live.abort()
        parked = self._parked.pop(id_, None)
        if parked is None:
            return None
        connection = parked.connection
        log = self._logs.get(id_)
        directs = [] if log is None else log.since(move.seq)
        given = Given(
            id_,
            connection.user,
            move.generation,
            list(connection.rooms),
            parked.watched,
            move.seq if log is None else log.seq,
            packed_directs(directs or ()),
            directs is not None,
        )
        self._drop(parked)
        connection.divert(DISCARD)
        self._forget(id_)
        self._release(connection)
        return given

    def take_over(self, connection: Connection, session: Any) -> None:
        """Give a new connection what the lost one had, here or at another node."""
        if not isinstance(session, Arrival):
            super().take_over(connection, session)
            return
        arrival, given = session, session.given
        assert given is not None
        if not self._moves.take_up(arrival):
            return  # it is a new one, as its client is here twice
        connection.rename(given.id)
        self._generations[given.id] = given.generation + 1
        self._live[given.id] = connection
        self._logs[given.id] = DirectLog(given.seq)
        self._arrived[connection] = arrival
        self._stats.sessions["resumed"] += 1

    def _settle(self, connection: Connection, arrival: Arrival) -> Back:
        """Put a connection that came from another node into its rooms."""
        given = arrival.given
        assert given is not None
        for room in given.rooms:
            self._delivery.join(connection, room, partial(self._joined, connection, room))
        directs, came, complete = arrival.directs()
        directs += [(self.direct(connection, message), message) for message in came]
        rooms = connection.rooms
        return Back(
            rooms,
            directs,
            complete,
            [],
            {room for room in rooms if not self._keeps(room)},
            [room for room in given.watched if room in rooms],
        )

    def _joined(self, connection: Connection, room: str, fault: Fault | None) -> None:
        if fault is not None and connection.open:
            self._removed(connection, room, fault)

    def _keeps(self, room: str) -> bool:
        return self._rules.some and self._rules.of(room).history_size > 0

    def _state(self, id_: str) -> Given | None:
        """Return what is to be known of a session when this node dies."""
        connection = self._live.get(id_)
        if connection is None:
            parked = self._parked.get(id_)
            if parked is None:
                return None
            connection, watched = parked.connection, parked.watched
        else:
            watched = self._delivery.watched(connection)
        generation = self._generations.get(id_, 0)
        return Given(id_, connection.user, generation, list(connection.rooms), watched)

    def _written(self) -> list[tuple[str, bytes]]:
        states = (self._state(id_) for id_ in (*self._live, *self._parked))
        return [(one.id, msgpack.encode(one)) for one in states if one is not None]

    def _key_known(self, key: bytes) -> None:
        self._key = key

    def _forget(self, id_: str) -> None:
        super()._forget(id_)
        self._moves.forget(id_)
